//! Borrowing over three levels: what guarantees, ceilings, weights and priorities promise, under overload.
//!
//! `cargo test --release -p weir-aqm --test borrow compared -- --nocapture` prints docs/borrowing.md's table.
#![allow(clippy::expect_used, clippy::indexing_slicing)] // the helpers of tests are tests too

mod tree;

use proptest::prelude::*;
use tree::{Class, MBIT, Marks, Policy, Source, Tree, run};
use weir_aqm::Nanos;

fn ms(ms: u64) -> Nanos {
    Nanos::from_millis(ms)
}

fn within(got: u64, want: u64, percent: u64) -> bool {
    got.abs_diff(want) * 100 <= want * percent
}

/// Classes and what is sent to them.
type Setup = (Vec<Class>, Vec<Source>);

/// Three classes of weights 1, 2 and 4 that each ask for all of 10 Mbit/s.
fn weighted() -> Setup {
    let classes = [1, 2, 4].map(|weight| Class::new(0, 10 * MBIT, weight, 1).alone(10 * MBIT));
    (classes.into(), (0..3).map(|class| Source::new(class, 0, 10 * MBIT)).collect())
}

#[test]
fn weights_of_1_2_4_are_met_within_5_percent_and_the_port_is_used() {
    let (classes, sources) = weighted();
    let outcome = run(&mut Tree::new(10 * MBIT, classes), &sources, ms(1_000), ms(11_000));
    for (rate, weight) in outcome.rates.iter().zip([1, 2, 4]) {
        assert!(within(*rate, 10 * MBIT * weight / 7, 5), "{:?}", outcome.rates);
    }
    assert!(within(outcome.total(), 10 * MBIT, 1), "{}", outcome.total());
}

#[test]
fn spare_rate_is_shared_by_weight_on_top_of_guarantees() {
    // 2 + 2 Mbit/s are guaranteed, 6 are to spare, divided 1 to 2.
    let classes = vec![
        Class::new(2 * MBIT, 10 * MBIT, 1, 1).subscriber(2 * MBIT, 10 * MBIT, 1),
        Class::new(2 * MBIT, 10 * MBIT, 2, 1).subscriber(0, 10 * MBIT, 1),
    ];
    let sources = [Source::new(0, 0, 10 * MBIT), Source::new(1, 0, 10 * MBIT)];
    let outcome = run(&mut Tree::new(10 * MBIT, classes), &sources, ms(1_000), ms(11_000));
    assert!(
        within(outcome.rates[0], 4 * MBIT, 5) && within(outcome.rates[1], 6 * MBIT, 5),
        "{:?}",
        outcome.rates
    );
}

#[test]
fn a_guarantee_holds_whatever_the_others_send() {
    let classes = vec![
        Class::new(2 * MBIT, 10 * MBIT, 1, 3).subscriber(MBIT, 10 * MBIT, 1).subscriber(0, 10 * MBIT, 64),
        Class::new(MBIT, 10 * MBIT, 4096, 0).subscriber(0, 10 * MBIT, 1),
    ];
    // The guaranteed one asks for a little less than it may: its class and another flood with ten times the port.
    let sources =
        [Source::new(0, 0, MBIT * 96 / 100), Source::new(0, 1, 100 * MBIT), Source::new(1, 0, 100 * MBIT)];
    let outcome = run(&mut Tree::new(10 * MBIT, classes), &sources, ms(1_000), ms(11_000));
    assert!(within(outcome.rates[0], sources[0].bits_per_second, 1), "{:?}", outcome.rates);
    assert!(within(outcome.total(), 10 * MBIT, 2), "{:?}", outcome.rates);
}

#[test]
fn a_guarantee_holds_where_the_classs_own_ceiling_is_what_is_short() {
    let classes =
        vec![Class::new(MBIT, 4 * MBIT, 1, 1).subscriber(MBIT / 2, 4 * MBIT, 1).subscriber(0, 4 * MBIT, 64)];
    let sources = [Source::new(0, 0, MBIT * 48 / 100), Source::new(0, 1, 100 * MBIT)];
    let outcome = run(&mut Tree::new(100 * MBIT, classes), &sources, ms(1_000), ms(11_000));
    assert!(within(outcome.rates[0], sources[0].bits_per_second, 1), "{:?}", outcome.rates);
    // Over 10 s the burst may move a packet from before into it; the bound itself is the property test's.
    assert!(within(outcome.total(), 4 * MBIT, 1), "{:?}", outcome.rates);
}

#[test]
fn a_classs_guarantee_holds_for_subscribers_without_one() {
    let classes = vec![
        Class::new(3 * MBIT, 10 * MBIT, 1, 3).subscriber(0, 10 * MBIT, 1).subscriber(0, 10 * MBIT, 1),
        Class::new(0, 10 * MBIT, 1, 0).alone(10 * MBIT),
    ];
    let sources = [Source::new(0, 0, 9 * MBIT), Source::new(0, 1, 5 * MBIT), Source::new(1, 0, 100 * MBIT)];
    let outcome = run(&mut Tree::new(10 * MBIT, classes), &sources, ms(1_000), ms(11_000));
    assert!(within(outcome.class(&sources, 0), 3 * MBIT, 3), "{:?}", outcome.rates);
    assert!(within(outcome.rates[0], outcome.rates[1], 5), "{:?}", outcome.rates);
    assert!(within(outcome.rates[2], 7 * MBIT, 3), "{:?}", outcome.rates);
}

#[test]
fn no_ceiling_is_exceeded_while_the_port_is_idle() {
    let classes =
        vec![Class::new(MBIT, 4 * MBIT, 1, 1).subscriber(MBIT / 2, 2 * MBIT, 1).subscriber(0, 3 * MBIT, 1)];
    let sources = [Source::new(0, 0, 10 * MBIT), Source::new(0, 1, 10 * MBIT)];
    let outcome = run(&mut Tree::new(100 * MBIT, classes), &sources, ms(1_000), ms(11_000));
    assert!(outcome.rates[0] <= 2 * MBIT && outcome.rates[1] <= 3 * MBIT, "{:?}", outcome.rates);
    assert!(outcome.total() <= 4 * MBIT && within(outcome.total(), 4 * MBIT, 3), "{:?}", outcome.rates);
}

#[test]
fn a_higher_priority_takes_what_it_asks_for_first() {
    let classes = vec![
        Class::new(0, 10 * MBIT, 1, 0).alone(10 * MBIT),
        Class::new(0, 10 * MBIT, 100, 1).alone(10 * MBIT),
        Class::new(0, 10 * MBIT, 1, 1).alone(10 * MBIT),
        Class::new(0, 10 * MBIT, 100, 2).alone(10 * MBIT),
    ];
    let mut sources: Vec<_> = (0..4).map(|class| Source::new(class, 0, 12 * MBIT)).collect();
    sources[0].bits_per_second = 6 * MBIT;
    sources[1].bits_per_second = MBIT;
    let outcome = run(&mut Tree::new(10 * MBIT, classes), &sources, ms(1_000), ms(11_000));
    assert!(
        within(outcome.rates[0], 6 * MBIT, 1) && within(outcome.rates[1], MBIT, 1),
        "{:?}",
        outcome.rates
    );
    assert!(within(outcome.rates[2], 3 * MBIT, 3), "{:?}", outcome.rates);
    assert!(outcome.rates[3] < MBIT / 100, "{:?}", outcome.rates);
}

#[test]
fn subscribers_are_refused_before_their_class_is() {
    let mut busy = Class::new(2 * MBIT, 10 * MBIT, 1, 1);
    for weight in [1, 2, 4] {
        busy = busy.subscriber(0, 10 * MBIT, weight);
    }
    let classes = vec![busy, Class::new(0, 10 * MBIT, 1, 1).alone(10 * MBIT)];
    let sources: Vec<_> = [(0, 0), (0, 1), (0, 2), (1, 0)]
        .map(|(class, subscriber)| Source::new(class, subscriber, 10 * MBIT))
        .into();
    let outcome = run(&mut Tree::new(10 * MBIT, classes), &sources, ms(1_000), ms(11_000));
    // 8 Mbit/s to spare, half for each class; the first has 2 more.
    for (rate, weight) in outcome.rates.iter().zip([1, 2, 4]) {
        assert!(within(*rate, 6 * MBIT * weight / 7, 5), "{:?}", outcome.rates);
    }
    assert!(within(outcome.rates[3], 4 * MBIT, 5), "{:?}", outcome.rates);
    assert_eq!((outcome.refusals[1], outcome.refusals[3]), (0, 0), "{:?}", outcome.refusals);
}

#[test]
fn what_a_class_leaves_goes_to_the_others_at_once() {
    let (classes, mut sources) = weighted();
    sources[2].stop = ms(2_000);
    let outcome = run(&mut Tree::new(10 * MBIT, classes), &sources, ms(2_100), ms(4_100));
    assert!(
        within(outcome.rates[0], 10 * MBIT / 3, 5) && within(outcome.rates[1], 20 * MBIT / 3, 5),
        "{:?}",
        outcome.rates
    );
}

fn row(traffic: &str, way: &str, rates: &[u64], total: u64) {
    let rates: Vec<_> = rates.iter().map(|&rate| format!("{:.2}", rate as f64 / MBIT as f64)).collect();
    println!("| {traffic} | {way} | {} | {:.2} |", rates.join(", "), total as f64 / MBIT as f64);
}

#[test]
fn compared_with_marks_on_one_meter_only_the_tree_meets_weights() {
    println!("| traffic | way | accepted, Mbit/s | total |\n|---|---|---|---|");
    let unequal = || {
        let (classes, mut sources) = weighted();
        for (source, mbit) in sources.iter_mut().zip([40, 20, 10]) {
            source.bits_per_second = mbit * MBIT;
        }
        (classes, sources)
    };
    let priorities = || {
        let (mut classes, sources) = weighted();
        for (class, priority) in classes.iter_mut().zip([2, 1, 0]) {
            class.params.priority = priority;
        }
        (classes, sources)
    };
    let cases: [(&str, &dyn Fn() -> Setup); 3] = [
        ("weights 1, 2, 4, equal demand", &weighted),
        ("weights 1, 2, 4, demand 40, 20, 10", &unequal),
        ("priorities 2, 1, 0, equal demand", &priorities),
    ];
    let mut rates = Vec::new();
    for (name, case) in cases {
        let (classes, sources) = case();
        let tree = run(&mut Tree::new(10 * MBIT, classes), &sources, ms(1_000), ms(11_000));
        row(name, "phantom queues", &tree.rates, tree.total());
        let marks = run(&mut Marks::new(Tree::new(10 * MBIT, case().0)), &sources, ms(1_000), ms(11_000));
        row(name, "marks on one meter", &marks.rates, marks.total());
        rates.push((tree.rates, marks.rates));
    }
    let met = |rates: &[u64]| {
        rates.iter().zip([1, 2, 4]).all(|(&rate, weight)| within(rate, 10 * MBIT * weight / 7, 5))
    };
    assert!(met(&rates[0].0) && met(&rates[1].0) && !met(&rates[0].1) && !met(&rates[1].1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any arrivals, equal timestamps and clocks that step back by up to 0.5 ms.
    #[test]
    fn ceilings_and_the_port_hold_whatever_arrives(
        arrivals in prop::collection::vec((-500i64..2_000, 0usize..2, 0usize..3, 64u64..1515), 1..2_000),
    ) {
        let class = |priority| {
            Class::new(MBIT, 4 * MBIT, 1, priority)
                .subscriber(MBIT / 2, 2 * MBIT, 1)
                .subscriber(0, 4 * MBIT, 7)
                .subscriber(0, 3 * MBIT, 2)
        };
        let mut tree = Tree::new(6 * MBIT, vec![class(0), class(1)]);
        let (mut now, mut latest) = (1_000_000u64, 1_000_000u64);
        let (mut of_subscriber, mut of_class) = ([[0u64; 3]; 2], [0u64; 2]);
        for (gap, class, subscriber, length) in arrivals {
            now = now.saturating_add_signed(gap);
            latest = latest.max(now);
            if tree.admit(class, subscriber, Nanos::from_micros(now), length).passes() {
                of_subscriber[class][subscriber] += length;
                of_class[class] += length;
            }
            let elapsed = latest - 1_000_000;
            let due = |bits: u64| elapsed * bits / 8_000_000;
            for (bytes, ceil) in of_subscriber[class].iter().zip([2, 4, 3]) {
                prop_assert!(*bytes <= due(ceil * MBIT) + 6_000 + 1);
            }
            let params = &tree.classes[class].params;
            let burst = params.node.ceil.tolerance.as_nanos() * 4 * MBIT / 8_000_000_000;
            prop_assert!(of_class[class] <= due(4 * MBIT) + burst + 1);
            // The guaranteed meters' bursts at both levels, both rooms, and a packet beyond each room.
            let slack = 2 * (6_000 + 6_000 + params.room.get() + 1_514);
            prop_assert!(of_class[0] + of_class[1] <= due(6 * MBIT) + slack);
        }
    }
}
