//! How the steps of a decision are called.

use weir_aqm::FlowVars;
use weir_aqm::borrow::PortVars;
use weir_shared_maps::{ClassConfig, HostState, PlanRates, SubscriberMeter};

use super::{ClassVars, Work};

/// The steps of a decision. In the kernel each is a function that the verifier looks at once, whatever the steps before it
/// came to; everywhere else they are called as they are.
///
/// Those that return a `bool` say whether the packet is dropped; why is in its ruling.
pub trait Steps {
    /// [`Work::drain`].
    #[inline(always)]
    fn drain(&self, work: &Work, policy: &mut PortVars) {
        work.drain(policy);
    }

    /// [`Work::ask_subscriber`].
    #[inline(always)]
    fn ask_subscriber(&self, work: &mut Work, rates: &PlanRates, meter: &SubscriberMeter) -> bool {
        work.ask_subscriber(rates, meter)
    }

    /// [`Work::wait`].
    #[inline(always)]
    fn wait(&self, work: &mut Work, policy: &PortVars, class: &ClassVars) {
        work.wait(policy, class);
    }

    /// [`Work::share`].
    #[inline(always)]
    fn share(
        &self,
        work: &mut Work,
        config: &ClassConfig,
        class: &mut ClassVars,
        flow: &mut FlowVars,
        group: Option<&mut HostState>,
    ) -> bool {
        work.share(config, class, flow, group)
    }

    /// [`Work::borrow`].
    #[inline(always)]
    fn borrow(&self, work: &mut Work, policy: &PortVars, class: &ClassVars) -> bool {
        work.borrow(policy, class)
    }

    /// [`Work::control`].
    #[inline(always)]
    fn control(
        &self,
        work: &mut Work,
        config: &ClassConfig,
        class: &mut ClassVars,
        flows: bool,
        meter: Option<&mut SubscriberMeter>,
    ) -> bool {
        work.control(config, class, flows, meter)
    }

    /// [`Work::charge`].
    #[inline(always)]
    fn charge(&self, work: &Work, policy: &mut PortVars, class: &mut ClassVars) {
        work.charge(policy, class);
    }

    /// [`Work::charge_flow`].
    #[inline(always)]
    fn charge_flow(&self, work: &Work, class: &mut ClassVars, flow: &mut FlowVars) {
        work.charge_flow(class, flow);
    }

    /// [`Work::refund`].
    #[inline(always)]
    fn refund(&self, work: &Work, policy: &mut PortVars, class: &mut ClassVars, guaranteed: bool) {
        work.refund(policy, class, guaranteed);
    }

    /// [`Work::refund_flow`].
    #[inline(always)]
    fn refund_flow(&self, work: &Work, class: &mut ClassVars, flow: &mut FlowVars) {
        work.refund_flow(class, flow);
    }
}

/// Calls them as they are.
pub struct Direct;

impl Steps for Direct {}
