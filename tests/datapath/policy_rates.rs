//! What classes promise, on the real programs: rates, weights, priorities, guarantees, colours, fairness, refunds.
//!
//! Frames are offered open loop, and what the classes' counters grew by is compared over a whole window. A burst of
//! 100 ms of the rate bridges the pauses of a busy machine: what was not offered in time is still accepted later.

use std::time::Duration;

use super::frame::{RECEIVER, Udp, udp};
use super::load::{Drain, Load, Rates, run, run_on_two, run_sampled};
use super::router::{Router, Running, privileged, wait_for};

const MBIT: u64 = 1_000_000;
const SETTLE: Duration = Duration::from_millis(500);
const WINDOW: Duration = Duration::from_secs(2);

/// A frame of 500 bytes to the class that has this destination port.
fn frame(class: u16) -> Udp {
    udp(RECEIVER.0).ports(1_000, class).payload(500 - 42)
}

/// `wan0` with `port` keys and classes of the given keys, named c0, c1, … Port 5000 is c0's, 5001 c1's, …
fn config(router: &Router, port: &str, classes: &[&str]) -> String {
    let mut text = router.config_text("", port);
    for (index, keys) in classes.iter().enumerate() {
        text.push_str(&format!("[[port.class]]\nname = \"c{index}\"\n{keys}\n"));
    }
    for index in 0..classes.len() {
        text.push_str(&format!("[[rule]]\nclass = \"c{index}\"\ndestination_port = {}\n", 5_000 + index));
    }
    text
}

/// Keys of a policed port: bursts of 100 ms bridge what a busy machine does to the generator.
fn policer(mbit: u64) -> String {
    format!("mode = \"policer\"\nrate = \"{mbit}mbit\"\n[port.aqm]\nalgorithm = \"none\"")
}

fn burst(mbit: u64) -> String {
    format!("burst = \"{}kb\"", mbit * 1_000 / 8 / 10)
}

fn within(got: f64, want: u64, percent: f64) -> bool {
    (got - want as f64).abs() <= want as f64 * percent / 100.0
}

pub fn adds_up(running: &Running) {
    wait_for("the counters add up", Duration::from_secs(2), || running.snapshot().unaccounted() == 0);
    let port = running.snapshot().ports.remove(0);
    for class in &port.classes {
        let count = |name: &str| class.counters[name];
        let drops: u64 = [
            "aqm",
            "limit",
            "ring_admission",
            "class_ceil",
            "class_share",
            "subscriber_ceil",
            "fairness",
            "colour",
            "busy",
        ]
        .map(count)
        .iter()
        .sum();
        assert_eq!(count("seen"), count("accepted") + drops, "{}: {:?}", class.name, class.counters);
    }
    assert_eq!(port.unaccounted, 0);
    assert_eq!(port.counters["fail_open"], 0);
}

fn measure(router: &Router, running: &Running, loads: &[Load]) -> Rates {
    let rates = run(router, running, loads, Drain::Fast, SETTLE, WINDOW);
    adds_up(running);
    rates
}

#[test]
fn a_policed_rate_holds_within_half_a_percent_from_one_and_from_two_processors() {
    let Some(_machine) = privileged("a_policed_rate_holds") else { return };
    for (mbit, length) in [(1, 500), (10, 500), (100, 1_500), (500, 1_500)] {
        let router = Router::new();
        let frame = |class| udp(RECEIVER.0).ports(1_000, class).payload(length - 42);
        let text = config(&router, &policer(mbit), &[&burst(mbit)]);
        let running = router.start_text(&text);
        let one = measure(&router, &running, &[Load::new([frame(5_000)], mbit * MBIT * 2)]);
        assert!(
            within(one.classes["c0"], mbit * MBIT, 0.5),
            "one processor, {mbit} Mbit/s: {:?}",
            one.classes
        );
        let load = || Load::new([frame(5_000)], mbit * MBIT * 3 / 2);
        let two = run_on_two(&router, &running, [&[load()], &[load()]], Drain::Fast, SETTLE, WINDOW);
        adds_up(&running);
        assert!(
            within(two.classes["c0"], mbit * MBIT, 0.5),
            "two processors, {mbit} Mbit/s: {:?}",
            two.classes
        );
    }
}

#[test]
fn classes_of_weights_1_2_4_share_a_policed_port_by_weight() {
    let Some(_machine) = privileged("classes_of_weights_1_2_4_policed") else { return };
    let router = Router::new();
    let classes = [1, 2, 4].map(|weight| format!("weight = {weight}\n{}", burst(40)));
    let running = router.start_text(&config(&router, &policer(40), &classes.each_ref().map(String::as_str)));
    let rates =
        measure(&router, &running, &[5_000, 5_001, 5_002].map(|to| Load::new([frame(to)], 40 * MBIT)));
    for (class, weight) in [("c0", 1), ("c1", 2), ("c2", 4)] {
        assert!(within(rates.classes[class], 40 * MBIT * weight / 7, 5.0), "{:?}", rates.classes);
    }
    assert!(within(rates.total, 40 * MBIT, 0.5), "{}", rates.total);
}

#[test]
fn classes_of_weights_1_2_4_share_a_ring_by_weight_though_its_rate_is_not_configured() {
    let Some(_machine) = privileged("classes_of_weights_1_2_4_ring") else { return };
    let router = Router::new();
    let classes = ["weight = 1", "weight = 2", "weight = 4"];
    let running = router.start_text(&config(&router, "mode = \"bottleneck\"", &classes));
    let loads = [5_000, 5_001, 5_002].map(|to| Load::new([frame(to)], 20 * MBIT));
    let rates = run(&router, &running, &loads, Drain::Rate(20 * MBIT), 3 * SETTLE, WINDOW);
    adds_up(&running);
    for (class, weight) in [("c0", 1), ("c1", 2), ("c2", 4)] {
        assert!(within(rates.classes[class], 20 * MBIT * weight / 7, 10.0), "{:?}", rates.classes);
    }
    assert!(rates.total >= 0.95 * (20 * MBIT) as f64, "the ring ran empty: {}", rates.total);
    assert_eq!(running.port("ring_drops"), 0);
}

#[test]
fn classes_share_a_port_of_two_rings_by_weight_whichever_ring_they_are_sent_into() {
    let Some(_machine) = privileged("classes_share_a_port_of_two_rings") else { return };
    // A queue of 100 ms bridges what a busy machine does to the link.
    let port = "mode = \"bottleneck\"\n[port.aqm]\nlimit = \"100ms\"";
    let to = |class| Load::new([frame(class)], 20 * MBIT);
    let both = || vec![to(5_000), to(5_001)];
    // Each class from a processor, and so a ring, of its own; and both from both. The link takes turns between the rings.
    for [first, second] in [[vec![to(5_000)], vec![to(5_001)]], [both(), both()]] {
        let router = Router::with_rings(2, 1_000);
        let running = router.start_text(&config(&router, port, &["weight = 1", "weight = 2"]));
        assert!(
            running.actions().iter().all(|action| !action.contains("TX rings")),
            "{:?}",
            running.actions()
        );
        assert_eq!(running.snapshot().ports[0].rings.len(), 2);
        let loads = [first.as_slice(), second.as_slice()];
        let rates = run_on_two(&router, &running, loads, Drain::Rate(20 * MBIT), 4 * SETTLE, WINDOW);
        adds_up(&running);
        assert!(rates.total >= 0.9 * (20 * MBIT) as f64, "the rings ran empty: {}", rates.total);
        let accepted: f64 = rates.classes.values().sum();
        for (class, weight) in [("c0", 1.0), ("c1", 2.0)] {
            let part = rates.classes[class] / accepted;
            assert!((part * 3.0 / weight - 1.0).abs() <= 0.1, "{:?} {:?}", rates.classes, rates.counters);
        }
        assert_eq!(running.port("ring_drops"), 0);
    }
}

#[test]
fn a_higher_priority_comes_first_a_guarantee_holds_and_spare_rate_is_used() {
    let Some(_machine) = privileged("a_higher_priority_comes_first") else { return };
    let router = Router::new();
    let (burst, low) = (burst(40), format!("priority = 7\nrate = \"8mbit\"\n{}", burst(40)));
    let high = format!("priority = 0\n{burst}");
    let middle = format!("priority = 3\n{burst}");
    let running = router.start_text(&config(&router, &policer(40), &[&high, &middle, &low]));
    let loads = [(5_000, 20), (5_001, 60), (5_002, 30)].map(|(to, mbit)| Load::new([frame(to)], mbit * MBIT));
    let rates = measure(&router, &running, &loads);
    assert!(within(rates.classes["c0"], 20 * MBIT, 1.0), "{:?}", rates.classes);
    assert!(within(rates.classes["c2"], 8 * MBIT, 2.0), "{:?}", rates.classes);
    assert!(within(rates.classes["c1"], 12 * MBIT, 3.0), "{:?}", rates.classes);
    assert_eq!(rates.counters["c0"]["class_share"], 0);
    // The middle class alone takes at least 95 % of what the others leave.
    let alone = measure(&router, &running, &loads[1..2]);
    assert!(alone.classes["c1"] >= 0.95 * (40 * MBIT) as f64, "{:?}", alone.classes);
}

#[test]
fn a_ceiling_is_not_passed_while_the_port_is_idle() {
    let Some(_machine) = privileged("a_ceiling_is_not_passed") else { return };
    let router = Router::new();
    let class = format!("ceil = \"10mbit\"\n{}", burst(10));
    let running = router.start_text(&config(&router, &policer(100), &[&class]));
    let rates = measure(&router, &running, &[Load::new([frame(5_000)], 30 * MBIT)]);
    assert!(within(rates.classes["c0"], 10 * MBIT, 0.5), "{:?}", rates.classes);
    assert!(rates.counters["c0"]["class_ceil"] > 0);
}

#[test]
fn colours_follow_two_rates_and_the_code_point_follows_the_colour() {
    let Some(_machine) = privileged("colours_follow_two_rates") else { return };
    let router = Router::new();
    let class = "[port.class.policer]\ncir = \"5mbit\"\ncbs = \"62kb\"\npir = \"10mbit\"\npbs = \"125kb\"\nyellow = \"af12\"\nred = \"drop\"";
    let running = router.start_text(&config(&router, &policer(100), &[class]));
    let rates = measure(&router, &running, &[Load::new([frame(5_000).dscp(10)], 20 * MBIT)]);
    let counters = &rates.counters["c0"];
    let total: u64 = ["green", "yellow", "red"].iter().map(|colour| counters[colour]).sum();
    assert!(within(rates.classes["c0"], 10 * MBIT, 1.0), "{:?}", rates.classes);
    let part = |colour| counters[colour] as f64 / total as f64;
    assert!((part("green") - 0.25).abs() < 0.02 && (part("yellow") - 0.25).abs() < 0.02, "{counters:?}");
    assert_eq!((counters["colour"], counters["remarked"]), (counters["red"], counters["yellow"]));
    // What leaves is AF11 or AF12, and its header is whole (`etherparse` reads it).
    for _ in 0..400 {
        router.inject(&udp(RECEIVER.0).payload(500 - 42).dscp(10).build());
    }
    let mut seen: Vec<u8> = router.drain().iter().map(|seen| seen.dscp).collect();
    seen.sort_unstable();
    seen.dedup();
    assert!(seen.iter().all(|dscp| [10, 12].contains(dscp)) && seen.contains(&12), "{seen:?}");
}

#[test]
fn a_class_with_pie_holds_its_queue_near_the_target_where_a_slow_controller_leaves_it_at_the_limit() {
    let Some(_machine) = privileged("a_class_with_pie_holds") else { return };
    // A link of 20 Mbit/s that is offered a tenth more, by somebody who heeds no signal.
    let median_ms = |class: &str| {
        let router = Router::new();
        let port = "mode = \"bottleneck\"\n[port.aqm]\nlimit = \"120ms\"";
        let running = router.start_text(&config(&router, port, &[class]));
        let predicted = || running.reader().ring(0).unwrap().predicted_ns;
        let load = [Load::new([frame(5_000)], 22 * MBIT)];
        let times = (8 * SETTLE, WINDOW);
        let (rates, mut sojourns) =
            run_sampled(&router, &running, &load, Drain::Rate(20 * MBIT), times, predicted);
        adds_up(&running);
        assert!(rates.total >= 0.95 * (20 * MBIT) as f64, "{class}: {}", rates.total);
        sojourns.sort_unstable();
        (sojourns[sojourns.len() / 2] as f64 / 1e6, rates)
    };
    let (pie, rates) = median_ms("[port.class.aqm]\nalgorithm = \"pie\"\nlimit = \"120ms\"");
    let counters = &rates.counters["c0"];
    assert!((7.5..=30.0).contains(&pie), "{pie} ms; {counters:?}");
    assert!(counters["aqm"] > 10 * (counters["limit"] + counters["class_share"]), "{counters:?}");
    // CoDel's first signal comes after an interval and its next ones slowly: until then the limit alone bounds the queue.
    let (bounded, _) = median_ms("[port.class.aqm]\ntarget = \"15ms\"\ninterval = \"4s\"\nlimit = \"120ms\"");
    assert!(bounded > 2.0 * pie, "{bounded} ms at the limit, {pie} ms with PIE");
}

/// The port is idle: nothing but the policer holds the class back.
#[test]
fn two_processors_that_flood_one_policed_class_get_its_rates_within_half_a_percent() {
    let Some(_machine) = privileged("two_processors_that_flood_one_policed_class") else { return };
    let one_rate = "cir = \"20mbit\"\ncbs = \"250kb\"";
    let two_rates = "cir = \"20mbit\"\ncbs = \"250kb\"\npir = \"40mbit\"\npbs = \"500kb\"";
    for (keys, green, accepted) in [(one_rate, 20 * MBIT, 20 * MBIT), (two_rates, 20 * MBIT, 40 * MBIT)] {
        let router = Router::new();
        let class = format!("[port.class.policer]\n{keys}");
        let running = router.start_text(&config(&router, &policer(400), &[&class]));
        let load = || Load::new([frame(5_000)], 50 * MBIT);
        let rates = run_on_two(&router, &running, [&[load()], &[load()]], Drain::Fast, SETTLE, WINDOW);
        adds_up(&running);
        let total = &running.snapshot().ports[0].classes[0].counters;
        assert_eq!(total["accepted"], total["green"] + total["yellow"]);
        // What the ring has no room for, while a thread that empties it does not run, has no colour.
        let coloured = total["seen"] - total["ring_admission"];
        assert_eq!((total["colour"], coloured), (total["red"], total["accepted"] + total["red"]));
        let counters = &rates.counters["c0"];
        let passed = counters["green"] + counters["yellow"];
        let green_rate = rates.classes["c0"] * counters["green"] as f64 / passed as f64;
        assert!(within(rates.classes["c0"], accepted, 0.5), "{:?} {counters:?}", rates.classes);
        assert!(within(green_rate, green, 0.5), "{green_rate} {counters:?}");
    }
}

#[test]
fn an_unresponsive_flow_gets_its_share_and_a_sparse_flow_loses_nothing() {
    let Some(_machine) = privileged("an_unresponsive_flow_gets_its_share") else { return };
    for aqm in ["none", "codel"] {
        let router = Router::new();
        let class = format!("fairness = \"flow\"\n{}", burst(40));
        let port = policer(40).replace("none", aqm);
        let running = router.start_text(&config(&router, &port, &[&class]));
        // Flow 1 sends three times the rate, flow 2 nine tenths of its share, flow 3 a frame now and then.
        let flow = |source| udp(RECEIVER.0).ports(source, 5_000).payload(500 - 42);
        let loads =
            [(1, 120 * MBIT), (2, 18 * MBIT), (3, MBIT / 10)].map(|(s, bits)| Load::new([flow(s)], bits));
        let alone = measure(&router, &running, &loads[1..]);
        assert!(within(alone.classes["c0"], 18 * MBIT + MBIT / 10, 1.0), "{:?}", alone.classes);
        let rates = measure(&router, &running, &loads);
        let lost = rates.counters["c0"]["fairness"] + rates.counters["c0"]["aqm"];
        let seen = rates.counters["c0"]["seen"];
        // What the first flow got is at most the rest of the rate and 5 %. Where a late burst of the second one was refused, it is
        // half of the rate, and what the generator is late with on a busy machine nobody else takes.
        let used = rates.classes["c0"] / (40 * MBIT) as f64;
        assert!((0.8..1.015).contains(&used), "{aqm}: {:?}", rates.classes);
        let first_flow = rates.classes["c0"] - alone.classes["c0"];
        assert!(first_flow <= 22.0 * MBIT as f64 * 1.05, "{aqm}: {first_flow}");
        assert!(lost * 3 > seen, "{aqm}: {lost} of {seen}");
        assert_eq!(rates.counters["c0"]["class_ceil"] + rates.counters["c0"]["class_share"], 0, "{aqm}");
    }
}

#[test]
fn subscribers_are_held_to_their_ceilings_and_share_a_short_class_by_their_rates() {
    let Some(_machine) = privileged("subscribers_are_held_to_their_ceilings") else { return };
    let router = Router::new();
    let plans = "[[plan]]\nname = \"small\"\ndown = \"4mbit\"\nup = \"4mbit\"\nup_ceil = \"6mbit\"\nburst = \"60kb\"\n\
                 [[plan]]\nname = \"large\"\ndown = \"8mbit\"\nup = \"8mbit\"\nup_ceil = \"12mbit\"\nburst = \"120kb\"\n\
                 [[subscriber]]\nname = \"a\"\nprefixes = [\"10.77.1.8/29\"]\nplan = \"small\"\n\
                 [[subscriber]]\nname = \"b\"\nprefixes = [\"10.77.1.16/29\"]\nplan = \"large\"\n";
    let from = |last: u8| udp(RECEIVER.0).from(std::net::Ipv4Addr::new(10, 77, 1, last)).payload(500 - 42);
    let loads = || [Load::new([from(9)], 20 * MBIT), Load::new([from(17)], 20 * MBIT)];
    let port = |mbit| format!("{}\n", policer(mbit)).replacen("rate", "subscribers = \"source\"\nrate", 1);
    let text = |mbit| config(&router, &port(mbit), &[&burst(mbit)]) + plans;
    let running = router.start_text(&text(100));
    let [a, b] = loads();
    let small = measure(&router, &running, &[a]);
    assert!(within(small.classes["c0"], 6 * MBIT, 0.5), "{:?}", small.classes);
    let large = measure(&router, &running, &[b]);
    assert!(within(large.classes["c0"], 12 * MBIT, 0.5), "{:?}", large.classes);
    assert!(large.counters["c0"]["subscriber_ceil"] > 0);
    drop(running);
    // 9 Mbit/s for both: 3 and 6, seen in what leaves.
    let running = router.start_text(&text(9));
    let both = measure(&router, &running, &loads());
    assert!(within(both.classes["c0"], 9 * MBIT, 1.0), "{:?}", both.classes);
    assert_eq!(
        both.counters["c0"]["class_share"] + both.counters["c0"]["class_ceil"],
        0,
        "{:?}",
        both.counters
    );
}

#[test]
fn frames_that_the_driver_refuses_are_given_back_to_class_flow_and_subscriber() {
    let Some(_machine) = privileged("frames_that_the_driver_refuses_are_given_back") else { return };
    let router = Router::new();
    let plans = "[[plan]]\nname = \"p\"\ndown = \"10mbit\"\nup = \"10mbit\"\nburst = \"125kb\"\n\
                 [[subscriber]]\nname = \"a\"\nprefixes = [\"10.77.1.0/29\"]\nplan = \"p\"\n";
    let port = policer(10).replacen("rate", "reserve = 0\nsubscribers = \"source\"\nrate", 1);
    let class = format!("rate = \"5mbit\"\nfairness = \"flow\"\n{}", burst(10));
    let running = router.start_text_blind(&(config(&router, &port, &[&class]) + plans));
    // The ring, which weir does not see, is short, and the link stands still for half of every 60 ms: what the class lets through
    // then finds no room. With its charges kept, the class would fall short of its rate by as much.
    router.set_queue_len(16);
    let link = Drain::HalfOf(Duration::from_millis(60));
    let rates = run(&router, &running, &[Load::new([frame(5_000)], 40 * MBIT)], link, SETTLE, WINDOW);
    adds_up(&running);
    let refused = running.port("ring_drops");
    assert!(refused > 100, "the driver took everything: {refused}");
    assert!(within(rates.total, 10 * MBIT, 3.0), "{} with {refused} refused", rates.total);
    assert_eq!(running.port("refund_lost"), 0);
}
