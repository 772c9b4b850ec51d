//! CAKE: what it derives from its rate, COBALT, the shaper, host isolation, sparse flows, overflow.

use std::collections::BTreeMap;

use weir_aqm::{Nanos, Rate};
use weir_sim::{
    Ecn, FlowId, Packet, Random,
    queue::{Cake, CakeRate, CobaltParams, CobaltVars, CobaltVerdict, Queue, Tally},
};

use super::{FULL, constant_load, mbit, ms, offer, packet, parse, us};

fn vectors() -> serde_json::Value {
    parse(include_str!("../vectors/cobalt_cake.json"))
}

fn queue(rate: Rate) -> Cake {
    Cake::new(10_000, rate, Random::new(1))
}

/// All that the shaper lets go until `end`.
fn drain(queue: &mut Cake, end: Nanos, tally: &mut Tally) -> Vec<(Nanos, Packet)> {
    let (mut now, mut out) = (Nanos::ZERO, Vec::new());
    while now < end {
        match queue.take(now, tally) {
            Some(packet) => out.push((now, packet)),
            None => match queue.ready_at(now) {
                Some(at) => now = at,
                None => break,
            },
        }
    }
    out
}

#[test]
fn parameters_follow_the_rate_as_in_cake_set_rate() {
    for row in vectors()["set_rate"].as_array().unwrap() {
        let number = |key: &str| row[key].as_u64().unwrap();
        let rate = Rate::from_bits_per_second(number("rate_Bps") * 8);
        let found = CakeRate::new(rate, number("mtu") as u32);
        assert_eq!(found.rate_ns, number("rate_ns"), "{row}");
        assert_eq!(u64::from(found.shift), number("shift"), "{row}");
        assert_eq!(u64::from(found.quantum), number("flow_quantum"), "{row}");
        assert_eq!(found.cobalt.mtu_time.as_nanos(), number("mtu_time_ns"), "{row}");
        assert_eq!(found.cobalt.target.as_nanos(), number("target_ns"), "{row}");
        assert_eq!(found.cobalt.interval.as_nanos(), number("interval_ns"), "{row}");
    }
}

#[test]
fn cobalt_gives_the_kernels_verdicts_and_schedule() {
    let vectors = vectors();
    let rows = vectors["trace_intended_init_rec_all_ones"].as_array().unwrap();
    let params = CobaltParams::new(ms(5), ms(100), Nanos::ZERO);
    let mut vars = CobaltVars::default();
    let mut found = Vec::new();
    for step in 0..1500u64 {
        let now = ms(1_000 + step);
        let sojourn = if (100..900).contains(&step) { ms(20) } else { ms(1) };
        let count = vars.count;
        let verdict = vars.on_dequeue(&params, now, sojourn, false, u32::MAX);
        // The recorder began with no count at all: its first row is the first packet.
        if verdict != CobaltVerdict::Pass || vars.count != count || step == 0 {
            found.push((now.as_nanos(), sojourn.as_nanos(), verdict, vars));
        }
    }
    assert!(rows.len() <= found.len(), "{}", found.len());
    for (row, (now, sojourn, verdict, vars)) in rows.iter().zip(found) {
        let number = |column: usize| row[column].as_u64().unwrap();
        let expected = match row[2].as_str().unwrap() {
            "drop" => CobaltVerdict::Drop,
            _ => CobaltVerdict::Pass,
        };
        assert_eq!((now, sojourn, verdict), (number(0), number(1), expected), "{row}");
        assert_eq!(u64::from(vars.count), number(3), "{row}");
        assert_eq!(u64::from(vars.inverse_root), number(4), "{row}");
        assert_eq!(vars.drop_next.as_nanos(), number(5), "{row}");
    }
}

#[test]
fn blue_steps_at_most_once_a_target_and_ignores_ecn() {
    let vectors = vectors();
    let step = |key: &str| vectors["blue"][key].as_u64().unwrap() as u32;
    let (up, down) = (step("p_inc_u32"), step("p_dec_u32"));
    let params = CobaltParams::new(ms(5), ms(100), Nanos::ZERO);
    let mut vars = CobaltVars::default();
    vars.on_full(&params, ms(1_000));
    assert_eq!(vars.probability, up);
    vars.on_full(&params, ms(1_005));
    assert_eq!(vars.probability, up, "not later than the target");
    vars.on_full(&params, Nanos::from_nanos(1_005_000_001));
    assert_eq!(vars.probability, 2 * up);
    for capable in [false, true] {
        let mut flooded = CobaltVars { dropping: false, count: 0, ..vars };
        let verdict = flooded.on_dequeue(&params, ms(2_000), ms(1), capable, 2 * up - 1);
        assert_eq!(verdict, CobaltVerdict::Flood);
        let verdict = flooded.on_dequeue(&params, ms(2_000), ms(1), capable, 2 * up);
        assert_eq!(verdict, CobaltVerdict::Pass);
    }
    vars.on_empty(&params, ms(1_007));
    assert_eq!(vars.probability, 2 * up);
    vars.on_empty(&params, ms(1_011));
    assert_eq!(vars.probability, 2 * up - down);
    let mut most = CobaltVars { probability: u32::MAX - 1, ..CobaltVars::default() };
    most.on_full(&params, ms(1_000));
    assert_eq!(most.probability, u32::MAX);
    let mut least = CobaltVars { probability: 1, ..CobaltVars::default() };
    least.on_empty(&params, ms(1_000));
    assert_eq!(least.probability, 0);
}

#[test]
fn the_shaper_keeps_its_rate_within_a_packet_over_any_time() {
    for megabits in [1, 10, 100] {
        let rate = mbit(megabits);
        let (mut queue, mut tally) = (queue(rate), Tally::default());
        for number in 0..2_000 {
            offer(&mut queue, Nanos::ZERO, packet(number, 64 + number * 7 % 1400), &mut tally);
        }
        let out = drain(&mut queue, ms(5_000), &mut tally);
        let mut sent = 0u64;
        for (at, packet) in &out {
            let due = u128::from(at.as_nanos()) * u128::from(rate.bits_per_second()) / 8_000_000_000;
            // The clock rounds each packet's time down by less than a nanosecond.
            assert!((sent as f64 - due as f64).abs() < 1514.0, "{at}: {sent} of {due}");
            sent += u64::from(packet.bytes);
        }
        assert!(out.len() > 500, "{}", out.len());
    }
}

#[test]
fn an_idle_shaper_saves_nothing_up() {
    let (mut queue, mut tally) = (queue(mbit(10)), Tally::default());
    for start in [ms(0), ms(10_000)] {
        for flow in 0..2 {
            offer(&mut queue, start, packet(flow, FULL), &mut tally);
        }
        assert!(queue.take(start, &mut tally).is_some());
        assert_eq!(queue.take(start, &mut tally), None);
        let ready = queue.ready_at(start).unwrap();
        assert_eq!(ready, start.saturating_add(Nanos::from_nanos(1_211_200)));
        assert!(queue.take(ready, &mut tally).is_some());
        assert_eq!(queue.ready_at(ready), None);
    }
}

/// Bytes by host of what leaves in four seconds when every flow always has packets.
fn by_host(flows: &[(u32, u16)]) -> BTreeMap<u16, u64> {
    let (mut queue, mut tally) = (queue(mbit(10)), Tally::default());
    let frames = |flow: &(u32, u16)| Packet { host: flow.1, ..packet(flow.0, FULL) };
    for flow in flows {
        for _ in 0..3 {
            offer(&mut queue, Nanos::ZERO, frames(flow), &mut tally);
        }
    }
    let (mut now, mut bytes) = (Nanos::ZERO, BTreeMap::new());
    while now < ms(4_000) {
        let Some(taken) = queue.take(now, &mut tally) else {
            now = queue.ready_at(now).unwrap();
            continue;
        };
        // Each departure is replaced, so that only the round robin says who is next.
        offer(&mut queue, now, Packet { ecn: Ecn::NotEct, ..taken }, &mut tally);
        if now > ms(500) {
            *bytes.entry(taken.host).or_default() += u64::from(taken.bytes);
        }
    }
    bytes
}

#[test]
fn a_host_with_sixteen_flows_gets_what_a_host_with_one_gets() {
    let mut flows: Vec<(u32, u16)> = (0..16).map(|flow| (flow, 1)).collect();
    flows.push((100, 2));
    let bytes = by_host(&flows);
    let ratio = bytes[&1] as f64 / bytes[&2] as f64;
    // Turns of a sixteenth of a quantum are rounded by chance.
    assert!((ratio - 1.0).abs() < 0.1, "{bytes:?}");
}

#[test]
fn a_sparse_flow_leaves_with_the_next_packet() {
    // Hosts of their own and half-sized packets: whoever is first among the others may go on.
    let (mut queue, mut tally) = (queue(mbit(100)), Tally::default());
    for number in 0..400 {
        let flow = number % 8;
        offer(&mut queue, Nanos::ZERO, Packet { host: flow as u16, ..packet(flow, 700) }, &mut tally);
    }
    let mut now = Nanos::ZERO;
    let mut next = |queue: &mut Cake| {
        now = queue.ready_at(now).unwrap_or(now);
        (now, queue.take(now, &mut tally).unwrap().flow)
    };
    // Until the quantum that each had as a new flow is used up.
    for _ in 0..24 {
        next(&mut queue);
    }
    for number in 0..20 {
        let (now, _) = next(&mut queue);
        let sparse = Packet { host: 100, ..packet(100 + number, 106) };
        offer(&mut queue, now, sparse, &mut Tally::default());
        assert_eq!(next(&mut queue).1, sparse.flow);
    }
}

#[test]
fn overflow_takes_the_longest_flows_head_and_turns_blue_on() {
    let mut queue = Cake::new(100, mbit(10), Random::new(1));
    let mut tally = Tally::default();
    for number in 0..101 {
        offer(&mut queue, ms(1_000), Packet { number, ..packet(1, FULL) }, &mut tally);
    }
    offer(&mut queue, ms(1_000), packet(2, 106), &mut tally);
    assert_eq!(tally.drops.get("cake_overflow"), Some(&2));
    assert_eq!(queue.occupancy(), 100);
    let taken = queue.take(ms(1_000), &mut tally).unwrap();
    assert_eq!((taken.flow, taken.number), (FlowId(1), 2));
}

#[test]
fn a_flood_that_bears_ect_is_dropped_by_blue() {
    let mut queue = Cake::new(200, mbit(10), Random::new(1));
    let mut tally = Tally::default();
    let flood = Packet { ecn: Ecn::Ect0, ..packet(1, FULL) };
    constant_load(&mut queue, flood, [us(800), us(100)], ms(10_000), &mut tally);
    assert!(tally.drops["cake_blue"] > 500, "{tally:?}");
    assert_eq!(tally.drops.get("aqm"), None, "ECN-capable packets are never dropped by CoDel");
}

#[test]
fn a_flow_that_stops_is_forgiven_while_others_send() {
    let mut queue = Cake::new(200, mbit(10), Random::new(1));
    let mut tally = Tally::default();
    // Three packets at once every 5 ms: all but the last of a queue can be dropped.
    let lost = |queue: &mut Cake, flow: u32, start: u64, end: u64| {
        let mut tally = Tally::default();
        for now in (start..end).step_by(5).map(ms) {
            queue.offer(now, 0, &mut vec![packet(flow, 500); 3], &mut tally);
            let mut now = now;
            while let Some(at) = queue.ready_at(now).or((queue.occupancy() > 0).then_some(now)) {
                now = at;
                queue.take(now, &mut tally);
            }
        }
        tally.dropped()
    };
    constant_load(&mut queue, packet(1, FULL), [us(800), us(100)], ms(10_000), &mut tally);
    assert!(lost(&mut queue, 1, 15_000, 16_000) > 0);
    assert_eq!(lost(&mut queue, 2, 20_000, 60_000), 0);
    assert_eq!(lost(&mut queue, 1, 60_000, 61_000), 0);
}
