//! Phantom queues that drain together: a rate shared equally among those that are not empty, exactly.

use std::{cmp::Reverse, collections::BinaryHeap};

use weir_aqm::{Nanos, Rate};

/// Fraction bits of a byte. A nanosecond at 64 kbit/s is half of the last one; what division leaves over is carried.
const FRACTION: u32 = 16;

/// Byte counters with a common drain.
///
/// Water-filling by virtual time: `level` is what each backlogged counter has been served since the beginning, and a
/// counter is a finish tag, the level at which it will be empty. Draining raises the level; a tag that it passes leaves,
/// and the others share what that one no longer needs. The heap holds each backlogged counter once, under a tag that
/// it had when it was pushed: later arrivals only raise a tag, and it is pushed again when its old one comes up.
#[derive(Debug)]
pub struct WaterFilling {
    level: u64,
    tags: Vec<u64>,
    order: BinaryHeap<Reverse<(u64, u32)>>,
    /// Budget in fractions of a byte that was too little to raise the level by the smallest step.
    carry: u64,
    bits_per_second: u64,
    /// Numerator over 8e9 of a fraction of a byte.
    rest: u128,
    drained: Nanos,
}

impl WaterFilling {
    /// Empty counters that share `rate`.
    pub fn new(counters: u32, rate: Rate) -> Self {
        Self {
            level: 0,
            tags: vec![0; counters as usize],
            order: BinaryHeap::with_capacity(counters as usize),
            carry: 0,
            bits_per_second: rate.bits_per_second(),
            rest: 0,
            drained: Nanos::ZERO,
        }
    }

    /// Drains what the rate gives until `now`.
    pub fn advance(&mut self, now: Nanos) {
        let elapsed = now.saturating_sub(self.drained);
        self.drained = self.drained.max(now);
        let bits = (u128::from(elapsed.as_nanos()) * u128::from(self.bits_per_second)) << FRACTION;
        let total = bits + self.rest;
        self.rest = total % 8_000_000_000;
        self.drain_fractions(u64::try_from(total / 8_000_000_000).unwrap_or(u64::MAX));
    }

    /// Drains so many bytes.
    pub fn drain(&mut self, bytes: u64) {
        self.drain_fractions(bytes << FRACTION);
    }

    /// Amortised over arrivals, each of which can be the cause of one turn of the loop, and one more.
    fn drain_fractions(&mut self, budget: u64) {
        let mut budget = budget.saturating_add(self.carry);
        self.carry = 0;
        while let Some(Reverse((tag, counter))) = self.order.peek().copied() {
            let own = self.tag(counter);
            if own > tag {
                self.order.pop();
                self.order.push(Reverse((own, counter)));
                continue;
            }
            let active = self.order.len() as u64;
            let needed = u128::from(tag.saturating_sub(self.level)) * u128::from(active);
            if needed > u128::from(budget) {
                self.level = self.level.saturating_add(budget / active.max(1));
                self.carry = budget % active.max(1);
                return;
            }
            budget = budget.saturating_sub(needed as u64);
            self.level = self.level.max(tag);
            self.order.pop();
        }
    }

    /// The level at which a counter will be empty.
    pub(super) fn tag(&self, counter: u32) -> u64 {
        self.tags.get(counter as usize).copied().unwrap_or(0)
    }

    /// Bytes in a counter, rounded up, as of the last drain.
    pub fn bytes(&self, counter: u32) -> u64 {
        self.tag(counter).saturating_sub(self.level).div_ceil(1 << FRACTION)
    }

    /// Counters that are not empty.
    pub fn active(&self) -> u32 {
        self.order.len() as u32
    }

    /// How far the level has risen, in bytes times `2^16`.
    pub(super) const fn level(&self) -> u64 {
        self.level
    }

    /// Adds bytes to a counter.
    pub fn add(&mut self, counter: u32, bytes: u64) {
        let level = self.level;
        let Some(tag) = self.tags.get_mut(counter as usize) else { return };
        let empty = *tag <= level;
        *tag = (*tag).max(level).saturating_add(bytes << FRACTION);
        if empty && bytes > 0 {
            self.order.push(Reverse((*tag, counter)));
        }
    }

    /// Takes `fractions` (bytes times `2^16`) out of a counter, as far as it holds them. Not for each packet: the order is
    /// made anew.
    pub(super) fn take_out(&mut self, counter: u32, fractions: u64) {
        let level = self.level;
        let Some(tag) = self.tags.get_mut(counter as usize) else { return };
        if *tag <= level {
            return;
        }
        *tag = tag.saturating_sub(fractions).max(level);
        let left = *tag;
        self.order.retain(|Reverse((_, other))| *other != counter);
        if left > level {
            self.order.push(Reverse((left, counter)));
        }
    }

    /// Fills a counter up to `bytes`; how much that was, in bytes times `2^16`.
    pub(super) fn fill(&mut self, counter: u32, bytes: u64) -> u64 {
        let missing = bytes.saturating_sub(self.bytes(counter));
        self.add(counter, missing);
        missing << FRACTION
    }
}
