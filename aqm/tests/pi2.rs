//! PI2: Linux's trajectories, the wrap that it must not inherit, gains by the RFC, and lazy updates.
#![allow(clippy::expect_used)] // the helpers of tests are tests too

use proptest::prelude::*;
use serde_json::Value;
use weir_aqm::{Bytes, Nanos, Pi2Params, Pi2Vars, Verdict};

const PARAMS: Pi2Params = Pi2Params::linux(Bytes::new(1514));
const BACKLOG: Bytes = Bytes::new(100_000);

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/dualpi2.json")).expect("a vector file is JSON")
}

fn ms(ms: u64) -> Nanos {
    Nanos::from_millis(ms)
}

/// A controller whose last update, at `at`, left it with `p`.
fn settled(p: u32, last_delay: Nanos, at: Nanos) -> Pi2Vars {
    Pi2Vars { p, next_update: at.saturating_add(PARAMS.t_update), last_delay }
}

#[test]
fn dualpi2_trajectories_are_met_bit_for_bit() {
    let vectors = vectors();
    for name in ["constant_20ms", "ramp"] {
        let mut vars = Pi2Vars::default();
        for row in vectors["trajectories"][name].as_array().unwrap() {
            vars.update(&PARAMS, Nanos::from_micros(row[0].as_u64().unwrap()));
            assert_eq!(u64::from(vars.p), row[1].as_u64().unwrap(), "{name} {row}");
        }
    }
}

/// The same through the verb: one arrival per period runs one update.
#[test]
fn arrivals_run_the_timer() {
    let mut vars = Pi2Vars::default();
    let _ = vars.on_enqueue(&PARAMS, ms(1_000), Nanos::ZERO, BACKLOG, u32::MAX);
    let vectors = vectors();
    for (i, row) in vectors["trajectories"]["ramp"].as_array().unwrap().iter().enumerate() {
        let delay = Nanos::from_micros(row[0].as_u64().unwrap());
        let _ = vars.on_enqueue(&PARAMS, ms(1_016 + 16 * i as u64), delay, BACKLOG, u32::MAX);
        let _ = vars.on_enqueue(&PARAMS, ms(1_020 + 16 * i as u64), ms(900), BACKLOG, u32::MAX);
        assert_eq!(u64::from(vars.p), row[1].as_u64().unwrap(), "{row}");
    }
}

#[test]
fn linux_defaults_are_the_scaled_parameters() {
    let vectors = vectors();
    let scaled = |param: &Value| {
        let rows = vectors["scale_rows"].as_array().unwrap();
        let row = rows.iter().find(|row| row[0] == *param).unwrap();
        row[1].as_u64().unwrap() as u32
    };
    let defaults = &vectors["linux_defaults"];
    assert_eq!(PARAMS.alpha, scaled(&defaults["alpha_param"]));
    assert_eq!(PARAMS.beta, scaled(&defaults["beta_param"]));
    assert_eq!(PARAMS.target, ms(defaults["target_ms"].as_u64().unwrap()));
    assert_eq!(PARAMS.t_update, ms(defaults["tupdate_ms"].as_u64().unwrap()));
}

#[test]
fn dualpi2_wrap_on_a_delay_jump_is_not_inherited() {
    for row in vectors()["overflow_pathology"]["rows"].as_array().unwrap() {
        let mut vars = Pi2Vars::default();
        vars.update(&PARAMS, ms(row["jump_ms"].as_u64().unwrap()));
        let p = f64::from(vars.p) / f64::from(u32::MAX);
        assert!((p - row["saturating"].as_f64().unwrap()).abs() < 1e-5, "{row}: {p}");
    }
    let mut vars = Pi2Vars::default();
    vars.update(&PARAMS, Nanos::MAX);
    assert_eq!(vars.p, u32::MAX);
    vars.update(&PARAMS, Nanos::ZERO);
    assert_eq!(vars.p, 0);
}

#[test]
fn rfc9332_gains_follow_from_the_largest_rtt() {
    for row in vectors()["rfc9332_params"].as_array().unwrap() {
        let nanos = |name: &str| Nanos::from_nanos((row[name].as_f64().unwrap() * 1e9) as u64);
        let params = Pi2Params::for_rtt_max(nanos("target"), nanos("rtt_max"), Bytes::new(1514));
        assert_eq!(params.t_update, nanos("tupdate"), "{row}");
        // Scaled gains per Hz: 256 * 2^30 / 10^9, truncated.
        for (got, want) in [(params.alpha, "alpha_per_s"), (params.beta, "beta_per_s")] {
            let want = row[want].as_f64().unwrap() * 274.877_907;
            assert!(f64::from(got) <= want + 0.01 && f64::from(got) > want - 1.0, "{row}: {got}, not {want}");
        }
    }
    let extreme = Pi2Params::for_rtt_max(Nanos::MAX, Nanos::ZERO, Bytes::ZERO);
    assert!(extreme.alpha > 0 && extreme.beta > 0 && extreme.t_update > Nanos::ZERO);
    let extreme = Pi2Params::for_rtt_max(Nanos::ZERO, Nanos::MAX, Bytes::ZERO);
    assert!(extreme.alpha > 0 && extreme.beta > 0 && extreme.t_update > Nanos::ZERO);
}

#[test]
fn two_packets_or_less_are_never_signalled() {
    let mut vars = settled(u32::MAX, ms(500), ms(1_000));
    let backlog = Bytes::new(2 * 1514);
    assert_eq!(vars.on_enqueue(&PARAMS, ms(1_000), ms(500), backlog, 0), Verdict::Pass);
    let backlog = Bytes::new(2 * 1514 + 1);
    assert_eq!(vars.on_enqueue(&PARAMS, ms(1_000), ms(500), backlog, 0), Verdict::Signal);
}

#[test]
fn the_share_signalled_is_the_square_of_p() {
    // p = 3/8: 9/64 of evenly spread rolls.
    let mut vars = settled(3 << 29, ms(15), ms(1_000));
    let signals = (0..64u32 * 100)
        .map(|i| i * (u32::MAX / 6_400))
        .filter(|&roll| vars.on_enqueue(&PARAMS, ms(1_000), ms(15), BACKLOG, roll).is_signal())
        .count();
    assert!((899..=901).contains(&signals), "{signals} of 6400");
}

#[test]
fn marking_ends_at_a_quarter() {
    let at = |p| Pi2Vars { p, ..Pi2Vars::default() };
    assert!(at(1 << 31).may_mark() && at(1 << 31).probability_of_drop() == 1 << 30);
    assert!(!at((1 << 31) + 1).may_mark());
}

/// Three missed periods replay as a timer would have run them with the delay that is seen afterwards.
#[test]
fn a_short_silence_is_replayed() {
    let mut lazy = settled(1 << 30, ms(20), ms(1_000));
    let mut timer = lazy;
    let _ = lazy.on_enqueue(&PARAMS, ms(1_000 + 4 * 16), ms(18), BACKLOG, 0);
    for _ in 0..4 {
        timer.update(&PARAMS, ms(18));
    }
    assert!(lazy.p.abs_diff(timer.p) <= 4 && lazy.last_delay == timer.last_delay);
    assert_eq!(lazy.next_update, ms(1_000 + 5 * 16));
}

#[test]
fn a_long_silence_decays_the_probability() {
    let p_after = |silence: Nanos| {
        let mut vars = settled(1 << 31, ms(40), ms(1_000));
        let now = ms(1_000).saturating_add(silence);
        let _ = vars.on_enqueue(&PARAMS, now, PARAMS.target, BACKLOG, 0);
        assert!(vars.next_update > now);
        vars.p
    };
    assert_eq!(p_after(ms(16 * 9)), 1 << 30);
    assert_eq!(p_after(ms(16 * 17)), 1 << 29);
    assert!(p_after(Nanos::from_secs(1)) < 1 << 25);
    assert_eq!(p_after(Nanos::from_secs(100 * 365 * 86_400)), 0);
}

#[test]
fn pi2_recovers_from_a_clock_that_steps_back() {
    let mut vars = settled(0, Nanos::ZERO, Nanos::from_secs(3_600));
    for i in 0..10 {
        let _ = vars.on_enqueue(&PARAMS, ms(16 * i), ms(50), BACKLOG, u32::MAX);
    }
    assert!(vars.p > 0);
}

proptest! {
    #[test]
    fn the_next_update_is_always_within_a_period(
        steps in prop::collection::vec((-50_000_000i64..500_000_000, 0u64..2_000_000_000, any::<u32>()), 1..200),
    ) {
        let mut vars = Pi2Vars::default();
        let mut now = 1_000_000_000u64;
        for (gap, delay, random) in steps {
            now = now.saturating_add_signed(gap);
            let at = Nanos::from_nanos(now);
            let verdict = vars.on_enqueue(&PARAMS, at, Nanos::from_nanos(delay), BACKLOG, random);
            prop_assert!(vars.next_update > at && vars.next_update <= at.saturating_add(PARAMS.t_update));
            prop_assert_eq!(verdict.is_signal(), random < vars.probability_of_drop());
        }
    }
}
