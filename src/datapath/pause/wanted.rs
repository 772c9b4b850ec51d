//! How long whoever feeds a port should stop. Pure: what the maps say comes in.

use weir_aqm::{Bytes, Level, Nanos};
use weir_shared_maps::{PauseState, SignalState};

use crate::config::PauseKind;

/// Until when sending should stop; zero or any instant that has passed where nothing needs to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// All of the link, by PAUSE.
    pub link: Nanos,
    /// Single priorities, by priority-based flow control.
    pub priorities: [Nanos; 8],
}

/// A class of a port whose senders are paused by priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The priority whose pause stops the class.
    pub priority: u8,
    /// How much of the port's queue is its.
    pub bytes: Bytes,
}

/// What one port says.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// The signals of its rings.
    pub signals: Vec<SignalState>,
    /// Until when its own link partner has paused it.
    pub paused: Option<PauseState>,
    /// Its classes, where they are paused one by one.
    pub classes: Vec<Waiting>,
}

impl Standing {
    /// Until when the level of any ring stands; zero where all are clear.
    pub fn raised(&self, now: Nanos) -> Nanos {
        self.signals.iter().filter_map(|signal| raised_until(signal, now)).max().unwrap_or(Nanos::ZERO)
    }
}

impl Wanted {
    /// What a port wants at `now`.
    ///
    /// A raised level is answered until it expires: until its ring has drained to the level's low watermark. Any ring that
    /// is congested stops all senders, since they cannot know which ring their frames will enter. A pause that the port's
    /// own link partner asked for is passed on.
    ///
    /// By priority, a class is congested if more than its even part of all the classes' bytes is its own: while anything
    /// waits, that is at least one.
    pub fn of(kind: PauseKind, now: Nanos, standing: &Standing) -> Self {
        let mut wanted = Self::default();
        let until = standing.raised(now);
        let paused = standing.paused.map_or([0; 8], |paused| paused.until_ns).map(Nanos::from_nanos);
        match kind {
            PauseKind::Off => {}
            PauseKind::Link => wanted.link = paused.into_iter().fold(until, Ord::max),
            PauseKind::Priority => {
                wanted.priorities = paused;
                for class in congested(&standing.classes) {
                    if let Some(priority) = wanted.priorities.get_mut(usize::from(class.priority)) {
                        *priority = (*priority).max(until);
                    }
                }
            }
        }
        wanted
    }

    /// What two ports want of those who feed both.
    pub fn and(self, other: Self) -> Self {
        let mut both = self;
        both.link = both.link.max(other.link);
        for (priority, other) in both.priorities.iter_mut().zip(other.priorities) {
            *priority = (*priority).max(other);
        }
        both
    }
}

fn raised_until(signal: &SignalState, now: Nanos) -> Option<Nanos> {
    match weir_egress::level(signal, now) {
        Level::Clear => None,
        Level::Congested | Level::Full => Some(Nanos::from_nanos(signal.until_ns)),
    }
}

/// Classes with at least an even part of what waits.
fn congested(classes: &[Waiting]) -> impl Iterator<Item = &Waiting> {
    let all: u64 = classes.iter().map(|class| class.bytes.get()).sum();
    let even = all / (classes.len() as u64).max(1);
    classes.iter().filter(move |class| class.bytes > Bytes::ZERO && class.bytes.get() >= even)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_shared_maps::{SIGNAL_CLEAR, SIGNAL_CONGESTED, SIGNAL_FULL};
    use zerocopy::FromZeros as _;

    const NOW: Nanos = Nanos::from_millis(1_000);
    const SOON: Nanos = Nanos::from_millis(1_004);
    const LATER: Nanos = Nanos::from_millis(1_009);

    fn signal(level: u32, until: Nanos) -> SignalState {
        let since_ns = until.as_nanos() - 10_000_000;
        SignalState { level, since_ns, until_ns: until.as_nanos(), ..SignalState::new_zeroed() }
    }

    fn class(priority: u8, bytes: u64) -> Waiting {
        Waiting { priority, bytes: Bytes::new(bytes) }
    }

    #[test]
    fn the_longest_of_the_rings_levels_stops_the_link() {
        let signals =
            vec![signal(SIGNAL_CONGESTED, LATER), signal(SIGNAL_FULL, SOON), signal(SIGNAL_CLEAR, LATER)];
        let standing = Standing { signals, ..Standing::default() };
        assert_eq!(Wanted::of(PauseKind::Link, NOW, &standing).link, LATER);
        assert_eq!(Wanted::of(PauseKind::Off, NOW, &standing), Wanted::default());
    }

    #[test]
    fn a_level_that_has_expired_stops_nobody() {
        let standing = Standing { signals: vec![signal(SIGNAL_FULL, SOON)], ..Standing::default() };
        assert_eq!(Wanted::of(PauseKind::Link, SOON, &standing), Wanted::default());
    }

    #[test]
    fn a_pause_of_the_ports_own_partner_is_passed_on() {
        let mut paused = PauseState::new_zeroed();
        paused.until_ns[3] = LATER.as_nanos();
        let standing = Standing { paused: Some(paused), ..Standing::default() };
        assert_eq!(Wanted::of(PauseKind::Link, NOW, &standing).link, LATER);
        let wanted = Wanted::of(PauseKind::Priority, NOW, &standing);
        assert_eq!(wanted.link, Nanos::ZERO);
        for (priority, until) in wanted.priorities.into_iter().enumerate() {
            assert_eq!(until, if priority == 3 { LATER } else { Nanos::ZERO });
        }
    }

    #[test]
    fn pfc_stops_the_class_that_fills_the_queue_and_no_other() {
        let classes = vec![class(6, 1_500), class(2, 90_000), class(1, 0)];
        let standing =
            Standing { signals: vec![signal(SIGNAL_CONGESTED, LATER)], classes, ..Standing::default() };
        let wanted = Wanted::of(PauseKind::Priority, NOW, &standing);
        let stopped: Vec<usize> = (0..8).filter(|i| wanted.priorities[*i] == LATER).collect();
        assert_eq!((stopped, wanted.link), (vec![2], Nanos::ZERO));
    }

    #[test]
    fn a_queue_that_all_classes_share_alike_stops_all_of_them() {
        let classes = vec![class(6, 30_000), class(2, 30_000)];
        assert_eq!(congested(&classes).count(), 2);
        assert_eq!(congested(&[]).count(), 0);
        assert_eq!(congested(&[class(1, 0)]).count(), 0);
    }

    #[test]
    fn what_two_ports_want_lasts_as_long_as_the_longer_of_both() {
        let one = Wanted { link: SOON, priorities: [LATER; 8] };
        let two = Wanted { link: LATER, priorities: [SOON; 8] };
        assert_eq!(one.and(two), Wanted { link: LATER, priorities: [LATER; 8] });
    }
}
