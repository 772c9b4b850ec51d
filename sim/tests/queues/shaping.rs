//! The shaper and the policer.

use weir_aqm::{Nanos, Rate};
use weir_egress::Decision;
use weir_shared_maps::PortCounter;
use weir_sim::{
    Contender, Packet, Random, Rings,
    queue::{Controller, Policer, Queue, Tally, View},
};

use super::{FULL, mbit, ms, offer, packet, us};

const RINGS: Rings = Rings { slots: 10_000, per_cpu: false, reclaim: 1 };

fn shaped(rate: Rate, queue: Contender) -> Box<dyn Queue> {
    Contender::Shaped { rate, queue: Box::new(queue) }.queue(RINGS, 1, Random::new(1))
}

#[test]
fn a_shaper_keeps_its_rate_within_burst_and_a_packet_over_any_time() {
    for bits in [1_000_000, 7_777_777, 40_000_000_000] {
        let rate = Rate::from_bits_per_second(bits);
        let mut queue = shaped(rate, Contender::Codel);
        let mut tally = Tally::default();
        for number in 0..5_000 {
            offer(queue.as_mut(), Nanos::ZERO, packet(number, 64 + number * 7 % 1400), &mut tally);
        }
        let (mut now, mut sent) = (Nanos::ZERO, 0u64);
        let mut departures = vec![(Nanos::ZERO, 0)];
        while let Some(at) = queue.ready_at(now).or((queue.occupancy() > 0).then_some(now)) {
            now = at;
            while let Some(packet) = queue.take(now, &mut tally) {
                sent += u64::from(packet.bytes);
                departures.push((now, sent));
            }
        }
        let due = |from: Nanos, to: Nanos| {
            let time = u128::from(to.saturating_sub(from).as_nanos());
            (time * u128::from(bits) / 8_000_000_000) as u64
        };
        for (index, (to, sent)) in departures.iter().enumerate().skip(1) {
            // Windows of many lengths, back from each departure.
            for back in [1, 2, 5, 100, 1000, index] {
                let (from, before) = departures[index.saturating_sub(back)];
                let (sent, due) = (sent - before, due(from, *to));
                assert!(sent <= due + 1600 + u64::from(FULL), "{from} to {to}: {sent} of {due}");
                assert!(sent + u64::from(FULL) >= due, "{from} to {to}: {sent} of {due}");
            }
        }
    }
}

#[test]
fn packets_of_the_code_point_leave_first_and_each_queue_has_its_own_room() {
    let queue = Box::new(Contender::Fifo { packets: 3 });
    let mut queue = shaped(mbit(10), Contender::Priority { dscp: 46, queue });
    let mut tally = Tally::default();
    for flow in 0..10 {
        let dscp = if flow % 2 == 0 { 0 } else { 46 };
        offer(queue.as_mut(), ms(0), Packet { dscp, ..packet(flow, FULL) }, &mut tally);
    }
    assert_eq!((queue.occupancy(), queue.slots()), (6, 6));
    assert_eq!(tally.drops.get("ring_drops"), Some(&4));
    let (mut now, mut left) = (ms(0), Vec::new());
    while queue.occupancy() > 0 {
        left.extend(queue.take(now, &mut tally).map(|packet| packet.flow.0));
        now = queue.ready_at(now).unwrap_or(now);
    }
    assert_eq!(left, [1, 3, 5, 0, 2, 4]);
}

#[test]
fn a_shaper_says_when_the_next_packet_may_leave() {
    let mut queue = shaped(mbit(10), Contender::Redirect);
    let mut tally = Tally::default();
    assert_eq!(queue.ready_at(ms(1)), None);
    for _ in 0..4 {
        offer(queue.as_mut(), ms(1), packet(1, FULL), &mut tally);
    }
    // A full bucket of 1,600 bytes pays for the first packet, goes into debt for the second.
    assert!(queue.take(ms(1), &mut tally).is_some());
    assert!(queue.take(ms(1), &mut tally).is_some());
    assert_eq!(queue.take(ms(1), &mut tally), None);
    let ready = queue.ready_at(ms(1)).unwrap();
    // 2 * 1514 - 1600 bytes of debt at 800 ns each.
    assert_eq!(ready, ms(1).saturating_add(Nanos::from_nanos((2 * 1514 - 1600) * 800)));
    assert_eq!(queue.take(Nanos::from_nanos(ready.as_nanos() - 1), &mut tally), None);
    assert!(queue.take(ready, &mut tally).is_some());
}

#[test]
fn a_shaped_queue_reports_what_its_queue_does() {
    let mut queue = shaped(mbit(10), Contender::FqCodel);
    let mut tally = Tally::default();
    assert_eq!(queue.slots(), RINGS.slots);
    for number in 0..=RINGS.slots {
        offer(queue.as_mut(), Nanos::ZERO, packet(number % 2, FULL), &mut tally);
    }
    assert_eq!(tally.drops.get("fq_overflow"), Some(&64));
    assert_eq!(queue.occupancy(), RINGS.slots + 1 - 64);
}

#[test]
fn of_two_shapers_the_slower_one_says_when() {
    let mut queue = shaped(mbit(100), Contender::Cake { rate: mbit(10) });
    let mut tally = Tally::default();
    for _ in 0..3 {
        offer(queue.as_mut(), ms(1), packet(1, FULL), &mut tally);
    }
    assert!(queue.take(ms(1), &mut tally).is_some());
    let ready = queue.ready_at(ms(1)).unwrap();
    assert_eq!(ready, ms(1).saturating_add(Nanos::from_nanos(1514 * 800)));
    assert!(queue.take(ready, &mut tally).is_some());
}

/// Accepted frames of a constant arrival of full frames.
fn accepted(policers: &mut [Policer], arrivals: Nanos, end: Nanos) -> u64 {
    let ring = View { occupancy: 0, slots: 1 };
    let (mut now, mut accepted) = (Nanos::ZERO, 0);
    for turn in 0.. {
        if now >= end {
            break;
        }
        let which = turn % policers.len();
        policers[which].begin_batch(now, ring);
        let decision = policers[which].judge(&packet(1, FULL));
        assert!(matches!(decision, Decision::Accept | Decision::Drop(PortCounter::DropPolicer)));
        accepted += u64::from(decision == Decision::Accept);
        now = now.saturating_add(arrivals);
    }
    accepted
}

#[test]
fn a_policer_accepts_its_rate_and_one_burst() {
    for megabits in [1, 10, 95] {
        let burst = 20 * u64::from(FULL);
        let mut policer = [Policer::new(mbit(megabits), burst)];
        let found = accepted(&mut policer, us(100), ms(60_000));
        let due = (megabits * 1_000_000 / 8 * 60 + burst) / u64::from(FULL);
        assert!(found.abs_diff(due) <= 1 + due / 100_000, "{megabits}: {found} of {due}");
    }
}

#[test]
fn clones_of_a_policer_share_one_meter() {
    let policer = Policer::new(mbit(10), 10 * u64::from(FULL));
    let alone = accepted(&mut [policer], us(100), ms(10_000));
    let policer = Policer::new(mbit(10), 10 * u64::from(FULL));
    let shared = accepted(&mut [policer.clone(), policer.clone(), policer], us(100), ms(10_000));
    assert_eq!(alone, shared);
}

#[test]
fn what_a_policer_refuses_is_counted_as_the_datapath_counts_it() {
    let contender = Contender::Policer { rate: mbit(1), burst: u64::from(FULL) };
    let mut queue = contender.queue(RINGS, 1, Random::new(1));
    let mut tally = Tally::default();
    let mut batch = vec![packet(1, FULL), Packet { number: 1, ..packet(1, FULL) }];
    queue.offer(ms(1), 0, &mut batch, &mut tally);
    assert_eq!(tally.drops, [("policer", 1)].into());
    assert_eq!(queue.occupancy(), 1);
}
