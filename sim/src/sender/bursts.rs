//! Senders that listen to nobody and rest from time to time.

use weir_aqm::{Nanos, Rate};

use super::{Outbox, Outgoing, Sender};
use crate::{Ecn, Random};

/// Frames at a fixed interval for an exponentially distributed time, then silence for another.
#[derive(Clone, Debug)]
pub struct OnOff {
    interval: Nanos,
    bytes: u32,
    on: Nanos,
    off: Nanos,
    random: Random,
    next_number: u64,
    /// When the running burst ends; `None` before the first.
    until: Option<Nanos>,
    stopped: bool,
}

impl OnOff {
    /// G.711 in RTP: 160 bytes of speech each 20 ms (RFC 3551 section 4.2), 214 bytes with the headers of RTP, UDP, IPv4 and
    /// Ethernet. Talk spurts and pauses last as long as those of ITU-T P.59 table 1.
    const SPEECH: (Nanos, u32, Nanos, Nanos) =
        (Nanos::from_millis(20), 214, Nanos::from_millis(1004), Nanos::from_millis(1587));

    /// Frames of `bytes` at `rate` for `on` on average, nothing for `off` on average; begins with a burst.
    pub fn new(rate: Rate, bytes: u32, on: Nanos, off: Nanos, random: Random) -> Self {
        Self::every(super::open::interval(rate, bytes), bytes, on, off, random)
    }

    /// One direction of a call.
    pub const fn voip(random: Random) -> Self {
        let (interval, bytes, on, off) = Self::SPEECH;
        Self::every(interval, bytes, on, off, random)
    }

    const fn every(interval: Nanos, bytes: u32, on: Nanos, off: Nanos, random: Random) -> Self {
        Self { interval, bytes, on, off, random, next_number: 0, until: None, stopped: false }
    }

    fn duration(&mut self, mean: Nanos) -> Nanos {
        Nanos::from_nanos(self.random.exponential(mean.as_nanos() as f64).round() as u64)
    }
}

impl Sender for OnOff {
    fn wake(&mut self, now: Nanos, out: &mut Outbox) {
        if self.stopped {
            return;
        }
        let mut until = match self.until {
            Some(until) => until,
            None => now.saturating_add(self.duration(self.on)),
        };
        out.send(Outgoing::datagram(self.next_number, self.bytes, Ecn::NotEct));
        self.next_number = self.next_number.wrapping_add(1);
        let mut next = now.saturating_add(self.interval);
        if next > until {
            next = next.max(until.saturating_add(self.duration(self.off)));
            until = next.saturating_add(self.duration(self.on));
        }
        self.until = Some(until);
        out.wake_at(next);
    }

    fn stop(&mut self, _now: Nanos) {
        self.stopped = true;
    }
}
