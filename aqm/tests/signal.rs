//! The signal: hysteresis, expiry, and a clock that steps back.

use proptest::prelude::*;
use weir_aqm::{Level, Nanos, SignalParams, SignalVars, history};

const PARAMS: SignalParams = SignalParams {
    high: Nanos::from_millis(20),
    low: Nanos::from_millis(5),
    congested: Nanos::from_millis(10),
    congested_low: Nanos::from_millis(5),
    hold_max: Nanos::from_millis(50),
    slots_high: 936,
    slots_low: 468,
};

fn ms(ms: u64) -> Nanos {
    Nanos::from_millis(ms)
}

fn after(observations: &[(u64, u64, u32)]) -> SignalVars {
    let mut vars = SignalVars::default();
    for &(at, sojourn, occupancy) in observations {
        vars.on_observation(&PARAMS, ms(at), ms(sojourn), occupancy);
    }
    vars
}

#[test]
fn full_from_high_until_low() {
    assert_eq!(after(&[(100, 19, 100)]).level, Level::Congested);
    assert_eq!(after(&[(100, 20, 100)]).level, Level::Full);
    assert_eq!(after(&[(100, 1, 936)]).level, Level::Full);
    assert_eq!(after(&[(100, 20, 100), (101, 6, 100)]).level, Level::Full);
    assert_eq!(after(&[(100, 20, 900), (101, 5, 469)]).level, Level::Full);
    assert_eq!(after(&[(100, 20, 900), (101, 5, 468)]).level, Level::Clear);
}

#[test]
fn congested_from_its_mark_until_low() {
    assert_eq!(after(&[(100, 9, 100)]).level, Level::Clear);
    assert_eq!(after(&[(100, 10, 100), (101, 6, 100)]).level, Level::Congested);
    assert_eq!(after(&[(100, 10, 100), (101, 5, 100)]).level, Level::Clear);
}

#[test]
fn a_raised_level_lasts_as_long_as_the_queue_needs_to_drain() {
    let vars = after(&[(100, 30, 100)]);
    assert_eq!(vars.until, ms(125));
    assert_eq!(vars.level_at(ms(124)), Level::Full);
    assert_eq!(vars.level_at(ms(125)), Level::Clear);
    // A ring that stands still: never longer than hold_max.
    assert_eq!(after(&[(100, 60_000, 1_000)]).until, ms(150));
    // Full by slots alone: half of them leave in half of the head's wait.
    assert_eq!(after(&[(100, 4, 936)]).until, ms(102));
}

#[test]
fn a_ring_filled_at_one_instant_is_full_for_a_moment() {
    let vars = after(&[(100, 0, 1_000)]);
    assert_eq!(vars.level_at(ms(100)), Level::Full);
    assert_eq!(vars.level_at(ms(101)), Level::Clear);
}

#[test]
fn since_is_when_the_level_began() {
    assert_eq!(after(&[(100, 30, 1), (110, 25, 1)]).since, ms(100));
    assert_eq!(after(&[(100, 30, 1), (110, 25, 1), (111, 3, 1)]).since, ms(111));
    // Expired in between: a new one.
    assert_eq!(after(&[(100, 30, 1), (200, 25, 1)]).since, ms(200));
}

#[test]
fn a_signal_from_before_the_clock_stepped_back_does_not_stop_traffic() {
    let vars = after(&[(3_600_000, 30, 100)]);
    assert_eq!(vars.level_at(ms(1)), Level::Clear);
    // Two CPUs' clocks may differ a little.
    assert_eq!(vars.level_at(Nanos::from_micros(3_599_999_500)), Level::Full);
    let mut vars = vars;
    vars.on_observation(&PARAMS, ms(1), ms(30), 100);
    assert_eq!((vars.level, vars.since, vars.until), (Level::Full, ms(1), ms(26)));
}

#[test]
fn stored_levels_round_trip_and_unknown_ones_fail_open() {
    for level in [Level::Clear, Level::Congested, Level::Full] {
        assert_eq!(Level::from_u32(level.as_u32()), level);
    }
    assert_eq!(Level::from_u32(3), Level::Clear);
    assert_eq!(Level::from_u32(u32::MAX), Level::Clear);
}

proptest! {
    #[test]
    fn no_observation_holds_longer_than_hold_max(
        now in 0u64..1 << 62,
        sojourn in any::<u64>(),
        occupancy in any::<u32>(),
    ) {
        let mut vars = SignalVars::default();
        vars.on_observation(&PARAMS, Nanos::from_nanos(now), Nanos::from_nanos(sojourn), occupancy);
        let expired = Nanos::from_nanos(now).saturating_add(PARAMS.hold_max);
        prop_assert_eq!(vars.level_at(expired), Level::Clear);
        prop_assert_eq!(vars.level_at(Nanos::from_nanos(now)), vars.level);
    }

    #[test]
    fn the_head_is_a_remembered_frame(sent in any::<u64>(), occupancy in any::<u64>()) {
        let head = history::head_sequence(sent, occupancy);
        prop_assert!(head <= sent && sent - head <= history::HISTORY_LEN);
        prop_assert!(occupancy > history::HISTORY_LEN || occupancy > sent || head == sent - occupancy);
        prop_assert!(history::slot(head) < history::HISTORY_LEN as usize);
    }
}
