//! Max-min fair shares of one drain between many phantom queues, in constant time per packet.
//!
//! A phantom queue is a counter: accepted bytes go in, a drain takes bytes out, and no packet is held. When many
//! share a drain fairly, each backlogged one loses the same number of bytes per unit of weight (water-filling), and
//! what an empty one does not need goes to the others. Done literally that touches every queue. Here only one number
//! moves, the *virtual service* `V`: the bytes per unit of weight that a queue backlogged all along has lost. A queue
//! keeps a *finish tag* `F`, the service at which it will be empty, so that its backlog is
//! `q = weight * max(0, F - V)`, and a drain of `b` bytes moves `V` by `b / active weight` (Demers, Keshav, Shenker
//! 1989; Tahir et al. 2024 for phantom queues).
//!
//! The active weight falls as `V` passes finish tags. They are kept in a wheel of buckets that hold, for the tags in
//! them, the sum of weights and the sum of `weight * (end of the bucket - F)`. When `V` reaches a bucket's end, its
//! queues leave, and that second sum, which they were served too much, is *refunded* to the drain. A queue that is
//! charged again before is taken out with its own refund. No byte of the drain is lost to a queue that is empty.
//!
//! The buckets' widths grow with the distance from `V` by [`GROWTH_SHIFT`] per level, without cascading, like the
//! kernel's timer wheel (kernel/time/timer.c): a short queue is told apart to a few hundred bytes while a long one has
//! room.
//!
//! **Error.** The total is exact. While a queue is empty but `V` has not reached its bucket's end, it keeps its part
//! of the drain from the others: at most the bucket's width times its weight, given back at the end. A bucket is as
//! wide as [`ShareParams::grain`] up to 16 grains of backlog; beyond, at most 8/15 of the tag's distance.
//!
//! **Work.** One division and at most [`STEPS_MAX`] buckets per packet. A bucket can only leave after a charge put a
//! tag in it, so one per packet is the mean; what is over waits as credit for the next packet. A drain that exceeds
//! the whole backlog, after a pause above all, empties everything in one step.
//!
//! On the BPF target the three verbs are functions of their own: the stack is 512 bytes, and the verifier walks each call.
//!
//! **Sharing.** The state is several words: CPUs take a lock, or try one and let the packet through unjudged.

mod wheel;

use crate::units::{Bytes, Nanos, Pace, saturating_mul};
pub use wheel::{BUCKETS, Bucket, GROWTH_SHIFT, ShareParams, WEIGHT_MAX};
use wheel::{FRACTION, edge_of, first_edge, last_edge, level_for, level_shift};

/// Buckets that one packet's drain retires at most.
pub const STEPS_MAX: u32 = 8;
/// More than this much backlog (2^39 bytes) is not counted.
const BACKLOG_MAX: u64 = 1 << (39 + FRACTION);
/// CPUs' clocks may differ by this much; an instant further ahead is from before a clock step.
const SKEW_MAX: Nanos = Nanos::from_millis(1);

/// State of one drain and the phantom queues on it. The default is idle. Fixed-point numbers have 16 bits of
/// fraction.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareVars {
    /// Virtual service: bytes that a queue of weight 1 has lost since the beginning, fixed point, wrapping.
    pub service: u64,
    /// Bytes in all queues, fixed point, less what empty ones were served too much.
    pub backlog: u64,
    /// Drain not yet handed out, fixed point.
    pub credit: u64,
    /// Until when the drain has been counted.
    pub drained_until: Nanos,
    /// Weights of all queues in the wheel.
    pub weight: u64,
    /// Which buckets hold tags: 16 bits for each level, the finest lowest.
    pub occupied: u64,
    /// The wheel. A bucket whose bit is not set holds garbage.
    pub buckets: [Bucket; BUCKETS],
}

impl Default for ShareVars {
    fn default() -> Self {
        Self {
            service: 0,
            backlog: 0,
            credit: 0,
            drained_until: Nanos::ZERO,
            weight: 0,
            occupied: 0,
            buckets: [Bucket::EMPTY; BUCKETS],
        }
    }
}

/// A phantom queue's place among the others. The default is an empty queue.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TagVars {
    /// The virtual service at which the queue will be empty, fixed point.
    pub finish: u64,
    /// The weight it was put into the wheel with; 0 before the first charge.
    pub weight: u32,
    /// The level of the wheel that it was put into.
    pub level: u32,
}

/// What one step of the drain came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing is left in any queue.
    Emptied,
    /// The drain is used up, but for what does not divide by the weight.
    Spent,
    /// A bucket has ended.
    Retired,
}

impl ShareVars {
    /// Bytes in all queues.
    #[inline(always)]
    pub const fn backlog(&self) -> Bytes {
        Bytes::new(self.backlog >> FRACTION)
    }

    /// The queue's bytes. Zero for one that has emptied, however long ago.
    #[inline(always)]
    pub fn queue(&self, params: &ShareParams, tag: &TagVars) -> Bytes {
        Bytes::new(saturating_mul(self.distance(params, tag), tag.weight as u64) >> FRACTION)
    }

    /// What a queue's backlog amounts to for the whole drain: the bytes that leave until it is empty if the active
    /// queues stay the same. Over the drain's rate this is the queue's sojourn time.
    #[inline(always)]
    pub fn ahead(&self, params: &ShareParams, tag: &TagVars) -> Bytes {
        Bytes::new(saturating_mul(self.distance(params, tag), self.weight) >> FRACTION)
    }

    /// Drains at `pace` for the time since the last call: the policer's drain. Gives back what no queue needed, in
    /// fixed-point bytes, for a drain of lower priority. A clock that stands still or steps back drains nothing.
    #[inline(always)]
    pub fn drain_timed(&mut self, params: &ShareParams, pace: Pace, now: Nanos) -> u64 {
        let budget = self.budget(pace, now);
        self.serve(params, budget)
    }

    /// Drains in front of a real queue of `real` bytes: `gamma / 2^16` of `pace`, but never below what the real queue
    /// still holds. Where the pace is too fast, the phantom queues then follow the real one instead of running dry in
    /// front of it.
    #[inline(always)]
    pub fn drain_anchored(
        &mut self,
        params: &ShareParams,
        pace: Pace,
        gamma_q16: u32,
        now: Nanos,
        real: Bytes,
    ) {
        let budget = self.budget(pace, now);
        let gamma = gamma_q16 as u64;
        let budget = saturating_mul(budget >> FRACTION, gamma)
            .saturating_add((budget & ((1 << FRACTION) - 1)).wrapping_mul(gamma) >> FRACTION);
        self.serve_down_to(params, budget, real);
    }

    /// Drains `budget` fixed-point bytes, but leaves `real` bytes standing.
    #[inline(always)]
    pub fn serve_down_to(&mut self, params: &ShareParams, budget: u64, real: Bytes) {
        let above = self.backlog.saturating_sub(saturating_mul(real.get(), 1 << FRACTION));
        let credit = self.credit.saturating_add(budget);
        self.credit = 0;
        let _ = self.serve(params, if credit < above { credit } else { above });
    }

    /// Drains `budget` fixed-point bytes and gives back what no queue needed.
    #[cfg_attr(target_arch = "bpf", inline(never))]
    pub fn serve(&mut self, params: &ShareParams, budget: u64) -> u64 {
        let mut credit = self.credit.saturating_add(budget);
        for _ in 0..STEPS_MAX {
            let (left, step) = self.step(params, credit);
            match step {
                Step::Emptied => return left,
                Step::Spent => {
                    credit = left;
                    break;
                }
                Step::Retired => credit = left,
            }
        }
        self.credit = credit;
        0
    }

    /// Drains at most `credit` fixed-point bytes up to the next bucket's end; what is left of them, and what happened.
    #[inline(always)]
    pub(crate) fn step(&mut self, params: &ShareParams, credit: u64) -> (u64, Step) {
        // The backlog lacks what empty queues were served too much, and the drain would get exactly that back.
        if credit >= self.backlog {
            let spare = credit.saturating_sub(self.backlog);
            self.empty(params);
            return (spare, Step::Emptied);
        }
        let distance = first_edge(params, self.service, self.occupied);
        if distance == 0 {
            self.empty(params);
            return (credit, Step::Emptied);
        }
        let weight = if self.weight == 0 { 1 } else { self.weight };
        let need = saturating_mul(distance, weight);
        if credit < need {
            let step = credit / weight;
            let used = step.wrapping_mul(weight);
            self.service = self.service.wrapping_add(step);
            self.backlog = self.backlog.saturating_sub(used);
            return (credit.saturating_sub(used), Step::Spent);
        }
        let edge = self.service.wrapping_add(distance);
        self.service = edge;
        self.backlog = self.backlog.saturating_sub(need);
        let refund = self.retire(params, edge);
        self.backlog = self.backlog.saturating_add(refund);
        (credit.saturating_sub(need).saturating_add(refund), Step::Retired)
    }

    /// Puts `cost` bytes into a queue. `weight` is clamped to 1 to [`WEIGHT_MAX`]; a new one applies from here on.
    /// Beyond [`ShareParams::horizon`] bytes per unit of weight nothing is added.
    #[cfg_attr(target_arch = "bpf", inline(never))]
    pub fn charge(&mut self, params: &ShareParams, tag: &mut TagVars, weight: u32, cost: Bytes) {
        let weight = weight.clamp(1, WEIGHT_MAX);
        let mut distance = self.take_out(params, tag);
        if weight != tag.weight {
            distance = per_weight(saturating_mul(distance, tag.weight as u64), weight);
        }
        let cost = saturating_mul(cost.get(), 1 << FRACTION);
        let step = per_weight(cost.saturating_add(weight as u64 - 1), weight);
        self.put_in(params, tag, weight, distance.saturating_add(step));
    }

    /// Takes `cost` bytes back out of a queue, for a packet that was charged but not sent.
    #[cfg_attr(target_arch = "bpf", inline(never))]
    pub fn refund(&mut self, params: &ShareParams, tag: &mut TagVars, cost: Bytes) {
        let weight = tag.weight.clamp(1, WEIGHT_MAX);
        let step = per_weight(saturating_mul(cost.get(), 1 << FRACTION), weight);
        let distance = self.take_out(params, tag).saturating_sub(step);
        self.put_in(params, tag, weight, distance);
    }

    /// Fixed-point bytes that pass at `pace` since the drain was last counted, for a caller that hands them out
    /// itself ([`ShareVars::serve`]).
    #[inline(always)]
    pub fn budget(&mut self, pace: Pace, now: Nanos) -> u64 {
        if self.drained_until.saturating_sub(now) > SKEW_MAX {
            self.drained_until = now;
        }
        let elapsed = now.saturating_sub(self.drained_until);
        self.drained_until = self.drained_until.saturating_add(elapsed);
        pace.bytes_in_q16(elapsed)
    }

    /// `max(0, F - V)`, fixed point.
    #[inline(always)]
    fn distance(&self, params: &ShareParams, tag: &TagVars) -> u64 {
        let distance = tag.finish.wrapping_sub(self.service);
        if self.holds(params, tag) && distance >> 63 == 0 { distance } else { 0 }
    }

    /// Whether the tag's bucket is still in the wheel: it is once `V` has passed its end, never after.
    #[inline(always)]
    fn holds(&self, params: &ShareParams, tag: &TagVars) -> bool {
        let shift = level_shift(params, tag.level);
        let left = edge_of(tag.finish, shift).wrapping_sub(self.service);
        tag.weight != 0 && left != 0 && left <= 16 << shift
    }

    /// Takes the tag out of the wheel and gives back its distance; what it was served too much becomes credit.
    #[inline(always)]
    fn take_out(&mut self, params: &ShareParams, tag: &TagVars) -> u64 {
        if !self.holds(params, tag) {
            return 0;
        }
        let shift = level_shift(params, tag.level);
        let weight = tag.weight as u64;
        let slack = edge_of(tag.finish, shift).wrapping_sub(tag.finish);
        let (index, bit) = wheel::index(tag.finish, tag.level, shift);
        if let Some(bucket) = self.buckets.get_mut(index) {
            bucket.weight = bucket.weight.saturating_sub(weight);
            bucket.slack = bucket.slack.saturating_sub(saturating_mul(slack, weight));
            if bucket.weight == 0 {
                self.occupied &= !bit;
            }
        }
        self.weight = self.weight.saturating_sub(weight);
        let distance = tag.finish.wrapping_sub(self.service);
        if distance >> 63 == 0 {
            // Below zero for a moment, if others were served too much: what goes back in makes up for it.
            self.backlog = self.backlog.wrapping_sub(saturating_mul(distance, weight));
            return distance;
        }
        let refund = saturating_mul(self.service.wrapping_sub(tag.finish), weight);
        self.backlog = self.backlog.wrapping_add(refund);
        self.credit = self.credit.saturating_add(refund);
        0
    }

    #[inline(always)]
    fn put_in(&mut self, params: &ShareParams, tag: &mut TagVars, weight: u32, distance: u64) {
        let horizon = wheel::horizon(params);
        let distance = if distance < horizon { distance } else { horizon };
        let backlog = self.backlog.wrapping_add(saturating_mul(distance, weight as u64));
        if distance == 0 || backlog > BACKLOG_MAX {
            tag.weight = 0;
            self.settle(params);
            return;
        }
        tag.finish = self.service.wrapping_add(distance);
        tag.weight = weight;
        tag.level = level_for(params, self.service, tag.finish);
        let shift = level_shift(params, tag.level);
        let slack = edge_of(tag.finish, shift).wrapping_sub(tag.finish);
        let (index, bit) = wheel::index(tag.finish, tag.level, shift);
        if let Some(bucket) = self.buckets.get_mut(index) {
            if self.occupied & bit == 0 {
                *bucket = Bucket::EMPTY;
            }
            bucket.weight = bucket.weight.saturating_add(weight as u64);
            bucket.slack = bucket.slack.saturating_add(saturating_mul(slack, weight as u64));
        }
        self.occupied |= bit;
        self.weight = self.weight.saturating_add(weight as u64);
        self.backlog = backlog;
    }

    /// After a queue was taken out: if the others were served too much for all that is left, nothing is left.
    #[inline(always)]
    fn settle(&mut self, params: &ShareParams) {
        if self.backlog >> 63 != 0 {
            self.empty(params);
        }
    }

    /// Takes the buckets that end at `edge` out of the wheel. Gives back what their queues were served too much.
    #[cfg_attr(target_arch = "bpf", inline(never))]
    fn retire(&mut self, params: &ShareParams, edge: u64) -> u64 {
        let mut refund = 0u64;
        for level in 0..wheel::LEVELS {
            let shift = level_shift(params, level);
            if edge & (1u64 << shift).wrapping_sub(1) != 0 {
                continue;
            }
            let (index, bit) = wheel::index(edge.wrapping_sub(1), level, shift);
            if self.occupied & bit == 0 {
                continue;
            }
            self.occupied &= !bit;
            if let Some(bucket) = self.buckets.get(index) {
                self.weight = self.weight.saturating_sub(bucket.weight);
                refund = refund.saturating_add(bucket.slack);
            }
        }
        refund
    }

    /// Every queue is empty: `V` passes the last tag, so that all of them read as such.
    #[cfg_attr(target_arch = "bpf", inline(never))]
    fn empty(&mut self, params: &ShareParams) {
        if self.occupied != 0 {
            self.service = self.service.wrapping_add(last_edge(params, self.service, self.occupied));
        }
        (self.backlog, self.credit, self.weight, self.occupied) = (0, 0, 0, 0);
    }
}

/// `bytes / weight`, for a weight that is never zero; the compiler does not always see that, and BPF has no panic.
#[inline(always)]
fn per_weight(bytes: u64, weight: u32) -> u64 {
    match bytes.checked_div(weight as u64) {
        Some(quotient) => quotient,
        None => bytes,
    }
}
