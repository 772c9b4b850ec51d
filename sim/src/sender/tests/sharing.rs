//! Flows that share a bottleneck.

use weir_aqm::Nanos;

use super::{
    super::sender,
    path::{Chance, Flow, MiniPath},
};
use crate::{Congestion, Random, Traffic};

/// Drop-tail with as much room as the path of 20 Mbit/s and 40 ms holds, and more.
fn drop_tail() -> MiniPath {
    MiniPath::new(20, Nanos::ZERO, 80)
}

/// Marks from five waiting packets on.
fn step() -> MiniPath {
    MiniPath { mark: Chance::Queue(5), ..MiniPath::new(20, Nanos::ZERO, 1000) }
}

/// Megabits a second that two flows get from second 8 to 28, the second one beginning after two seconds.
fn shares(path: &MiniPath, congestion: [Congestion; 2], rtts_ms: [u64; 2]) -> [f64; 2] {
    let sender =
        |congestion, seed| sender(&Traffic::Tcp { congestion, ecn: true, bytes: None }, Random::new(seed));
    let (mut one, mut two) = (sender(congestion[0], 1), sender(congestion[1], 2));
    let rtts = rtts_ms.map(Nanos::from_millis);
    let mut flows = [
        Flow::new(one.as_mut(), Nanos::ZERO, rtts[0]),
        Flow::new(two.as_mut(), Nanos::from_secs(2), rtts[1]),
    ];
    path.run_all(&mut flows, Nanos::from_secs(8), Nanos::from_secs(28));
    flows.map(|flow| flow.outcome.received as f64 * 1514.0 * 8.0 / 20e6)
}

#[test]
fn equal_flows_share_alike() {
    for (path, congestion) in [
        (drop_tail(), Congestion::Reno),
        (drop_tail(), Congestion::Cubic),
        (drop_tail(), Congestion::Bbr1),
        (drop_tail(), Congestion::Bbr3),
        (step(), Congestion::Dctcp),
        (step(), Congestion::Prague),
    ] {
        let [a, b] = shares(&path, [congestion; 2], [40, 40]);
        let jain = (a + b) * (a + b) / (2.0 * (a * a + b * b));
        assert!(jain > 0.9 && a + b > 17.0, "{congestion:?}: {a} and {b}");
    }
}

#[test]
fn reno_at_a_quarter_of_the_round_trip_time_takes_more_than_two_and_a_half_times_as_much() {
    let [short, long] = shares(&drop_tail(), [Congestion::Reno; 2], [20, 80]);
    assert!(short > 2.5 * long, "{short} and {long}");
}

#[test]
fn prague_at_5_ms_shares_with_25_ms_where_dctcp_does_not() {
    let ratio = |congestion| {
        let [short, long] = shares(&step(), [congestion; 2], [5, 25]);
        short / long
    };
    assert!(ratio(Congestion::Prague) < 2.0, "{}", ratio(Congestion::Prague));
    assert!(ratio(Congestion::Dctcp) > 4.0, "{}", ratio(Congestion::Dctcp));
}

#[test]
fn in_a_shallow_buffer_bbr_3_leaves_cubic_its_share_and_bbr_1_does_not() {
    let shallow = MiniPath { buffer: 30, ..drop_tail() };
    let cubic = |other| shares(&shallow, [other, Congestion::Cubic], [40, 40])[1];
    assert!(cubic(Congestion::Bbr3) > 8.0, "{}", cubic(Congestion::Bbr3));
    assert!(cubic(Congestion::Bbr1) < 6.0, "{}", cubic(Congestion::Bbr1));
}
