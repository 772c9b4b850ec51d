//! What holds whatever is simulated.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod classes;
#[path = "router/setups.rs"]
mod setups;

use std::sync::Arc;

use proptest::{collection::vec, option, prelude::*, sample::select};
use weir_aqm::{Nanos, Pace, Rate};
use weir_shared_maps::{
    ACTION_DIVERT, ACTION_DROP, ACTION_NONE, ACTION_SPILL, AQM_CODEL, AQM_L4S, AQM_NONE, AQM_PI2, AQM_PIE,
    COLOUR_DROP, ClassConfig, FAIRNESS_DESTINATION, FAIRNESS_DESTINATION_FLOW, FAIRNESS_FLOW, FAIRNESS_NONE,
    FAIRNESS_SOURCE, FAIRNESS_SOURCE_FLOW, FLAG_ECN, FLAG_HEAD_SOJOURN, MODE_METER, MODE_POLICER,
    MODE_VIRTUAL, POLICER_BYTES, POLICER_NONE, PortConfig, STACK_CHARGE, STACK_DECIDE, STACK_IGNORE,
};
use weir_sim::queue::PortSetup;
use weir_sim::{
    Congestion, Contender, Ecn, Flow, FlowSizes, LinkChange, LinkEvent, Path, Reverse, Rings, Scenario,
    SpillLink, Traffic, port_config, sender::Sizes, trace::Trace,
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

fn any_rate(from: u64, to: u64) -> impl Strategy<Value = Rate> {
    (from..to).prop_map(Rate::from_bits_per_second)
}

/// What may stand behind a shaper.
fn any_queue() -> impl Strategy<Value = Contender> {
    prop_oneof![
        Just(Contender::Redirect),
        (1u32..300).prop_map(|packets| Contender::Fifo { packets }),
        Just(Contender::Priority { dscp: 1, queue: Box::new(Contender::FqCodel) }),
        Just(Contender::Codel),
        Just(Contender::FqCodel),
        Just(Contender::Pie),
        Just(Contender::DualPi2),
    ]
}

/// What has a rate: from far below the path's to above it.
fn any_metered() -> impl Strategy<Value = Contender> {
    let rate = || any_rate(200_000, 200_000_000);
    prop_oneof![
        rate().prop_map(|rate| Contender::Cake { rate }),
        (rate(), any_queue()).prop_map(|(rate, queue)| Contender::Shaped { rate, queue: Box::new(queue) }),
        (rate(), 0u64..200_000).prop_map(|(rate, burst)| Contender::Policer { rate, burst }),
        rate().prop_map(|rate| Contender::BcPqp { rate }),
        rate().prop_map(|rate| Contender::Csfq { rate }),
    ]
}

/// One to four classes with everything that the decision looks at but subscribers.
fn any_classes() -> impl Strategy<Value = Vec<ClassConfig>> {
    let fairness = select(&[
        FAIRNESS_NONE,
        FAIRNESS_FLOW,
        FAIRNESS_SOURCE,
        FAIRNESS_DESTINATION,
        FAIRNESS_SOURCE_FLOW,
        FAIRNESS_DESTINATION_FLOW,
    ]);
    let aqm = select(&[AQM_NONE, AQM_CODEL, AQM_PI2, AQM_PIE, AQM_L4S]);
    let class = (0u32..8, 1u32..256, option::of(1u64..50), fairness, aqm, option::of(1u64..50)).prop_map(
        |(priority, weight, rate, fairness, aqm, policed)| {
            let class = rate.map_or_else(classes::class, classes::guaranteed);
            let class = ClassConfig { priority, weight, fairness, aqm, ..class };
            let cir = policed.map_or(0, classes::pace);
            let policer = if policed.is_some() { POLICER_BYTES } else { POLICER_NONE };
            ClassConfig { policer, cir_pace: cir, cbs_ns: 10_000_000, red: COLOUR_DROP, ..class }
        },
    );
    vec(class, 1..5)
}

fn any_policy() -> impl Strategy<Value = Contender> {
    (any_classes(), option::of(1u64..200)).prop_map(|(classes, rate)| {
        classes::weir(match rate {
            Some(rate) => classes::policer(rate, classes),
            None => classes::bottleneck(classes),
        })
    })
}

/// weir that moves flows into any discipline and to the second link, with classes and without.
fn any_router() -> impl Strategy<Value = Contender> {
    let action = || select(&[ACTION_NONE, ACTION_DROP, ACTION_DIVERT, ACTION_SPILL, ACTION_SPILL]);
    let qdisc = prop_oneof![any_queue(), any_metered()];
    let stack = select(&[STACK_IGNORE, STACK_DECIDE, STACK_CHARGE]);
    ([action(), action()], qdisc, option::of(any_classes()), stack).prop_map(
        |([congested, full], qdisc, classes, stack)| {
            let mut router = setups::router(setups::actions(congested, full), qdisc);
            router.back_off = vec![router.back_off[0]; 4];
            match classes {
                Some(classes) => {
                    let mut config = classes::bottleneck(classes);
                    config.port.stack = stack;
                    router.port = PortSetup::Classes(Box::new(config));
                }
                None => {
                    router.port = PortSetup::Plain(Box::new(PortConfig { stack, ..setups::port() }));
                }
            }
            setups::weir(router)
        },
    )
}

fn any_contender() -> impl Strategy<Value = Contender> {
    let weir = prop_oneof![Just(Contender::weir()), Just(pi2())];
    prop_oneof![
        2 => weir, 2 => other_modes(), 3 => any_policy(), 2 => any_queue(), 2 => any_metered(), 4 => any_router()
    ]
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

/// A second link, which may stand still.
fn any_spill_link() -> impl Strategy<Value = Box<SpillLink>> {
    let link = (any_rate(1_000_000, 100_000_000), time_below_ms(20), 1u32..500);
    (link, vec(any_event(), 0..3)).prop_map(|((rate, delay, slots), events)| {
        Box::new(SpillLink { events, ..SpillLink::new(rate, delay, slots) })
    })
}

/// 1 to 1,000 Mbit/s or a trace, 1 to 4 CPUs, with everything that a path can do to frames.
fn any_path(slots: std::ops::Range<u32>) -> impl Strategy<Value = Path> {
    let link =
        (any_rate(1_000_000, 1_000_000_000), option::weighted(0.3, any_trace()), 0u32..40, 0u32..50_000);
    let rings = (slots, any::<bool>(), 1u32..17).prop_map(|(slots, per_cpu, reclaim)| Rings {
        slots,
        per_cpu,
        reclaim,
    });
    let reverse = (option::of(any_rate(100_000, 100_000_000)), 0u32..100_000)
        .prop_map(|(rate, loss_ppm)| Reverse { rate, loss_ppm });
    let times = (time_below_ms(20), time_below_ms(5), time_below_ms(1));
    let fast = option::of(Just(Rate::from_bits_per_second(2_000_000_000)));
    let others = (1u32..5, fast, option::of(any_spill_link()));
    (link, rings, reverse, times, others).prop_map(
        |((rate, trace, overhead, loss_ppm), ring, reverse, (delay, jitter, poll), (cpus, fast, spill))| {
            Path { rate, trace, delay, jitter, loss_ppm, overhead, ring, fast, cpus, poll, reverse, spill }
        },
    )
}

fn any_tcp() -> impl Strategy<Value = Traffic> {
    let mean = Nanos::from_millis(10);
    (select(&Congestion::ALL), any::<bool>(), option::of(1u64..200_000), any::<bool>()).prop_map(
        move |(congestion, ecn, bytes, short)| {
            if short {
                let sizes = bytes.map_or(FlowSizes::WebSearch, FlowSizes::Fixed);
                Traffic::Short { congestion, ecn, mean, sizes }
            } else {
                Traffic::Tcp { congestion, ecn, bytes }
            }
        },
    )
}

fn any_udp() -> impl Strategy<Value = Traffic> {
    let (rate, bytes) = (|| any_rate(1_000_000, 50_000_000), || 64u32..1514);
    let ecn = select(&[Ecn::NotEct, Ecn::Ect0, Ecn::Ect1]);
    let sizes = select(&[Sizes::Equal, Sizes::Exponential]);
    let time = |ms| time_below_ms(ms).prop_map(|time| time.saturating_add(Nanos::from_micros(200)));
    prop_oneof![
        (rate(), bytes(), ecn).prop_map(|(rate, bytes, ecn)| Traffic::Constant { rate, bytes, ecn }),
        (time(50), bytes()).prop_map(|(interval, bytes)| Traffic::Probe { interval, bytes }),
        (time(10), bytes(), sizes).prop_map(|(mean, bytes, sizes)| Traffic::Poisson { mean, bytes, sizes }),
        (rate(), bytes(), time(50), time(50)).prop_map(|(rate, bytes, on, off)| Traffic::OnOff {
            rate,
            bytes,
            on,
            off
        }),
        Just(Traffic::Voip),
        Just(Traffic::Gaming),
    ]
}

fn any_flow() -> impl Strategy<Value = Flow> {
    let traffic = prop_oneof![any_tcp(), any_udp()];
    let times =
        (time_below_ms(200), option::of(time_below_ms(DURATION_MS)), time_below_ms(50), time_below_ms(30));
    let place = (0u16..4, prop_oneof![0u8..4, 0u8..64]);
    (traffic, times, place, 1u32..4).prop_map(|(traffic, times, (host, dscp), count)| {
        let (start, stop, jitter, extra_delay) = times;
        Flow { count, host, dscp, start, stop, jitter, extra_delay, ..Flow::new(traffic) }
    })
}

fn any_event() -> impl Strategy<Value = LinkEvent> {
    let change = prop_oneof![
        Just(LinkChange::Pause),
        Just(LinkChange::Resume),
        any_rate(1_000_000, 100_000_000).prop_map(LinkChange::Rate),
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
        for (flow, entry) in outcome.flows.iter().zip(&scenario.flows) {
            if let Traffic::Tcp { bytes: Some(size), .. } = entry.traffic {
                prop_assert!(flow.payload.iter().all(|read| *read <= size), "{:?} of {size}", flow.payload);
            }
        }
        let second = outcome.spill.unwrap_or_default();
        for used in [outcome.utilisation, second.utilisation] {
            prop_assert!(used <= 1.0 + 1e-9, "{used}");
        }
        prop_assert!(second.delivered <= outcome.spilled, "{} of {}", second.delivered, outcome.spilled);
        prop_assert!(outcome.ring.p50 <= outcome.ring.p99 && outcome.ring.p99 <= outcome.ring.max);
    }

    /// A first batch finds an empty ring, so a ring holds one.
    #[test]
    fn weir_never_lets_a_ring_into_its_reserve(
        scenario in any_scenario(
            prop_oneof![
                Just(Contender::weir()),
                Just(pi2()),
                any_classes().prop_map(|classes| classes::weir(classes::bottleneck(classes))),
            ],
            32..2_000,
        )
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
