//! PIE: RFC 8033's trajectories, its exceptions one by one, and lazy updates.
#![allow(clippy::expect_used, clippy::indexing_slicing)] // the helpers of tests are tests too

use proptest::prelude::*;
use serde_json::Value;
use weir_aqm::{Bytes, Nanos, PieParams, PieVars, Verdict};

const PARAMS: PieParams = PieParams::rfc_8033(Bytes::new(1514));
const BACKLOG: Bytes = Bytes::new(100_000);
const ONE: f64 = (1u64 << 56) as f64;

fn ms(ms: u64) -> Nanos {
    Nanos::from_millis(ms)
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/pie.json")).expect("a vector file is JSON")
}

/// A controller at probability `p` with a standing delay, whose update is not due at 1 s.
fn at(p: f64) -> PieVars {
    PieVars { p: (p * ONE) as u64, next_update: ms(1_010), last_delay: ms(20), ..PieVars::default() }
}

fn judge(vars: &mut PieVars, random: u32) -> Verdict {
    vars.on_enqueue(&PARAMS, ms(1_000), ms(20), BACKLOG, random)
}

/// Gains are rounded to 2^-56 per nanosecond, a relative error of 1e-7 of every step up and down.
#[test]
fn rfc_8033_the_probability_follows_the_published_trajectories() {
    let vectors = vectors();
    for name in ["constant_20ms", "ramp"] {
        let mut vars = PieVars::default();
        let rows = vectors["rfc_float"][name].as_array().unwrap();
        for row in rows {
            vars.update(&PARAMS, ms(row[0].as_u64().unwrap()));
            let (got, want) = (vars.p as f64 / ONE, row[1].as_f64().unwrap());
            assert!((got - want).abs() <= 1e-8 + want * 2e-7, "{name} {row}: {got}");
        }
        assert!(rows.len() >= 24);
    }
}

/// Where Linux differs (two per cent more above 250 ms) the vectors say so; below that it is the same controller.
#[test]
fn linux_takes_the_same_steps_below_250_ms() {
    let vectors = vectors();
    for name in ["constant_20ms", "ramp", "around_target"] {
        let mut vars = PieVars::default();
        let rows = vectors["linux_u56"][name].as_array().unwrap();
        // The last one begins in the middle of a run: its first row is where it starts.
        let begun = usize::from(name == "around_target");
        if begun == 1 {
            vars = PieVars { p: rows[0][1].as_u64().unwrap(), last_delay: ms(16), ..vars };
        }
        for row in rows.iter().skip(begun) {
            let delay = row[0].as_u64().unwrap();
            if delay > 250 {
                break;
            }
            vars.update(&PARAMS, ms(delay));
            let (got, want) = (vars.p as f64 / ONE, row[2].as_f64().unwrap());
            assert!((got - want).abs() <= 1e-9 + want * 3e-6, "{name} {row}: {got}");
        }
    }
}

#[test]
fn rfc_8033_defaults_are_the_published_ones() {
    let defaults = &vectors()["rfc8033_defaults"];
    let millis = |name: &str| ms(defaults[name].as_u64().unwrap());
    assert_eq!(
        (PARAMS.target, PARAMS.t_update, PARAMS.max_burst),
        (millis("qdelay_ref_ms"), millis("t_update_ms"), millis("max_burst_ms"))
    );
    for (gain, name) in [(PARAMS.alpha, "alpha"), (PARAMS.beta, "beta")] {
        let exact = defaults[name].as_f64().unwrap() * ONE / 1e9;
        assert!((f64::from(gain) - exact).abs() < 1.0, "{name}: {gain}, not {exact}");
    }
}

#[test]
fn rfc_8033_derandomisation_neither_bunches_signals_nor_starves() {
    // At 5 % no signal within the first 16 packets, however the dice fall, and one by the 171st.
    let mut vars = at(0.05);
    assert_eq!((1..17).filter(|_| judge(&mut vars, 0).is_signal()).count(), 0);
    assert!(judge(&mut vars, 0).is_signal());
    let first = (1..).find(|_| judge(&mut vars, u32::MAX).is_signal()).unwrap();
    assert!((170..=171).contains(&first), "{first}");
}

#[test]
fn rfc_8033_a_small_queue_or_delay_or_a_burst_is_left_alone() {
    let mut vars = at(0.9);
    assert!(vars.on_enqueue(&PARAMS, ms(1_000), ms(20), BACKLOG, 0).is_signal());
    assert!(!vars.on_enqueue(&PARAMS, ms(1_000), ms(20), Bytes::new(3028), 0).is_signal());
    let mut below_half = PieVars { last_delay: ms(7), accumulated: 1 << 56, ..at(0.19) };
    assert!(!judge(&mut below_half, 0).is_signal());
    let mut above_20_percent = PieVars { last_delay: ms(7), accumulated: 1 << 56, ..at(0.21) };
    assert!(judge(&mut above_20_percent, 0).is_signal());
    let mut burst = PieVars { burst: ms(1), accumulated: 1 << 56, ..at(0.9) };
    assert!(!judge(&mut burst, 0).is_signal());
}

#[test]
fn rfc_8033_an_idle_queue_earns_a_burst_of_150_ms() {
    let mut vars = PieVars::default();
    vars.update(&PARAMS, ms(1));
    assert_eq!(vars.burst, ms(150));
    for _ in 0..9 {
        vars.update(&PARAMS, ms(40));
    }
    assert_eq!(vars.burst, ms(15));
    vars.update(&PARAMS, ms(40));
    assert_eq!(vars.burst, Nanos::ZERO);
}

#[test]
fn rfc_8033_ecn_marks_up_to_10_percent() {
    assert!(at(0.0999).may_mark() && !at(0.1001).may_mark());
}

#[test]
fn arrivals_run_the_timer_and_time_uses_up_the_allowance_without_them() {
    let (mut lazy, mut timed) = (PieVars::default(), PieVars::default());
    let _ = lazy.on_enqueue(&PARAMS, ms(1_000), Nanos::ZERO, BACKLOG, 0);
    for (step, delay) in [(1, 20), (2, 40), (5, 60), (6, 10), (7, 0)] {
        let _ = lazy.on_enqueue(&PARAMS, ms(1_000 + 15 * step), ms(delay), BACKLOG, u32::MAX);
        // The gap of three is one update, with the delay then seen.
        timed.update(&PARAMS, ms(delay));
        assert_eq!((lazy.p, lazy.last_delay, lazy.burst), (timed.p, timed.last_delay, timed.burst));
    }
    let mut burst = PieVars { burst: ms(150), ..at(0.5) };
    let _ = burst.on_enqueue(&PARAMS, ms(1_010 + 4 * 15), ms(40), BACKLOG, 0);
    assert_eq!(burst.burst, ms(75));
}

#[test]
fn a_long_silence_forgets_the_load() {
    let mut vars = at(0.5);
    let _ = vars.on_enqueue(&PARAMS, Nanos::from_secs(10), Nanos::ZERO, Bytes::ZERO, 0);
    assert!(vars.p < 1 << 20, "{}", vars.p);
    // And a clock that steps back does not freeze it.
    let _ = vars.on_enqueue(&PARAMS, ms(100), ms(50), BACKLOG, 0);
    let _ = vars.on_enqueue(&PARAMS, ms(116), ms(50), BACKLOG, 0);
    assert!(vars.last_delay == ms(50) && vars.p > 0);
}

proptest! {
    #[test]
    fn any_delays_keep_the_probability_within_one(delays in prop::collection::vec(any::<u64>(), 1..100)) {
        let mut vars = PieVars::default();
        for delay in delays {
            let before = vars.p;
            vars.update(&PARAMS, Nanos::from_nanos(delay));
            prop_assert!(vars.p <= 1 << 56);
            if before >= (1 << 56) / 10 {
                prop_assert!(vars.p <= before + (1 << 56) / 50);
            }
        }
    }
}
