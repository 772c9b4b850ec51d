//! What the simulator must show of the contenders, and of itself.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use weir_aqm::{Nanos, Pace, Rate};
use weir_shared_maps::{AQM_CODEL, AQM_PI2, MODE_POLICER, MODE_VIRTUAL, PortConfig};
use weir_sim::{Congestion, Contender, Ecn, Flow, Outcome, Path, Scenario, Traffic, port_config};

const MS: fn(u64) -> Nanos = Nanos::from_millis;

fn cubic(ecn: bool) -> Flow {
    Flow::bulk(Congestion::Cubic, ecn).jittered(MS(100))
}

fn mbit(mbit: u64) -> Rate {
    Rate::from_bits_per_second(mbit * 1_000_000)
}

/// `examples/lab/fast-to-slow.toml`, with the link's rate to choose.
fn fast_to_slow(contender: Contender, rate: u64, seconds: u64, seed: u64) -> Scenario {
    let path = Path::new(mbit(rate), MS(10), 1000);
    let flows = vec![cubic(false).times(2), Flow::probe(MS(10))];
    Scenario { seed, flows, ..Scenario::new(path, contender, Nanos::from_secs(seconds)) }
}

/// The probe's delay above the base of 10 ms, in milliseconds: p99 and maximum.
fn probe(outcome: &Outcome) -> (f64, f64) {
    let delay = outcome.flows.last().unwrap().delay;
    let above = |delay: Nanos| (delay.as_nanos() as f64 - 10e6) / 1e6;
    (above(delay.p99), above(delay.max))
}

fn pi2() -> Contender {
    let config = port_config();
    Contender::Weir(Box::new(PortConfig { aqm: AQM_PI2, ..config }))
}

#[test]
fn weir_keeps_the_ring_short_where_a_plain_redirect_fills_it() {
    let redirect = fast_to_slow(Contender::Redirect, 10, 20, 1).run();
    let weir = fast_to_slow(Contender::weir(), 10, 20, 1).run();
    let ((filled, _), (short, worst)) = (probe(&redirect), probe(&weir));
    assert!(filled > 300.0, "{filled}");
    assert!(short < 25.0 && worst < 60.0, "p99 {short}, max {worst}");
    assert!(weir.utilisation > 0.95 * redirect.utilisation, "{}", weir.utilisation);
    assert_eq!(weir.drops.get("ring_drops"), None, "{:?}", weir.drops);
}

#[test]
fn on_faster_links_weirs_queue_stays_below_fifteen_milliseconds() {
    for rate in [50, 100] {
        let weir = fast_to_slow(Contender::weir(), rate, 20, 1).run();
        let (p99, _) = probe(&weir);
        assert!(p99 < 15.0 && weir.utilisation > 0.95, "{rate} Mbit/s: {p99} ms, {}", weir.utilisation);
    }
}

#[test]
fn deciding_at_the_tail_does_nearly_as_well_as_at_the_head() {
    let head = fast_to_slow(Contender::Codel, 10, 20, 1).run();
    let tail = fast_to_slow(Contender::weir(), 10, 20, 1).run();
    let (at_head, at_tail) = (probe(&head).0, probe(&tail).0);
    assert!(at_tail < 1.5 * at_head, "{at_tail} against {at_head}");
}

#[test]
fn pi2_holds_the_queue_too() {
    let (p99, _) = probe(&fast_to_slow(pi2(), 10, 20, 1).run());
    assert!(p99 < 25.0, "{p99}");
}

#[test]
fn marks_replace_drops_for_flows_that_understand_them() {
    let mut scenario = fast_to_slow(Contender::weir(), 10, 20, 1);
    scenario.flows[0] = cubic(true).times(2);
    let outcome = scenario.run();
    assert!(outcome.marks > 50, "{}", outcome.marks);
    assert!(probe(&outcome).0 < 30.0, "{:?}", probe(&outcome));
    assert_eq!(outcome.unaccounted(), 0);
}

#[test]
fn an_unresponsive_flood_has_its_delay_bounded_and_every_drop_a_cause() {
    let mut scenario = fast_to_slow(Contender::weir(), 10, 10, 1);
    scenario.flows[0] = Flow::new(Traffic::Constant { rate: mbit(30), bytes: 1242, ecn: Ecn::NotEct });
    let outcome = scenario.run();
    let (p99, _) = probe(&outcome);
    assert!(p99 < 60.0, "{p99}");
    assert_eq!((outcome.drops.get("ring_drops"), outcome.unaccounted()), (None, 0));
    assert!(outcome.drops.contains_key("backpressure"), "{:?}", outcome.drops);
    assert!(outcome.utilisation > 0.98, "{}", outcome.utilisation);
}

/// A port at `rate` in one of the modes that meter.
fn metered(mode: u32, rate: u64) -> Contender {
    let pace = Pace::from_bits_per_second(rate * 1_000_000).unwrap();
    let mut config = PortConfig { mode, aqm: AQM_CODEL, burst_ns: 15_000_000, ..port_config() };
    (config.pace_mult, config.pace_shift) = (pace.mult(), pace.shift());
    Contender::Weir(Box::new(config))
}

#[test]
fn a_policer_lets_its_rate_through_and_keeps_the_ring_empty() {
    let mut scenario = fast_to_slow(metered(MODE_POLICER, 20), 100, 10, 1);
    scenario.flows[0] = Flow::new(Traffic::Constant { rate: mbit(60), bytes: 1242, ecn: Ecn::NotEct });
    let outcome = scenario.run();
    let goodput = outcome.flows[0].payload[0] as f64 * 8.0 / 10.0 / 1e6 * 1242.0 / 1200.0;
    assert!((goodput / 20.0 - 1.0).abs() < 0.02, "{goodput}");
    assert!(outcome.ring.p99 <= 32, "{:?}", outcome.ring);
    assert_eq!(outcome.unaccounted(), 0);
}

#[test]
fn a_virtual_queue_stands_for_a_ring_that_cannot_be_read() {
    let outcome = fast_to_slow(metered(MODE_VIRTUAL, 10), 10, 20, 1).run();
    let (p99, _) = probe(&outcome);
    assert!(p99 < 25.0 && outcome.utilisation > 0.9, "{p99} ms, {}", outcome.utilisation);
    assert!(outcome.drops.contains_key("aqm"), "{:?}", outcome.drops);
    assert_eq!((outcome.drops.get("ring_drops"), outcome.unaccounted()), (None, 0));
}

#[test]
fn weir_decides_for_each_ring_where_each_cpu_has_one() {
    let mut scenario = fast_to_slow(Contender::weir(), 50, 10, 1);
    scenario.path.cpus = 4;
    scenario.path.ring.per_cpu = true;
    scenario.flows[0] = cubic(false).times(8);
    let outcome = scenario.run();
    // Four rings, each drained at a quarter of the rate: a queue of 5 ms each.
    let (p99, _) = probe(&outcome);
    assert!(p99 < 40.0 && outcome.utilisation > 0.95, "{p99} ms, {}", outcome.utilisation);
    assert_eq!((outcome.drops.get("ring_drops"), outcome.unaccounted()), (None, 0));
}

/// Two CPUs with a ring each on a link at 100 Mbit/s, a flow of 30 Mbit/s through each.
fn two_rings(contender: Contender) -> Scenario {
    let mut scenario = fast_to_slow(contender, 100, 10, 1);
    scenario.path.cpus = 2;
    scenario.path.ring.per_cpu = true;
    let flow = Flow::new(Traffic::Constant { rate: mbit(30), bytes: 1514, ecn: Ecn::NotEct });
    scenario.flows = vec![flow.times(2)];
    scenario
}

#[test]
fn the_rings_of_a_policer_share_one_meter() {
    let rate = mbit(20);
    for contender in [Contender::Policer { rate, burst: 30_000 }, Contender::BcPqp { rate }] {
        let scenario = two_rings(contender);
        let outcome = scenario.run();
        let sent = outcome.delivered as f64 * 1514.0 * 8.0 / 10.0 / 1e6;
        assert!((sent / 20.0 - 1.0).abs() < 0.02, "{:?}: {sent} Mbit/s", scenario.contender);
        assert_eq!(outcome.ring.slots, 2 * scenario.path.ring.slots);
        assert_eq!(
            (outcome.drops.keys().copied().collect::<Vec<_>>(), outcome.unaccounted()),
            (vec!["policer"], 0)
        );
    }
}

#[test]
fn the_rings_of_a_policer_give_slots_back_as_late_as_any() {
    let rate = mbit(100);
    for contender in [Contender::Policer { rate, burst: 100_000 }, Contender::BcPqp { rate }] {
        // The link is slower than the meter and the load: rings stand full, but for what is given back late.
        let longest = |reclaim| {
            let mut scenario = two_rings(contender.clone());
            scenario.path.rate = mbit(10);
            (scenario.path.ring.slots, scenario.path.ring.reclaim) = (16, reclaim);
            let ring = scenario.run().ring;
            (ring.max, ring.mean)
        };
        let ((full, at_once), (_, late)) = (longest(1), longest(8));
        assert_eq!(full, 32, "both rings");
        assert!(late < at_once - 4.0, "{contender:?}: {late} against {at_once}");
    }
}
