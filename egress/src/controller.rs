//! The AQM of one queue: which controller, its state, and who may touch it.

use weir_aqm::{Bytes, CodelParams, Nanos, Pi2Params, PieParams, Verdict};
use weir_shared_maps::{AQM_CODEL, AQM_PI2, AQM_PIE, AqmState, PortConfig};

use crate::{
    Limits,
    convert::{codel_from_map, codel_to_map, pi2_from_map, pi2_to_map, pie_from_map, pie_to_map},
};

/// One AQM state that several CPUs may reach.
pub trait AqmCell {
    /// Whether the state remembers anything that a packet below target would have to reset. Read without the lock: a
    /// stale answer delays a reset by one packet.
    fn is_idle(&self, aqm: u32) -> bool;

    /// Runs `f` on the state as the only one, or returns `None` at once if another CPU is at it.
    fn with<R>(&mut self, f: impl FnOnce(&mut AqmState) -> R) -> Option<R>;
}

impl AqmCell for AqmState {
    #[inline(always)]
    fn is_idle(&self, aqm: u32) -> bool {
        is_idle(self, aqm)
    }

    #[inline(always)]
    fn with<R>(&mut self, f: impl FnOnce(&mut AqmState) -> R) -> Option<R> {
        Some(f(self))
    }
}

/// What one queue's AQM says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Pass,
    Signal {
        may_mark: bool,
    },
    /// Another CPU is deciding at this moment; this packet goes undecided.
    Busy,
}

/// True if the controller holds no state that matters below target. PIE always does: its burst allowance is earned while
/// the delay is low.
#[inline(always)]
pub(crate) const fn is_idle(state: &AqmState, aqm: u32) -> bool {
    match aqm {
        AQM_CODEL => state.codel.first_above_ns == 0 && state.codel.dropping == 0,
        AQM_PI2 => state.pi2.p_q32 == 0,
        AQM_PIE => false,
        _ => true,
    }
}

/// What a controller needs beside the times of [`Limits`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gains {
    pub t_update_ns: u64,
    pub alpha: u32,
    pub beta: u32,
    pub max_packet_bytes: u32,
}

impl Gains {
    /// A port's.
    #[inline(always)]
    pub(crate) const fn of_port(config: &PortConfig) -> Self {
        let PortConfig { t_update_ns, alpha, beta, max_packet_bytes, .. } = *config;
        Self { t_update_ns, alpha, beta, max_packet_bytes }
    }

    #[inline(always)]
    pub(crate) fn codel(&self, limits: &Limits) -> CodelParams {
        let max_packet = Bytes::new(u64::from(self.max_packet_bytes));
        CodelParams { target: limits.target, interval: limits.interval, max_packet }
    }

    #[inline(always)]
    pub(crate) fn pi2(&self, limits: &Limits) -> Pi2Params {
        Pi2Params {
            target: limits.target,
            t_update: Nanos::from_nanos(self.t_update_ns),
            alpha: self.alpha,
            beta: self.beta,
            max_packet: Bytes::new(u64::from(self.max_packet_bytes)),
        }
    }

    #[inline(always)]
    pub(crate) fn pie(&self, limits: &Limits) -> PieParams {
        PieParams {
            target: limits.target,
            t_update: Nanos::from_nanos(self.t_update_ns),
            max_burst: limits.interval,
            alpha: self.alpha,
            beta: self.beta,
            max_packet: Bytes::new(u64::from(self.max_packet_bytes)),
        }
    }
}

/// Asks the controller `aqm` about one packet. Below target with nothing to reset, nothing is written.
#[inline(always)]
pub(crate) fn ask<C: AqmCell>(
    gains: &Gains,
    aqm: u32,
    limits: &Limits,
    cell: &mut C,
    now: Nanos,
    sojourn: Nanos,
    backlog: Bytes,
) -> Word {
    if aqm != AQM_CODEL && aqm != AQM_PI2 && aqm != AQM_PIE {
        return Word::Pass;
    }
    if sojourn < limits.target && cell.is_idle(aqm) {
        return Word::Pass;
    }
    let said = cell.with(|state| match aqm {
        AQM_CODEL => codel(gains, limits, state, now, sojourn, backlog),
        AQM_PIE => pie(gains, limits, state, now, sojourn, backlog),
        _ => pi2(gains, limits, state, now, sojourn, backlog),
    });
    said.unwrap_or(Word::Busy)
}

#[inline(always)]
fn codel(
    gains: &Gains,
    limits: &Limits,
    state: &mut AqmState,
    now: Nanos,
    sojourn: Nanos,
    backlog: Bytes,
) -> Word {
    let mut vars = codel_from_map(&state.codel);
    let verdict = vars.on_enqueue(&gains.codel(limits), now, sojourn, backlog);
    state.codel = codel_to_map(&vars);
    match verdict {
        Verdict::Pass => Word::Pass,
        Verdict::Signal => Word::Signal { may_mark: true },
    }
}

#[inline(always)]
fn pi2(
    gains: &Gains,
    limits: &Limits,
    state: &mut AqmState,
    now: Nanos,
    sojourn: Nanos,
    backlog: Bytes,
) -> Word {
    let random = next_random(state.pi2.random, now);
    let mut vars = pi2_from_map(&state.pi2);
    let verdict = vars.on_enqueue(&gains.pi2(limits), now, sojourn, backlog, random);
    state.pi2 = pi2_to_map(&vars, random);
    match verdict {
        Verdict::Pass => Word::Pass,
        Verdict::Signal => Word::Signal { may_mark: vars.may_mark() },
    }
}

#[inline(always)]
fn pie(
    gains: &Gains,
    limits: &Limits,
    state: &mut AqmState,
    now: Nanos,
    sojourn: Nanos,
    backlog: Bytes,
) -> Word {
    let random = next_random(state.pi2.random, now);
    let mut vars = pie_from_map(state);
    let verdict = vars.on_enqueue(&gains.pie(limits), now, sojourn, backlog, random);
    (state.pi2, state.pie) = pie_to_map(&vars, random);
    match verdict {
        Verdict::Pass => Word::Pass,
        Verdict::Signal => Word::Signal { may_mark: vars.may_mark() },
    }
}

/// Marsaglia's xorshift32; a zero state is seeded from the clock. Deterministic for a virtual clock.
#[inline(always)]
pub(crate) const fn next_random(state: u32, now: Nanos) -> u32 {
    let mut x = if state == 0 { now.as_nanos() as u32 | 1 } else { state };
    x ^= x << 13;
    x ^= x >> 17;
    x ^ x << 5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_never_sticks_and_uses_its_range_evenly() {
        let (mut x, mut high) = (0, 0u32);
        for _ in 0..100_000 {
            x = next_random(x, Nanos::from_nanos(12_345));
            assert_ne!(x, 0);
            high += u32::from(x > u32::MAX / 4 * 3);
        }
        assert!((24_000..26_000).contains(&high), "{high}");
    }
}
