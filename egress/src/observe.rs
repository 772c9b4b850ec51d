//! After each batch: what the ring says about its queue, its drain rate and its signal.

use weir_aqm::{Bytes, DrainParams, Level, Nanos, SignalParams, history};
use weir_shared_maps::{DrainState, FLAG_TC, HistoryEntry, PortConfig, SignalState};

use crate::{
    convert::{drain_from_map, drain_to_map, signal_from_map, signal_to_map},
    limits, slots_admitted, stands,
};

/// One look at a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// When.
    pub now: Nanos,
    /// Frames in the ring.
    pub occupancy: u32,
    /// Slots of the ring.
    pub slots: u32,
    /// Bytes that ever entered the ring.
    pub sent_bytes: u64,
    /// The oldest frame in the ring; `None` if the ring is empty.
    pub head: Option<HistoryEntry>,
}

/// What a look yields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Bytes in the ring.
    pub backlog: Bytes,
    /// Sojourn of the oldest frame so far.
    pub head_sojourn: Nanos,
}

/// Slot of the oldest frame in the history: frame number `sent - occupancy`.
#[inline(always)]
pub const fn head_slot(sent: u64, occupancy: u32) -> usize {
    history::slot(history::head_sequence(sent, occupancy as u64))
}

impl Look {
    /// Backlog and head-of-line sojourn.
    #[inline(always)]
    pub fn measure(&self) -> Measured {
        match self.head {
            None => Measured::default(),
            Some(head) => Measured {
                backlog: Bytes::new(self.sent_bytes.saturating_sub(head.bytes_before)),
                head_sojourn: self.now.saturating_sub(Nanos::from_nanos(head.enqueued_ns)),
            },
        }
    }
}

/// Renews the drain estimate and the signal; returns the measure and the arriving frame's predicted sojourn.
#[inline(always)]
pub fn observe(
    config: &PortConfig,
    look: &Look,
    drain: &mut DrainState,
    signal: &mut SignalState,
) -> (Measured, Nanos) {
    let measured = look.measure();
    let mut vars = drain_from_map(drain);
    let head_bytes = look.sent_bytes.saturating_sub(measured.backlog.get());
    vars.on_observation(&DrainParams::default(), look.now, head_bytes, measured.backlog);
    *drain = drain_to_map(&vars);
    let predicted = vars.predicted(measured.backlog).unwrap_or(measured.head_sojourn);
    // Nothing is redirected to a port that the kernel forwards to: nobody is there to back off.
    if config.flags & FLAG_TC != 0 {
        return (measured, predicted);
    }
    let limits = limits(config, vars.pace(), look.slots);
    let admitted = slots_admitted(look.slots, config.reserve_slots);
    // At the limit egress refuses everything, but for what a class is guaranteed: what ingress does about it is each class's choice.
    let params = SignalParams {
        high: limits.limit,
        low: Nanos::from_nanos(limits.limit.as_nanos() - (limits.limit.as_nanos() >> 2)),
        congested: limits.target,
        congested_low: Nanos::from_nanos(limits.target.as_nanos() >> 1),
        hold_max: Nanos::from_nanos(config.signal_hold_ns),
        slots_high: if admitted != 0 { admitted } else { u32::MAX },
        slots_low: if admitted != 0 { admitted - (admitted >> 2) } else { u32::MAX },
    };
    let mut vars = signal_from_map(signal);
    let before = vars.level_at(look.now);
    let sojourn = if stands(config, measured.backlog) { predicted } else { Nanos::ZERO };
    vars.on_observation(&params, look.now, sojourn, look.occupancy);
    let entered = vars.level == Level::Full && before != Level::Full;
    *signal = signal_to_map(&vars, signal.raised.wrapping_add(u32::from(entered)), signal.paused_until_ns);
    (measured, predicted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bottleneck::tests::config;
    use weir_shared_maps::{SIGNAL_CLEAR, SIGNAL_FULL};
    use zerocopy::FromZeros;

    fn look(now_us: u64, sent: u64, occupancy: u32) -> Look {
        let head = (occupancy > 0).then(|| HistoryEntry {
            enqueued_ns: now_us * 1000 - u64::from(occupancy) * 1_211_200,
            bytes_before: (sent - u64::from(occupancy)) * 1514,
        });
        Look { now: Nanos::from_micros(now_us), occupancy, slots: 1000, sent_bytes: sent * 1514, head }
    }

    #[test]
    fn the_head_of_a_ring_is_the_frame_that_entered_occupancy_frames_ago() {
        assert_eq!(head_slot(5000, 10), 4990 % 4096);
        assert_eq!(look(1_000_000, 5000, 10).measure().backlog, Bytes::new(15_140));
        assert_eq!(look(1_000_000, 5000, 10).measure().head_sojourn.as_nanos(), 12_112_000);
        assert_eq!(look(1_000_000, 5000, 0).measure(), Measured::default());
    }

    #[test]
    fn a_ring_that_drains_at_ten_megabit_is_measured_and_predicted_so() {
        let (mut drain, mut signal) = (DrainState::new_zeroed(), SignalState::new_zeroed());
        let mut predicted = Nanos::ZERO;
        for i in 0..200u64 {
            // One frame leaves each 1,211.2 us, one enters: ten stand.
            let l = look(1_000_000 + i * 12_112 / 10, 1000 + i, 10);
            (_, predicted) = observe(&config(), &l, &mut drain, &mut signal);
        }
        let error = predicted.as_nanos().abs_diff(12_112_000);
        assert!(error < 250_000, "{predicted:?}");
        assert_eq!(signal.level, weir_shared_maps::SIGNAL_CONGESTED);
    }

    #[test]
    fn a_port_that_nothing_is_redirected_to_raises_no_signal() {
        let (mut drain, mut signal) = (DrainState::new_zeroed(), SignalState::new_zeroed());
        let tc = PortConfig { flags: FLAG_TC, ..config() };
        observe(&tc, &look(2_000_000, 1000, 1000), &mut drain, &mut signal);
        assert_eq!(signal, SignalState::new_zeroed());
    }

    #[test]
    fn one_old_frame_raises_no_signal() {
        let (mut drain, mut signal) = (DrainState::new_zeroed(), SignalState::new_zeroed());
        let mut alone = look(2_000_000, 1000, 1);
        alone.head = alone.head.map(|head| HistoryEntry { enqueued_ns: 1_000_000_000, ..head });
        let (measured, predicted) = observe(&config(), &alone, &mut drain, &mut signal);
        assert_eq!((measured.head_sojourn, predicted), (Nanos::from_secs(1), Nanos::from_secs(1)));
        assert_eq!((signal.level, signal.raised), (SIGNAL_CLEAR, 0));
    }

    #[test]
    fn a_port_with_classes_says_the_same_of_its_ring_as_one_without() {
        for classes in [0, 2] {
            let (mut drain, mut signal) = (DrainState::new_zeroed(), SignalState::new_zeroed());
            let config = PortConfig { classes, ..config() };
            observe(&config, &look(2_000_000, 1000, 8), &mut drain, &mut signal);
            assert_eq!(signal.level, weir_shared_maps::SIGNAL_CONGESTED);
            assert!(0 < signal.pressure_q32 && signal.pressure_q32 < u32::MAX, "{signal:?}");
            observe(&config, &look(2_001_000, 1000, 30), &mut drain, &mut signal);
            assert_eq!((signal.level, signal.raised, signal.pressure_q32), (SIGNAL_FULL, 1, u32::MAX));
            assert_eq!(signal.held_ns, [0, 1_000_000, 0]);
        }
    }

    #[test]
    fn a_pause_of_the_link_partner_outlives_an_observation() {
        let (mut drain, mut signal) = (DrainState::new_zeroed(), SignalState::new_zeroed());
        signal.paused_until_ns = 7;
        observe(&config(), &look(2_000_000, 1000, 30), &mut drain, &mut signal);
        assert_eq!(signal.paused_until_ns, 7);
    }

    #[test]
    fn the_signal_is_full_at_the_limit_and_clears_when_the_ring_is_empty() {
        let (mut drain, mut signal) = (DrainState::new_zeroed(), SignalState::new_zeroed());
        observe(&config(), &look(2_000_000, 1000, 30), &mut drain, &mut signal);
        assert_eq!((signal.level, signal.raised), (SIGNAL_FULL, 1));
        assert!(signal.until_ns > 2_000_000_000 && signal.until_ns <= 2_025_000_000);
        observe(&config(), &look(2_100_000, 1000, 0), &mut drain, &mut signal);
        assert_eq!((signal.level, signal.raised), (SIGNAL_CLEAR, 1));
    }
}
