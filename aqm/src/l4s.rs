//! Low latency, low loss, scalable throughput: immediate marks for scalable flows, and Classic signals coupled to
//! them (RFC 9331, RFC 9332; Linux net/sched/sch_dualpi2.c, v6.18).
//!
//! A scalable flow sends ECT(1) and answers each mark mildly, so it is marked as soon as a queue forms: by a step on
//! the sojourn time, and with `k` times the controller's probability. A Classic flow answers with the square root of
//! its signals and gets the square, `p^2`. Both then have about the same rate ([`crate::pi2`] holds `p`).
//!
//! On one FIFO the coupling gives equal rates but no low latency: scalable packets wait behind Classic ones. That
//! takes a ring of their own; then `sojourn` is their ring's and `p` comes from the Classic one.

use crate::pi2::{Pi2Params, Pi2Vars};
use crate::units::{Bytes, Nanos};

/// Which of the two services a packet asks for by its ECN field (RFC 9331 section 5.1): ECT(1) and CE are L4S's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Not-ECT and ECT(0).
    Classic,
    /// ECT(1) and CE.
    L4s,
}

impl Service {
    /// Of the two ECN bits.
    #[inline(always)]
    pub const fn of_ecn(bits: u8) -> Self {
        if bits & 1 == 1 { Self::L4s } else { Self::Classic }
    }
}

/// Configuration of the coupled pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L4sParams {
    /// The controller on the Classic delay.
    pub pi2: Pi2Params,
    /// Sojourn time from which every L4S packet is marked; 1 ms in Linux.
    pub step: Nanos,
    /// Coupling factor `k`; 2 makes the rates of Reno-like and Prague-like flows equal (RFC 9332 section 2.1).
    pub coupling: u32,
}

impl L4sParams {
    /// Linux's defaults: step 1 ms, `k = 2`, PI2 as in [`Pi2Params::linux`].
    pub const fn linux(max_packet: Bytes) -> Self {
        Self { pi2: Pi2Params::linux(max_packet), step: Nanos::from_millis(1), coupling: 2 }
    }
}

/// What the coupled pair says about one packet.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L4sVerdict {
    /// Let the packet through untouched.
    Pass,
    /// Mark the packet if it may be marked, else drop it.
    Signal,
    /// Drop the packet whatever its ECN field: the load does not answer marks.
    Drop,
}

/// The probability, in 2^-32, that an L4S packet is marked for the Classic queue's sake: `k p`, at most 1.
#[inline(always)]
pub const fn coupled(vars: &Pi2Vars, coupling: u32) -> u32 {
    let p = (vars.p as u64).wrapping_mul(coupling as u64);
    if p < u32::MAX as u64 { p as u32 } else { u32::MAX }
}

/// Whether `k p` exceeds 1. Then L4S packets are dropped like Classic ones, with `p^2`, and marked otherwise, and
/// Classic packets are dropped even if they could be marked (RFC 9332 section 4.2).
#[inline(always)]
pub const fn overloaded(vars: &Pi2Vars, coupling: u32) -> bool {
    (vars.p as u64).wrapping_mul(coupling as u64) > u32::MAX as u64
}

/// Judges one arriving packet: `classic_delay` is the Classic queue's delay, which the controller holds; `sojourn`
/// the wait predicted for this packet, `backlog` the queue in front of it without it, `random` 32 uniform bits.
///
/// Up to two full packets in front never signal by probability, up to one never by the step: at low rates one packet
/// takes longer than the step.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "a packet's facts, each of its own type")]
pub fn on_enqueue(
    params: &L4sParams,
    vars: &mut Pi2Vars,
    now: Nanos,
    service: Service,
    classic_delay: Nanos,
    sojourn: Nanos,
    backlog: Bytes,
    random: u32,
) -> L4sVerdict {
    vars.catch_up(&params.pi2, now, classic_delay);
    let overloaded = overloaded(vars, params.coupling);
    let steady = backlog > params.pi2.max_packet.saturating_mul(2);
    let squared = steady && random < vars.probability_of_drop();
    match service {
        Service::Classic if squared && overloaded => L4sVerdict::Drop,
        Service::Classic if squared => L4sVerdict::Signal,
        Service::Classic => L4sVerdict::Pass,
        Service::L4s if squared && overloaded => L4sVerdict::Drop,
        Service::L4s => {
            let step = sojourn >= params.step && backlog > params.pi2.max_packet;
            let by_chance = steady && (overloaded || random < coupled(vars, params.coupling));
            if step || by_chance { L4sVerdict::Signal } else { L4sVerdict::Pass }
        }
    }
}
