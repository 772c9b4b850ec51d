//! What classes promise, on a virtual clock, in both modes of a port.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // the helpers of tests are tests too

mod frames;
mod model;

use model::{Frame, MBIT, Port, Source, class, codel, guaranteed, pace, plan, run, source, within};
use proptest::prelude::*;
use weir_aqm::{Bytes, Colour, Nanos, PieParams};
use weir_egress::policy::{Action, Cause};
use weir_shared_maps::{
    AQM_L4S, AQM_PI2, AQM_PIE, COLOUR_DROP, ClassConfig, FAIRNESS_FLOW, FAIRNESS_SOURCE,
    FAIRNESS_SOURCE_FLOW, POLICER_BYTES, POLICER_PACKETS,
};

/// Both modes, so that each promise is asked of each.
fn both(rate: u64, classes: &[ClassConfig]) -> [Port; 2] {
    let unlimited = classes.iter().map(|c| ClassConfig { ceil_pace: 0, ceil_burst_ns: 0, ..*c });
    [Port::policer(rate, classes.to_vec()), Port::bottleneck(rate, unlimited.collect())]
}

#[test]
fn weights_of_1_2_4_are_met_within_5_percent_and_the_port_is_used() {
    let classes = [1, 2, 4].map(|weight| ClassConfig { weight, ..class(100 * MBIT) });
    for mut port in both(100 * MBIT, &classes) {
        let out = run(&mut port, &[0, 1, 2].map(|c| source(c, 100 * MBIT)), 5);
        for (rate, weight) in out.rates.iter().zip([1, 2, 4]) {
            assert!(within(*rate, 100 * MBIT * weight / 7, 5), "{:?}", out.rates);
        }
        assert!(within(out.total(), 100 * MBIT, 1), "{}", out.total());
    }
}

#[test]
fn a_higher_priority_takes_what_it_asks_for_first() {
    let classes = [0, 3, 7].map(|priority| ClassConfig { priority, ..class(100 * MBIT) });
    for mut port in both(100 * MBIT, &classes) {
        let sources = [source(0, 60 * MBIT), source(1, 90 * MBIT), source(2, 90 * MBIT)];
        let out = run(&mut port, &sources, 5);
        assert!(within(out.rates[0], 60 * MBIT, 1), "{:?}", out.rates);
        assert!(within(out.rates[1], 40 * MBIT, 3), "{:?}", out.rates);
        assert!(out.rates[2] < MBIT, "{:?}", out.rates);
        assert!(out.drops[0].is_empty(), "{:?}", out.drops[0].first());
    }
}

#[test]
fn a_guarantee_holds_whatever_higher_priorities_send() {
    let low = guaranteed(ClassConfig { priority: 7, ..class(100 * MBIT) }, 20 * MBIT);
    for mut port in both(100 * MBIT, &[class(100 * MBIT), low]) {
        let out = run(&mut port, &[source(0, 300 * MBIT), source(1, 40 * MBIT)], 5);
        assert!(within(out.rates[1], 20 * MBIT, 2), "{:?}", out.rates);
        assert!(within(out.rates[0], 80 * MBIT, 2), "{:?}", out.rates);
    }
}

#[test]
fn spare_rate_is_used_to_95_percent_and_no_ceiling_is_passed() {
    let capped = class(30 * MBIT);
    let mut port = Port::policer(100 * MBIT, vec![capped, class(100 * MBIT)]);
    let out = run(&mut port, &[source(0, 90 * MBIT), source(1, 90 * MBIT)], 5);
    assert!(out.rates[0] <= 30 * MBIT + MBIT / 10 && within(out.rates[0], 30 * MBIT, 2), "{:?}", out.rates);
    assert!(out.rates[1] >= 70 * MBIT * 95 / 100, "{:?}", out.rates);
    assert!(out.drops[0].iter().all(|&cause| cause == Cause::ClassCeil), "{:?}", out.drops[0].first());
}

#[test]
fn a_ring_that_weir_is_told_nothing_about_is_neither_overrun_nor_idle() {
    let mut port = Port::bottleneck(10 * MBIT, vec![ClassConfig { ceil_pace: 0, ..class(10 * MBIT) }]);
    let out = run(&mut port, &[source(0, 100 * MBIT)], 5);
    assert!(within(out.total(), 10 * MBIT, 1), "{:?}", out.rates);
    // The class's limit of 20 ms and a packet.
    assert!(out.backlog_max <= 10 * MBIT / 8 * 20 / 1000 + 2 * 1_514, "{}", out.backlog_max);
}

#[test]
fn an_unresponsive_flow_gets_no_more_than_its_share_and_a_sparse_flow_loses_nothing() {
    let fair = ClassConfig { fairness: FAIRNESS_FLOW, ..class(100 * MBIT) };
    for (fair, mut port) in
        [fair, codel(fair)].into_iter().flat_map(|c| both(100 * MBIT, &[c]).map(|p| (c, p)))
    {
        let mut sources: Vec<Source> = vec![source(0, 300 * MBIT), source(0, 45 * MBIT), source(0, 100_000)];
        for (flow, source) in sources.iter_mut().enumerate() {
            source.frame.flow = flow as u32 + 1;
        }
        let out = run(&mut port, &sources, 5);
        assert!(out.rates[0] <= 55 * MBIT * 105 / 100, "{:?} {:?}", out.rates, fair.aqm);
        assert!(within(out.rates[1], 45 * MBIT, 2), "{:?} {:?}", out.rates, fair.aqm);
        assert!(out.drops[2].is_empty(), "{:?}", out.drops[2].first());
    }
}

#[test]
fn a_host_with_eight_flows_gets_no_more_than_a_host_with_one() {
    let fair = ClassConfig { fairness: FAIRNESS_SOURCE_FLOW, ..class(100 * MBIT) };
    for mut port in both(100 * MBIT, &[fair]) {
        let mut sources = vec![source(0, 90 * MBIT); 9];
        for (flow, source) in sources.iter_mut().enumerate() {
            (source.frame.flow, source.frame.host) = (flow as u32 + 1, if flow == 0 { 1 } else { 2 });
        }
        let out = run(&mut port, &sources, 5);
        assert!(within(out.rates[0], 50 * MBIT, 10), "{:?}", out.rates);
        let flows = &out.rates[1..];
        assert!(flows.iter().all(|&rate| within(rate, 50 * MBIT / 8, 15)), "{:?}", out.rates);
    }
}

#[test]
fn hosts_share_a_class_equally_whatever_they_send() {
    let fair = ClassConfig { fairness: FAIRNESS_SOURCE, ..class(90 * MBIT) };
    let mut port = Port::policer(90 * MBIT, vec![fair]);
    let mut sources = [source(0, 300 * MBIT), source(0, 60 * MBIT), source(0, 60 * MBIT)];
    for (host, source) in sources.iter_mut().enumerate() {
        source.frame.host = host as u32 + 1;
    }
    let out = run(&mut port, &sources, 5);
    assert!(out.rates.iter().all(|&rate| within(rate, 30 * MBIT, 5)), "{:?}", out.rates);
}

#[test]
fn subscribers_have_their_ceilings_and_share_a_short_class_by_their_rates() {
    let rates = [plan(10 * MBIT, 20 * MBIT), plan(20 * MBIT, 40 * MBIT), plan(40 * MBIT, 80 * MBIT)];
    let sources = [0, 1, 2].map(|i: u32| {
        let mut source = source(0, 100 * MBIT);
        source.frame.subscriber = i + 1;
        source
    });
    let mut wide = Port::policer(1000 * MBIT, vec![class(1000 * MBIT)]).with_subscribers(&rates);
    let out = run(&mut wide, &sources, 5);
    for (rate, ceil) in out.rates.iter().zip([20, 40, 80]) {
        assert!(*rate <= ceil * MBIT * 1001 / 1000 && within(*rate, ceil * MBIT, 1), "{:?}", out.rates);
    }
    for mut narrow in both(70 * MBIT, &[class(70 * MBIT)]).map(|port| port.with_subscribers(&rates)) {
        let out = run(&mut narrow, &sources, 5);
        for (rate, share) in out.rates.iter().zip([10, 20, 40]) {
            assert!(within(*rate, share * MBIT, 5), "{:?}", out.rates);
        }
        assert!(out.drops.iter().flatten().all(|&cause| cause != Cause::ClassShare), "{:?}", out.rates);
    }
}

#[test]
fn rfc2698_colours_follow_the_two_rates() {
    let policed = ClassConfig {
        policer: POLICER_BYTES,
        cir_pace: weir_egress::pace_word(Some(pace(10 * MBIT))),
        cbs_ns: 10_000_000,
        pir_pace: weir_egress::pace_word(Some(pace(20 * MBIT))),
        pbs_ns: 10_000_000,
        yellow: 12,
        red: COLOUR_DROP,
        ..class(100 * MBIT)
    };
    let mut port = Port::policer(100 * MBIT, vec![policed]);
    let mut bytes = [0u64; 3];
    for i in 0..50_000u64 {
        let ruling = port.offer(
            Nanos::from_nanos(1_000_000_000 + i * 200_000),
            &Frame { length: 1_000, dscp: 10, ..Frame::default() },
        );
        let colour = ruling.colour.expect("policed");
        bytes[colour as usize] += 1_000;
        match colour {
            Colour::Green => assert_eq!((ruling.action, ruling.dscp), (Action::Accept, None)),
            Colour::Yellow => assert_eq!((ruling.action, ruling.dscp), (Action::Accept, Some(12))),
            Colour::Red => assert_eq!(ruling.action, Action::Drop(Cause::Colour)),
        }
    }
    // 40 Mbit/s for 10 s.
    let rate = |bytes: u64| bytes * 8 / 10;
    assert!(within(rate(bytes[0]), 10 * MBIT, 1) && within(rate(bytes[1]), 10 * MBIT, 1), "{bytes:?}");
    assert!(within(rate(bytes[2]), 20 * MBIT, 1), "{bytes:?}");
}

#[test]
fn a_policer_measures_what_is_offered_and_gives_nothing_for_what_is_dropped_later() {
    let policed = ClassConfig {
        policer: POLICER_BYTES,
        cir_pace: weir_egress::pace_word(Some(pace(10 * MBIT))),
        cbs_ns: 10_000_000,
        red: COLOUR_DROP,
        ..class(2 * MBIT)
    };
    let mut port = Port::policer(100 * MBIT, vec![policed]);
    let out = run(&mut port, &[source(0, 20 * MBIT)], 5);
    // Half of what is offered is green, and a fifth of that is within the class's ceiling.
    let count = |cause| out.drops[0].iter().filter(|&&c| c == cause).count() as u64;
    let offered = 20 * MBIT / 8 / 1_000 * 5;
    assert!(within(count(Cause::Colour), offered / 2, 2), "{} of {offered}", count(Cause::Colour));
    assert!(within(count(Cause::ClassCeil), offered * 4 / 10, 2), "{} of {offered}", count(Cause::ClassCeil));
    assert!(within(out.rates[0], 2 * MBIT, 1), "{:?}", out.rates);
}

#[test]
fn rfc2698_a_colour_aware_policer_never_raises_a_colour() {
    let policed = ClassConfig {
        policer: POLICER_PACKETS,
        cir_pace: weir_egress::pace_word(weir_aqm::Pace::from_sample(Bytes::new(1000), Nanos::from_secs(1))),
        cbs_ns: 1_000_000_000,
        pir_pace: weir_egress::pace_word(weir_aqm::Pace::from_sample(Bytes::new(1000), Nanos::from_secs(1))),
        pbs_ns: 1_000_000_000,
        colour_aware: 1,
        ..class(100 * MBIT)
    };
    let mut port = Port::policer(100 * MBIT, vec![policed]);
    for (dscp, colour) in [
        (10, Colour::Green),
        (12, Colour::Yellow),
        (14, Colour::Red),
        (36, Colour::Yellow),
        (46, Colour::Green),
    ] {
        let ruling = port.offer(Nanos::from_secs(1), &Frame { length: 100, dscp, ..Frame::default() });
        assert_eq!(ruling.colour, Some(colour), "{dscp}");
    }
}

#[test]
fn a_class_sets_or_washes_the_code_point() {
    let mut port = Port::policer(100 * MBIT, vec![ClassConfig { dscp: 0, ..class(100 * MBIT) }]);
    let now = Nanos::from_secs(1);
    assert_eq!(port.offer(now, &Frame { length: 100, dscp: 46, ..Frame::default() }).dscp, Some(0));
    assert_eq!(port.offer(now, &Frame { length: 100, dscp: 0, ..Frame::default() }).dscp, None);
}

#[test]
fn what_can_be_marked_is_marked_and_what_cannot_is_dropped_by_each_controller() {
    for aqm in [codel(class(10 * MBIT)).aqm, AQM_PI2, AQM_PIE, AQM_L4S] {
        let mut controlled = ClassConfig { aqm, ..class(10 * MBIT) };
        if aqm == AQM_PIE {
            let PieParams { alpha, beta, .. } = PieParams::rfc_8033(Bytes::ZERO);
            (controlled.alpha, controlled.beta) = (alpha, beta);
        }
        for mut port in both(10 * MBIT, &[controlled]) {
            let mut sources = [source(0, 6 * MBIT), source(0, 6 * MBIT)];
            sources[1].frame.ecn = 1;
            let out = run(&mut port, &sources, 5);
            assert!(out.drops[0].contains(&Cause::Aqm), "{aqm}");
            assert!(out.marks[0] == 0 && out.marks[1] > 0, "{aqm} {:?}", out.marks);
        }
    }
}

#[test]
fn rfc9331_scalable_packets_are_marked_at_once_and_classic_ones_are_not() {
    let mut port = Port::policer(10 * MBIT, vec![ClassConfig { aqm: AQM_L4S, ..class(10 * MBIT) }]);
    let now = Nanos::from_secs(1);
    let mut first = |ecn| {
        (0..12)
            .map(|_| port.offer(now, &Frame { length: 1_000, ecn, ..Frame::default() }))
            .position(|r| r.action == Action::Mark)
    };
    assert_eq!(first(2), None);
    assert_eq!(first(1), Some(0));
}

#[test]
fn an_aqm_signals_a_class_only_for_its_own_queue() {
    let classes = [ClassConfig { weight: 1, ..codel(class(10 * MBIT)) }, codel(class(10 * MBIT))];
    for mut port in both(10 * MBIT, &classes) {
        let out = run(&mut port, &[source(0, 30 * MBIT), source(1, 2 * MBIT)], 5);
        assert!(out.drops[1].is_empty(), "{:?}", out.drops[1].first());
        assert!(within(out.rates[1], 2 * MBIT, 1), "{:?}", out.rates);
    }
}

#[test]
fn a_lower_priority_leaves_the_ring_to_a_higher_one() {
    let classes = [0, 1].map(|priority| ClassConfig { priority, ceil_pace: 0, ..class(10 * MBIT) });
    let mut port = Port::bottleneck(10 * MBIT, classes.into());
    // The ring is shorter than what the limits allow.
    (port.config.ring_slots, port.config.reserve_slots) = (24, 8);
    let out = run(&mut port, &[source(0, 2 * MBIT), source(1, 50 * MBIT)], 5);
    assert!(out.drops[0].is_empty(), "{:?}", out.drops[0].first());
    assert!(out.drops[1].contains(&Cause::Admission));
}

#[test]
fn a_refund_undoes_a_charge() {
    let classes = vec![guaranteed(class(10 * MBIT), MBIT), class(10 * MBIT)];
    let mut port = Port::policer(10 * MBIT, classes);
    for class in [0, 1] {
        let frame = Frame { class, length: 1_000, ..Frame::default() };
        let now = Nanos::from_secs(1);
        let _ = port.offer(now, &frame);
        let before = (port.classes[class].vars.node, port.policy.vars.backlog());
        let ruling = port.offer(now, &frame);
        assert_eq!(ruling.guaranteed, class == 0);
        port.give_back(&frame, ruling.guaranteed);
        assert_eq!((port.classes[class].vars.node, port.policy.vars.backlog()), before);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any arrivals, equal timestamps, and clocks that step back by up to 0.5 ms.
    #[test]
    fn the_rate_is_never_exceeded_and_a_dropped_packet_is_not_charged_to_its_class(
        arrivals in prop::collection::vec((-500i64..1_500, 0usize..3, 0u32..5, 64u64..1515), 1..2_000),
    ) {
        let classes = vec![
            guaranteed(ClassConfig { priority: 0, ..class(8 * MBIT) }, 2 * MBIT),
            ClassConfig { priority: 1, fairness: FAIRNESS_FLOW, ..codel(class(10 * MBIT)) },
            guaranteed(ClassConfig { priority: 1, weight: 3, ..class(10 * MBIT) }, MBIT),
        ];
        let mut port = Port::policer(10 * MBIT, classes);
        let (mut now, mut latest) = (1_000_000i64, 1_000_000i64);
        let mut accepted = [0u64; 3];
        for (gap, class, flow, length) in arrivals {
            now += gap;
            latest = latest.max(now);
            let before = port.classes[class].vars.node;
            let frame = Frame { class, flow, length, ..Frame::default() };
            let ruling = port.offer(Nanos::from_micros(now as u64), &frame);
            match ruling.action {
                Action::Accept | Action::Mark => accepted[class] += length,
                Action::Drop(_) => {
                    prop_assert_eq!(port.classes[class].vars.node, before);
                }
            }
            let due = |mbit: u64| (latest - 1_000_000) as u64 * mbit / 8;
            // The class's burst, 20 ms of its ceiling.
            prop_assert!(accepted[0] <= due(8) + 20_000 + 1);
            // Three milliseconds of guarantees' bursts at 20 ms each, and 20 ms of room for each of two priorities.
            let slack = 20 * 3_000 / 8 + 2 * 20 * 10_000 / 8 + 3 * 1_514;
            prop_assert!(accepted.iter().sum::<u64>() <= due(10) + slack, "{:?} {}", accepted, due(10));
        }
    }
}
