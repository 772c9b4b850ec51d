//! What the path does to frames: delays, rates, traces, pauses, rings, the way back.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::sync::Arc;

use weir_aqm::{Nanos, Rate};
use weir_sim::{
    Congestion, Contender, Ecn, Flow, FlowSizes, LinkChange, LinkEvent, Outcome, Path, Scenario, Traffic,
    sender::Sizes,
};

const MS: fn(u64) -> Nanos = Nanos::from_millis;
/// Payload of a full frame.
const SEGMENT: u64 = 1514 - 66;

fn kbit(kbit: u64) -> Rate {
    Rate::from_bits_per_second(kbit * 1_000)
}

fn constant(rate: Rate, bytes: u32) -> Flow {
    Flow::new(Traffic::Constant { rate, bytes, ecn: Ecn::NotEct })
}

/// A TCP flow of as many full packets.
fn transfer(packets: u64) -> Flow {
    let bytes = Some(packets * SEGMENT);
    Flow::new(Traffic::Tcp { congestion: Congestion::Cubic, ecn: false, bytes })
}

/// 10 Mbit/s, 10 ms, room for 5,000 frames, no polls.
fn path() -> Path {
    Path { fast: None, poll: Nanos::ZERO, ..Path::new(kbit(10_000), MS(10), 5000) }
}

fn run(path: Path, ms: u64, flows: Vec<Flow>, events: Vec<LinkEvent>) -> Outcome {
    let scenario = Scenario::new(path, Contender::Redirect, MS(ms));
    let outcome = Scenario { flows, events, ..scenario }.run();
    assert_eq!(outcome.unaccounted(), 0);
    outcome
}

fn change(ms: u64, change: LinkChange) -> LinkEvent {
    LinkEvent { at: MS(ms), change }
}

#[test]
fn a_lone_frame_takes_its_time_on_each_link_and_both_delays() {
    let path = Path { fast: Some(kbit(100_000)), poll: Nanos::from_micros(50), overhead: 36, ..path() };
    let flow = Flow { extra_delay: MS(7), ..constant(kbit(100), 1214) };
    let delay = run(path, 1000, vec![flow], vec![]).flows[0].delay;
    // 97.12 us on the fast link, 1 ms on the slow one.
    let expected = Nanos::from_nanos(97_120 + 50_000 + 1_000_000).saturating_add(MS(17));
    assert_eq!((delay.min, delay.max), (expected, expected));
}

#[test]
fn a_pause_loses_nothing_and_delays_by_its_length_at_most() {
    let events = vec![change(300, LinkChange::Pause), change(800, LinkChange::Resume)];
    let outcome = run(path(), 3000, vec![constant(kbit(5_000), 1250)], events);
    assert_eq!((outcome.delivered, outcome.drops.len()), (outcome.offered, 0));
    // A frame that came as the pause began waits it out: 500 ms, then itself.
    let waited = outcome.flows[0].delay.max.saturating_sub(MS(10));
    assert!(waited >= MS(500) && waited <= MS(502), "{waited:?}");
    assert_eq!(outcome.ring.max, 250);
}

#[test]
fn a_link_that_is_paused_for_good_is_resumed_at_the_end() {
    let outcome = run(path(), 1000, vec![transfer(50)], vec![change(30, LinkChange::Pause)]);
    assert_eq!(outcome.delivered, outcome.offered);
}

#[test]
fn each_rate_holds_from_its_step_on() {
    let events =
        vec![change(1000, LinkChange::Rate(kbit(2_000))), change(2000, LinkChange::Rate(kbit(8_000)))];
    let scenario = Scenario::new(path(), Contender::Redirect, MS(3000));
    let flows = vec![constant(kbit(20_000), 1042)];
    let outcome = Scenario { flows, events, sample: Some(MS(500)), ..scenario }.run();
    let mbit: Vec<f64> =
        outcome.series.iter().map(|point| point.payload[0] as f64 * 1.042 * 8.0 / 500_000.0).collect();
    for (found, rate) in mbit.iter().zip([10.0, 10.0, 2.0, 2.0, 8.0, 8.0]) {
        // The first half second lacks the delay of 10 ms, the steps have a frame of the old rate and 10 ms of its frames.
        assert!((found - rate).abs() < 0.25, "{mbit:?}");
    }
    assert_eq!(mbit.len(), 6);
    assert!((outcome.utilisation - 1.0).abs() < 1e-3, "{}", outcome.utilisation);
}

#[test]
fn a_trace_delivers_1504_bytes_at_each_of_its_times() {
    let trace: Arc<_> = Arc::new("1\n2\n2\n10\n".parse().unwrap());
    // Four opportunities in 10 ms: a full frame each, fifteen small ones and the sixteenth's beginning.
    for (bytes, frames) in [(1514, 400.0), (106, 400.0 * 1504.0 / 96.0)] {
        let path = Path { trace: Some(Arc::clone(&trace)), ..path() };
        let scenario = Scenario::new(path, Contender::Redirect, MS(1000));
        let flow = constant(kbit(100_000), bytes);
        let outcome = Scenario { flows: vec![flow], sample: Some(MS(1000)), ..scenario }.run();
        let payload = outcome.series[0].payload[0] as f64 / f64::from(bytes - 42);
        // Less one turn of 10 ms that is still on its way.
        assert!((payload - frames * 0.99).abs() <= frames * 0.003, "{bytes}: {payload} of {frames}");
        assert!((outcome.utilisation - 1.0).abs() < 0.005, "{}", outcome.utilisation);
    }
}

#[test]
fn a_frame_waits_for_the_next_opportunity() {
    let trace = Some(Arc::new("5\n50\n100\n".parse().unwrap()));
    let path = Path { trace, delay: Nanos::ZERO, ..path() };
    let flow = Flow { start: MS(6), ..Flow::new(Traffic::Probe { interval: MS(100), bytes: 106 }) };
    let delay = run(path, 1000, vec![flow], vec![]).flows[0].delay;
    assert_eq!((delay.min, delay.max), (MS(44), MS(44)));
}

#[test]
fn jitter_varies_delays_and_reorders_nothing() {
    let path = Path { jitter: MS(5), ..path() };
    let outcome = run(path, 5000, vec![transfer(1000)], vec![]);
    // A packet that was overtaken by three would be taken for lost and sent again.
    assert_eq!((outcome.flows[0].sent, outcome.flows[0].completed), (1000, 1));
    let probe = Flow::probe(MS(50));
    let delay = run(Path { jitter: MS(5), ..self::path() }, 5000, vec![probe], vec![]).flows[0].delay;
    assert!(delay.min < Nanos::from_micros(10_600) && delay.max > Nanos::from_micros(14_500), "{delay:?}");
    assert!((delay.mean_ns / 1e6 - 12.6).abs() < 0.5, "{delay:?}");
}

#[test]
fn the_link_loses_the_share_it_is_told_to_and_tcp_sends_it_again() {
    let path = Path { loss_ppm: 20_000, ..path() };
    let outcome = run(path, 10_000, vec![constant(kbit(2_000), 250), transfer(500)], vec![]);
    let share = outcome.lost_on_link as f64 / outcome.delivered as f64;
    assert!((share - 0.02).abs() < 0.004, "{share}");
    let tcp = &outcome.flows[1];
    assert_eq!((tcp.completed, tcp.payload[0]), (1, 500 * SEGMENT));
    assert!(tcp.sent > 500);
}

#[test]
fn a_flow_with_an_end_brings_exactly_its_size_whatever_is_lost_and_sent_again() {
    let flow = |congestion| {
        let bytes = Some(300 * SEGMENT + 7);
        Flow { jitter: MS(50), ..Flow::new(Traffic::Tcp { congestion, ecn: true, bytes }) }.times(3)
    };
    let flows = Congestion::ALL.map(flow).to_vec();
    let mut path = Path { loss_ppm: 30_000, jitter: MS(2), ..path() };
    (path.ring.slots, path.reverse.loss_ppm) = (40, 100_000);
    let outcome = run(path, 120_000, flows, vec![]);
    for (flow, congestion) in outcome.flows.iter().zip(Congestion::ALL) {
        assert_eq!(
            (flow.completed, flow.payload.as_slice()),
            (3, [300 * SEGMENT + 7; 3].as_slice()),
            "{congestion:?}"
        );
        assert!(flow.sent > 3 * 301, "{congestion:?} repaired nothing");
    }
}

#[test]
fn two_cpus_with_a_ring_each_share_the_link_evenly_and_one_ring_by_load() {
    // At random times: of two constant flows the one whose frames come when a slot gets free takes all of them.
    let poisson = |us| {
        let (mean, bytes, sizes) = (Nanos::from_micros(us), 1250, Sizes::Equal);
        Flow::new(Traffic::Poisson { mean, bytes, sizes })
    };
    let flows = vec![poisson(250), poisson(500)];
    let share = |per_cpu| {
        let mut path = Path { cpus: 2, ..path() };
        (path.ring.per_cpu, path.ring.slots) = (per_cpu, 50);
        let outcome = run(path, 2000, flows.clone(), vec![]);
        outcome.flows[0].delivered as f64 / outcome.flows[1].delivered as f64
    };
    let (own, shared) = (share(true), share(false));
    assert!((own - 1.0).abs() < 0.02, "{own}");
    assert!((shared - 2.0).abs() < 0.2, "{shared}");
}

#[test]
fn late_reclaim_makes_a_ring_smaller() {
    let loss = |reclaim| {
        let mut path = path();
        (path.ring.slots, path.ring.reclaim) = (16, reclaim);
        let outcome = run(path, 2000, vec![constant(kbit(20_000), 1250)], vec![]);
        (outcome.ring.max, outcome.flows[0].delay.p50)
    };
    let ((_, at_once), (max, late)) = (loss(1), loss(8));
    assert!(max > 8 && max <= 16, "{max}");
    assert!(late < at_once, "{late:?} against {at_once:?}");
}

#[test]
fn a_slow_way_back_slows_the_way_there() {
    // 66 bytes take 5.28 ms at 100 kbit/s, and an acknowledgement covers two packets: 4.4 Mbit/s of payload, and
    // what the window grows by.
    let mut path = path();
    path.reverse.rate = Some(kbit(100));
    let scenario = Scenario::new(path, Contender::Redirect, MS(10_000));
    let flows = vec![Flow::bulk(Congestion::Cubic, false)];
    let outcome = Scenario { flows, measure_from: MS(5_000), ..scenario }.run();
    let mbit = outcome.flows[0].payload[0] as f64 * 8.0 / 5.0 / 1e6;
    assert!(mbit > 4.0 && mbit < 6.0, "{mbit}");
}

#[test]
fn lost_acknowledgements_are_made_up_for_by_later_ones() {
    let mut path = path();
    path.reverse.loss_ppm = 100_000;
    let outcome = run(path, 5_000, vec![Flow::bulk(Congestion::Cubic, false)], vec![]);
    assert!(outcome.utilisation > 0.9, "{}", outcome.utilisation);
}

#[test]
fn base_round_trip_times_are_twice_the_sum_of_both_delays() {
    let near = transfer(1);
    let far = Flow { extra_delay: MS(30), ..transfer(1) };
    let outcome = run(path(), 1000, vec![near, far], vec![]);
    let completion: Vec<Nanos> = outcome.flows.iter().map(|flow| flow.completion.max).collect();
    let frame = Nanos::from_nanos(1_211_200);
    assert_eq!(completion, [MS(20).saturating_add(frame), MS(80).saturating_add(frame)]);
}

#[test]
fn short_flows_come_as_a_poisson_process_and_their_completion_is_timed() {
    let bytes = 3 * SEGMENT;
    let sizes = FlowSizes::Fixed(bytes);
    let short = |count| {
        let sizes = sizes.clone();
        let traffic = Traffic::Short { congestion: Congestion::Cubic, ecn: false, mean: MS(100), sizes };
        Flow { start: MS(500), stop: Some(MS(50_500)), ..Flow::new(traffic) }.times(count)
    };
    let outcome = run(path(), 60_000, vec![short(1), short(4)], vec![]);
    for (flow, mean) in outcome.flows.iter().zip([500.0, 2000.0_f64]) {
        let error = (flow.completed as f64 - mean).abs();
        assert!(error < 4.0 * mean.sqrt(), "{} of {mean}", flow.completed);
        assert_eq!(
            (flow.payload.as_slice(), flow.sent),
            ([flow.completed * bytes].as_slice(), 3 * flow.completed)
        );
        // A round trip and three frames; at times others are in the way.
        let alone = Nanos::from_nanos(20_000_000 + 3 * 1_211_200);
        assert_eq!((flow.completion.count, flow.completion.min), (flow.completed, alone));
        assert!(flow.completion.p50 < alone.saturating_add(MS(4)), "{:?}", flow.completion);
    }
}

#[test]
fn flows_begin_and_end_when_they_are_told_to() {
    let flow = Flow { start: MS(100), stop: Some(MS(300)), ..constant(kbit(1_000), 1250) };
    let jittered = Flow { jitter: MS(100), ..flow.clone() }.times(20);
    let outcome = run(path(), 1000, vec![flow, jittered], vec![]);
    assert_eq!(outcome.flows[0].sent, 20);
    let (sent, members) = (outcome.flows[1].sent, &outcome.flows[1].payload);
    assert!(sent > 20 * 10 && sent < 20 * 20, "{sent}");
    assert!(members.len() == 20 && members.iter().any(|payload| *payload != members[0]), "{members:?}");
}

#[test]
fn the_series_adds_up_to_the_outcome() {
    let scenario = Scenario::new(path(), Contender::Redirect, MS(2000));
    let flows = vec![Flow::bulk(Congestion::Cubic, false).times(2), Flow::probe(MS(10))];
    let outcome = Scenario { flows, sample: Some(MS(100)), ..scenario }.run();
    assert_eq!(outcome.series.len(), 20);
    assert!(outcome.series.iter().zip(1..).all(|(point, i)| point.at == MS(100 * i)));
    for (i, flow) in outcome.flows.iter().enumerate() {
        let sampled: u64 = outcome.series.iter().map(|point| point.payload[i]).sum();
        // A frame that arrives with the last sample may be on either side.
        assert!(sampled.abs_diff(flow.payload.iter().sum()) <= SEGMENT);
    }
    let longest = outcome.series.iter().filter_map(|point| point.delay).max().unwrap();
    assert!(longest <= outcome.flows[1].delay.max, "only probes are in the series");
    let standing = outcome.series.iter().map(|point| point.occupancy).max().unwrap();
    assert!(standing > 0 && standing <= outcome.ring.max);
}
