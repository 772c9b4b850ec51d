//! Senders that listen to nobody.

use weir_aqm::{Nanos, Rate};

use super::{Outbox, Outgoing, Sender};
use crate::{Ecn, Random};

/// Time from one frame of `bytes` to the next at `rate`; a rate of zero counts as a bit a second.
pub(super) const fn interval(rate: Rate, bytes: u32) -> Nanos {
    let bits = bytes as u64 * 8 * 1_000_000_000;
    let rate = rate.bits_per_second();
    Nanos::from_nanos(bits / if rate == 0 { 1 } else { rate })
}

/// Packets of one size at a fixed interval: a UDP flow, or a probe.
#[derive(Clone, Debug)]
pub struct Constant {
    interval: Nanos,
    bytes: u32,
    ecn: Ecn,
    next_number: u64,
    stopped: bool,
}

impl Constant {
    /// `bytes` each `interval`; an interval of zero counts as a nanosecond.
    pub fn new(interval: Nanos, bytes: u32, ecn: Ecn) -> Self {
        Self { interval: interval.max(Nanos::from_nanos(1)), bytes, ecn, next_number: 0, stopped: false }
    }
}

impl Sender for Constant {
    fn wake(&mut self, now: Nanos, out: &mut Outbox) {
        if self.stopped {
            return;
        }
        out.send(Outgoing::datagram(self.next_number, self.bytes, self.ecn));
        self.next_number = self.next_number.wrapping_add(1);
        out.wake_at(now.saturating_add(self.interval));
    }

    fn stop(&mut self, _now: Nanos) {
        self.stopped = true;
    }
}

/// How long a [`Poisson`] sender's packets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// All alike.
    Equal,
    /// Exponentially distributed around the mean, at least one byte.
    Exponential,
}

/// Packets at exponentially distributed intervals: the arrivals of queueing theory.
#[derive(Clone, Debug)]
pub struct Poisson {
    mean: Nanos,
    bytes: u32,
    sizes: Sizes,
    random: Random,
    next_number: u64,
    stopped: bool,
    // Arrival times are summed up in floating point, so that rounding to nanoseconds does not bias the rate.
    next_at: Option<f64>,
}

impl Poisson {
    /// One packet of `bytes` each `mean`, on average.
    pub const fn new(mean: Nanos, bytes: u32, sizes: Sizes, random: Random) -> Self {
        Self { mean, bytes, sizes, random, next_number: 0, stopped: false, next_at: None }
    }
}

impl Sender for Poisson {
    fn wake(&mut self, now: Nanos, out: &mut Outbox) {
        if self.stopped {
            return;
        }
        let bytes = match self.sizes {
            Sizes::Equal => self.bytes,
            Sizes::Exponential => self.random.exponential(f64::from(self.bytes)).round().max(1.0) as u32,
        };
        out.send(Outgoing::datagram(self.next_number, bytes, Ecn::NotEct));
        self.next_number = self.next_number.wrapping_add(1);
        let at = self.next_at.unwrap_or(now.as_nanos() as f64);
        let next = at + self.random.exponential(self.mean.as_nanos() as f64);
        self.next_at = Some(next);
        out.wake_at(Nanos::from_nanos(next.round() as u64));
    }

    fn stop(&mut self, _now: Nanos) {
        self.stopped = true;
    }
}
