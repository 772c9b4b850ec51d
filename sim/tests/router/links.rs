//! What moving flows is worth, and what it keeps, on whole paths.

use weir_aqm::{Nanos, Rate};
use weir_shared_maps::{MODE_VIRTUAL, PortConfig, STACK_CHARGE, STACK_IGNORE};
use weir_sim::queue::{PortSetup, RouterConfig};
use weir_sim::{Congestion, Contender, Ecn, Flow, Outcome, Path, Scenario, SpillLink, Traffic};

use super::classes;
use super::setups::{DIVERT, SPILL, STRAIGHT, bounded, mbit, port, router, shaped, weir};

const LINK: u64 = 40;

fn scenario(router: RouterConfig, flows: Vec<Flow>) -> Scenario {
    contest(weir(router), flows)
}

fn contest(contender: Contender, flows: Vec<Flow>) -> Scenario {
    let spill = Box::new(SpillLink::new(mbit(LINK), Nanos::from_millis(10), 1_000));
    let path = Path { spill: Some(spill), ..Path::new(mbit(LINK), Nanos::from_millis(10), 1_000) };
    let scenario = Scenario::new(path, contender, Nanos::from_secs(12));
    Scenario { seed: 1, flows, measure_from: Nanos::from_secs(4), ..scenario }
}

fn run(scenario: &Scenario) -> Outcome {
    let outcome = scenario.run();
    assert_eq!(outcome.unaccounted(), 0, "{:?}", outcome.drops);
    outcome
}

/// Payload of an entry of the scenario, its flows together.
fn payload(outcome: &Outcome, entry: usize) -> f64 {
    outcome.flows[entry].payload.iter().sum::<u64>() as f64
}

/// A flow of so many Mbit/s that heeds nothing.
fn flood(rate: u64) -> Flow {
    let traffic = Traffic::Constant { rate: mbit(rate), bytes: 1_242, ecn: Ecn::NotEct };
    Flow::new(traffic).jittered(Nanos::from_millis(10))
}

/// Datagrams of many flows, altogether 1.5 times what two links carry.
fn many_datagrams() -> Flow {
    let flows = 2_048;
    let rate = Rate::from_bits_per_second(3 * LINK * 1_000_000 / flows);
    let traffic = Traffic::Constant { rate, bytes: 1_242, ecn: Ecn::NotEct };
    Flow::new(traffic).jittered(Nanos::from_secs(1)).times(flows as u32)
}

#[test]
fn two_equal_links_carry_nearly_twice_what_one_does_where_flows_are_many() {
    let cubic = Flow::bulk(Congestion::Cubic, false).jittered(Nanos::from_millis(500)).times(64);
    for flows in [many_datagrams(), cubic] {
        let carried = |back_off| {
            let outcome = run(&scenario(router(back_off, Contender::Redirect), vec![flows.clone()]));
            assert_eq!(outcome.spilled > 0, back_off == SPILL);
            payload(&outcome, 0)
        };
        let (one, two) = (carried(STRAIGHT), carried(SPILL));
        assert!(two >= 1.9 * one, "{two} by two links and {one} by one: {flows:?}");
    }
}

#[test]
fn one_flow_alone_stays_on_one_link() {
    let outcome = run(&scenario(router(SPILL, Contender::Redirect), vec![flood(60)]));
    let [slow, spill] = [outcome.utilisation, outcome.spill.unwrap().utilisation];
    assert!(slow > 0.99 && spill < 0.01, "{slow} {spill}");
}

/// The discipline below the link's rate, as HTB would have it.
fn discipline(queue: Contender) -> Contender {
    shaped(Rate::from_bits_per_second(LINK * 950_000), queue)
}

#[test]
fn a_sparse_flow_waits_behind_the_discipline_as_without_weir_and_for_the_ring_until_flows_have_moved() {
    let target = Nanos::from_millis(5);
    for bulk in [2, 8] {
        let flows = || {
            let bulk = Flow::bulk(Congestion::Cubic, false).jittered(Nanos::from_millis(100)).times(bulk);
            vec![bulk, Flow::probe(Nanos::from_millis(20))]
        };
        let queue = || discipline(Contender::FqCodel);
        let alone = run(&contest(queue(), flows()));
        let straight = run(&contest(weir(router(STRAIGHT, queue())), flows()));
        let hybrid = run(&contest(weir(router(DIVERT, queue())), flows()));
        let [of_alone, of_straight, of_hybrid] = [&alone, &straight, &hybrid].map(|run| run.flows[1].delay);
        assert!(hybrid.diverted > 0);
        assert!(of_hybrid.p50 <= of_alone.p50.saturating_add(Nanos::from_micros(100)), "{of_hybrid:?}");
        assert!(of_hybrid.p99 <= of_alone.p99.saturating_add(target), "{of_hybrid:?} {of_alone:?}");
        assert!(of_hybrid.p99 < of_straight.p99, "{of_hybrid:?} {of_straight:?}");
        assert!(payload(&hybrid, 0) >= 0.99 * payload(&alone, 0));
    }
}

#[test]
fn a_flow_that_never_pauses_for_a_poll_does_not_divert() {
    // A packet each 166 us, less than a NAPI poll may take until its frames are in the ring.
    let outcome = run(&scenario(router(DIVERT, discipline(Contender::FqCodel)), vec![flood(60)]));
    assert_eq!(outcome.diverted, 0);
    // Two of half the rate do.
    let outcome = run(&scenario(router(DIVERT, discipline(Contender::FqCodel)), vec![flood(30).times(2)]));
    assert!(outcome.diverted > 0);
}

/// A rate of 20 Mbit/s on a link of 40, and at most 12 of the stack's beside it.
fn virtual_port(stack: u32, classes: bool) -> RouterConfig {
    let word = classes::pace(20);
    let (pace_mult, pace_shift) = ((word >> 32) as u32, word as u32);
    let setup = if classes {
        let mut config = classes::policer(20, vec![classes::class(), classes::guaranteed(5)]);
        (config.port.stack, config.port.mode) = (stack, MODE_VIRTUAL);
        PortSetup::Classes(Box::new(config))
    } else {
        let mode = MODE_VIRTUAL;
        PortSetup::Plain(Box::new(PortConfig { mode, pace_mult, pace_shift, stack, ..port() }))
    };
    let back_off = bounded(DIVERT, mbit(12));
    let qdisc = shaped(mbit(15), Contender::FqCodel);
    RouterConfig { port: setup, back_off: vec![back_off; 2], ..router(back_off, qdisc) }
}

#[test]
fn what_is_diverted_is_charged_to_the_rate_of_the_port() {
    for classes in [false, true] {
        let rate = |stack| {
            let outcome = run(&scenario(virtual_port(stack, classes), vec![flood(1).times(60)]));
            assert!(outcome.diverted > 0);
            println!("{} {:?} {:?}", outcome.diverted, outcome.drops, outcome.utilisation);
            outcome.utilisation * LINK as f64
        };
        let (charged, ignored) = (rate(STACK_CHARGE), rate(STACK_IGNORE));
        assert!((19.5..20.1).contains(&charged), "{classes}: {charged} Mbit/s");
        assert!(ignored > 30.0, "{classes}: {ignored} Mbit/s");
    }
}
