//! DualPI2: Linux's trajectories and round robin, coupling, step, overload.

use weir_aqm::Nanos;
use weir_sim::{
    Ecn, Packet, Random,
    queue::{Credit, DualPi2, DualPi2Params, Queue, Tally},
};

use super::{FULL, ms, offer, packet, parse, us};

fn queue() -> DualPi2 {
    DualPi2::new(100_000, DualPi2Params::linux(), Random::new(1))
}

fn vectors() -> serde_json::Value {
    parse(include_str!("../vectors/dualpi2.json"))
}

fn with(ecn: Ecn, bytes: u32) -> Packet {
    Packet { ecn, ..packet(1, bytes) }
}

/// A queue whose updates, one after the other, saw a head of these ages, and the time of the last of them. One packet
/// stands in it at a time; the clock starts late, so that a head can be older than the update before.
fn after(ecn: Ecn, delays: impl IntoIterator<Item = Nanos>) -> (DualPi2, Vec<u32>, Nanos) {
    let (mut queue, mut tally) = (queue(), Tally::default());
    let mut now = ms(160_000);
    queue.offer(now, 0, &mut Vec::new(), &mut tally);
    let mut probabilities = Vec::new();
    for delay in delays {
        let _ = queue.take(now, &mut tally);
        now = now.saturating_add(ms(16));
        offer(&mut queue, now.saturating_sub(delay), with(ecn, FULL), &mut tally);
        queue.offer(now, 0, &mut Vec::new(), &mut tally);
        probabilities.push(queue.probability());
    }
    (queue, probabilities, now)
}

fn fraction(probability: u32) -> f64 {
    f64::from(probability) / f64::from(u32::MAX)
}

#[test]
fn linuxs_trajectories_are_met_bit_for_bit_through_the_queue() {
    let vectors = vectors();
    // Whichever queue's head is older counts.
    for (name, ecn) in [("constant_20ms", Ecn::NotEct), ("ramp", Ecn::NotEct), ("ramp", Ecn::Ect1)] {
        let rows = vectors["trajectories"][name].as_array().unwrap();
        let (_, found, _) = after(ecn, rows.iter().map(|row| us(row[0].as_u64().unwrap())));
        let expected: Vec<u32> = rows.iter().map(|row| row[1].as_u64().unwrap() as u32).collect();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn a_jump_of_the_delay_saturates_instead_of_wrapping() {
    for row in vectors()["overflow_pathology"]["rows"].as_array().unwrap() {
        let (queue, _, _) = after(Ecn::NotEct, [ms(row["jump_ms"].as_u64().unwrap())]);
        let p = fraction(queue.probability());
        assert!((p - row["saturating"].as_f64().unwrap()).abs() < 1e-5, "{row}: {p}");
    }
}

#[test]
fn the_queues_take_turns_as_in_the_published_traces() {
    let vectors = vectors();
    for name in ["both_backlogged_1514", "mixed"] {
        let trace = &vectors["wrr"][name];
        assert_eq!(Credit::default().get(), trace["init_credit"].as_i64().unwrap());
        let (mut queue, mut tally) = (queue(), Tally::default());
        let log = trace["log"].as_array().unwrap();
        let ecn = |row: &serde_json::Value| match row[0].as_str().unwrap() {
            "L" => Ecn::Ect1,
            _ => Ecn::NotEct,
        };
        for row in log {
            offer(&mut queue, Nanos::ZERO, with(ecn(row), row[1].as_u64().unwrap() as u32), &mut tally);
        }
        for row in log {
            let taken = queue.take(Nanos::ZERO, &mut tally).unwrap();
            assert_eq!((taken.ecn, u64::from(taken.bytes)), (ecn(row), row[1].as_u64().unwrap()));
            assert_eq!(queue.credit().get(), row[2].as_i64().unwrap(), "{name} {row}");
        }
    }
}

#[test]
fn an_empty_port_forgets_the_round() {
    let (mut queue, mut tally) = (queue(), Tally::default());
    for ecn in [Ecn::Ect1, Ecn::NotEct] {
        offer(&mut queue, Nanos::ZERO, with(ecn, FULL), &mut tally);
    }
    queue.take(Nanos::ZERO, &mut tally).unwrap();
    assert_ne!(queue.credit(), Credit::default());
    while queue.take(Nanos::ZERO, &mut tally).is_some() {}
    assert_eq!(queue.credit(), Credit::default());
}

#[test]
fn rfc_9331_ect1_and_ce_go_to_the_l4s_queue() {
    let (mut queue, mut tally) = (queue(), Tally::default());
    for ecn in [Ecn::NotEct, Ecn::Ect0, Ecn::Ect1, Ecn::Ce] {
        offer(&mut queue, Nanos::ZERO, with(ecn, FULL), &mut tally);
    }
    let taken: Vec<Ecn> =
        std::iter::from_fn(|| queue.take(Nanos::ZERO, &mut tally)).map(|packet| packet.ecn).collect();
    assert_eq!(taken, [Ecn::Ect1, Ecn::Ce, Ecn::NotEct, Ecn::Ect0]);
}

#[test]
fn l4s_packets_that_waited_longer_than_a_millisecond_are_marked() {
    for (wait, ecn, leaves) in
        [(us(1000), Ecn::Ect1, Ecn::Ect1), (us(1001), Ecn::Ect1, Ecn::Ce), (us(1001), Ecn::Ect0, Ecn::Ect0)]
    {
        let (mut queue, mut tally) = (queue(), Tally::default());
        offer(&mut queue, Nanos::ZERO, with(ecn, FULL), &mut tally);
        assert_eq!(queue.take(wait, &mut tally).unwrap().ecn, leaves);
        assert_eq!(tally.marks, u64::from(leaves == Ecn::Ce));
    }
}

/// Many packets judged within one period, so that the probability stands still: the share marked and the share dropped.
fn shares(queue: &mut DualPi2, now: Nanos, ecn: Ecn) -> (f64, f64) {
    let n = 50_000;
    let mut tally = Tally::default();
    for _ in 0..n {
        offer(queue, now, with(ecn, FULL), &mut tally);
    }
    while queue.take(now, &mut tally).is_some() {}
    (tally.marks as f64 / f64::from(n), tally.dropped() as f64 / f64::from(n))
}

fn close(found: f64, expected: f64) -> bool {
    // Four standard errors of a share among 50,000, at its widest.
    (found - expected).abs() < 4.0 * 0.5 / 50_000f64.sqrt()
}

#[test]
fn rfc_9332_classic_meets_the_square_and_l4s_twice_the_base_probability() {
    let delays = [0, 5, 10, 15, 20, 30, 50, 60].map(ms);
    for ecn in [Ecn::NotEct, Ecn::Ect0, Ecn::Ect1] {
        let (mut queue, _, now) = after(Ecn::NotEct, delays);
        let p = fraction(queue.probability());
        assert!((0.1..0.4).contains(&p), "{p}");
        let (marked, dropped) = shares(&mut queue, now, ecn);
        let (mark, drop) = match ecn {
            Ecn::NotEct => (0.0, p * p),
            Ecn::Ect0 => (p * p, 0.0),
            Ecn::Ect1 | Ecn::Ce => (2.0 * p, 0.0),
        };
        assert!(close(marked, mark) && close(dropped, drop), "{ecn:?} at {p}: {marked} {dropped}");
    }
}

#[test]
fn rfc_9332_section_4_2_overload_drops_whatever_the_packet_bears() {
    for ecn in [Ecn::NotEct, Ecn::Ect0, Ecn::Ect1] {
        let (mut queue, _, now) = after(Ecn::NotEct, [ms(200)]);
        let p = fraction(queue.probability());
        assert!((0.6..0.7).contains(&p), "{p}");
        let (marked, dropped) = shares(&mut queue, now, ecn);
        let mark = if ecn == Ecn::Ect1 { 1.0 - p * p } else { 0.0 };
        assert!(close(dropped, p * p) && close(marked, mark), "{ecn:?} at {p}: {marked} {dropped}");
    }
}

#[test]
fn fewer_than_two_packets_behind_are_no_queue() {
    let (mut queue, _, now) = after(Ecn::NotEct, [ms(1_000)]);
    assert_eq!(queue.probability(), u32::MAX);
    let mut tally = Tally::default();
    // Another one: the backlog behind the head is one frame.
    offer(&mut queue, now, with(Ecn::NotEct, FULL), &mut tally);
    while queue.take(now, &mut tally).is_some() {}
    assert_eq!(tally.dropped(), 0);
}
