//! Links: what takes time.

use std::collections::VecDeque;

use weir_aqm::{Bytes, Nanos, Rate};

use crate::events::{Agenda, Due};

/// Nanoseconds of one byte at 1 bit/s.
const BYTE_NS: u64 = 8_000_000_000;

/// A link that sends one frame after the other. Fractions of a nanosecond are carried on, so that the rate is exact.
#[derive(Debug)]
pub struct Serialiser {
    rate: u64,
    free_at: Nanos,
    carry: u64,
}

impl Serialiser {
    /// A free link of this rate, 1 bit/s at least.
    pub const fn new(rate: Rate) -> Self {
        let rate = rate.bits_per_second();
        Self { rate: if rate == 0 { 1 } else { rate }, free_at: Nanos::ZERO, carry: 0 }
    }

    /// From the next frame on.
    pub const fn set_rate(&mut self, rate: Rate) {
        *self = Self { free_at: self.free_at, ..Self::new(rate) };
    }

    /// Sends `bytes` from `now`, or from when the link is free; returns when the last bit has left.
    pub fn send(&mut self, now: Nanos, bytes: Bytes) -> Nanos {
        if now >= self.free_at {
            self.carry = 0;
        }
        let work = bytes.get().saturating_mul(BYTE_NS).saturating_add(self.carry);
        self.carry = work % self.rate;
        self.free_at = now.max(self.free_at).saturating_add(Nanos::from_nanos(work / self.rate));
        self.free_at
    }
}

/// What is under way and arrives in the order in which it left. One event at a time, for the first of them.
#[derive(Debug)]
pub struct Line<T> {
    due: Due,
    under_way: VecDeque<(Nanos, T)>,
}

impl<T> Line<T> {
    /// Empty; `due` is the event of an arrival.
    pub const fn new(due: Due) -> Self {
        Self { due, under_way: VecDeque::new() }
    }

    /// It arrives at `at`, and not before what left earlier: an event that is set in the past happens now.
    pub fn push<E: Copy>(&mut self, agenda: &mut Agenda<E>, at: Nanos, item: T) {
        if self.under_way.is_empty() {
            agenda.set(self.due, at);
        }
        self.under_way.push_back((at, item));
    }

    /// The event has come: what has arrived.
    pub fn pop<E: Copy>(&mut self, agenda: &mut Agenda<E>) -> Option<T> {
        let (_, item) = self.under_way.pop_front()?;
        if let Some((at, _)) = self.under_way.front() {
            agenda.set(self.due, *at);
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_carries_its_rate_to_the_bit() {
        // A full frame takes 1,211,200 / 3 ns at 30 Mbit/s: three of them take a whole number.
        let mut link = Serialiser::new(Rate::from_bits_per_second(30_000_000));
        let frame = Bytes::new(1514);
        let ends = [0; 3].map(|_: u64| link.send(Nanos::ZERO, frame).as_nanos());
        assert_eq!(ends, [403_733, 807_466, 1_211_200]);
    }

    #[test]
    fn a_new_rate_holds_from_the_next_frame_on() {
        let mut link = Serialiser::new(Rate::from_bits_per_second(8_000_000));
        assert_eq!(link.send(Nanos::ZERO, Bytes::new(1000)), Nanos::from_millis(1));
        link.set_rate(Rate::from_bits_per_second(80_000_000));
        assert_eq!(link.send(Nanos::ZERO, Bytes::new(1000)), Nanos::from_micros(1100));
    }

    #[test]
    fn a_line_keeps_the_order_though_later_items_would_be_faster() {
        let mut agenda = Agenda::new();
        let due = agenda.register(());
        let mut line = Line::new(due);
        for (at, item) in [(5, 'a'), (3, 'b'), (9, 'c')] {
            line.push(&mut agenda, Nanos::from_nanos(at), item);
        }
        let mut arrivals = Vec::new();
        while let Some((now, ())) = agenda.pop() {
            arrivals.push((now.as_nanos(), line.pop(&mut agenda).unwrap()));
        }
        assert_eq!(arrivals, [(5, 'a'), (5, 'b'), (9, 'c')]);
    }
}
