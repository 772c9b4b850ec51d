//! The event core against closed forms, which nobody here wrote: `vectors/queueing_theory.json`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use serde_json::Value;
use weir_aqm::{Nanos, Rate};
use weir_sim::{Contender, Ecn, Flow, Outcome, Path, Scenario, Traffic, sender::Sizes};

/// Arrivals of one run.
const ARRIVALS: u64 = 50_000;
/// A mean frame takes 12 us, the service time of the vectors; long frames, so that rounding to bytes does not show.
const RATE: Rate = Rate::from_bits_per_second(100_000_000_000);
const FRAME: u32 = 150_000;
const SERVICE_US: f64 = 12.0;

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/queueing_theory.json")).unwrap()
}

fn rows(value: &Value) -> Vec<(f64, f64)> {
    let rows = value["rows"].as_array().unwrap();
    rows.iter().map(|row| (row[0].as_f64().unwrap(), row[1].as_f64().unwrap())).collect()
}

/// One ring in front of a link: no delay, no polls, no contender.
fn fifo(rate: Rate, ring: u32, duration: Nanos) -> Scenario {
    let path = Path { fast: None, poll: Nanos::ZERO, ..Path::new(rate, Nanos::ZERO, ring) };
    Scenario::new(path, Contender::Redirect, duration)
}

/// A single server under Poisson arrivals of load `rho`.
fn server(rho: f64, sizes: Sizes, ring: u32, seed: u64, arrivals: u64) -> Outcome {
    let mean = Nanos::from_nanos((SERVICE_US * 1000.0 / rho).round() as u64);
    let flows = vec![Flow::new(Traffic::Poisson { mean, bytes: FRAME, sizes })];
    Scenario { seed, flows, ..fifo(RATE, ring, mean.saturating_mul(arrivals)) }.run()
}

fn mean_us(outcome: &Outcome) -> f64 {
    outcome.flows[0].delay.mean_ns / 1000.0
}

/// The mean of `n` waits of a queue at load `rho` has a relative standard error of about `2 / (1 - rho) / sqrt(n)`:
/// successive waits are alike. Three of them, and half a per cent.
fn tolerance(rho: f64) -> f64 {
    0.005 + 3.0 * 2.0 / (1.0 - rho) / (ARRIVALS as f64).sqrt()
}

fn close(found: f64, expected: f64, tolerance: f64) -> bool {
    (found / expected - 1.0).abs() < tolerance
}

#[test]
fn m_d_1_waits_are_those_of_the_formula() {
    for (rho, wait) in rows(&vectors()["md1_wait"]) {
        let outcome = server(rho, Sizes::Equal, 1 << 16, 1, ARRIVALS);
        let found = mean_us(&outcome) - SERVICE_US;
        assert!(close(found, wait, tolerance(rho)), "load {rho}: {found} against {wait}");
    }
}

#[test]
fn m_m_1_sojourns_and_their_99th_percentile_are_those_of_the_formula() {
    for (rho, sojourn) in rows(&vectors()["mm1_sojourn"]) {
        let outcome = server(rho, Sizes::Exponential, 1 << 16, 2, ARRIVALS);
        let found = mean_us(&outcome);
        assert!(close(found, sojourn, tolerance(rho)), "load {rho}: {found} against {sojourn}");
        let p99 = outcome.flows[0].delay.p99.as_nanos() as f64 / 1000.0;
        let expected = sojourn * 100f64.ln();
        assert!(close(p99, expected, 2.0 * tolerance(rho)), "load {rho}: p99 {p99} against {expected}");
    }
}

#[test]
fn the_time_that_m_m_1_has_so_many_waiting_is_geometric() {
    for rho in [0.7_f64, 0.9] {
        let ring = server(rho, Sizes::Exponential, 1 << 16, 5, ARRIVALS).ring;
        for (found, share) in [(ring.p50, 0.5_f64), (ring.p99, 0.01)] {
            // More than n wait, besides the one on the link, for a share rho^(n + 2) of the time.
            let expected = (share.ln() / rho.ln() - 2.0).ceil().max(0.0);
            let error = (f64::from(found) - expected).abs();
            assert!(error <= 1.0 + tolerance(rho) * expected, "load {rho}: {found} for {expected}");
        }
    }
}

#[test]
fn m_m_1_k_loses_the_share_of_the_formula() {
    let vectors = vectors();
    for row in vectors["mm1k_loss"].as_array().unwrap() {
        let (rho, room) = (row["rho"].as_f64().unwrap(), row["K"].as_u64().unwrap());
        let loss = row["loss"].as_f64().unwrap();
        // Rarer losses than this happen too seldom in one run to be compared.
        if loss < 0.01 {
            continue;
        }
        // One of the K is in service, which is the link here.
        let arrivals = 2 * ARRIVALS;
        let outcome = server(rho, Sizes::Exponential, room as u32 - 1, 3, arrivals);
        let found = outcome.drops.values().sum::<u64>() as f64 / outcome.offered as f64;
        // Losses come in clusters of about ten: three standard errors of the number of clusters.
        let tolerance = 3.0 * (10.0 / (arrivals as f64 * loss)).sqrt();
        assert!(close(found, loss, tolerance), "load {rho}, room for {room}: {found} against {loss}");
    }
}

#[test]
fn d_d_1_in_overload_loses_exactly_what_the_link_cannot_carry() {
    let rate = Rate::from_bits_per_second(20_000_000);
    let flow = Flow::new(Traffic::Constant { rate, bytes: 1250, ecn: Ecn::NotEct });
    let slow = fifo(Rate::from_bits_per_second(10_000_000), 50, Nanos::from_secs(4));
    let outcome = Scenario { flows: vec![flow], ..slow }.run();
    // 8,000 frames come; 4,000 leave in four seconds, 50 stand in the ring and one is on the link at the end.
    assert_eq!(outcome.offered, 8000);
    assert!(outcome.delivered.abs_diff(4051) <= 1, "{}", outcome.delivered);
    assert_eq!(outcome.unaccounted(), 0);
}

#[test]
fn littles_law_holds_in_every_run() {
    for (rho, sizes) in [(0.5, Sizes::Equal), (0.8, Sizes::Exponential), (0.9, Sizes::Equal)] {
        let outcome = server(rho, sizes, 1 << 16, 4, ARRIVALS);
        let window_us = SERVICE_US / rho * ARRIVALS as f64;
        let arrivals_per_us = outcome.offered as f64 / window_us;
        // Utilisation is the mean service time by arrival rate: waiting alone is what stands in the ring.
        let waiting = arrivals_per_us * mean_us(&outcome) - outcome.utilisation;
        assert!(close(outcome.ring.mean, waiting, 0.005), "{} against {waiting}", outcome.ring.mean);
    }
}

#[test]
fn a_burst_from_a_fast_link_peaks_where_the_formula_says() {
    let vectors = vectors();
    let row = &vectors["on_off"]["rows"][0];
    let (burst, fast, slow) =
        (row["b"].as_u64().unwrap(), row["ci_bps"].as_f64().unwrap(), row["co_bps"].as_f64().unwrap());
    let bytes = 1000;
    let frames = burst / u64::from(bytes);
    let interval = u64::from(bytes) * 8_000_000_000 / fast as u64;
    let rate = Rate::from_bits_per_second(fast as u64);
    let flow = Flow::new(Traffic::Constant { rate, bytes, ecn: Ecn::NotEct });
    let duration = Nanos::from_nanos(interval * frames - 1);
    let mut scenario = fifo(Rate::from_bits_per_second(slow as u64), 1024, duration);
    scenario.path.fast = Some(rate);
    let outcome = Scenario { flows: vec![flow], ..scenario }.run();
    assert_eq!(outcome.delivered, frames);
    // Store and forward adds a frame on either link to the fluid formula.
    let frame_us = f64::from(bytes) * 8.0 * (1e6 / fast + 1e6 / slow);
    let extra_us = outcome.flows[0].delay.max.as_nanos() as f64 / 1000.0;
    let expected = row["extra_delay_us"].as_f64().unwrap();
    assert!((extra_us - expected).abs() <= frame_us, "{extra_us} against {expected}");
    // The queue peaks at the burst's end, when all but what has left is there; one frame is on the link.
    let peak = row["peak_B"].as_u64().unwrap() / u64::from(bytes);
    assert!(u64::from(outcome.ring.max).abs_diff(peak) <= 1, "{} against {peak}", outcome.ring.max);
}
