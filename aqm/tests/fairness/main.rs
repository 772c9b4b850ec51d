//! Fairness between flows: what per-flow phantom queues promise, and how their rival compares, on open-loop traffic.
//!
//! `cargo test --release -p weir-aqm --test fairness compared -- --nocapture` prints docs/fairness-comparison.md's table.
#![allow(clippy::expect_used, clippy::indexing_slicing)] // the helpers of tests are tests too

mod traffic;

use proptest::prelude::*;
use traffic::{Csfq, Gate, Outcome, Phantom, Random, Source, run};
use weir_aqm::fairness::{self, FairnessVerdict, FlowVars};
use weir_aqm::{Bytes, CodelParams, CodelVars, Nanos, Verdict};

const RATE: u64 = 10_000_000;

fn ms(ms: u64) -> Nanos {
    Nanos::from_millis(ms)
}

/// 2 to 9 Mbit/s for each of eight flows, through 10 Mbit/s.
fn unequal() -> Vec<Source> {
    (2..10).map(|mbit| Source::new(mbit * 1_000_000, 600 + 100 * mbit)).collect()
}

/// A flow of three times the rate, seven at 0.9 of their share, and a sparse one of a 100-byte packet each 10 ms.
fn flood() -> Vec<Source> {
    let mut sources = vec![Source::new(3 * RATE, 1200)];
    sources.extend([Source::new(RATE / 8 * 9 / 10, 1000); 7]);
    sources.push(Source::new(80_000, 100));
    sources
}

#[test]
fn eight_unequal_flows_over_capacity_get_equal_shares() {
    let outcome = run(&mut Phantom::new(RATE, ms(50)), &unequal(), ms(1_000), ms(11_000));
    assert!(outcome.jain() > 0.999, "{}", outcome.jain());
    let due = RATE / 8 * 10;
    assert!(outcome.total().abs_diff(due) < due / 200, "{} of {due}", outcome.total());
}

#[test]
fn weights_are_met() {
    let mut sources = vec![Source::new(RATE, 1000); 3];
    for (source, weight) in sources.iter_mut().zip([1, 2, 4]) {
        source.weight = weight;
    }
    let outcome = run(&mut Phantom::new(RATE, ms(50)), &sources, ms(1_000), ms(11_000));
    for (accepted, weight) in outcome.accepted.iter().zip([1, 2, 4]) {
        let due = RATE / 8 * 10 * weight / 7;
        assert!(accepted.abs_diff(due) < due / 50, "{accepted} of {due}");
    }
}

#[test]
fn a_flood_of_three_times_the_rate_takes_only_its_share() {
    let outcome = run(&mut Phantom::new(RATE, ms(50)), &flood(), ms(1_000), ms(11_000));
    // The others get all they ask for, the flood what is left.
    assert_eq!(outcome.offered[1..], outcome.accepted[1..]);
    let due = RATE / 8 * 10;
    assert!(outcome.total().abs_diff(due) < due / 100, "{} of {due}", outcome.total());
}

#[test]
fn a_sparse_flow_loses_nothing_among_256_greedy_ones() {
    let mut sources = vec![Source::new(1_000_000, 1000); 256];
    sources.push(Source::new(8_000, 100));
    let outcome = run(&mut Phantom::new(RATE, ms(50)), &sources, Nanos::ZERO, ms(4_000));
    assert!(outcome.offered[256] >= 300);
    assert_eq!(outcome.offered[256], outcome.accepted[256]);
}

#[test]
fn one_active_flow_gets_the_full_rate() {
    let mut sources = unequal();
    for source in &mut sources[1..] {
        source.stop = ms(1_000);
    }
    sources[0] = Source::new(4 * RATE, 1514);
    let outcome = run(&mut Phantom::new(RATE, ms(50)), &sources, ms(1_200), ms(6_200));
    let due = RATE / 8 * 5;
    assert!(outcome.accepted[0].abs_diff(due) < due / 100, "{} of {due}", outcome.accepted[0]);
}

#[test]
fn a_flow_that_returns_after_idle_starts_clean() {
    let mut sources = unequal();
    sources[7].stop = ms(2_000);
    let mut gate = Phantom::new(RATE, ms(50));
    run(&mut gate, &sources, ms(1_000), ms(3_000));
    let flow = &mut gate.flows[7];
    assert_eq!(gate.share.queue(&gate.params.share, &flow.tag), Bytes::ZERO);
    let now = Nanos::from_secs(9);
    assert_eq!(fairness::judge(&gate.params, &gate.share, flow, gate.pace, now), FairnessVerdict::Accept);
    assert_eq!((flow.dropping, flow.first_above), (0, Nanos::ZERO));
}

/// bcpqp.json, `fluid_checks`: a phantom queue of L bytes takes L / (offered - rate) to fill, then the rate passes.
#[test]
fn bcpqp_a_single_flow_over_its_rate_is_held_to_it_once_its_queue_is_full() {
    let mut gate = Phantom::new(RATE, ms(80));
    // The published check has no AQM on the phantom queue.
    gate.params.codel.target = Nanos::from_secs(4);
    let sources = [Source::new(2 * RATE, 1000)];
    // L is 80 ms at the rate, 100 kB; twice the rate comes in.
    let filling = run(&mut gate, &sources, Nanos::ZERO, ms(79));
    assert_eq!(filling.offered, filling.accepted);
    let mut gate = Phantom::new(RATE, ms(80));
    gate.params.codel.target = Nanos::from_secs(4);
    let outcome = run(&mut gate, &sources, ms(100), ms(5_100));
    for window in &outcome.windows {
        assert!(window.abs_diff(125_000) <= 1_514, "{window} in 100 ms");
    }
}

/// bcpqp.json: at most L above its share, L / (rate / active).
#[test]
fn bcpqp_an_idle_flow_that_returns_gets_at_most_its_cap_above_its_share() {
    let mut gate = Phantom::new(RATE, ms(50));
    gate.params.codel.target = Nanos::from_secs(4);
    let mut sources = vec![Source::new(RATE, 1000); 4];
    sources[3].start = ms(2_000);
    let outcome = run(&mut gate, &sources, ms(2_000), ms(4_000));
    let share = RATE / 8 / 4 * 2;
    let cap = RATE / 8 / 4 * 50 / 1000 + 2 * 1514;
    assert!(outcome.accepted[3] <= share + cap && outcome.accepted[3] + share / 50 >= share);
}

#[test]
fn a_flood_of_new_flows_is_refused_at_the_limit() {
    let mut gate = Phantom::new(RATE, ms(50));
    let mut accepted = 0;
    // Each packet is its own flow, as with spoofed ports: ten times the rate for two seconds.
    for i in 0..20_000u64 {
        gate.flows[(i % 1024) as usize] = FlowVars::default();
        accepted +=
            u64::from(gate.accepts(Nanos::from_micros(5_000_000 + 100 * i), (i % 1024) as usize, 1250, 1))
                * 1250;
    }
    let (due, limit) = (RATE / 8 * 2, RATE / 8 * 400 / 1000);
    assert!(accepted <= due + limit + 2_000 && accepted >= due, "{accepted}");
}

#[test]
fn a_flow_above_target_is_signalled_as_codel_says() {
    let mut gate = Phantom::new(RATE, ms(50));
    let params = CodelParams { max_packet: Bytes::new(3028), ..CodelParams::internet(Bytes::new(0)) };
    assert_eq!(gate.params.codel, params);
    let (mut flow, mut codel, mut signals) = (FlowVars::default(), CodelVars::default(), 0);
    let mut now = Nanos::from_secs(5);
    let _ = gate.share.drain_timed(&gate.params.share, gate.pace, now);
    // A standing queue of about 20 ms: the rate in, plus 25 kB at first.
    gate.share.charge(&gate.params.share, &mut flow.tag, 1, Bytes::new(25_000));
    for _ in 0..2_000 {
        now = now.saturating_add(Nanos::from_millis(1));
        let _ = gate.share.drain_timed(&gate.params.share, gate.pace, now);
        let queue = gate.share.queue(&gate.params.share, &flow.tag);
        let verdict = fairness::judge(&gate.params, &gate.share, &mut flow, gate.pace, now);
        let want = codel.on_enqueue(&params, now, gate.pace.time_for(queue), queue);
        assert_eq!(verdict == FairnessVerdict::Signal, want == Verdict::Signal);
        signals += u32::from(want == Verdict::Signal);
        gate.share.charge(&gate.params.share, &mut flow.tag, 1, Bytes::new(1250));
    }
    assert!(signals > 40, "{signals}");
    assert_eq!(size_of::<FlowVars>(), 64);
}

#[test]
fn estimated_rates_divide_capacity_roughly_evenly() {
    let outcome = run(&mut Csfq::new(RATE, ms(20)), &unequal(), ms(1_000), ms(11_000));
    assert!(outcome.jain() > 0.99, "{}", outcome.jain());
    let due = RATE / 8 * 10;
    assert!(outcome.total().abs_diff(due) < due / 50, "{} of {due}", outcome.total());
    // A flood keeps nobody from most of its share.
    let outcome = run(&mut Csfq::new(RATE, ms(20)), &flood(), ms(1_000), ms(11_000));
    for flow in 1..8 {
        assert!(outcome.accepted[flow] * 100 > outcome.offered[flow] * 85, "{flow}");
    }
    assert!(outcome.total().abs_diff(due) < due / 50, "{} of {due}", outcome.total());
}

/// The furthest that 100 ms were from the rate, as a part of it.
fn worst_window(outcome: &Outcome) -> f64 {
    let due = (RATE / 80) as f64;
    outcome.windows.iter().map(|&window| (window as f64 / due - 1.0).abs()).fold(0.0, f64::max)
}

fn row(traffic: &str, gate: &str, outcome: &Outcome) {
    let kept = |i: usize| 100.0 * outcome.accepted[i] as f64 / outcome.offered[i].max(1) as f64;
    println!(
        "| {traffic} | {gate} | {:.4} | {:.2} % | {:.1} % | {:.1} % | {:.1} % |",
        outcome.jain(),
        100.0 * outcome.total() as f64 / (outcome.windows.len() as u64 * RATE / 80) as f64,
        100.0 * worst_window(outcome),
        kept(1),
        kept(outcome.accepted.len() - 1),
    );
}

#[test]
fn compared_on_the_same_traffic_phantom_queues_hold_the_rate_closer_than_estimates() {
    println!("| traffic | gate | Jain | of the rate | worst 100 ms | second flow keeps | last flow keeps |");
    println!("|---|---|---|---|---|---|---|");
    let mut sparse = unequal();
    sparse.push(Source::new(80_000, 100));
    for (name, sources) in [("unequal", unequal()), ("unequal and sparse", sparse), ("flood", flood())] {
        for (from, to) in [(0, 1_000), (1_000, 11_000)] {
            let traffic = format!("{name}, {from} to {to} ms");
            let phantom = run(&mut Phantom::new(RATE, ms(50)), &sources, ms(from), ms(to));
            row(&traffic, "phantom queues", &phantom);
            for interval in [10, 20, 100] {
                let rival = run(&mut Csfq::new(RATE, ms(interval)), &sources, ms(from), ms(to));
                row(&traffic, &format!("CSFQ, {interval} ms"), &rival);
                assert!(from == 0 || worst_window(&phantom) < worst_window(&rival), "{traffic} {interval}");
            }
        }
    }
}

/// Two CPUs whose clocks differ by 1 us, at an interval's end.
#[test]
fn clocks_that_differ_at_an_intervals_end_do_not_forget_the_fair_share() {
    let mut gate = Csfq::new(RATE, ms(20));
    run(&mut gate, &unequal(), Nanos::ZERO, ms(2_000));
    let fair = gate.vars.fair;
    let edge = (gate.vars.interval + 1) * 20_000_000;
    for _ in 0..10 {
        for now in [edge + 500, edge - 500] {
            gate.accepts(Nanos::from_nanos(now), 0, 1000, 1);
        }
    }
    assert!(gate.vars.fair <= 2 * fair, "{} after {fair}", gate.vars.fair);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any packets, equal timestamps and clocks that step back: what passes is bounded by rate, cap and limit.
    #[test]
    fn accepted_bytes_are_bounded_whatever_arrives(
        arrivals in prop::collection::vec((-500i64..3_000, 0usize..40, 64u64..1515), 1..2_000),
    ) {
        let mut gate = Phantom::new(RATE, ms(20));
        let mut rival = Csfq::new(RATE, ms(20));
        let (mut now, mut latest, mut accepted) = (1_000_000u64, 1_000_000u64, [0u64; 2]);
        for (gap, flow, length) in arrivals {
            now = now.saturating_add_signed(gap);
            latest = latest.max(now);
            let at = Nanos::from_micros(now);
            let weight = 1 + Random(flow as u64).next() % 4;
            accepted[0] += u64::from(gate.accepts(at, flow, length, weight)) * length;
            accepted[1] += u64::from(rival.accepts(at, flow, length, weight)) * length;
            let due = (latest - 1_000_000) * RATE / 8_000_000;
            prop_assert!(accepted[0] <= due + RATE / 8 * 160 / 1000 + 1514 + 64);
            prop_assert!(accepted[1] <= due + RATE / 8 * 200 / 1000 + 1514 + 64);
        }
    }
}
