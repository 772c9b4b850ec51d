//! Whether an observation changed what a ring's signal says: what the daemon is told of.

use weir_aqm::{Level, Nanos};
use weir_shared_maps::{EVENT_LEVEL, Event, SignalState};

use crate::signal_from_map;

/// The event of an observation at `now`, of the ring `ring` of the port `port`; `None` where the level stays.
///
/// A level that has expired reads as clear: one that is raised anew by the observation is told, since everybody who reads
/// the signal had gone on as if nothing stood.
#[inline(always)]
pub fn transition(
    before: &SignalState,
    after: &SignalState,
    now: Nanos,
    port: u32,
    ring: u32,
) -> Option<Event> {
    let (from, to) = (level(before, now), level(after, now));
    if from == to {
        return None;
    }
    Some(Event {
        at_ns: now.as_nanos(),
        kind: EVENT_LEVEL,
        port,
        ring,
        before: from.as_u32(),
        after: to.as_u32(),
        value: after.pressure_q32,
    })
}

/// The level that a reader finds at `now`.
#[inline(always)]
pub fn level(signal: &SignalState, now: Nanos) -> Level {
    signal_from_map(signal).level_at(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_shared_maps::{SIGNAL_CLEAR, SIGNAL_CONGESTED, SIGNAL_FULL};
    use zerocopy::FromZeros;

    fn signal(level: u32, since_ns: u64, until_ns: u64) -> SignalState {
        SignalState { level, since_ns, until_ns, pressure_q32: 7, ..SignalState::new_zeroed() }
    }

    #[test]
    fn a_level_that_changes_is_told_and_one_that_stays_is_not() {
        let now = Nanos::from_nanos(1_500);
        let (congested, full) = (signal(SIGNAL_CONGESTED, 1_000, 2_000), signal(SIGNAL_FULL, 1_500, 3_000));
        let told = transition(&congested, &full, now, 3, 1);
        let event = Event {
            at_ns: 1_500,
            kind: EVENT_LEVEL,
            port: 3,
            ring: 1,
            before: SIGNAL_CONGESTED,
            after: SIGNAL_FULL,
            value: 7,
        };
        assert_eq!(told, Some(event));
        assert_eq!(transition(&congested, &signal(SIGNAL_CONGESTED, 1_000, 4_000), now, 3, 1), None);
        assert_eq!(transition(&signal(SIGNAL_CLEAR, 0, 0), &signal(SIGNAL_CLEAR, 0, 1_500), now, 3, 1), None);
    }

    #[test]
    fn a_level_that_had_expired_is_told_when_it_is_raised_again() {
        let now = Nanos::from_nanos(2_000);
        let (expired, again) = (signal(SIGNAL_FULL, 1_000, 2_000), signal(SIGNAL_FULL, 2_000, 3_000));
        let told = transition(&expired, &again, now, 0, 0);
        assert_eq!(told.map(|event| (event.before, event.after)), Some((SIGNAL_CLEAR, SIGNAL_FULL)));
    }
}
