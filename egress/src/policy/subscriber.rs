//! A subscriber's ceiling: a meter, and CoDel on the delay of its virtual queue.
//!
//! Its guaranteed rate is no meter but a weight: subscribers share their class in proportion to their rates
//! ([`super::entity`]), so each has its rate wherever the rates add up to no more than the class has, and its part where they do.

use weir_aqm::{Bytes, CodelParams, CodelVars, Conformance, GcraParams, Nanos, Verdict, gcra};
use weir_shared_maps::{PlanRates, SubscriberCodel, SubscriberMeter};

use crate::convert::pace_of_word;

/// Weights are bytes in this time at the guaranteed rate: 8 for each Mbit/s, up to 4,096.
const WEIGHT_TIME: Nanos = Nanos::from_micros(64);

/// What stands in front of a packet at its subscriber's ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub sojourn: Nanos,
    pub backlog: Bytes,
    /// The ceiling's theoretical arrival time after the packet.
    pub tat: Nanos,
    /// Whether CoDel has something to remember.
    pub above: bool,
}

impl Wait {
    pub(super) const NONE: Self =
        Self { sojourn: Nanos::ZERO, backlog: Bytes::ZERO, tat: Nanos::ZERO, above: false };
}

/// The subscriber's weight in its class, 1 to 4,096.
#[cfg_attr(target_arch = "bpf", inline(never))]
pub fn weight(rates: &PlanRates) -> u32 {
    match pace_of_word(rates.rate_pace) {
        Some(pace) => (pace.bytes_in_q16(WEIGHT_TIME) >> 16).clamp(1, 4_096) as u32,
        None => 1,
    }
}

#[inline(always)]
fn ceil(rates: &PlanRates) -> Option<GcraParams> {
    Some(GcraParams {
        pace: pace_of_word(rates.ceil_pace)?,
        tolerance: Nanos::from_nanos(rates.ceil_burst_ns),
    })
}

/// The wait in front of a conforming packet; `None` above the ceiling. `rest` is charged with it.
#[inline(always)]
pub(super) fn ask(
    rates: &PlanRates,
    meter: &SubscriberMeter,
    now: Nanos,
    cost: Bytes,
    rest: Bytes,
) -> Option<Wait> {
    let Some(ceil) = ceil(rates) else { return Some(Wait::NONE) };
    let before = Nanos::from_nanos(meter.ceil_tat_ns);
    match gcra::conform(&ceil, before, now, cost) {
        Conformance::Conform { tat } => {
            let tat = tat.saturating_add(ceil.pace.time_for_rounded_up(rest));
            let sojourn = gcra::virtual_sojourn(before, now);
            Some(Wait { sojourn, backlog: ceil.pace.bytes_in(sojourn), tat, above: meter.above != 0 })
        }
        Conformance::Exceed { excess: _ } => None,
    }
}

/// CoDel on the virtual queue. It is empty exactly when the TAT has passed, so that CoDel need not find out. Below target, and
/// with nothing to remember, its state is not looked at: few subscribers' is in the cache.
#[inline(always)]
pub(super) fn control(
    params: &CodelParams,
    state: &mut SubscriberCodel,
    now: Nanos,
    wait: &mut Wait,
) -> Verdict {
    if wait.sojourn < params.target && !wait.above {
        return Verdict::Pass;
    }
    let mut vars = CodelVars {
        first_above: Nanos::from_nanos(state.first_above_ns),
        drop_next: Nanos::from_nanos(state.drop_next_ns),
        last_arrival: now,
        last_sojourn: Nanos::MAX,
        count: state.count.into(),
        last_count: state.last_count.into(),
        dropping: state.dropping != 0,
    };
    let verdict = vars.on_enqueue(params, now, wait.sojourn, wait.backlog);
    state.first_above_ns = vars.first_above.as_nanos();
    state.drop_next_ns = vars.drop_next.as_nanos();
    // CoDel's count stops at 65,535.
    state.count = vars.count as u16;
    state.last_count = vars.last_count as u16;
    state.dropping = u32::from(vars.dropping);
    wait.above = !vars.is_idle();
    verdict
}

#[cfg_attr(target_arch = "bpf", inline(never))]
pub(super) fn refund(rates: &PlanRates, meter: &mut SubscriberMeter, cost: Bytes) {
    if let Some(ceil) = ceil(rates) {
        meter.ceil_tat_ns = gcra::refund(&ceil, Nanos::from_nanos(meter.ceil_tat_ns), cost).as_nanos();
    }
}
