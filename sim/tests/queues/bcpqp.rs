//! BC-PQP: sizing, water-filling, and what fluid models say of its counters.

use proptest::prelude::*;
use weir_aqm::{Nanos, Rate};
use weir_egress::Decision;
use weir_sim::{
    Packet, Random,
    queue::{BcPqp, BcPqpParams, Controller, View, WaterFilling, phantom_bytes},
};

use super::{ms, packet, parse};

const RING: View = View { occupancy: 0, slots: 1 };
/// 10 Mbit/s, the rate of the fluid checks.
const RATE: Rate = Rate::from_bits_per_second(10_000_000);
const LIMIT: u64 = 100_000;
const WINDOW: Nanos = Nanos::from_millis(200);
const BYTES: u32 = 1000;

fn vectors() -> serde_json::Value {
    parse(include_str!("../vectors/bcpqp.json"))
}

fn policer(window: Option<Nanos>) -> BcPqp {
    BcPqp::new(BcPqpParams { rate: RATE, classes: 1024, limit: LIMIT, window }, Random::new(1))
}

fn accepts(policer: &mut BcPqp, now: Nanos, packet: &Packet) -> bool {
    policer.begin_batch(now, RING);
    policer.judge(packet) == Decision::Accept
}

/// Accepted packets of flows that each send one each `interval`, between two times: when, and whose.
fn run(policer: &mut BcPqp, flows: &[(u32, Nanos)], from: Nanos, to: Nanos) -> Vec<(Nanos, u32)> {
    let mut next: Vec<Nanos> = flows.iter().map(|_| from).collect();
    let mut out = Vec::new();
    loop {
        let first = (0..flows.len()).min_by_key(|flow| next[*flow]).unwrap();
        let now = next[first];
        if now >= to {
            return out;
        }
        if accepts(policer, now, &packet(flows[first].0, BYTES)) {
            out.push((now, flows[first].0));
        }
        next[first] = now.saturating_add(flows[first].1);
    }
}

#[test]
fn counters_are_sized_as_the_paper_derives() {
    for row in vectors()["sizing"].as_array().unwrap() {
        let bits = (row["rate_mbps"].as_f64().unwrap() * 1e6).round() as u64;
        let rtt = Nanos::from_nanos((row["rtt_s"].as_f64().unwrap() * 1e9).round() as u64);
        let found = phantom_bytes(Rate::from_bits_per_second(bits), rtt);
        assert!(found.abs_diff(row["pqp_B_mss_units"].as_u64().unwrap()) <= 1, "{row}: {found}");
        if rtt == ms(100) {
            let limit = BcPqpParams::at_rate(Rate::from_bits_per_second(bits)).limit;
            // Ten times what was rounded before.
            assert!(limit.abs_diff(row["bcpqp_qlen_B_mss_units"].as_u64().unwrap()) <= 10, "{row}: {limit}");
        }
    }
}

#[test]
fn water_fills_as_published() {
    for row in vectors()["waterfill"].as_array().unwrap() {
        let q: Vec<u64> = row["q"].as_array().unwrap().iter().map(|q| q.as_u64().unwrap()).collect();
        let mut water = WaterFilling::new(q.len() as u32, RATE);
        for (counter, bytes) in (0..).zip(&q) {
            water.add(counter, *bytes);
        }
        water.drain(row["tokens"].as_u64().unwrap());
        for (counter, after) in (0..).zip(row["after"].as_array().unwrap()) {
            assert_eq!(water.bytes(counter) as f64, after.as_f64().unwrap(), "{row}");
        }
    }
}

/// The definition: equal shares to all that are not empty, until nothing is left to give.
fn fill_step_by_step(q: &mut [f64], mut tokens: f64) {
    loop {
        let active: Vec<usize> = (0..q.len()).filter(|i| q[*i] > 1e-9).collect();
        let Some(least) = active.iter().map(|i| q[*i]).min_by(f64::total_cmp) else { return };
        let step = least.min(tokens / active.len() as f64);
        active.iter().for_each(|i| q[*i] -= step);
        tokens -= step * active.len() as f64;
        if tokens < 1e-6 {
            return;
        }
    }
}

proptest! {
    #[test]
    fn water_filling_is_exact_over_any_arrivals_and_drains(
        steps in prop::collection::vec((0u32..6, 1u64..3000, 0u64..4000), 1..200)
    ) {
        let mut water = WaterFilling::new(6, RATE);
        let mut model = [0.0f64; 6];
        for (counter, bytes, tokens) in steps {
            water.add(counter, bytes);
            model[counter as usize] += bytes as f64;
            water.drain(tokens);
            fill_step_by_step(&mut model, tokens as f64);
            for (counter, held) in (0..).zip(model) {
                // A division's remainder is at most six 2^-16 bytes, and is carried; bytes are rounded up.
                prop_assert!((water.bytes(counter) as f64 - held).abs() <= 1.01, "{counter}: {held}");
            }
        }
    }
}

#[test]
fn what_division_leaves_over_is_not_lost() {
    let mut water = WaterFilling::new(3, RATE);
    (0..3).for_each(|counter| water.add(counter, 1000));
    (0..3000).for_each(|_| water.drain(1));
    assert_eq!([0, 1, 2].map(|counter| water.bytes(counter)), [0, 0, 0]);
}

#[test]
fn one_class_above_the_rate_gets_its_counter_and_then_the_rate() {
    for window in [None, Some(WINDOW)] {
        // 20 Mbit/s of 1,000-byte packets.
        let mut policer = policer(window);
        let out = run(&mut policer, &[(1, Nanos::from_micros(400))], ms(1_000), ms(4_000));
        let until = |end: Nanos| out.iter().filter(|(at, _)| *at < end).count() as u64;
        // All of the first 80 ms, to a packet: the counter grows by half of what arrives.
        assert!(until(ms(1_080)) >= 80_000 / 400 - 1, "{}", until(ms(1_080)));
        for start in (1_100..3_900).step_by(10) {
            let found = until(ms(start + 100)) - until(ms(start));
            assert!(found.abs_diff(125) <= 1, "{window:?} from {start} ms: {found}");
        }
    }
}

#[test]
fn the_only_class_with_traffic_gets_the_whole_rate() {
    let mut policer = policer(Some(WINDOW));
    // Others were there before.
    let flows = [1, 2, 3, 4].map(|flow| (flow, Nanos::from_micros(800)));
    run(&mut policer, &flows, ms(0), ms(1_000));
    let out = run(&mut policer, &flows[..1], ms(2_000), ms(3_000));
    assert!(out.len() >= 1_249, "{}", out.len());
}

#[test]
fn classes_share_equally_whatever_they_offer() {
    for window in [None, Some(WINDOW)] {
        let mut policer = policer(window);
        // 6, 12, 24 and 48 Mbit/s.
        let flows = [(1, 1333), (2, 667), (3, 333), (4, 167)].map(|(f, us)| (f, Nanos::from_micros(us)));
        let out = run(&mut policer, &flows, ms(0), ms(10_000));
        for (flow, _) in flows {
            let late = out.iter().filter(|(at, whose)| *at >= ms(5_000) && *whose == flow).count();
            // A quarter of 5 s at 1,250 packets a second.
            assert!(late.abs_diff(1_562) <= 2, "{window:?} flow {flow}: {late}");
        }
    }
}

#[test]
fn a_class_that_comes_back_gets_at_most_one_burst_above_its_share() {
    let limit = 1_000_000;
    for window in [None, Some(WINDOW)] {
        let mut policer =
            BcPqp::new(BcPqpParams { rate: RATE, classes: 1024, limit, window }, Random::new(1));
        let busy = (1, Nanos::from_micros(400));
        run(&mut policer, &[busy], ms(0), ms(10_000));
        let back = (2, Nanos::from_micros(100));
        let out = run(&mut policer, &[busy, back], ms(10_000), ms(10_200));
        let found = out.iter().filter(|(_, flow)| *flow == 2).count() as u64 * u64::from(BYTES);
        // Half of the rate for a window.
        let share = 1_250_000 / 2 / 5;
        let burst = if window.is_some() { share * 3 / 2 } else { limit };
        assert!(found <= burst + share + 2 * u64::from(BYTES), "{window:?}: {found}");
        // And without burst control it does get its whole counter.
        assert!(window.is_some() || found >= limit - u64::from(BYTES), "{found}");
    }
}

#[test]
fn magic_bytes_are_given_back_after_a_quiet_window_but_only_those_that_have_not_drained() {
    let params = BcPqpParams { rate: RATE, classes: 1, limit: 1_000_000, window: Some(WINDOW) };
    let mut policer = BcPqp::new(params, Random::new(1));
    let frame = packet(1, BYTES);
    // Alone, a share is 250,000 bytes. The packet that passes one and a half of them fills the counter.
    for number in 1..=376 {
        assert!(accepts(&mut policer, ms(1_000), &frame));
        assert_eq!(policer.held(&frame), if number < 376 { 1000 * number } else { 1_000_000 });
    }
    assert!(!accepts(&mut policer, ms(1_000), &frame));
    // 100,000 bytes more, behind 376,000 real and 624,000 magic ones: less than half of a share.
    for _ in 0..100 {
        assert!(accepts(&mut policer, ms(1_199), &frame));
    }
    assert_eq!(policer.held(&frame), 1_100_000 - 248_750);
    // Half a second after the fill 625,000 have drained: the first real ones and 249,000 of the magic. The window was quiet,
    // so the other 375,000 go. Giving back all 624,000 would take real bytes with them.
    assert!(accepts(&mut policer, ms(1_500), &frame));
    assert_eq!(policer.held(&frame), 101_000);
    // Once given back they are gone: the next quiet window takes nothing more.
    for _ in 0..100 {
        assert!(accepts(&mut policer, ms(1_699), &frame));
    }
    assert!(accepts(&mut policer, ms(1_700), &frame));
    assert_eq!(policer.held(&frame), 100_000 - 1_250 + 1_000);
}

#[test]
fn clones_share_their_counters() {
    let mut one = policer(None);
    let mut other = one.clone();
    let (mut alone, mut both) = (policer(None), 0);
    let mut expected = 0;
    for step in 0..1_000 {
        let now = Nanos::from_micros(100 * step);
        expected += u32::from(accepts(&mut alone, now, &packet(1, BYTES)));
        let ring = if step % 2 == 0 { &mut one } else { &mut other };
        both += u32::from(accepts(ring, now, &packet(1, BYTES)));
    }
    assert_eq!(both, expected);
    assert!(both < 1_000);
}
