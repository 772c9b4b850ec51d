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
fn the_pressure_is_none_while_clear_all_while_full_and_the_square_of_the_place_between() {
    assert_eq!(after(&[(100, 9, 100)]).pressure, 0);
    assert_eq!(after(&[(100, 20, 100)]).pressure, u32::MAX);
    // Full by hysteresis, not by its place.
    assert_eq!(after(&[(100, 20, 100), (101, 6, 100)]).pressure, u32::MAX);
    // A third of the way from 5 to 20 ms, and half of the way from 468 to 936 slots.
    assert!(after(&[(100, 10, 100)]).pressure.abs_diff(u32::MAX / 9) < 2);
    assert!(after(&[(100, 10, 702)]).pressure.abs_diff(1 << 30) < 2);
    let vars = after(&[(100, 10, 100)]);
    assert_eq!(vars.pressure_at(ms(104)), vars.pressure);
    assert_eq!(vars.pressure_at(ms(105)), 0);
}

#[test]
fn marks_that_coincide_leave_no_pressure_between_nothing_and_all() {
    let params = SignalParams { high: ms(5), slots_high: 468, ..PARAMS };
    assert_eq!((params.pressure(ms(5), 468), params.pressure(ms(6), 0)), (0, u32::MAX));
    assert_eq!(params.pressure(ms(0), 469), u32::MAX);
}

#[test]
fn an_expired_level_was_held_until_it_expired() {
    // Congested for 5 ms, clear for the other 95, then full for 10 before it is seen clear.
    let vars = after(&[(100, 10, 1), (200, 30, 1), (210, 0, 0)]);
    assert_eq!((vars.held.clear, vars.held.congested, vars.held.full), (ms(95), ms(5), ms(10)));
    assert_eq!(vars.held_at(ms(215)).clear, ms(100));
    // A clock that steps back adds nothing, here and later.
    assert_eq!(vars.held_at(ms(1)), vars.held);
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
    fn pressure_grows_with_sojourn_and_with_slots_and_is_none_below_the_low_marks(
        sojourn in 0u64..40_000_000,
        longer in 0u64..40_000_000,
        occupancy in 0u32..2_000,
        more in 0u32..2_000,
    ) {
        let pressure = |sojourn, occupancy| PARAMS.pressure(Nanos::from_nanos(sojourn), occupancy);
        let here = pressure(sojourn, occupancy);
        prop_assert!(pressure(sojourn + longer, occupancy) >= here);
        prop_assert!(pressure(sojourn, occupancy + more) >= here);
        let low = sojourn <= PARAMS.congested_low.as_nanos() && occupancy <= PARAMS.slots_low;
        prop_assert!(!low || here == 0);
        let high = sojourn >= PARAMS.high.as_nanos() || occupancy >= PARAMS.slots_high;
        prop_assert_eq!(high, here == u32::MAX);
    }

    #[test]
    fn pressure_is_the_square_of_the_place_whatever_the_watermarks(
        low in any::<u64>(),
        high in any::<u64>(),
        sojourn in any::<u64>(),
    ) {
        let (low, high) = (low.min(high), low.max(high));
        let params = SignalParams {
            congested_low: Nanos::from_nanos(low),
            high: Nanos::from_nanos(high),
            slots_low: u32::MAX,
            slots_high: u32::MAX,
            ..PARAMS
        };
        let found = params.pressure(Nanos::from_nanos(sojourn), 0);
        let expected = if sojourn <= low {
            0.0
        } else if sojourn >= high {
            1.0
        } else {
            ((sojourn - low) as f64 / (high - low) as f64).powi(2)
        };
        let found = f64::from(found) / f64::from(u32::MAX);
        prop_assert!((found - expected).abs() < 1e-8, "{found} for {expected}");
    }

    /// Whatever is observed, in whatever order of levels and expiries: no time is lost and none counted twice.
    #[test]
    fn the_times_held_add_up_to_the_time_that_passed(
        observations in proptest::collection::vec((0u64..80_000_000, 0u64..60_000_000, 0u32..1_200), 1..60),
        tail in 0u64..80_000_000,
    ) {
        let mut vars = SignalVars::default();
        let (start, mut now) = (ms(1_000), ms(1_000));
        for (pause, sojourn, occupancy) in observations {
            vars.on_observation(&PARAMS, now, Nanos::from_nanos(sojourn), occupancy);
            prop_assert_eq!(vars.held_at(now).total(), now.saturating_sub(start));
            now = now.saturating_add(Nanos::from_nanos(pause));
        }
        now = now.saturating_add(Nanos::from_nanos(tail));
        prop_assert_eq!(vars.held_at(now).total(), now.saturating_sub(start));
        prop_assert_eq!(vars.level == Level::Full, vars.pressure == u32::MAX);
    }

    #[test]
    fn the_head_is_a_remembered_frame(sent in any::<u64>(), occupancy in any::<u64>()) {
        let head = history::head_sequence(sent, occupancy);
        prop_assert!(head <= sent && sent - head <= history::HISTORY_LEN);
        prop_assert!(occupancy > history::HISTORY_LEN || occupancy > sent || head == sent - occupancy);
        prop_assert!(history::slot(head) < history::HISTORY_LEN as usize);
    }
}
