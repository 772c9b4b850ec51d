//! FQ-CoDel: DRR traces, fairness, sparse flows, overflow, hash collisions.

use std::collections::BTreeMap;

use weir_aqm::Nanos;
use weir_sim::{
    Ecn, FlowId, Packet, Random,
    queue::{FlowHash, FqCodel, FqCodelParams, Queue, Tally},
};

use super::{FULL, constant_load, ms, offer, packet, parse, us};

fn queue(params: FqCodelParams) -> FqCodel {
    FqCodel::new(params, Random::new(1))
}

fn vectors() -> serde_json::Value {
    parse(include_str!("../vectors/fq_drr.json"))
}

#[test]
fn rfc_8290_rounds_are_those_of_the_published_traces() {
    for case in vectors()["cases"].as_array().unwrap() {
        let quantum = case["quantum"].as_u64().unwrap() as u32;
        let mut queue = queue(FqCodelParams { quantum, ..FqCodelParams::with_limit(1000) });
        let mut tally = Tally::default();
        let flow = |name: &str| u32::from(name.as_bytes()[0]);
        for row in case["enqueue"].as_array().unwrap() {
            let packet = packet(flow(row[0].as_str().unwrap()), row[1].as_u64().unwrap() as u32);
            offer(&mut queue, Nanos::ZERO, packet, &mut tally);
        }
        for row in case["log"].as_array().unwrap() {
            let taken = queue.take(Nanos::ZERO, &mut tally);
            if row.is_null() {
                assert_eq!(taken, None);
                continue;
            }
            let taken = taken.unwrap();
            assert_eq!(taken.flow, FlowId(flow(row[0].as_str().unwrap())), "{row}");
            assert_eq!(u64::from(taken.bytes), row[1].as_u64().unwrap());
            assert_eq!(queue.deficit(queue.bucket(&taken)), row[2].as_i64().unwrap(), "{row}");
        }
        assert_eq!(tally.dropped(), 0);
    }
}

#[test]
fn backlogged_flows_get_equal_bytes_within_a_packet_and_a_quantum() {
    let mut queue = queue(FqCodelParams::with_limit(10_000));
    let mut tally = Tally::default();
    let sizes = [64, 300, 777, 1514, 1000];
    for (flow, bytes) in sizes.into_iter().enumerate() {
        for _ in 0..200_000 / bytes {
            offer(&mut queue, Nanos::ZERO, packet(flow as u32, bytes), &mut tally);
        }
    }
    let mut sent = BTreeMap::<FlowId, u64>::new();
    for _ in 0..1500 {
        let taken = queue.take(Nanos::ZERO, &mut tally).unwrap();
        *sent.entry(taken.flow).or_default() += u64::from(taken.bytes);
        let (least, most) = (sent.values().min().unwrap(), sent.values().max().unwrap());
        assert!(sent.len() < sizes.len() || most - least <= 2 * u64::from(FULL), "{sent:?}");
    }
    assert_eq!(sent.len(), sizes.len());
}

#[test]
fn a_sparse_flow_leaves_next_however_long_the_others_are() {
    let mut queue = queue(FqCodelParams::with_limit(1000));
    let mut tally = Tally::default();
    for number in 0..800 {
        offer(&mut queue, Nanos::ZERO, packet(number % 8, FULL), &mut tally);
    }
    // Once their first quantum is gone, all eight are old.
    for _ in 0..16 {
        queue.take(Nanos::ZERO, &mut tally).unwrap();
    }
    for _ in 0..10 {
        offer(&mut queue, Nanos::ZERO, packet(100, 106), &mut tally);
        assert_eq!(queue.take(Nanos::ZERO, &mut tally).unwrap().flow, FlowId(100));
        // A round of the others, in which the emptied flow loses its place among them.
        for _ in 0..9 {
            queue.take(Nanos::ZERO, &mut tally).unwrap();
        }
    }
}

#[test]
fn rfc_8290_a_flow_that_ran_empty_waits_for_a_round_of_the_others() {
    let mut queue = queue(FqCodelParams::with_limit(1000));
    let mut tally = Tally::default();
    for number in 0..400 {
        offer(&mut queue, Nanos::ZERO, packet(number % 4, FULL), &mut tally);
    }
    let (mut waits, mut mine) = (false, 0u32);
    for _ in 0..210 {
        let taken = queue.take(Nanos::ZERO, &mut tally).unwrap().flow;
        if taken == FlowId(100) {
            (waits, mine) = (false, mine + 1);
        } else if !waits {
            // The scheduler has passed over the empty flow.
            offer(&mut queue, Nanos::ZERO, packet(100, 106), &mut tally);
            waits = true;
        }
    }
    // As a new flow it leaves at once, as an old one after the three others whose turn is still to come, by turns: two of six.
    // Were it new each time, it would be every second.
    assert!(mine.abs_diff(70) <= 2, "{mine}");
}

#[test]
fn overflow_takes_half_of_the_fattest_flow_and_at_most_64() {
    for (backlog, lost) in [(100, 51), (1000, 64)] {
        let mut queue = queue(FqCodelParams::with_limit(backlog + 1));
        let mut tally = Tally::default();
        offer(&mut queue, Nanos::ZERO, packet(2, 106), &mut tally);
        for number in 0..=backlog {
            let frame = Packet { number: u64::from(number), ..packet(1, FULL) };
            offer(&mut queue, Nanos::ZERO, frame, &mut tally);
        }
        assert_eq!(tally.drops.get("fq_overflow"), Some(&lost), "{:?}", tally.drops);
        assert_eq!(queue.occupancy() as u64, u64::from(backlog) + 2 - lost);
        // From the head, and not of the thin flow.
        let mut first = || queue.take(Nanos::ZERO, &mut tally).unwrap();
        assert_eq!(first().flow, FlowId(2));
        assert_eq!(first().number, lost);
    }
}

#[test]
fn an_overflow_makes_the_flows_codel_signal_more_often() {
    // The same overload, with and without one overflow of 64 packets on the way.
    let [calm, hit] = [0, 420].map(|burst| {
        let mut queue = queue(FqCodelParams::with_limit(1200));
        let mut tally = Tally::default();
        let frame = Packet { ecn: Ecn::Ect0, ..packet(1, FULL) };
        constant_load(&mut queue, frame, [us(100), us(120)], ms(500), &mut tally);
        queue.offer(ms(500), 0, &mut vec![frame; burst], &mut tally);
        assert_eq!(tally.drops.get("fq_overflow"), (burst > 0).then_some(&64));
        let before = tally.marks;
        for step in 0..1_000 {
            queue.take(Nanos::from_micros(500_000 + 120 * step), &mut tally);
        }
        tally.marks - before
    });
    assert!(calm >= 2 && hit > 2 * calm, "{hit} against {calm}");
}

#[test]
fn memory_is_a_limit_too() {
    let mut queue = queue(FqCodelParams { memory: 10 * u64::from(FULL), ..FqCodelParams::with_limit(1000) });
    let mut tally = Tally::default();
    for _ in 0..11 {
        offer(&mut queue, Nanos::ZERO, packet(1, FULL), &mut tally);
    }
    assert_eq!(tally.drops.get("fq_overflow"), Some(&6));
    assert_eq!(queue.occupancy(), 5);
}

#[test]
fn codel_runs_at_the_head_of_each_flow_by_its_schedule() {
    // A fifth too much: the wait grows by a sixth of the time, 5 ms at 30 ms. The first signal comes an interval later, the
    // next ones an interval over the root of their number apart (RFC 8289 section 5.3).
    let end = 1_000.0;
    let mut due = 130.0;
    let mut expected = 0u64;
    while due < end {
        expected += 1;
        due += 100.0 / (expected as f64).sqrt();
    }
    for (ecn, cause) in [(Ecn::NotEct, Some("aqm")), (Ecn::Ect0, None)] {
        let mut queue = queue(FqCodelParams::with_limit(10_000));
        let mut tally = Tally::default();
        let frame = Packet { ecn, ..packet(1, FULL) };
        let out = constant_load(&mut queue, frame, [us(100), us(120)], ms(end as u64), &mut tally);
        let signals = tally.dropped() + tally.marks;
        assert!(signals.abs_diff(expected) <= 1, "{signals} of {expected}");
        assert_eq!(tally.drops.keys().next().copied(), cause);
        assert_eq!(out.iter().filter(|(_, packet)| packet.ecn == Ecn::Ce).count() as u64, tally.marks);
    }
}

#[test]
fn flows_share_buckets_as_often_as_uniform_hashing_says() {
    let expected = &vectors()["hash_collision"];
    let (flows, buckets) = (expected["n"].as_u64().unwrap() as u32, expected["m"].as_u64().unwrap() as u32);
    let mut random = Random::new(1);
    let runs = 2000;
    let mut found = [0u32; 3];
    for _ in 0..runs {
        let hash = FlowHash::new(&mut random);
        let mut held = BTreeMap::<u32, u32>::new();
        for flow in 0..flows {
            *held.entry(hash.bucket(FlowId(flow), buckets)).or_default() += 1;
        }
        for (most, found) in (1..).zip(&mut found) {
            *found += held.values().filter(|count| **count <= most).sum::<u32>();
        }
    }
    for (name, found) in ["p_alone", "p_le_2", "p_le_3"].into_iter().zip(found) {
        let (p, n) = (expected[name].as_f64().unwrap(), f64::from(runs * flows));
        // Four standard errors; collisions come in groups of at least two, hence the factor.
        let tolerance = 4.0 * (3.0 * p * (1.0 - p) / n).sqrt();
        assert!((f64::from(found) / n - p).abs() < tolerance, "{name}: {}", f64::from(found) / n);
    }
}
