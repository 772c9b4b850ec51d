//! What holds whatever is simulated.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::sync::Arc;

use proptest::{collection::vec, option, prelude::*};
use weir_aqm::{Nanos, Pace, Rate};
use weir_shared_maps::{
    AQM_PI2, FLAG_ECN, FLAG_HEAD_SOJOURN, MODE_METER, MODE_POLICER, MODE_VIRTUAL, PortConfig,
};
use weir_sim::{
    Congestion, Contender, Ecn, Flow, FlowSizes, LinkChange, LinkEvent, Path, Reverse, Rings, Scenario,
    Traffic, port_config, trace::Trace,
};

const DURATION_MS: u64 = 300;

fn pi2() -> Contender {
    Contender::Weir(Box::new(PortConfig { aqm: AQM_PI2, ..port_config() }))
}

/// Policer and virtual mode at 20 Mbit/s, and the oldest frame's sojourn instead of the predicted one.
fn other_modes() -> impl Strategy<Value = Contender> {
    let pace = Pace::from_bits_per_second(20_000_000).unwrap();
    let (pace_mult, pace_shift) = (pace.mult(), pace.shift());
    let metered = PortConfig { burst_ns: 10_000_000, pace_mult, pace_shift, ..port_config() };
    prop_oneof![
        Just(PortConfig { mode: MODE_POLICER, ..metered }),
        Just(PortConfig { mode: MODE_VIRTUAL, ..metered }),
        Just(PortConfig { mode: MODE_METER, ..port_config() }),
        Just(PortConfig { flags: FLAG_ECN | FLAG_HEAD_SOJOURN, ..port_config() }),
    ]
    .prop_map(|config| Contender::Weir(Box::new(config)))
}

fn any_contender() -> impl Strategy<Value = Contender> {
    let fixed = prop_oneof![Just(Contender::Redirect), Just(Contender::weir()), Just(pi2())];
    prop_oneof![3 => fixed, 1 => Just(Contender::Codel), 2 => other_modes()]
}

fn time_below_ms(end: u64) -> impl Strategy<Value = Nanos> {
    (0..end * 1_000).prop_map(Nanos::from_micros)
}

fn any_trace() -> impl Strategy<Value = Arc<Trace>> {
    vec(0u64..60, 1..40).prop_map(|mut times| {
        times.sort_unstable();
        *times.last_mut().unwrap() += 1;
        let lines: Vec<String> = times.iter().map(u64::to_string).collect();
        Arc::new(lines.join("\n").parse().unwrap())
    })
}

/// 1 to 1,000 Mbit/s or a trace, 1 to 4 CPUs, with everything that a path can do to frames.
fn any_path(slots: std::ops::Range<u32>) -> impl Strategy<Value = Path> {
    let link = (1_000_000u64..1_000_000_000, option::weighted(0.3, any_trace()), 0u32..40, 0u32..50_000);
    let rings = (slots, any::<bool>(), 1u32..17).prop_map(|(slots, per_cpu, reclaim)| Rings {
        slots,
        per_cpu,
        reclaim,
    });
    let reverse = (option::of(100_000u64..100_000_000), 0u32..100_000)
        .prop_map(|(rate, loss_ppm)| Reverse { rate: rate.map(Rate::from_bits_per_second), loss_ppm });
    let times = (time_below_ms(20), time_below_ms(5), time_below_ms(1));
    (link, rings, reverse, times, 1u32..5, option::of(Just(Rate::from_bits_per_second(2_000_000_000))))
        .prop_map(|((rate, trace, overhead, loss_ppm), ring, reverse, (delay, jitter, poll), cpus, fast)| {
            Path {
                rate: Rate::from_bits_per_second(rate),
                trace,
                delay,
                jitter,
                loss_ppm,
                overhead,
                ring,
                fast,
                cpus,
                poll,
                reverse,
            }
        })
}

fn any_flow() -> impl Strategy<Value = Flow> {
    let congestion = prop_oneof![Just(Congestion::Reno), Just(Congestion::Cubic)];
    let traffic = (congestion, any::<bool>(), option::of(1u64..200_000), 0u8..4, 1u64..50, 64u32..1514)
        .prop_map(|(congestion, ecn, size, kind, mbit, bytes)| match kind {
            0 => Traffic::Tcp { congestion, ecn, bytes: size },
            1 => Traffic::Short {
                congestion,
                ecn,
                mean: Nanos::from_millis(10),
                sizes: size.map_or(FlowSizes::WebSearch, FlowSizes::Fixed),
            },
            2 => Traffic::Constant {
                rate: Rate::from_bits_per_second(mbit * 1_000_000),
                bytes,
                ecn: if ecn { Ecn::Ect1 } else { Ecn::NotEct },
            },
            _ => Traffic::Probe { interval: Nanos::from_millis(mbit), bytes },
        });
    let times =
        (time_below_ms(200), option::of(time_below_ms(DURATION_MS)), time_below_ms(50), time_below_ms(30));
    (traffic, times, 1u32..4).prop_map(|(traffic, (start, stop, jitter, extra_delay), count)| Flow {
        count,
        start,
        stop,
        jitter,
        extra_delay,
        ..Flow::new(traffic)
    })
}

fn any_event() -> impl Strategy<Value = LinkEvent> {
    let change = prop_oneof![
        Just(LinkChange::Pause),
        Just(LinkChange::Resume),
        (1_000_000u64..100_000_000).prop_map(|rate| LinkChange::Rate(Rate::from_bits_per_second(rate))),
    ];
    (time_below_ms(DURATION_MS), change).prop_map(|(at, change)| LinkEvent { at, change })
}

fn any_scenario(
    contender: impl Strategy<Value = Contender>,
    slots: std::ops::Range<u32>,
) -> impl Strategy<Value = Scenario> {
    let rest = (any::<u64>(), vec(any_flow(), 1..5), vec(any_event(), 0..5), option::of(time_below_ms(50)));
    (contender, any_path(slots), rest).prop_map(|(contender, path, (seed, flows, events, sample))| Scenario {
        seed,
        measure_from: Nanos::from_millis(50),
        flows,
        events,
        sample: sample.map(|step| step.saturating_add(Nanos::from_millis(1))),
        ..Scenario::new(path, contender, Nanos::from_millis(DURATION_MS))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_packet_is_delivered_or_lost_with_a_cause(scenario in any_scenario(any_contender(), 1..2_000)) {
        let outcome = scenario.run();
        prop_assert_eq!(outcome.unaccounted(), 0);
        let sent: u64 = outcome.flows.iter().map(|flow| flow.sent).sum();
        prop_assert_eq!(sent, outcome.offered);
        let arrived: u64 = outcome.flows.iter().map(|flow| flow.delivered).sum();
        prop_assert_eq!(arrived + outcome.lost_on_link, outcome.delivered);
        prop_assert!(outcome.utilisation <= 1.0 + 1e-9, "{}", outcome.utilisation);
        prop_assert!(outcome.ring.p50 <= outcome.ring.p99 && outcome.ring.p99 <= outcome.ring.max);
    }

    /// A first batch finds an empty ring, so a ring holds one.
    #[test]
    fn weir_never_lets_a_ring_into_its_reserve(
        scenario in any_scenario(prop_oneof![Just(Contender::weir()), Just(pi2())], 32..2_000)
    ) {
        let outcome = scenario.run();
        let Rings { slots, per_cpu, .. } = scenario.path.ring;
        let rings = if per_cpu { scenario.path.cpus } else { 1 };
        prop_assert_eq!(outcome.ring.slots, slots * rings);
        let admitted = weir_egress::slots_admitted(slots, port_config().reserve_slots) * rings;
        prop_assert!(outcome.ring.max <= admitted, "{} of {}", outcome.ring.max, admitted);
        prop_assert_eq!(outcome.drops.get("ring_drops"), None);
    }

    #[test]
    fn one_scenario_gives_one_outcome(scenario in any_scenario(any_contender(), 1..2_000)) {
        prop_assert_eq!(scenario.run(), scenario.run());
    }
}

#[test]
fn another_seed_gives_another_outcome() {
    let path = Path::new(Rate::from_bits_per_second(10_000_000), Nanos::from_millis(10), 1000);
    let flow = Flow::bulk(Congestion::Cubic, false).jittered(Nanos::from_millis(100));
    let run = |seed| {
        let scenario = Scenario::new(path.clone(), Contender::weir(), Nanos::from_secs(2));
        Scenario { seed, flows: vec![flow.clone()], ..scenario }.run()
    };
    assert_ne!(run(7), run(8));
}
