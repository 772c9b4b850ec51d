//! PIE (RFC 8033): a proportional-integral controller on the queue's delay, whose steps are scaled to the probability
//! it has reached.
//!
//! It judges at the tail by design, on a delay predicted from the backlog, so it fits a transmit ring as published.
//! As in [`crate::pi2`] there is no timer: the update runs on the first arrival after it falls due. Updates that fell due while
//! nothing arrived are not made up for: nobody sent then, and the next one sees the delay that they would have seen.

use crate::pi;
use crate::units::{Bytes, Nanos};
use crate::verdict::Verdict;

/// Probabilities are in 2^-56, as in Linux (include/net/pie.h, `MAX_PROB`).
const ONE: u64 = 1 << 56;
/// From this many missed updates on, a power of two, the queue was idle, and the probability halves for each as many.
const IDLE_UPDATES: u64 = 8;
/// From this probability on a step is at most 2 % (RFC 8033 section 5.5).
const CAPPED_FROM: u64 = ONE / 10;
const STEP_MAX: u64 = ONE / 50;
/// Below 20 % a queue under half of its target is left alone (RFC 8033 section 4.1).
const SAFE_BELOW: u64 = ONE / 5;
/// Derandomisation: no signal before the accumulated probability reaches 0.85, one for sure at 8.5 (section 5.4).
const ACCUMULATED_LOW: u64 = ONE / 100 * 85;
const ACCUMULATED_HIGH: u64 = ONE / 10 * 85;
/// Auto-tuning (section 4.2, table 1): below a tenth steps are halved, and quartered again below each of these.
const TUNING: [u64; 5] = [ONE / 100, ONE / 1_000, ONE / 10_000, ONE / 100_000, ONE / 1_000_000];

/// Configuration of a PIE queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieParams {
    /// The queue delay to hold (`QDELAY_REF`).
    pub target: Nanos,
    /// Time between updates (`T_UPDATE`).
    pub t_update: Nanos,
    /// Bursts up to this long are not signalled (`MAX_BURST`).
    pub max_burst: Nanos,
    /// Integral gain in 2^-56 per nanosecond: `Hz * 2^56 / 10^9`. At most 2^28.
    pub alpha: u32,
    /// Proportional gain, scaled alike. At most 2^28.
    pub beta: u32,
    /// Up to two packets of this size in the queue never signal.
    pub max_packet: Bytes,
}

impl PieParams {
    /// RFC 8033's defaults: 15 ms, an update every 15 ms, bursts of 150 ms, gains 1/8 Hz and 1 1/4 Hz.
    pub const fn rfc_8033(max_packet: Bytes) -> Self {
        Self {
            target: Nanos::from_millis(15),
            t_update: Nanos::from_millis(15),
            max_burst: Nanos::from_millis(150),
            alpha: (ONE / 8_000_000_000) as u32,
            beta: (ONE / 800_000_000) as u32,
            max_packet,
        }
    }
}

/// State of a PIE queue. The default is an idle queue without burst allowance, which the first update gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PieVars {
    /// Probability of a signal, in 2^-56.
    pub p: u64,
    /// Probability accumulated since the last signal, in 2^-56.
    pub accumulated: u64,
    /// What is left of the burst allowance.
    pub burst: Nanos,
    /// When the next update is due; zero before the first packet.
    pub next_update: Nanos,
    /// The queue's delay at the last update.
    pub last_delay: Nanos,
}

impl PieVars {
    /// Judges one arriving packet: `delay` is the wait predicted for it, `backlog` the queue in front of it without
    /// it, `random` 32 uniform bits.
    ///
    /// If an update is due, it runs first, with the delay now seen. Each 8 updates that were missed before it halve the
    /// probability.
    #[inline(always)]
    pub fn on_enqueue(
        &mut self,
        params: &PieParams,
        now: Nanos,
        delay: Nanos,
        backlog: Bytes,
        random: u32,
    ) -> Verdict {
        self.catch_up(params, now, delay);
        let half = Nanos::from_nanos(params.target.as_nanos() / 2);
        if self.burst > Nanos::ZERO
            || (self.last_delay < half && self.p < SAFE_BELOW)
            || backlog <= params.max_packet.saturating_mul(2)
        {
            return Verdict::Pass;
        }
        self.accumulated = if self.p == 0 { 0 } else { self.accumulated.saturating_add(self.p) };
        if self.accumulated < ACCUMULATED_LOW {
            return Verdict::Pass;
        }
        if self.accumulated < ACCUMULATED_HIGH && u64::from(random) << 24 >= self.p {
            return Verdict::Pass;
        }
        self.accumulated = 0;
        Verdict::Signal
    }

    /// Whether a signal may still be a mark: up to 10 % (`MARK_ECNTH`, RFC 8033 section 5.1).
    #[inline(always)]
    pub const fn may_mark(&self) -> bool {
        self.p <= CAPPED_FROM
    }

    #[inline(always)]
    fn catch_up(&mut self, params: &PieParams, now: Nanos, delay: Nanos) {
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
        let halvings = missed / IDLE_UPDATES;
        if halvings > 0 {
            self.p = if halvings < 64 { self.p >> halvings } else { 0 };
            self.last_delay = delay;
        }
        self.burst = self.burst.saturating_sub(Nanos::from_nanos(missed.wrapping_mul(period)));
        self.update(params, delay);
        self.next_update =
            if missed == 0 { self.next_update.saturating_add(Nanos::from_nanos(period)) } else { horizon };
    }

    /// One step of the controller (RFC 8033 section 4.2 and appendix A), and of the burst allowance (section 4.4).
    #[inline(always)]
    pub fn update(&mut self, params: &PieParams, delay: Nanos) {
        let (up, down) = pi::step((params.alpha, params.beta), params.target, delay, self.last_delay);
        let shift = tuning(self.p);
        if up >= down {
            let step = up.wrapping_sub(down) >> shift;
            let step = if self.p >= CAPPED_FROM && step > STEP_MAX { STEP_MAX } else { step };
            self.p = self.p.saturating_add(step);
        } else {
            self.p = self.p.saturating_sub(down.wrapping_sub(up) >> shift);
        }
        if delay == Nanos::ZERO && self.last_delay == Nanos::ZERO {
            self.p = self.p.saturating_sub(self.p / 64);
        }
        self.p = if self.p < ONE { self.p } else { ONE };

        let half = Nanos::from_nanos(params.target.as_nanos() / 2);
        self.burst = if self.p == 0 && delay < half && self.last_delay < half {
            params.max_burst
        } else {
            self.burst.saturating_sub(params.t_update)
        };
        self.last_delay = delay;
    }
}

/// The auto-tuned divisor of a step, a shift. Without branches: each would be a path of its own to BPF's verifier.
#[inline(always)]
const fn tuning(p: u64) -> u32 {
    let [a, b, c, d, e] = TUNING;
    below(p, ONE / 10)
        .wrapping_add(below(p, a) << 1)
        .wrapping_add(below(p, b) << 1)
        .wrapping_add(below(p, c) << 1)
        .wrapping_add(below(p, d) << 1)
        .wrapping_add(below(p, e) << 1)
}

/// 1 if `p < bound`, else 0, for numbers up to [`ONE`].
#[inline(always)]
const fn below(p: u64, bound: u64) -> u32 {
    (p.wrapping_sub(bound) >> 63) as u32
}
