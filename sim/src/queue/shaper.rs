//! A shaper as HTB with one class makes it, around any queue.

use weir_aqm::{Nanos, Rate};

use super::{Queue, Tally};
use crate::Packet;

/// `tc`'s default for `burst` with a nanosecond clock (`tc/q_htb.c` of iproute2: rate / clock + mtu, mtu 1600).
const BURST: u64 = 1600;
/// Nanoseconds of a byte at 1 bit/s.
const BYTE_NS: u128 = 8_000_000_000;

/// The time of bytes at a rate, in whole nanoseconds whose rounding does not add up.
#[derive(Clone, Copy, Debug)]
struct Clock {
    bits_per_second: u64,
    remainder: u128,
}

impl Clock {
    fn time_of(&mut self, bytes: u64) -> Nanos {
        let rate = u128::from(self.bits_per_second);
        let total = u128::from(bytes) * BYTE_NS + self.remainder;
        self.remainder = total % rate;
        Nanos::from_nanos(u64::try_from(total / rate).unwrap_or(u64::MAX))
    }
}

/// A queue behind a token bucket. As in `sch_htb`, a packet leaves while the bucket is not in debt, and may put it there:
/// over any time, at most rate x time + 1,600 bytes + one packet leave.
pub struct Shaped {
    inner: Box<dyn Queue>,
    clock: Clock,
    /// When the bucket will be full; later than now by `burst` is empty, by more is debt.
    full_at: Nanos,
    burst: Nanos,
}

impl Shaped {
    /// `inner` at `rate` of frames, at least 1 bit/s.
    pub fn new(rate: Rate, inner: Box<dyn Queue>) -> Self {
        let mut clock = Clock { bits_per_second: rate.bits_per_second().max(1), remainder: 0 };
        let burst = clock.time_of(BURST);
        clock.remainder = 0;
        Self { inner, clock, full_at: Nanos::ZERO, burst }
    }

    /// The end of the debt.
    fn opens_at(&self) -> Nanos {
        self.full_at.saturating_sub(self.burst)
    }
}

impl Queue for Shaped {
    fn offer(&mut self, now: Nanos, cpu: u32, batch: &mut Vec<Packet>, tally: &mut Tally) {
        self.inner.offer(now, cpu, batch, tally);
    }

    fn take(&mut self, now: Nanos, tally: &mut Tally) -> Option<Packet> {
        if now < self.opens_at() {
            return None;
        }
        let packet = self.inner.take(now, tally)?;
        let time = self.clock.time_of(u64::from(packet.bytes));
        self.full_at = self.full_at.max(now).saturating_add(time);
        Some(packet)
    }

    fn ready_at(&self, now: Nanos) -> Option<Nanos> {
        if self.inner.occupancy() == 0 {
            return None;
        }
        let inner = self.inner.ready_at(now);
        let own = Some(self.opens_at()).filter(|at| *at > now);
        inner.max(own)
    }

    fn occupancy(&self) -> u32 {
        self.inner.occupancy()
    }

    fn slots(&self) -> u32 {
        self.inner.slots()
    }
}
