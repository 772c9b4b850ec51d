//! The drain-rate estimate: a packetised FIFO, observed at each arrival.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // the helpers of tests are tests too

use proptest::prelude::*;
use std::collections::VecDeque;
use weir_aqm::{Bytes, DrainParams, DrainVars, Nanos, Pace};

/// A FIFO that serves whole packets at a rate and is observed right after each arrival.
struct Fifo {
    vars: DrainVars,
    params: DrainParams,
    now: u64,
    /// Departure time and size of what is queued.
    queue: VecDeque<(u64, u64)>,
    left: u64,
    backlog: u64,
    free_at: u64,
}

impl Fifo {
    fn new() -> Self {
        Self {
            vars: DrainVars::default(),
            params: DrainParams::default(),
            now: 1_000_000_000,
            queue: VecDeque::new(),
            left: 0,
            backlog: 0,
            free_at: 0,
        }
    }

    fn arrive(&mut self, bytes: u64, bits: u64) {
        let end = self.free_at.max(self.now) + bytes * 8_000_000_000 / bits;
        self.free_at = end;
        self.queue.push_back((end, bytes));
        self.backlog += bytes;
    }

    fn observe(&mut self) {
        while let Some(&(end, bytes)) = self.queue.front()
            && end <= self.now
        {
            self.queue.pop_front();
            self.left += bytes;
            self.backlog -= bytes;
        }
        let now = Nanos::from_nanos(self.now);
        self.vars.on_observation(&self.params, now, self.left, Bytes::new(self.backlog));
    }

    /// Until `bytes` have left: keeps 8 kB queued, and observes after each departure, late by up to the packet's
    /// own time.
    fn run(&mut self, bits: u64, bytes: u64, sizes: &[u64], jitter: &[u64]) {
        let end = self.left + bytes;
        let (mut size, mut jitter) = (sizes.iter().cycle(), jitter.iter().cycle());
        while self.left < end {
            while self.backlog < 8_000 {
                self.arrive(*size.next().unwrap(), bits);
            }
            let (departs, bytes) = self.queue[0];
            self.now = self.now.max(departs) + bytes * 8_000_000_000 / bits * jitter.next().unwrap() / 100;
            self.observe();
        }
    }

    fn error(&self, bits: u64) -> f64 {
        self.vars.pace().map_or(f64::INFINITY, |pace| pace.bits_per_second() as f64 / bits as f64 - 1.0)
    }
}

const MTU: &[u64] = &[1514];
const STEADY: &[u64] = &[37];

#[test]
fn nothing_is_known_at_first() {
    let vars = DrainVars::default();
    assert_eq!((vars.pace(), vars.predicted(Bytes::new(1))), (None, None));
}

#[test]
fn the_first_guess_comes_after_a_few_packets() {
    let mut fifo = Fifo::new();
    fifo.run(10_000_000, 6 * 1514, MTU, STEADY);
    assert_eq!(fifo.vars.samples, 0);
    assert!(fifo.error(10_000_000).abs() < 0.3, "{}", fifo.error(10_000_000));
    let wait = fifo.vars.predicted(Bytes::new(15_140)).unwrap();
    assert!(wait > Nanos::from_millis(9) && wait < Nanos::from_millis(16));
}

#[test]
fn an_idle_link_says_nothing_about_its_rate() {
    let mut fifo = Fifo::new();
    fifo.run(10_000_000, 1 << 20, MTU, STEADY);
    let known = fifo.vars.pace();
    // A packet every 10 ms on a link that could take eight: each finds the ring empty.
    for _ in 0..10_000 {
        fifo.now += 10_000_000;
        fifo.arrive(1514, 10_000_000);
        fifo.observe();
    }
    assert_eq!(fifo.vars.pace(), known);
}

#[test]
fn a_rate_step_of_ten_is_followed_within_a_mebibyte() {
    for (from, to) in [(100_000_000, 10_000_000), (10_000_000, 100_000_000), (20_000_000, 2_000_000)] {
        let mut fifo = Fifo::new();
        fifo.run(from, 1 << 20, MTU, STEADY);
        fifo.run(to, 4 * (16 * 1024 + 1514), MTU, STEADY);
        assert!(fifo.error(to).abs() < 0.3, "{from} to {to}, 4 windows: {}", fifo.error(to));
        fifo.run(to, 1 << 20, MTU, STEADY);
        assert!(fifo.error(to).abs() < 0.02, "{from} to {to}: {}", fifo.error(to));
    }
}

#[test]
fn a_pause_moves_the_estimate_by_one_weight_at_most() {
    let mut fifo = Fifo::new();
    fifo.run(10_000_000, 1 << 20, MTU, STEADY);
    let before = fifo.vars.pace().unwrap().bits_per_second() as f64;
    fifo.now += 2_000_000_000;
    for queued in &mut fifo.queue {
        queued.0 += 2_000_000_000;
    }
    fifo.free_at += 2_000_000_000;
    for _ in 0..40 {
        fifo.run(10_000_000, 1514, MTU, STEADY);
        let now = fifo.vars.pace().unwrap().bits_per_second() as f64;
        assert!(before / now < 1.0 + 1.0 / 8.0 + 0.02 && now / before < 1.02, "{before} to {now}");
    }
    fifo.run(10_000_000, 1 << 20, MTU, STEADY);
    assert!(fifo.error(10_000_000).abs() < 0.02);
}

#[test]
fn a_configured_rate_is_corrected_by_measurement() {
    let mut fifo = Fifo::new();
    let configured = Pace::from_bits_per_second(1_000_000_000).unwrap();
    fifo.vars.seed(configured);
    assert_eq!(fifo.vars.pace(), Some(configured));
    fifo.run(10_000_000, 1 << 20, MTU, STEADY);
    assert!(fifo.error(10_000_000).abs() < 0.02);
}

#[test]
fn a_head_or_clock_that_goes_backwards_starts_a_new_window() {
    let mut fifo = Fifo::new();
    fifo.run(10_000_000, 1 << 20, MTU, STEADY);
    let known = fifo.vars.pace();
    let (params, backlog) = (fifo.params, Bytes::new(100_000));
    let mut vars = fifo.vars;
    vars.on_observation(&params, Nanos::from_millis(1), fifo.left, backlog);
    vars.on_observation(&params, Nanos::from_millis(1), 0, backlog);
    vars.on_observation(&params, Nanos::ZERO, 50_000, backlog);
    vars.on_observation(&params, Nanos::from_secs(9), 5, backlog);
    assert_eq!(vars.pace(), known);
    assert_eq!((vars.window_start, vars.window_head), (Nanos::from_secs(9), 5));
}

proptest! {
    #[test]
    fn a_constant_rate_is_found_within_2_percent(
        bits in 1_000_000u64..1_000_000_000,
        sizes in prop::collection::vec(64u64..1515, 1..8),
        jitter in prop::collection::vec(0u64..100, 1..32),
    ) {
        let mut fifo = Fifo::new();
        fifo.run(bits, 1 << 20, &sizes, &jitter);
        prop_assert!(fifo.error(bits).abs() < 0.02, "{}", fifo.error(bits));
    }

    #[test]
    fn any_observations_leave_a_valid_or_no_estimate(
        steps in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 1..50),
        mult in any::<u32>(),
        shift in any::<u32>(),
    ) {
        let mut vars = DrainVars { mult, shift, samples: mult & 1, ..DrainVars::default() };
        for (now, head, backlog) in steps {
            let known = vars.pace().is_some();
            let now = Nanos::from_nanos(now);
            vars.on_observation(&DrainParams::default(), now, head, Bytes::new(backlog));
            prop_assert!(!known || vars.pace().is_some());
        }
    }
}
