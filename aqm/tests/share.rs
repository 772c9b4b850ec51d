//! Phantom queues that share a drain: against water-filling done queue by queue, and against clocks and weights.
#![allow(clippy::expect_used, clippy::indexing_slicing)] // the helpers of tests are tests too

use proptest::prelude::*;
use serde_json::Value;
use weir_aqm::share::{ShareParams, ShareVars, TagVars, WEIGHT_MAX};
use weir_aqm::{Bytes, Nanos, Pace};

const PARAMS: ShareParams = ShareParams { grain_shift: 10 };
const ONE: u64 = 1 << 16;

fn pace(bits: u64) -> Pace {
    Pace::from_bits_per_second(bits).expect("a rate within range")
}

/// Water-filling done literally.
#[derive(Default)]
struct Oracle {
    queues: Vec<(f64, f64)>,
}

impl Oracle {
    fn charge(&mut self, flow: usize, weight: u32, bytes: u64) {
        if self.queues.len() <= flow {
            self.queues.resize(flow + 1, (0.0, 1.0));
        }
        self.queues[flow].0 += bytes as f64;
        self.queues[flow].1 = f64::from(weight);
    }

    /// Gives back what nobody needed.
    fn drain(&mut self, mut budget: f64) -> f64 {
        let mut order: Vec<usize> = (0..self.queues.len()).filter(|&i| self.queues[i].0 > 0.0).collect();
        order.sort_by(|&a, &b| {
            let need = |i: usize| self.queues[i].0 / self.queues[i].1;
            need(a).total_cmp(&need(b))
        });
        let mut weight: f64 = order.iter().map(|&i| self.queues[i].1).sum();
        let mut level = 0.0;
        for (at, &i) in order.iter().enumerate() {
            let (queue, own) = self.queues[i];
            let need = (queue / own - level) * weight;
            if need > budget {
                level += budget / weight;
                for &rest in &order[at..] {
                    self.queues[rest].0 -= level * self.queues[rest].1;
                }
                return 0.0;
            }
            budget -= need;
            level = queue / own;
            weight -= own;
            self.queues[i].0 = 0.0;
        }
        budget
    }

    fn backlog(&self) -> f64 {
        self.queues.iter().map(|queue| queue.0).sum()
    }
}

/// A small reproducible generator (PCG-XSH-RR 64/32 without its stream).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        let state = self.0;
        self.0 = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((state >> 18) ^ state) >> 27) as u32
    }

    fn below(&mut self, end: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(end)) >> 32) as u32
    }
}

struct Errors {
    flows: Vec<f64>,
    backlog: f64,
}

/// 60,000 arrivals of 256 flows at 110 % of the drain, some far above their share, some far below.
fn compare(params: ShareParams, weight_of: impl Fn(usize) -> u32) -> Errors {
    const FLOWS: usize = 256;
    let (mut share, mut oracle, mut random) = (ShareVars::default(), Oracle::default(), Random(7));
    let mut tags = [TagVars::default(); FLOWS];
    let mut errors = Errors { flows: Vec::new(), backlog: 0.0 };
    let (mut offered, mut drained) = (0u64, 0u64);
    for arrival in 0..60_000u64 {
        // A square makes a few flows heavy.
        let flow = (random.below(256) * random.below(256) / 256) as usize;
        let length = [64, 576, 1514][random.below(3) as usize];
        offered += length;
        let budget = (offered * 10 / 11).saturating_sub(drained);
        drained += budget;
        let _ = share.serve(&params, budget * ONE);
        oracle.drain(budget as f64);
        // Each flow holds at most 64 kB, as a cap would have it.
        if share.queue(&params, &tags[flow]).get() < 64_000 {
            let weight = weight_of(flow);
            share.charge(&params, &mut tags[flow], weight, Bytes::new(length));
            oracle.charge(flow, weight, length);
        }
        if arrival % 16 == 0 {
            let total = oracle.backlog().max(1.0);
            errors.backlog =
                errors.backlog.max((share.backlog().get() as f64 - total).abs() / total.max(50_000.0));
            for (tag, &(want, _)) in tags.iter().zip(&oracle.queues) {
                if want > 0.0 || share.queue(&params, tag) > Bytes::ZERO {
                    errors.flows.push((share.queue(&params, tag).get() as f64 - want).abs());
                }
            }
        }
    }
    errors.flows.sort_by(f64::total_cmp);
    errors
}

fn quantile(sorted: &[f64], q: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * q) as usize]
}

#[test]
fn queues_are_those_of_exact_water_filling_within_a_packet() {
    let errors = compare(ShareParams::for_horizon(64_000), |_| 1);
    let (p50, p99) = (quantile(&errors.flows, 0.5), quantile(&errors.flows, 0.99));
    println!("p50 {p50:.0} B, p99 {p99:.0} B, backlog {:.3} %", errors.backlog * 100.0);
    assert!(errors.flows.len() > 10_000);
    assert!(p99 < 1500.0, "{p99}");
    assert!(errors.backlog < 0.01, "{}", errors.backlog);
    // What a longer horizon costs: 16 times as much room, errors of a packet.
    let errors = compare(PARAMS, |_| 1);
    let p99 = quantile(&errors.flows, 0.99);
    println!("grain 1024: p99 {p99:.0} B, backlog {:.3} %", errors.backlog * 100.0);
    assert!(p99 < 2.0 * 1514.0 && errors.backlog < 0.02, "{p99} {}", errors.backlog);
}

#[test]
fn weighted_queues_are_those_of_exact_water_filling_within_a_packet() {
    let errors = compare(ShareParams::for_horizon(64_000), |flow| 1 + (flow % 4) as u32);
    assert!(quantile(&errors.flows, 0.99) < 1500.0, "{}", quantile(&errors.flows, 0.99));
    assert!(errors.backlog < 0.01, "{}", errors.backlog);
}

#[test]
fn the_published_water_fillings_are_met() {
    let vectors: Value = serde_json::from_str(include_str!("vectors/bcpqp.json")).unwrap();
    let params = ShareParams { grain_shift: 6 };
    for case in vectors["waterfill"].as_array().unwrap() {
        let mut share = ShareVars::default();
        let queues = case["q"].as_array().unwrap();
        let mut tags = vec![TagVars::default(); queues.len()];
        for (tag, queue) in tags.iter_mut().zip(queues) {
            share.charge(&params, tag, 1, Bytes::new(queue.as_u64().unwrap()));
        }
        let total: u64 = queues.iter().map(|queue| queue.as_u64().unwrap()).sum();
        let tokens = case["tokens"].as_u64().unwrap();
        let spare = share.serve(&params, tokens * ONE);
        assert_eq!(spare, tokens.saturating_sub(total) * ONE, "{case}");
        for (tag, want) in tags.iter().zip(case["after"].as_array().unwrap()) {
            let got = share.queue(&params, tag).get() as f64;
            // An empty queue keeps its part until its bucket's end, 64 bytes wide at this distance or 8/15 of it.
            let want = want.as_f64().unwrap();
            assert!((got - want).abs() <= 64.0_f64.max(want * 8.0 / 15.0), "{case}: {got}");
        }
    }
}

#[test]
fn one_active_queue_gets_the_whole_drain() {
    let (mut share, mut tags) = (ShareVars::default(), [TagVars::default(); 4]);
    let mut accepted = 0u64;
    // Three were active once.
    for tag in &mut tags {
        share.charge(&PARAMS, tag, 1, Bytes::new(3000));
    }
    for us in 0..1_000_000u64 {
        let _ = share.drain_timed(&PARAMS, pace(10_000_000), Nanos::from_micros(us));
        if share.queue(&PARAMS, &tags[0]).get() < 10_000 {
            share.charge(&PARAMS, &mut tags[0], 1, Bytes::new(100));
            accepted += 100;
        }
    }
    // 1.25 MB in a second, less 12 kB for what stood at first, plus the 10 kB that stand now.
    assert!((1_250_000 - 12_000..=1_250_000 + 100).contains(&accepted), "{accepted}");
}

#[test]
fn a_century_of_silence_empties_everything_in_one_step() {
    let (mut share, mut tags) = (ShareVars::default(), vec![TagVars::default(); 1000]);
    let now = Nanos::from_secs(1);
    let _ = share.drain_timed(&PARAMS, pace(1_000_000), now);
    for (i, tag) in tags.iter_mut().enumerate() {
        share.charge(&PARAMS, tag, 1 + i as u32, Bytes::new(1000 * i as u64));
    }
    let later = Nanos::from_secs(100 * 365 * 86_400);
    let _ = share.drain_timed(&PARAMS, pace(1_000_000), later);
    assert_eq!((share.backlog(), share.weight, share.occupied), (Bytes::ZERO, 0, 0));
    assert!(tags.iter().all(|tag| share.queue(&PARAMS, tag) == Bytes::ZERO));
    // And a queue that comes back stands where its packet puts it.
    share.charge(&PARAMS, &mut tags[7], 1, Bytes::new(1514));
    assert_eq!(share.queue(&PARAMS, &tags[7]), Bytes::new(1514));
}

#[test]
fn a_clock_that_steps_back_neither_drains_nor_freezes() {
    let (mut share, mut tag) = (ShareVars::default(), TagVars::default());
    let _ = share.drain_timed(&PARAMS, pace(8_000_000), Nanos::from_secs(10));
    share.charge(&PARAMS, &mut tag, 1, Bytes::new(100_000));
    for ns in [9_999_999_000, 9_999_500_000, 10_000_000_000, 10_000_000_000] {
        let _ = share.drain_timed(&PARAMS, pace(8_000_000), Nanos::from_nanos(ns));
        assert_eq!(share.queue(&PARAMS, &tag), Bytes::new(100_000));
    }
    // Back by seconds: nothing at once, and the drain goes on from there.
    let _ = share.drain_timed(&PARAMS, pace(8_000_000), Nanos::from_secs(3));
    assert_eq!(share.queue(&PARAMS, &tag), Bytes::new(100_000));
    let _ = share.drain_timed(&PARAMS, pace(8_000_000), Nanos::from_millis(3_010));
    let left = share.queue(&PARAMS, &tag).get();
    assert!((89_990..=90_010).contains(&left), "{left}");
}

#[test]
fn the_floor_keeps_phantom_queues_from_running_dry_before_the_real_one() {
    let (mut share, mut tags) = (ShareVars::default(), [TagVars::default(); 2]);
    let start = Nanos::from_secs(1);
    share.drain_anchored(&PARAMS, pace(100_000_000), 1 << 16, start, Bytes::ZERO);
    for tag in &mut tags {
        share.charge(&PARAMS, tag, 1, Bytes::new(50_000));
    }
    // The pace claims 1 s worth of 12.5 MB; the real queue still holds 60 kB.
    share.drain_anchored(&PARAMS, pace(100_000_000), 1 << 16, Nanos::from_secs(2), Bytes::new(60_000));
    assert_eq!(share.backlog(), Bytes::new(60_000));
    assert_eq!(share.queue(&PARAMS, &tags[1]), Bytes::new(30_000));
    // Half of the pace where nothing holds it: 12.5 MB/s for 1 ms.
    let later = Nanos::from_millis(2_001);
    share.drain_anchored(&PARAMS, pace(100_000_000), 1 << 15, later, Bytes::ZERO);
    assert!(share.backlog().get().abs_diff(53_750) <= 1, "{}", share.backlog());
}

#[test]
fn a_refund_undoes_a_charge() {
    let (mut share, mut tag) = (ShareVars::default(), TagVars::default());
    share.charge(&PARAMS, &mut tag, 3, Bytes::new(9000));
    let before = share;
    share.charge(&PARAMS, &mut tag, 3, Bytes::new(1514));
    share.refund(&PARAMS, &mut tag, Bytes::new(1514));
    assert!(share.backlog.abs_diff(before.backlog) <= 3);
    share.refund(&PARAMS, &mut tag, Bytes::new(20_000));
    assert_eq!((share.backlog, share.weight, share.occupied), (0, 0, 0));
}

#[test]
fn virtual_service_may_wrap() {
    let mut share = ShareVars { service: u64::MAX - 1000 * ONE, ..ShareVars::default() };
    let mut tags = [TagVars::default(); 2];
    share.charge(&PARAMS, &mut tags[0], 1, Bytes::new(40_000));
    share.charge(&PARAMS, &mut tags[1], 1, Bytes::new(500));
    let _ = share.serve(&PARAMS, 4_500 * ONE);
    assert_eq!(share.backlog(), Bytes::new(36_000));
    assert!(share.queue(&PARAMS, &tags[0]).get().abs_diff(36_000) <= 1024);
    assert_eq!(share.queue(&PARAMS, &tags[1]), Bytes::ZERO);
}

#[test]
fn a_horizon_is_held_by_the_finest_wheel_that_can() {
    assert_eq!(ShareParams::for_horizon(0).grain(), 64);
    let params = ShareParams::for_horizon(6_250_000);
    assert_eq!((params.grain(), params.horizon()), (1024, 7680 * 1024));
    assert_eq!(ShareParams::for_horizon(u64::MAX).grain(), 4096);
    let (mut share, mut tag) = (ShareVars::default(), TagVars::default());
    share.charge(&params, &mut tag, 1, Bytes::MAX);
    assert_eq!(share.queue(&params, &tag), Bytes::new(params.horizon()));
}

/// One step of a random history.
#[derive(Clone, Debug)]
enum Step {
    Charge { flow: usize, weight: u32, bytes: u64 },
    Refund { flow: usize, bytes: u64 },
    Serve { budget: u64 },
    Anchored { budget: u64, real: u64 },
    Forget { flow: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..24, 1u32..40, 1u64..9000).prop_map(|(flow, weight, bytes)| Step::Charge { flow, weight, bytes }),
        1 => (0usize..24, 1u64..3000).prop_map(|(flow, bytes)| Step::Refund { flow, bytes }),
        4 => (0u64..8000 * ONE).prop_map(|budget| Step::Serve { budget }),
        1 => (0u64..80_000 * ONE, 0u64..50_000).prop_map(|(budget, real)| Step::Anchored { budget, real }),
        1 => (0usize..24).prop_map(|flow| Step::Forget { flow }),
    ]
}

/// Sums over the wheel by its definition.
fn wheel_sums(share: &ShareVars) -> (u64, u64) {
    let held = share.buckets.iter().enumerate().filter(|(i, _)| share.occupied >> i & 1 == 1);
    held.fold((0, 0), |(weight, slack), (_, bucket)| (weight + bucket.weight, slack + bucket.slack))
}

proptest! {
    #[test]
    fn the_sums_are_those_of_the_queues_after_any_history(
        grain_shift in 6u32..13,
        evicting in any::<bool>(),
        steps in prop::collection::vec(step(), 1..400),
    ) {
        let params = ShareParams { grain_shift };
        let (mut share, mut tags) = (ShareVars::default(), [TagVars::default(); 24]);
        let (mut charged, mut served) = (0u128, 0u128);
        for step in steps {
            match step {
                Step::Charge { flow, weight, bytes } => {
                    let before = share.backlog;
                    share.charge(&params, &mut tags[flow], weight, Bytes::new(bytes));
                    charged += u128::from(bytes) * u128::from(ONE);
                    prop_assert!(share.backlog + u64::from(WEIGHT_MAX) >= before);
                    prop_assert!(share.queue(&params, &tags[flow]).get() + 1 >= bytes.min(params.horizon()));
                }
                Step::Refund { flow, bytes } => share.refund(&params, &mut tags[flow], Bytes::new(bytes)),
                Step::Serve { budget } => {
                    let spare = share.serve(&params, budget);
                    served += u128::from(budget - spare.min(budget));
                }
                Step::Anchored { budget, real } => {
                    let before = share.backlog();
                    share.serve_down_to(&params, budget, Bytes::new(real));
                    prop_assert!(share.backlog() >= before.min(Bytes::new(real)));
                }
                // A flow table that evicts: what stands drains as if it were a flow's.
                Step::Forget { flow } => {
                    if evicting {
                        tags[flow] = TagVars::default();
                    }
                }
            }
            let (weight, slack) = wheel_sums(&share);
            prop_assert_eq!(weight, share.weight);
            prop_assert!(slack >> 50 == 0 && share.backlog >> 50 == 0, "an underflow");
            let queues: u64 = tags.iter().map(|tag| share.queue(&params, tag).get()).sum();
            if !evicting {
                // Queues hold at least the net backlog; what is above it was served too much and comes back.
                prop_assert!(queues + 25 >= share.backlog().get(), "{queues} {}", share.backlog());
                let active: u64 = tags.iter().filter(|tag| share.queue(&params, tag) > Bytes::new(1))
                    .map(|tag| u64::from(tag.weight)).sum();
                prop_assert!(active <= share.weight);
            }
            prop_assert_eq!(share.weight == 0, share.occupied == 0);
        }
        prop_assert!(served <= charged + u128::from(share.credit) + 400 * u128::from(WEIGHT_MAX));
    }
}
