//! The steps of a decision as global functions: the verifier looks at each once, by its argument types alone
//! (`btf_prepare_func_args`, `kernel/bpf/btf.c` at v6.18). Their names are exported, which is what makes them global.

use weir_aqm::{FlowVars, TrtcmVars, borrow::PortVars};
use weir_egress::policy::{ClassVars, Steps, Work};
use weir_shared_maps::{ClassConfig, HostState, PlanRates, SubscriberMeter};

use crate::cell::Tat;

/// Calls the global functions.
pub struct Verified;

impl Steps for Verified {
    #[inline(always)]
    fn drain(&self, work: &Work, policy: &mut PortVars) {
        step_drain(work, policy);
    }

    #[inline(always)]
    fn ask_subscriber(&self, work: &mut Work, rates: &PlanRates, meter: &SubscriberMeter) -> bool {
        step_subscriber(work, rates, meter) != 0
    }

    #[inline(always)]
    fn wait(&self, work: &mut Work, policy: &PortVars, class: &ClassVars) {
        step_wait(work, policy, class);
    }

    #[inline(always)]
    fn share(
        &self,
        work: &mut Work,
        config: &ClassConfig,
        class: &mut ClassVars,
        flow: &mut FlowVars,
        group: Option<&mut HostState>,
    ) -> bool {
        let group = group.map_or(core::ptr::null_mut(), |group| &raw mut *group);
        step_share(work, config, class, flow, group) != 0
    }

    #[inline(always)]
    fn borrow(&self, work: &mut Work, policy: &PortVars, class: &ClassVars) -> bool {
        step_borrow(work, policy, class) != 0
    }

    #[inline(always)]
    fn control(
        &self,
        work: &mut Work,
        config: &ClassConfig,
        class: &mut ClassVars,
        flows: bool,
        meter: Option<&mut SubscriberMeter>,
    ) -> bool {
        let meter = meter.map_or(core::ptr::null_mut(), |meter| &raw mut *meter);
        step_control(work, config, class, u32::from(flows), meter) != 0
    }

    #[inline(always)]
    fn charge(&self, work: &Work, policy: &mut PortVars, class: &mut ClassVars) {
        step_charge(work, policy, class);
    }

    #[inline(always)]
    fn charge_flow(&self, work: &Work, class: &mut ClassVars, flow: &mut FlowVars) {
        step_charge_flow(work, class, flow);
    }

    #[inline(always)]
    fn refund(&self, work: &Work, policy: &mut PortVars, class: &mut ClassVars, guaranteed: bool) {
        step_refund(work, policy, class, u32::from(guaranteed));
    }

    #[inline(always)]
    fn refund_flow(&self, work: &Work, class: &mut ClassVars, flow: &mut FlowVars) {
        step_refund_flow(work, class, flow);
    }
}

/// What a step that misses an argument says: it drops nothing. The caller's references are never null; the verifier does
/// not know that.
const NOTHING: u32 = 0;

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_police(work: *mut Work, config: *const ClassConfig, policer: *mut TrtcmVars) -> u32 {
    // SAFETY: references of the caller's, or null; so everywhere in this file.
    match unsafe { (work.as_mut(), config.as_ref()) } {
        (Some(work), Some(config)) if !policer.is_null() => {
            // SAFETY: the caller's words of a map value; no reference to them is made.
            let [peak, committed] = unsafe {
                [Tat::new(&raw mut (*policer).peak_tat), Tat::new(&raw mut (*policer).committed_tat)]
            };
            u32::from(work.police(config, &peak, &committed))
        }
        _ => NOTHING,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_drain(work: *const Work, policy: *mut PortVars) -> u32 {
    // SAFETY: as above.
    if let (Some(work), Some(policy)) = unsafe { (work.as_ref(), policy.as_mut()) } {
        work.drain(policy);
    }
    NOTHING
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_subscriber(
    work: *mut Work,
    rates: *const PlanRates,
    meter: *const SubscriberMeter,
) -> u32 {
    // SAFETY: as above.
    match unsafe { (work.as_mut(), rates.as_ref(), meter.as_ref()) } {
        (Some(work), Some(rates), Some(meter)) => u32::from(work.ask_subscriber(rates, meter)),
        _ => NOTHING,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_wait(work: *mut Work, policy: *const PortVars, class: *const ClassVars) -> u32 {
    // SAFETY: as above.
    if let (Some(work), Some(policy), Some(class)) =
        unsafe { (work.as_mut(), policy.as_ref(), class.as_ref()) }
    {
        work.wait(policy, class);
    }
    NOTHING
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_share(
    work: *mut Work,
    config: *const ClassConfig,
    class: *mut ClassVars,
    flow: *mut FlowVars,
    group: *mut HostState,
) -> u32 {
    // SAFETY: as above.
    match unsafe { (work.as_mut(), config.as_ref(), class.as_mut(), flow.as_mut(), group.as_mut()) } {
        (Some(work), Some(config), Some(class), Some(flow), group) => {
            u32::from(work.share(config, class, flow, group))
        }
        _ => NOTHING,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_borrow(work: *mut Work, policy: *const PortVars, class: *const ClassVars) -> u32 {
    // SAFETY: as above.
    match unsafe { (work.as_mut(), policy.as_ref(), class.as_ref()) } {
        (Some(work), Some(policy), Some(class)) => u32::from(work.borrow(policy, class)),
        _ => NOTHING,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_control(
    work: *mut Work,
    config: *const ClassConfig,
    class: *mut ClassVars,
    flows: u32,
    meter: *mut SubscriberMeter,
) -> u32 {
    // SAFETY: as above.
    match unsafe { (work.as_mut(), config.as_ref(), class.as_mut(), meter.as_mut()) } {
        (Some(work), Some(config), Some(class), meter) => {
            u32::from(work.control(config, class, flows != 0, meter))
        }
        _ => NOTHING,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_charge(work: *const Work, policy: *mut PortVars, class: *mut ClassVars) -> u32 {
    // SAFETY: as above.
    if let (Some(work), Some(policy), Some(class)) =
        unsafe { (work.as_ref(), policy.as_mut(), class.as_mut()) }
    {
        work.charge(policy, class);
    }
    NOTHING
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_charge_flow(work: *const Work, class: *mut ClassVars, flow: *mut FlowVars) -> u32 {
    // SAFETY: as above.
    if let (Some(work), Some(class), Some(flow)) = unsafe { (work.as_ref(), class.as_mut(), flow.as_mut()) } {
        work.charge_flow(class, flow);
    }
    NOTHING
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_refund(
    work: *const Work,
    policy: *mut PortVars,
    class: *mut ClassVars,
    guaranteed: u32,
) -> u32 {
    // SAFETY: as above.
    if let (Some(work), Some(policy), Some(class)) =
        unsafe { (work.as_ref(), policy.as_mut(), class.as_mut()) }
    {
        work.refund(policy, class, guaranteed != 0);
    }
    NOTHING
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_refund_flow(work: *const Work, class: *mut ClassVars, flow: *mut FlowVars) -> u32 {
    // SAFETY: as above.
    if let (Some(work), Some(class), Some(flow)) = unsafe { (work.as_ref(), class.as_mut(), flow.as_mut()) } {
        work.refund_flow(class, flow);
    }
    NOTHING
}
