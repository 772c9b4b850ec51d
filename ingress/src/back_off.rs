//! What ingress does about the signal of the ring it is about to send to.

use weir_aqm::{Level, Nanos, SignalVars};
use weir_shared_maps::SignalState;

/// What to do with a packet for a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Send it there.
    Go,
    /// Drop it here, before the cost of rewriting and redirecting.
    Drop,
}

/// Reads the signal at `now`. A signal that has expired, or whose level is unknown, stops nothing: it fails open.
#[inline(always)]
pub fn back_off(signal: &SignalState, now: Nanos) -> Backing {
    let signal = SignalVars {
        level: Level::from_u32(signal.level),
        since: Nanos::from_nanos(signal.since_ns),
        until: Nanos::from_nanos(signal.until_ns),
    };
    match signal.level_at(now) {
        Level::Clear | Level::Congested => Backing::Go,
        Level::Full => Backing::Drop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_shared_maps::{SIGNAL_CLEAR, SIGNAL_CONGESTED, SIGNAL_FULL};
    use zerocopy::FromZeros as _;

    fn signal(level: u32) -> SignalState {
        SignalState { until_ns: 2_000, since_ns: 1_000, level, ..SignalState::new_zeroed() }
    }

    #[test]
    fn only_a_full_ring_stops_a_packet_and_only_until_the_signal_expires() {
        for level in [SIGNAL_CLEAR, SIGNAL_CONGESTED, 77] {
            assert_eq!(back_off(&signal(level), Nanos::from_nanos(1_500)), Backing::Go);
        }
        assert_eq!(back_off(&signal(SIGNAL_FULL), Nanos::from_nanos(1_999)), Backing::Drop);
        assert_eq!(back_off(&signal(SIGNAL_FULL), Nanos::from_nanos(2_000)), Backing::Go);
    }
}
