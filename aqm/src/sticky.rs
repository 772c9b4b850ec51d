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
    /// When it was sent there, in steps of 4 ns; at the latest, where nobody saw it.
    pub sent: Nanos,
    /// Nobody saw the packet: it went straight while the port rested ([`StickyVars::awake_since`]).
    pub unseen: bool,
}

impl StickyVars {
    /// Out of a map's word.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        let sent = Nanos::from_nanos(word & !WAY_MASK);
        Self { way: Way::from_u64(word & WAY_MASK), sent, unseen: false }
    }

    /// As a map's word. The instant is rounded up: a packet never counts as older than it is.
    #[inline(always)]
    pub const fn to_word(self) -> u64 {
        (self.sent.saturating_add(Nanos::from_nanos(WAY_MASK)).as_nanos() & !WAY_MASK) | self.way.as_u64()
    }

    /// A packet that is sent by `way` at `now`.
    #[inline(always)]
    pub const fn sent_by(way: Way, now: Nanos) -> Self {
        Self { way, sent: now, unseen: false }
    }

    /// The same at a port that has been awake since `since`, and rested before that or was never awake: while a port rests all
    /// packets go straight, and nobody remembers them. What was sent by another way within [`IDLE`] of `since` was sent after the
    /// rest ([`may_rest`]).
    #[inline(always)]
    pub fn awake_since(self, since: Nanos) -> Self {
        let remembered = match self.way {
            Way::Straight => self.sent >= since,
            Way::Diverted | Way::Spilled => !self.is_idle_at(since),
        };
        if remembered { self } else { Self { way: Way::Straight, sent: since, unseen: true } }
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

/// How exactly a port's last activity is known.
pub const ACTIVE_GRAIN: Nanos = SETTLE;

/// Whether a port whose signal is clear may rest: nobody looks at its flows any more, and all go straight, until a signal
/// rises. `active` is when a signal stood or a packet left by another way than straight, to within [`ACTIVE_GRAIN`].
///
/// Every packet that left by another way is in no queue any more.
#[inline(always)]
pub fn may_rest(active: Nanos, now: Nanos) -> bool {
    active.saturating_add(IDLE).saturating_add(ACTIVE_GRAIN).saturating_add(ACTIVE_GRAIN) <= now
}

/// The latest activity as it is to be stored at `now`, an active moment; `None` where what is stored will do.
#[inline(always)]
pub fn active_at(active: Nanos, now: Nanos) -> Option<Nanos> {
    (active.saturating_add(ACTIVE_GRAIN) <= now).then_some(now)
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
    fn what_was_sent_while_the_port_rested_was_sent_straight_at_the_last_moment_before_it_woke() {
        let since = Nanos::from_secs(100);
        let unseen = StickyVars { way: Way::Straight, sent: since, unseen: true };
        let before = |by: Nanos| since.saturating_sub(by);
        let seen = |way, sent| StickyVars::sent_by(way, sent).awake_since(since);
        assert_eq!(StickyVars::default().awake_since(since), unseen);
        assert_eq!(seen(Way::Straight, before(Nanos::from_nanos(4))), unseen);
        assert_eq!(seen(Way::Straight, since), StickyVars::sent_by(Way::Straight, since));
        for way in [Way::Diverted, Way::Spilled] {
            assert_eq!(seen(way, before(IDLE)), unseen);
            let late = before(IDLE).saturating_add(Nanos::from_nanos(4));
            assert_eq!(seen(way, late), StickyVars::sent_by(way, late));
        }
        assert!(!unseen.is_in_queue_at(since) && unseen.is_in_queue_at(since.saturating_add(FLUSH)));
    }

    #[test]
    fn no_port_rests_while_a_packet_that_left_by_another_way_may_still_wait() {
        let sent = Nanos::from_secs(100);
        // As early as the grain lets the stored moment be.
        let stored = sent.saturating_sub(ACTIVE_GRAIN).saturating_add(Nanos::from_nanos(1));
        assert_eq!(active_at(stored, sent), None);
        assert_eq!(active_at(sent.saturating_sub(ACTIVE_GRAIN), sent), Some(sent));
        let rests = (0..3_000_000_u64).step_by(1_000).find_map(|us| {
            let now = sent.saturating_add(Nanos::from_micros(us));
            may_rest(stored, now).then_some(now)
        });
        let rests = rests.unwrap();
        for way in [Way::Diverted, Way::Spilled] {
            let flow = StickyVars::sent_by(way, sent);
            assert!(flow.is_idle_at(rests));
            assert!(flow.awake_since(rests).unseen, "it woke at once, and what went before is not trusted");
        }
    }

    #[test]
    fn a_clock_that_steps_back_frees_nobody() {
        let flow = StickyVars::sent_by(Way::Spilled, Nanos::from_secs(100));
        let now = Nanos::from_secs(10);
        assert!(!flow.has_left(now) && !flow.is_idle_at(now));
    }
}
