//! Fair shares by estimated rates: core-stateless fair queueing's dropping (Stoica, Shenker, Zhang, SIGCOMM 1998) on
//! a phantom queue. The rival of [`crate::fairness`], with the same verdicts.
//!
//! Each flow's arrival rate is averaged over intervals; a flow that sends `m` bytes per interval where `fair` bytes
//! are its due has its packets dropped with probability `1 - fair / m`. What the flows' due is follows from what was
//! accepted: too much in one interval shrinks it in proportion for the next. A phantom queue of the whole, drained by
//! time, corrects the sum, so that the rate is met in the long run and not only estimated.
//!
//! Against per-flow phantom queues: 24 bytes a flow and no wheel, one division per packet. But it needs random
//! numbers, a flow's loss is spread by chance rather than by its backlog, shares are right only after some intervals,
//! and bursts shorter than an interval are not told from rates.

use crate::fairness::FairnessVerdict;
use crate::units::{Bytes, Nanos, Pace, saturating_mul};

/// Sizes are told apart up to this many bytes per interval, so that a product of two fits 64 bits.
const BYTES_MAX: u64 = u32::MAX as u64;
/// In one interval the fair share at most doubles or halves.
const STEP_MAX: u64 = 2;
/// Missed intervals after which a flow's average is nothing.
const FORGOTTEN: u64 = 32;
/// Up to this probability (1/4) a signal may be a mark: RFC 9332 section 4.2 has the same bound.
const MARK_NUM: u64 = 3;
const MARK_DEN: u64 = 4;

/// Configuration of a drain that flows share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CsfqParams {
    /// The drain's rate.
    pub pace: Pace,
    /// Over how long rates are averaged: 10 to 100 ms. Not zero.
    pub interval: Nanos,
    /// The delay of the phantom queue to hold.
    pub target: Nanos,
    /// The delay of the phantom queue from which every packet is refused.
    pub limit: Nanos,
}

impl CsfqParams {
    /// The settings that docs/fairness-comparison.md compares, in the simulator and on the kernel: of the intervals tried there
    /// the one that is fair soonest and holds the rate best, and the limit at which a class with fairness stops by default.
    #[inline(always)]
    pub const fn as_compared(pace: Pace) -> Self {
        Self {
            pace,
            interval: Nanos::from_millis(10),
            target: Nanos::from_millis(5),
            limit: Nanos::from_millis(25),
        }
    }
}

/// State of the drain. The default is idle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CsfqVars {
    /// When the phantom queue will be empty.
    pub tat: Nanos,
    /// Number of the current interval: `now / interval`.
    pub interval: u64,
    /// Bytes per interval that are a flow's due.
    pub fair: u64,
    /// Bytes that arrived in this interval.
    pub arrived: u64,
    /// Bytes that were accepted in this interval.
    pub accepted: u64,
    /// The fastest flow of this interval, in bytes per interval.
    pub fastest: u64,
}

/// State of one flow. The default is a new flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateVars {
    /// The interval that `count` belongs to.
    pub interval: u64,
    /// Bytes that arrived in it.
    pub count: u64,
    /// Average of the intervals before, in bytes.
    pub average: u64,
}

impl CsfqVars {
    /// Judges one arriving packet; `random` are 32 uniform bits. The caller [`CsfqVars::charge`]s what it lets
    /// through.
    #[inline(always)]
    pub fn judge(
        &mut self,
        params: &CsfqParams,
        flow: &mut RateVars,
        now: Nanos,
        length: Bytes,
        random: u32,
    ) -> FairnessVerdict {
        let period = if params.interval == Nanos::ZERO { 1 } else { params.interval.as_nanos() };
        let interval = now.as_nanos() / period;
        self.roll(params, interval, now);
        flow.roll(interval);
        self.arrived = add(self.arrived, length.get());
        flow.count = add(flow.count, length.get());
        // A flow that has already sent more than its average is at least as fast as that.
        let rate = if flow.count > flow.average { flow.count } else { flow.average };
        self.fastest = if rate > self.fastest { rate } else { self.fastest };

        if self.tat.saturating_sub(now) >= params.limit {
            return FairnessVerdict::OverLimit;
        }
        if rate <= self.fair || u64::from(random) < (self.fair << 32) / rate {
            FairnessVerdict::Accept
        } else if saturating_mul(rate, MARK_NUM) <= saturating_mul(self.fair, MARK_DEN) {
            FairnessVerdict::Signal
        } else {
            FairnessVerdict::OverShare
        }
    }

    /// Counts a packet that was let through.
    #[inline(always)]
    pub fn charge(&mut self, params: &CsfqParams, now: Nanos, length: Bytes) {
        self.accepted = add(self.accepted, length.get());
        let start = if self.tat > now { self.tat } else { now };
        self.tat = start.saturating_add(params.pace.time_for_rounded_up(length));
    }

    /// At the end of an interval: what a flow's due was too much or too little.
    #[inline(always)]
    fn roll(&mut self, params: &CsfqParams, interval: u64, now: Nanos) {
        if !newer(interval, self.interval) {
            return;
        }
        let capacity = cut(params.pace.bytes_in(params.interval).get());
        // A silence, or a clock that went far back: nothing is known, so everybody may have everything.
        if interval.wrapping_sub(self.interval) > FORGOTTEN {
            self.fair = capacity;
        } else if self.arrived < capacity && self.tat.saturating_sub(now) < params.target {
            self.fair = if self.fastest > self.fair { self.fastest } else { self.fair };
        } else {
            let goal = goal(params, capacity, self.tat.saturating_sub(now));
            let accepted = if self.accepted == 0 { 1 } else { self.accepted };
            let next = saturating_mul(self.fair, goal) / accepted;
            self.fair = between(next, self.fair / STEP_MAX, saturating_mul(self.fair, STEP_MAX));
        }
        self.fair = between(self.fair, 1, capacity);
        self.interval = interval;
        (self.arrived, self.accepted, self.fastest) = (0, 0, 0);
    }
}

impl RateVars {
    #[inline(always)]
    fn roll(&mut self, interval: u64) {
        if !newer(interval, self.interval) {
            return;
        }
        let passed = interval.wrapping_sub(self.interval);
        // Each interval weighs a half; those without a packet count as nothing.
        self.average = if passed > FORGOTTEN { 0 } else { self.average.saturating_add(self.count) >> passed };
        self.interval = interval;
        self.count = 0;
    }
}

/// Bytes that the next interval should accept: the capacity, and an eighth of what the phantom queue is off.
#[inline(always)]
fn goal(params: &CsfqParams, capacity: u64, delay: Nanos) -> u64 {
    let above = cut(params.pace.bytes_in(delay.saturating_sub(params.target)).get()) / 8;
    let below = cut(params.pace.bytes_in(params.target.saturating_sub(delay)).get()) / 8;
    capacity.saturating_add(below).saturating_sub(above)
}

/// Whether a new interval has begun. A clock that is a little behind, another CPU's, stays in the old one.
#[inline(always)]
const fn newer(interval: u64, last: u64) -> bool {
    interval > last || last.wrapping_sub(interval) > FORGOTTEN
}

/// At most `high`, and at least `low` where that is not above it.
#[inline(always)]
const fn between(value: u64, low: u64, high: u64) -> u64 {
    let value = if value < low { low } else { value };
    if value < high { value } else { high }
}

#[inline(always)]
const fn cut(bytes: u64) -> u64 {
    if bytes < BYTES_MAX { bytes } else { BYTES_MAX }
}

#[inline(always)]
const fn add(bytes: u64, more: u64) -> u64 {
    cut(bytes.saturating_add(more))
}
