//! After each batch: what the ring says about its queue, its drain rate and its signal.

use weir_aqm::{Bytes, DrainParams, Level, Nanos, Pace, SignalParams, SignalVars, history};
use weir_shared_maps::{
    DrainState, FLAG_DIVERTS, FLAG_TC, HistoryEntry, MODE_POLICER, PortConfig, SignalState,
};

use crate::{
    convert::{drain_from_map, drain_to_map, pace_from_map, pace_of_word, signal_from_map, signal_to_map},
    limits, policer, slots_admitted, stands, wire_bytes,
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
    /// Whether the driver has refused a frame.
    pub refused: bool,
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
    let (measured, predicted) = estimate(look, drain);
    let standing = Standing {
        now: look.now,
        occupancy: look.occupancy,
        slots: look.slots,
        backlog: measured.backlog,
        predicted,
        pace: pace_of_word(drain.pace),
        refused: look.refused,
    };
    raise(config, &standing, signal);
    (measured, predicted)
}

/// The first half of [`observe`]: the drain estimate.
#[inline(always)]
pub fn estimate(look: &Look, drain: &mut DrainState) -> (Measured, Nanos) {
    let measured = look.measure();
    let mut vars = drain_from_map(drain);
    let head_bytes = look.sent_bytes.saturating_sub(measured.backlog.get());
    vars.on_observation(&DrainParams::default(), look.now, head_bytes, measured.backlog);
    *drain = drain_to_map(&vars);
    (measured, vars.predicted(measured.backlog).unwrap_or(measured.head_sojourn))
}

/// What stands in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// When.
    pub now: Nanos,
    /// Frames in the ring.
    pub occupancy: u32,
    /// Slots of the ring.
    pub slots: u32,
    /// Bytes in the ring.
    pub backlog: Bytes,
    /// Predicted sojourn of an arriving frame.
    pub predicted: Nanos,
    /// The drain rate, once known.
    pub pace: Option<Pace>,
    /// Whether the driver has refused a frame.
    pub refused: bool,
}

/// The second half of [`observe`]: the signal. A program may have the verifier look at each half by itself, which is the sum of
/// their ways instead of the product.
#[inline(always)]
pub fn raise(config: &PortConfig, standing: &Standing, signal: &mut SignalState) {
    if !is_heard(config) {
        return;
    }
    let limits = limits(config, standing.pace, standing.slots);
    let admitted = slots_admitted(standing.slots, config.reserve_slots);
    // At the limit egress refuses everything, but for what a class is guaranteed: what ingress does about it is each class's choice.
    let slots = if admitted == 0 { (u32::MAX, u32::MAX) } else { (admitted, admitted - (admitted >> 2)) };
    let params = watermarks(config, limits.limit, limits.target, slots);
    let sojourn = if stands(config, standing.backlog) { standing.predicted } else { Nanos::ZERO };
    let mut vars = signal_from_map(signal);
    let before = vars.level_at(standing.now);
    vars.on_observation(&params, standing.now, sojourn, standing.occupancy);
    if standing.refused && vars.level != Level::Full {
        vars.on_refusal(&params, standing.now);
    }
    renewed(signal, before, &vars);
}

/// The same for a ring that was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blind {
    /// When.
    pub now: Nanos,
    /// What the virtual queue lets an arriving frame wait; `None` where the ring is the queue, and was not readable this time.
    pub wait: Option<Nanos>,
    /// Whether the driver has refused a frame.
    pub refused: bool,
}

/// Renews the signal of a ring that was not read: the virtual queue is what is known of it, and a refusal proves that it
/// takes nothing. A ring that could not be read this time keeps its signal.
#[inline(always)]
pub fn observe_blind(config: &PortConfig, blind: &Blind, signal: &mut SignalState) {
    if !is_heard(config) {
        return;
    }
    let pace = pace_from_map(config);
    let limits = limits(config, pace, 0);
    // From here on the meter refuses a full frame; a burst of hardly more than one leaves half of itself.
    let tolerance = policer::tolerance(config).0;
    let frame = wire_bytes(config, config.framing, config.max_packet_bytes);
    let high = tolerance.saturating_sub(pace.map_or(Nanos::ZERO, |pace| pace.time_for(frame)));
    let half = Nanos::from_nanos(tolerance.as_nanos() >> 1);
    let high = if high > half { high } else { half };
    let params = watermarks(config, high, limits.target, (u32::MAX, u32::MAX));
    let mut vars = signal_from_map(signal);
    let before = vars.level_at(blind.now);
    if let Some(wait) = blind.wait {
        vars.on_observation(&params, blind.now, wait, 0);
    }
    if blind.refused {
        vars.on_refusal(&params, blind.now);
    }
    renewed(signal, before, &vars);
}

/// Whether the signal of a ring that can be read tells of the meter as well: where a policed port diverts, what the meter is about
/// to refuse is to wait in the device's queueing discipline, and the ring stays empty all the while.
#[inline(always)]
pub const fn meter_speaks(config: &PortConfig) -> bool {
    config.mode == MODE_POLICER && config.flags & FLAG_DIVERTS != 0
}

/// Whether anybody is there to back off: nothing is redirected to a port that the kernel forwards to.
#[inline(always)]
const fn is_heard(config: &PortConfig) -> bool {
    config.flags & FLAG_TC == 0
}

/// Full at `high`, until three quarters of it; congested at the target, until half of that. `slots`: high and low.
#[inline(always)]
fn watermarks(config: &PortConfig, high: Nanos, target: Nanos, slots: (u32, u32)) -> SignalParams {
    SignalParams {
        high,
        low: Nanos::from_nanos(high.as_nanos() - (high.as_nanos() >> 2)),
        congested: target,
        congested_low: Nanos::from_nanos(target.as_nanos() >> 1),
        hold_max: Nanos::from_nanos(config.signal_hold_ns),
        slots_high: slots.0,
        slots_low: slots.1,
    }
}

#[inline(always)]
fn renewed(signal: &mut SignalState, before: Level, vars: &SignalVars) {
    let entered = vars.level == Level::Full && before != Level::Full;
    let raised = signal.raised.wrapping_add(u32::from(entered));
    *signal = signal_to_map(vars, raised, signal.paused_until_ns);
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
        Look {
            now: Nanos::from_micros(now_us),
            occupancy,
            slots: 1000,
            sent_bytes: sent * 1514,
            head,
            refused: false,
        }
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
    fn the_meter_of_a_policed_port_speaks_where_the_port_diverts_and_nowhere_else() {
        let policer = PortConfig { mode: MODE_POLICER, ..config() };
        assert!(!meter_speaks(&policer));
        assert!(meter_speaks(&PortConfig { flags: FLAG_DIVERTS, ..policer }));
        assert!(!meter_speaks(&PortConfig { flags: FLAG_DIVERTS, ..config() }));
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
    fn a_refusal_fills_a_ring_whatever_it_shows_and_the_link_is_tried_again_after_the_hold() {
        let (mut drain, mut signal) = (DrainState::new_zeroed(), SignalState::new_zeroed());
        // No carrier, or nobody at the other end: the ring is empty and takes nothing.
        let refused = Look { refused: true, ..look(2_000_000, 1000, 0) };
        observe(&config(), &refused, &mut drain, &mut signal);
        assert_eq!((signal.level, signal.pressure_q32), (SIGNAL_FULL, u32::MAX));
        // From the limit of 25 ms to three quarters of it.
        assert_eq!(signal.until_ns, 2_006_250_000);
        let mut blind = Blind { now: Nanos::from_micros(2_001_000), wait: None, refused: false };
        let before = signal;
        observe_blind(&config(), &blind, &mut signal);
        assert_eq!(signal, before, "nothing was seen");
        blind.refused = true;
        observe_blind(&config(), &blind, &mut signal);
        assert_eq!((signal.until_ns, signal.raised, signal.since_ns), (2_007_250_000, 1, 2_000_000_000));
    }

    #[test]
    fn a_virtual_queue_raises_the_levels_of_a_ring_that_nobody_can_read() {
        let mut signal = SignalState::new_zeroed();
        let pace = Pace::from_bits_per_second(10_000_000).unwrap();
        let config = PortConfig {
            mode: weir_shared_maps::MODE_VIRTUAL,
            pace_mult: pace.mult(),
            pace_shift: pace.shift(),
            ..config()
        };
        let mut level = |ms: u64, wait_us: u64| {
            let wait = Some(Nanos::from_micros(wait_us));
            observe_blind(&config, &Blind { now: Nanos::from_millis(ms), wait, refused: false }, &mut signal);
            (signal.level, signal.until_ns)
        };
        assert_eq!(level(1_000, 4_900).0, SIGNAL_CLEAR);
        assert_eq!(level(1_001, 5_000).0, weir_shared_maps::SIGNAL_CONGESTED);
        // A full frame's 1.2112 ms below the limit of 25 ms: it would be refused. Until three quarters of that.
        assert_eq!(level(1_002, 23_788).0, weir_shared_maps::SIGNAL_CONGESTED);
        assert_eq!(level(1_003, 23_789).0, SIGNAL_FULL);
        assert_eq!(level(1_004, 17_842).0, SIGNAL_FULL);
        assert_eq!(level(1_005, 17_841).0, weir_shared_maps::SIGNAL_CONGESTED);
        assert_eq!(level(1_030, 2_500).0, SIGNAL_CLEAR);
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
