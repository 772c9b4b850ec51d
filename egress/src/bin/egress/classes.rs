//! The decision on a port with classes: looks state up, holds the port's lock around [`weir_egress::policy::decide`], and
//! writes down what was charged.

use core::ptr;

use weir_aqm::{Bytes, FlowVars, Nanos, TrtcmVars};
use weir_egress::Queue;
use weir_egress::policy::{self, Class, ClassVars, NOWHERE, Packet, Policy, Situation, Work};
use weir_shared_maps::{
    BATCH_MAX, CHARGE_BORROWED, CHARGE_GUARANTEED, CHARGE_NONE, CHARGE_UNJUDGED, Charge, ClassConfig,
    ClassPlace, HostState, MAX_CLASSES, MetaHead, PacketMeta, PlanRates, PortConfig, SIDE_DESTINATION,
    SIDE_SOURCE, SubscriberCodel, SubscriberMeter,
};

use crate::atomics::{fetch_add, load, try_lock, unlock};
use crate::maps::{
    PORT_INDEX, WEIR_CHARGES, WEIR_CLASS_PLACE, WEIR_CLASS_STATE, WEIR_CLASSES, WEIR_FLOWS, WEIR_HOSTS,
    WEIR_PLANS, WEIR_POLICY, WEIR_PORTS, WEIR_SUB_CODEL, WEIR_SUB_DOWN, WEIR_SUB_UP, WEIR_WORK,
};
use crate::steps::{Verified, step_police};

/// How often a taken lock is tried: a few times as long as a decision takes. Its holder cannot be preempted on a kernel
/// without real-time preemption, but a hypervisor can take its CPU away.
const LOCK_ATTEMPTS: usize = 128;
/// Full frames that may pass while the lock is taken, until its holder has put them on the port's account.
const UNJUDGED_FRAMES: u64 = 16;

/// One class of one port, as it lies in the maps.
pub struct Member {
    class: u32,
    config: &'static ClassConfig,
    place: &'static ClassPlace,
    policy: *mut Policy,
    policer: *mut TrtcmVars,
    vars: *mut ClassVars,
}

/// Everything about a class. `None` where state is missing.
#[inline(always)]
pub fn member(port: u32, class: u32) -> Option<Member> {
    let index = port * MAX_CLASSES + class;
    // The layouts are compared where the types are defined (egress/src/policy/state.rs).
    let state: *mut Class = WEIR_CLASS_STATE.get_ptr_mut(index)?.cast();
    // SAFETY: a map value; the places of its parts are computed.
    let (policer, vars) = unsafe { (&raw mut (*state).policer, &raw mut (*state).vars) };
    Some(Member {
        class,
        config: WEIR_CLASSES.get(index)?,
        place: WEIR_CLASS_PLACE.get(index)?,
        policy: WEIR_POLICY.get_ptr_mut(port)?.cast(),
        policer,
        vars,
    })
}

/// What is known about a frame that ingress said nothing about: the default class takes it.
#[inline(always)]
pub const fn no_metadata(config: &PortConfig) -> PacketMeta {
    PacketMeta {
        head: MetaHead { magic: 0, ip_version: 0, l3_offset: 0 },
        class: config.default_class as u16,
        plan: 0,
        subscriber: 0,
        flow_hash: 0,
        source_hash: 0,
        destination_hash: 0,
    }
}

/// Where the charge of the batch's next accepted frame is written down.
#[inline(always)]
pub fn charge_of(accepted: u32) -> Option<&'static mut Charge> {
    // Without the barrier the compiler adds the frame's offset before it compares with null, which verifiers refuse (before
    // Linux 6.14, which knows that element 0 of an array exists).
    let charges = core::hint::black_box(WEIR_CHARGES.get_ptr_mut(0)?);
    // SAFETY: this CPU's own value; one reference at a time, in one frame of the batch.
    unsafe { (*charges).frames.get_mut(accepted as usize & (BATCH_MAX - 1)) }
}

/// What became of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Judged: the ruling is in [`memory`].
    Ruled,
    /// Policed, but let through beyond that, while another CPU held the lock.
    Unjudged,
    /// Policed, and dropped because too many were let through like that.
    Busy,
    /// State is missing.
    Missing,
}

/// Judges one frame of a class at a port; the ruling is in [`memory`]. `accepted` frames of the batch have been written down.
#[inline(never)]
pub fn judge(
    config: &PortConfig,
    queue: &Queue,
    meta: &PacketMeta,
    packet: &Packet,
    accepted: u32,
) -> Outcome {
    let (Some(member), Some(charge), Some(work)) =
        (member(PORT_INDEX.load(), meta.class.into()), charge_of(accepted), memory())
    else {
        return Outcome::Missing;
    };
    if !work.begin(config, member.config, member.place, queue, packet) {
        return Outcome::Missing;
    }
    *charge = Charge {
        class: member.class,
        kind: CHARGE_NONE,
        cost_bytes: packet.cost.get() as u32,
        flow: NOWHERE,
        subscriber: 0,
        plan: 0,
    };
    if step_police(work, member.config, member.policer) != 0 {
        return Outcome::Ruled;
    }
    // SAFETY: map values; all state that `situation` gives references to is behind the lock.
    unsafe {
        if !lock(&raw mut (*member.policy).busy) {
            return unjudged(&member, config, work.charged(), charge);
        }
        settle(member.policy);
        let Limited { rates, meter, codel, plan } = subscriber(config.side, meta.subscriber);
        work.find(member.config, member.place, meta, rates.as_ref());
        let key = *work.key();
        charge.flow = key.flow;
        (charge.subscriber, charge.plan) = (meta.subscriber, plan);
        let (meter, codel) =
            if lock_meter(meter) { (meter, codel) } else { (ptr::null_mut(), ptr::null_mut()) };
        let situation = Situation {
            policy: &mut (*member.policy).vars,
            class: &mut *member.vars,
            flow: flow(key.flow),
            group: group(key.group),
            rates: rates.as_ref(),
            meter: meter.as_mut(),
            codel: codel.as_mut(),
        };
        policy::decide(&Verified, work, member.config, situation);
        if !meter.is_null() {
            unlock(&raw mut (*meter).busy);
        }
        unlock(&raw mut (*member.policy).busy);
        charge.kind = if work.ruling().guaranteed { CHARGE_GUARANTEED } else { CHARGE_BORROWED };
        Outcome::Ruled
    }
}

/// This CPU's memory for a decision.
#[inline(always)]
pub fn memory() -> Option<&'static mut Work> {
    // SAFETY: this CPU's own value; one packet at a time has the reference. Zeroes, which the map begins with, are a value of each
    // field: numbers, and enums and options that have a variant 0.
    WEIR_WORK.get_ptr_mut(0).map(|work| unsafe { &mut *work })
}

/// Gives back what a frame was charged that the driver refused: frame `index` of those accepted on this CPU, at `port`. Zero where
/// it could not.
///
/// A global function (its name is exported): the verifier looks at it once, not once for each frame of a batch.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn weir_give_back(port: u32, index: u32) -> u32 {
    match (WEIR_PORTS.get(port), charge_of(index)) {
        (Some(config), Some(charge)) => u32::from(give_back(config, port, charge)),
        (Some(_) | None, Some(_) | None) => 0,
    }
}

#[inline(always)]
fn give_back(config: &PortConfig, port: u32, charge: &Charge) -> bool {
    let Some(member) = member(port, charge.class % MAX_CLASSES) else { return false };
    if charge.kind == CHARGE_UNJUDGED || charge.kind == CHARGE_NONE {
        // The account is paid first whatever becomes of the frame: an error of one frame that another CPU's work caused.
        return true;
    }
    let packet = Packet { now: Nanos::ZERO, cost: Bytes::new(charge.cost_bytes.into()), ecn: 0, dscp: 0 };
    let Some(work) = memory() else { return false };
    if !work.begin(config, member.config, member.place, &Queue::NONE, &packet) {
        return false;
    }
    // SAFETY: as in `judge`.
    unsafe {
        if !lock(&raw mut (*member.policy).busy) {
            return false;
        }
        let Limited { rates, meter, .. } = subscriber(config.side, charge.subscriber);
        let meter = if lock_meter(meter) { meter } else { ptr::null_mut() };
        let situation = Situation {
            policy: &mut (*member.policy).vars,
            class: &mut *member.vars,
            flow: flow(charge.flow),
            group: None,
            rates: rates.as_ref(),
            meter: meter.as_mut(),
            codel: None,
        };
        policy::refund(&Verified, work, charge.kind == CHARGE_GUARANTEED, situation);
        if !meter.is_null() {
            unlock(&raw mut (*meter).busy);
        }
        unlock(&raw mut (*member.policy).busy);
    }
    true
}

/// A packet that finds the lock taken passes on the port's account, which is paid before all others, so that the rate
/// holds; once the account is full it is dropped.
#[inline(always)]
fn unjudged(member: &Member, config: &PortConfig, cost: Bytes, charge: &mut Charge) -> Outcome {
    charge.kind = CHARGE_UNJUDGED;
    // SAFETY: a map value; the word changes by atomic additions alone.
    let before = unsafe {
        let account = &raw mut (*member.policy).unjudged_bytes;
        let before = load(account);
        if before < UNJUDGED_FRAMES * u64::from(config.max_packet_bytes) {
            fetch_add(account, cost.get());
        }
        before
    };
    if before < UNJUDGED_FRAMES * u64::from(config.max_packet_bytes) {
        return Outcome::Unjudged;
    }
    Outcome::Busy
}

/// Puts what passed without the lock on the port's account.
///
/// # Safety
///
/// A map value, and the caller holds its lock.
#[inline(always)]
unsafe fn settle(policy: *mut Policy) {
    // SAFETY: the caller's; other CPUs only add.
    unsafe {
        let account = &raw mut (*policy).unjudged_bytes;
        let bytes = load(account);
        if bytes != 0 {
            fetch_add(account, bytes.wrapping_neg());
            (*policy).vars.owe(Bytes::new(bytes));
        }
    }
}

/// Tries a lock a bounded number of times.
///
/// # Safety
///
/// As [`try_lock`].
#[inline(always)]
unsafe fn lock(at: *mut u32) -> bool {
    for _ in 0..LOCK_ATTEMPTS {
        // SAFETY: the caller's.
        if unsafe { try_lock(at) } {
            return true;
        }
    }
    false
}

/// Locks a subscriber's state, which several ports may share; false for none, and where it stays taken: the packet then counts
/// for nobody.
///
/// # Safety
///
/// Null, or a map value.
#[inline(always)]
unsafe fn lock_meter(meter: *mut SubscriberMeter) -> bool {
    // SAFETY: the caller's.
    !meter.is_null() && unsafe { lock(&raw mut (*meter).busy) }
}

/// A packet's subscriber where a port limits it; null pointers where it has none.
struct Limited {
    rates: *const PlanRates,
    meter: *mut SubscriberMeter,
    codel: *mut SubscriberCodel,
    plan: u32,
}

/// The rates and the state of a packet's subscriber at a port.
#[inline(always)]
fn subscriber(side: u32, subscriber: u32) -> Limited {
    const NOBODY: Limited =
        Limited { rates: ptr::null(), meter: ptr::null_mut(), codel: ptr::null_mut(), plan: 0 };
    if subscriber == 0 {
        return NOBODY;
    }
    let down = side == u32::from(SIDE_DESTINATION);
    if !down && side != u32::from(SIDE_SOURCE) {
        return NOBODY;
    }
    let meters = if down { &WEIR_SUB_DOWN } else { &WEIR_SUB_UP };
    let (Some(meter), Some(control)) =
        (meters.get_ptr_mut(subscriber), WEIR_SUB_CODEL.get_ptr_mut(subscriber))
    else {
        return NOBODY;
    };
    // SAFETY: map values; the places of fields are computed, and a word of a meter and of a plan read.
    unsafe {
        let plan = u32::from((*meter).plan);
        let Some(rates) = WEIR_PLANS.get_ptr(plan) else { return NOBODY };
        let (rates, codel) = if down {
            (&raw const (*rates).down, &raw mut (*control).down)
        } else {
            (&raw const (*rates).up, &raw mut (*control).up)
        };
        if (*rates).rate_pace == 0 { NOBODY } else { Limited { rates, meter, codel, plan } }
    }
}

/// # Safety
///
/// The caller holds the lock of the port whose class the bucket belongs to.
#[inline(always)]
unsafe fn flow(bucket: u32) -> Option<&'static mut FlowVars> {
    // SAFETY: a map value, behind the caller's lock; the layout is compared where the type is defined.
    WEIR_FLOWS.get_ptr_mut(bucket).map(|flow| unsafe { &mut *flow.cast::<FlowVars>() })
}

/// # Safety
///
/// As [`flow`].
#[inline(always)]
unsafe fn group(bucket: u32) -> Option<&'static mut HostState> {
    // SAFETY: as above.
    WEIR_HOSTS.get_ptr_mut(bucket).map(|host| unsafe { &mut *host })
}
