//! Where the packets of a flow go, and when they may go another way without overtaking the ones before.
//!
//! A flow that leaves one FIFO queue for another keeps its order if its last packet has left the first queue before the
//! next one enters the second. Flowlet switching (S. Kandula, D. Katabi, S. Sinha and A. Berger, "Dynamic load balancing
//! without packet reordering", SIGCOMM CCR 37(2), 2007) waits for a gap as long as the queues' delays may differ. Here the
//! gap is as long as it must be and no longer: the queue's own head says which packets have left. A predicted departure
//! would not do, because a link that slows down while a packet waits breaks the prediction.

use crate::units::Nanos;

/// A packet that was sent by XDP is in its ring after this: frames are handed to the driver at the end of the NAPI poll
/// that brought them, of 64 frames at most (`xdp_do_flush`, `net/core/filter.c` at Linux v6.18).
pub const FLUSH: Nanos = Nanos::from_micros(250);
/// A packet that was given to the kernel's stack has passed it after this, and is in the device's queueing discipline.
pub const SETTLE: Nanos = Nanos::from_millis(1);
/// A packet has left a queue that nobody can look into after this.
pub const IDLE: Nanos = Nanos::from_secs(1);

/// A way out of the router.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// The ring of the port that the route names.
    #[default]
    Straight,
    /// The kernel's stack and the queueing discipline of the same port.
    Diverted,
    /// The ring of the spill port.
    Spilled,
}

impl Way {
    /// The way as stored in a map: 0, 1, 2.
    #[inline(always)]
    pub const fn as_u64(self) -> u64 {
        match self {
            Self::Straight => 0,
            Self::Diverted => 1,
            Self::Spilled => 2,
        }
    }

    /// The way of a stored number. Unknown numbers are [`Way::Straight`].
    #[inline(always)]
    const fn from_u64(way: u64) -> Self {
        match way {
            1 => Self::Diverted,
            2 => Self::Spilled,
            _ => Self::Straight,
        }
    }

    /// How long a packet may take to the queue at the end of this way.
    #[inline(always)]
    const fn entry(self) -> Nanos {
        match self {
            Self::Straight | Self::Spilled => FLUSH,
            Self::Diverted => SETTLE,
        }
    }
}

/// The two lowest bits of a word: the way.
const WAY_MASK: u64 = 3;

/// The last packet of a flow: where it went, and when. The default is a flow that has never been seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StickyVars {
    /// Its way.
    pub way: Way,
    /// When it was sent there, in steps of 4 ns.
    pub sent: Nanos,
}

impl StickyVars {
    /// Out of a map's word.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self { way: Way::from_u64(word & WAY_MASK), sent: Nanos::from_nanos(word & !WAY_MASK) }
    }

    /// As a map's word. The instant is rounded up: a packet never counts as older than it is.
    #[inline(always)]
    pub const fn to_word(self) -> u64 {
        (self.sent.saturating_add(Nanos::from_nanos(WAY_MASK)).as_nanos() & !WAY_MASK) | self.way.as_u64()
    }

    /// A packet that is sent by `way` at `now`.
    #[inline(always)]
    pub const fn sent_by(way: Way, now: Nanos) -> Self {
        Self { way, sent: now }
    }

    /// Whether the packet has left its queue, where everything that entered the queue before `passed` has left it: the
    /// time when its oldest packet entered, or the present where it is empty.
    #[inline(always)]
    pub fn has_left(&self, passed: Nanos) -> bool {
        self.is_in_queue_at(passed)
    }

    /// Whether the packet has reached the queue at the end of its way by `now`. What enters the same queue after that is
    /// behind it.
    #[inline(always)]
    pub fn is_in_queue_at(&self, now: Nanos) -> bool {
        self.sent == Nanos::ZERO || self.sent.saturating_add(self.way.entry()) <= now
    }

    /// Whether the packet was sent so long ago that it is in no queue any more.
    #[inline(always)]
    pub fn is_idle_at(&self, now: Nanos) -> bool {
        self.sent.saturating_add(IDLE) <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_keeps_the_way_and_never_makes_a_packet_older() {
        for way in [Way::Straight, Way::Diverted, Way::Spilled] {
            for ns in [0, 1, 3, 4, 1_000_000_001, u64::MAX - 7] {
                let back = StickyVars::from_word(StickyVars::sent_by(way, Nanos::from_nanos(ns)).to_word());
                assert_eq!(back.way, way);
                assert!(back.sent.as_nanos() >= ns && back.sent.as_nanos() - ns < 4, "{ns}");
            }
        }
        assert_eq!(StickyVars::from_word(3).way, Way::Straight);
    }

    #[test]
    fn a_flow_that_was_never_seen_is_free() {
        let flow = StickyVars::from_word(0);
        assert!(flow.has_left(Nanos::ZERO) && flow.is_in_queue_at(Nanos::ZERO));
    }

    #[test]
    fn a_clock_that_steps_back_frees_nobody() {
        let flow = StickyVars::sent_by(Way::Spilled, Nanos::from_secs(100));
        let now = Nanos::from_secs(10);
        assert!(!flow.has_left(now) && !flow.is_idle_at(now));
    }
}
