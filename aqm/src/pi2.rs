//! PI2 for one FIFO: a proportional-integral controller on the queue's delay, whose output is squared.
//!
//! The controller, its gains and its scaling are DualPI2's (RFC 9332 section 4 and Appendix A, Linux
//! net/sched/sch_dualpi2.c) for the Classic queue; without a second queue nothing is coupled. Two things differ:
//!
//! * no timer: the update runs on the first arrival after it falls due, see [`Pi2Vars::on_enqueue`];
//! * the probability saturates. Linux adds a 64-bit step to a 32-bit probability, which wraps to nearly zero when
//!   the delay jumps by 299 ms in one update. A predicted delay does that whenever the link's rate falls tenfold.

use crate::pi;
use crate::units::{Bytes, Nanos, saturating_mul};
use crate::verdict::Verdict;

/// Missed updates that are replayed; beyond them the queue was idle, and the probability decays instead.
const CATCH_UP_MAX: u64 = 8;
/// The scaled gains carry 8 bits of fraction, 2 of which went into the scaling (Linux: `ALPHA_BETA_GRANULARITY`).
const GAIN_SHIFT: u32 = 6;

/// Configuration of a PI2 queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pi2Params {
    /// The queue delay to hold.
    pub target: Nanos,
    /// Time between updates of the probability.
    pub t_update: Nanos,
    /// Integral gain: `Hz * 256 * 2^30 / 10^9`, Linux's scaling (`tc`'s 41/256 Hz is 44).
    pub alpha: u32,
    /// Proportional gain, scaled alike (`tc`'s 819/256 Hz is 879).
    pub beta: u32,
    /// Up to two packets of this size in the queue never signal.
    pub max_packet: Bytes,
}

impl Pi2Params {
    /// Linux's defaults: target 15 ms, an update every 16 ms, gains 0.16 Hz and 3.2 Hz.
    pub const fn linux(max_packet: Bytes) -> Self {
        Self {
            target: Nanos::from_millis(15),
            t_update: Nanos::from_millis(16),
            alpha: 44,
            beta: 879,
            max_packet,
        }
    }

    /// Stable gains for flows of up to `rtt_max` (RFC 9332 Appendix A.1): `t_update = min(target, rtt_max / 3)`,
    /// `alpha = 0.1 t_update / rtt_max^2`, `beta = 0.3 / rtt_max`. `rtt_max` is clamped to 100 us to 4 s.
    pub const fn for_rtt_max(target: Nanos, rtt_max: Nanos, max_packet: Bytes) -> Self {
        let rtt_us = clamp(rtt_max.as_nanos() / 1_000, 100, 4_000_000);
        let update_us = clamp(target.as_nanos() / 1_000, 1, rtt_us / 3);
        // 256 * 2^30 / 10^9 = 274.878 per Hz, in microseconds: 0.1 * 274.878e6 and 0.3 * 274.878e6.
        let alpha = 27_487_791 * update_us / (rtt_us * rtt_us);
        let beta = 82_463_372 / rtt_us;
        Self {
            target,
            t_update: Nanos::from_micros(update_us),
            alpha: clamp(alpha, 1, u32::MAX as u64) as u32,
            beta: clamp(beta, 1, u32::MAX as u64) as u32,
            max_packet,
        }
    }
}

const fn clamp(value: u64, low: u64, high: u64) -> u64 {
    if value < low {
        low
    } else if value > high {
        high
    } else {
        value
    }
}

/// State of a PI2 queue. The default is an idle queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pi2Vars {
    /// The controller's output in 2^-32. Packets are signalled with its square.
    pub p: u32,
    /// When the next update is due; zero before the first packet.
    pub next_update: Nanos,
    /// The queue's delay at the last update.
    pub last_delay: Nanos,
}

impl Pi2Vars {
    /// Judges one arriving packet: `delay` is the wait predicted for it, `backlog` the queue in front of it without
    /// it, `random` 32 uniform bits.
    ///
    /// Updates that fell due since the last arrival run first: up to 8 as the timer would have run them, with the
    /// delay now seen. After more the queue was idle: `p` halves per 8 missed updates, and one update follows. An
    /// integrator that instead replayed a long silence would forget the load entirely, or take it for a full queue.
    #[inline(always)]
    pub fn on_enqueue(
        &mut self,
        params: &Pi2Params,
        now: Nanos,
        delay: Nanos,
        backlog: Bytes,
        random: u32,
    ) -> Verdict {
        self.catch_up(params, now, delay);
        if backlog <= params.max_packet.saturating_mul(2) {
            return Verdict::Pass;
        }
        if random < self.probability_of_drop() { Verdict::Signal } else { Verdict::Pass }
    }

    /// Runs the updates that fell due, see [`Pi2Vars::on_enqueue`], for a caller that judges by other rules.
    #[inline(always)]
    pub fn catch_up(&mut self, params: &Pi2Params, now: Nanos, delay: Nanos) {
        let period = if params.t_update == Nanos::ZERO { 1 } else { params.t_update.as_nanos() };
        let horizon = now.saturating_add(Nanos::from_nanos(period));
        // First packet, or an instant set before the clock stepped back.
        if self.next_update == Nanos::ZERO || self.next_update > horizon {
            self.next_update = horizon;
            return;
        }
        if now < self.next_update {
            return;
        }
        let missed = now.saturating_sub(self.next_update).as_nanos() / period;
        if missed >= CATCH_UP_MAX {
            let halvings = missed / CATCH_UP_MAX;
            self.p = if halvings < 32 { self.p >> halvings } else { 0 };
            self.last_delay = delay;
            self.update(params, delay);
            self.next_update = horizon;
            return;
        }
        self.update(params, delay);
        if missed > 0 {
            // The delay is taken as constant since then: only the integral part moves, so the steps are one.
            self.integrate(params, delay, missed);
        }
        let periods = missed.wrapping_add(1);
        self.next_update =
            self.next_update.saturating_add(Nanos::from_nanos(saturating_mul(period, periods)));
    }

    /// One step of the controller: `p += alpha (delay - target) + beta (delay - last_delay)`, saturating.
    #[inline(always)]
    pub fn update(&mut self, params: &Pi2Params, delay: Nanos) {
        let (up, down) = pi::step((params.alpha, params.beta), params.target, delay, self.last_delay);
        self.apply(up, down);
        self.last_delay = delay;
    }

    /// `steps` updates with an unchanged delay.
    #[inline(always)]
    fn integrate(&mut self, params: &Pi2Params, delay: Nanos, steps: u64) {
        let (above, below) = pi::difference(delay, params.target);
        let alpha = u64::from(params.alpha);
        let up = saturating_mul(alpha.wrapping_mul(above), steps);
        let down = saturating_mul(alpha.wrapping_mul(below), steps);
        self.apply(up, down);
    }

    /// Adds `(up - down) / 64`, truncated towards zero as Linux divides, with `p` saturating at both ends.
    #[inline(always)]
    fn apply(&mut self, up: u64, down: u64) {
        let p = u64::from(self.p);
        let p = if up >= down {
            p.saturating_add(up.wrapping_sub(down) >> GAIN_SHIFT)
        } else {
            p.saturating_sub(down.wrapping_sub(up) >> GAIN_SHIFT)
        };
        self.p = if p < u64::from(u32::MAX) { p as u32 } else { u32::MAX };
    }

    /// The probability that a packet is signalled, `p^2`, in 2^-32. One roll against the square equals RFC 9332's
    /// two rolls against `p`.
    #[inline(always)]
    pub const fn probability_of_drop(&self) -> u32 {
        ((self.p as u64).wrapping_mul(self.p as u64) >> 32) as u32
    }

    /// Whether a signal may still be a mark: `p^2` is at most 25 % (`k p <= 1` with `k = 2`, RFC 9332
    /// section 4.2). Above, the load does not respond to marks, and ECN-capable packets are dropped like others.
    #[inline(always)]
    pub const fn may_mark(&self) -> bool {
        self.p <= 1 << 31
    }
}
