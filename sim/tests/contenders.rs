//! What the simulator must show of the contenders, and of itself.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use proptest::prelude::*;
use weir_aqm::{Nanos, Rate};
use weir_shared_maps::{AQM_PI2, PortConfig};
use weir_sim::{Contender, Flow, Links, Outcome, Scenario, Traffic, port_config};

const CUBIC: Traffic = Traffic::Cubic { ecn: false };
const PROBE: Traffic = Traffic::Probe { interval: Nanos::from_millis(10) };

/// `examples/lab/fast-to-slow.toml`, with the link's rate to choose.
fn fast_to_slow(contender: Contender, mbit: u64, seconds: u64, seed: u64) -> Scenario {
    let flow = Flow::new(CUBIC).jittered(Nanos::from_millis(100));
    Scenario {
        seed,
        duration: Nanos::from_secs(seconds),
        measure_from: Nanos::ZERO,
        links: Links {
            rate: Rate::from_bits_per_second(mbit * 1_000_000),
            delay: Nanos::from_millis(10),
            ring: 1000,
            fast: Some(Rate::from_bits_per_second(10_000_000_000)),
            poll: Nanos::from_micros(20),
        },
        contender,
        flows: vec![flow, flow, Flow::new(PROBE)],
    }
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
    for mbit in [50, 200] {
        let weir = fast_to_slow(Contender::weir(), mbit, 30, 1).run();
        let (p99, _) = probe(&weir);
        assert!(p99 < 15.0 && weir.utilisation > 0.95, "{mbit} Mbit/s: {p99} ms, {}", weir.utilisation);
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
    scenario.flows[0].traffic = Traffic::Cubic { ecn: true };
    scenario.flows[1].traffic = Traffic::Cubic { ecn: true };
    let outcome = scenario.run();
    assert!(outcome.marks > 50, "{}", outcome.marks);
    assert!(probe(&outcome).0 < 30.0, "{:?}", probe(&outcome));
    assert_eq!(outcome.unaccounted(), 0);
}

#[test]
fn an_unresponsive_flood_has_its_delay_bounded_and_every_drop_a_cause() {
    let mut scenario = fast_to_slow(Contender::weir(), 10, 10, 1);
    let rate = Rate::from_bits_per_second(30_000_000);
    scenario.flows = vec![Flow::new(Traffic::Constant { rate, bytes: 1242, ecn: false }), Flow::new(PROBE)];
    let outcome = scenario.run();
    let (p99, _) = probe(&outcome);
    assert!(p99 < 60.0, "{p99}");
    assert_eq!((outcome.drops.get("ring_drops"), outcome.unaccounted()), (None, 0));
    assert!(outcome.drops.contains_key("backpressure"), "{:?}", outcome.drops);
    assert!(outcome.utilisation > 0.98, "{}", outcome.utilisation);
}

#[test]
fn one_seed_gives_one_outcome_and_another_seed_another() {
    let run = |seed| fast_to_slow(Contender::weir(), 10, 5, seed).run();
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

fn any_contender() -> impl Strategy<Value = Contender> {
    prop_oneof![Just(Contender::Redirect), Just(Contender::weir()), Just(pi2()), Just(Contender::Codel)]
}

/// A short run of anything: 1 to 1,000 Mbit/s, rings of 2 to 2,000 slots, TCP and UDP in every mix.
fn any_scenario(contender: impl Strategy<Value = Contender>) -> impl Strategy<Value = Scenario> {
    let links = (1_000_000u64..1_000_000_000, 2u32..2_000, 0u64..300, 0u64..20);
    (contender, links, any::<u64>(), 0usize..5, any::<bool>(), 1u64..40, 64u32..1514).prop_map(
        |(contender, (rate, ring, poll, delay), seed, tcp, ecn, tenths, bytes)| {
            let tcp_flow = if seed % 2 == 0 { Traffic::Cubic { ecn } } else { Traffic::Reno { ecn } };
            let mut flows = vec![Flow::new(tcp_flow).jittered(Nanos::from_millis(50)); tcp];
            let udp = Rate::from_bits_per_second(rate.min(50_000_000) * tenths / 10);
            flows.push(Flow::new(Traffic::Constant { rate: udp, bytes, ecn }));
            Scenario {
                seed,
                duration: Nanos::from_millis(400),
                measure_from: Nanos::from_millis(100),
                links: Links {
                    rate: Rate::from_bits_per_second(rate),
                    delay: Nanos::from_millis(delay),
                    ring,
                    fast: Some(Rate::from_bits_per_second(2_000_000_000)),
                    poll: Nanos::from_micros(poll),
                },
                contender,
                flows,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_packet_is_delivered_or_lost_with_a_cause(scenario in any_scenario(any_contender())) {
        let outcome = scenario.run();
        prop_assert_eq!(outcome.unaccounted(), 0);
        let sent: u64 = outcome.flows.iter().map(|flow| flow.sent).sum();
        prop_assert_eq!(sent, outcome.offered);
    }

    #[test]
    fn weir_never_lets_the_ring_into_its_reserve(
        scenario in any_scenario(prop_oneof![Just(Contender::weir()), Just(pi2())])
    ) {
        let outcome = scenario.run();
        let admitted = weir_egress::slots_admitted(outcome.ring.slots, port_config().reserve_slots);
        prop_assert!(outcome.ring.max <= admitted, "{} of {}", outcome.ring.max, admitted);
        prop_assert_eq!(outcome.drops.get("ring_drops"), None);
    }
}
