//! BBR's model of a path of 20 Mbit/s and 40 ms, which holds 66 packets.

use weir_aqm::Nanos;

use super::{
    super::{congestion::*, tcp::Tcp},
    close,
    path::{Chance, MiniPath, Outcome},
};
use crate::Random;

const RATE: u64 = 20;
const RTT: Nanos = Nanos::from_millis(40);
const PACKETS_PER_SECOND: f64 = 20e6 / (1514.0 * 8.0);

fn path(loss: Chance, buffer: u64) -> MiniPath {
    MiniPath { loss, ..MiniPath::new(RATE, RTT, buffer) }
}

fn one() -> Tcp<Bbr1> {
    Tcp::new(Bbr1::new(Random::new(1)), None)
}

fn three() -> Tcp<Bbr3> {
    Tcp::new(Bbr3::new(Random::new(1)), None)
}

fn run(path: &MiniPath, sender: &mut dyn super::super::Sender) -> Outcome {
    path.run(sender, Nanos::from_secs(5), Nanos::from_secs(17))
}

fn assert_model((bandwidth, rtt): (f64, Option<Nanos>)) {
    assert!(close(bandwidth, PACKETS_PER_SECOND, 0.05), "{bandwidth} against {PACKETS_PER_SECOND}");
    let rtt = rtt.unwrap().as_nanos() as f64;
    // A packet takes 0.6 ms to serialise.
    assert!(close(rtt, 40.6e6, 0.02), "{rtt}");
}

#[test]
fn bbr_1_finds_bandwidth_and_round_trip_time_and_keeps_a_quarter_of_the_path_waiting_at_most() {
    let mut sender = one();
    let outcome = run(&path(Chance::Never, 1000), &mut sender);
    assert_model(sender.control().model());
    assert!(outcome.utilisation(RATE) > 0.97, "{}", outcome.utilisation(RATE));
    // A quarter of 66, and quanta.
    assert!(outcome.most_waiting < 30, "{}", outcome.most_waiting);
}

#[test]
fn bbr_3_finds_bandwidth_and_round_trip_time_and_drains_what_its_probes_pile_up() {
    let mut sender = three();
    let outcome = run(&path(Chance::Never, 1000), &mut sender);
    assert_model(sender.control().model());
    // One per cent of pacing margin, and half of the path for 0.2 s each 5 s.
    assert!(outcome.utilisation(RATE) > 0.95, "{}", outcome.utilisation(RATE));
    // Three rounds at 1.25.
    assert!(outcome.most_waiting < 70, "{}", outcome.most_waiting);
}

#[test]
fn bbr_1_ignores_one_and_five_per_cent_of_random_loss() {
    for loss in [0.01, 0.05] {
        let outcome = run(&path(Chance::Random(loss), 1000), &mut one());
        assert!(outcome.utilisation(RATE) > 0.9, "{loss}: {}", outcome.utilisation(RATE));
    }
}

#[test]
fn bbr_3_keeps_most_of_the_path_at_half_a_per_cent_of_loss_and_backs_off_beyond_two() {
    let utilisation = |loss| run(&path(Chance::Random(loss), 1000), &mut three()).utilisation(RATE);
    assert!(utilisation(0.005) > 0.8, "{}", utilisation(0.005));
    assert!(utilisation(0.05) < 0.5, "{}", utilisation(0.05));
}

#[test]
fn a_buffer_of_a_quarter_of_the_path_loses_less_of_bbr_3_than_of_bbr_1() {
    let share = |outcome: Outcome| outcome.dropped as f64 / outcome.sent as f64;
    let (first, third) = (
        share(run(&path(Chance::Never, 10), &mut one())),
        share(run(&path(Chance::Never, 10), &mut three())),
    );
    assert!(third < first / 2.0, "{third} against {first}");
}

#[test]
fn bbr_3_learns_how_much_a_shallow_buffer_holds() {
    // The path holds 67 with the packet in service, the buffer 21; losses cross two per cent at 90.
    let mut sender = three();
    run(&path(Chance::Never, 20), &mut sender);
    let long_term = sender.control().long_term();
    assert!((67.0..=91.0).contains(&long_term), "{long_term}");
    let mut sender = three();
    run(&path(Chance::Never, 1000), &mut sender);
    assert!(sender.control().long_term().is_infinite(), "{}", sender.control().long_term());
}

#[test]
fn bbr_probes_the_round_trip_time_with_four_packets_each_ten_seconds_or_half_the_path_each_five() {
    // The first probe begins ten (five) seconds after the last lower sample, which came in startup or drain.
    let dip = |sender: &mut dyn super::super::Sender, from: u64| {
        let path = path(Chance::Never, 1000);
        path.run(sender, Nanos::from_secs(from), Nanos::from_secs(from + 2)).utilisation(RATE)
    };
    assert!(dip(&mut one(), 10) < 0.95, "{}", dip(&mut one(), 10));
    assert!(dip(&mut one(), 6) > 0.98, "{}", dip(&mut one(), 6));
    assert!(dip(&mut three(), 5) < 0.97, "{}", dip(&mut three(), 5));
}
