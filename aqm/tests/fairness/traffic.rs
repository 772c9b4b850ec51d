//! Open-loop traffic: constant-rate flows that do not react to drops, and what a gate lets through of them.

use weir_aqm::csfq::{CsfqParams, CsfqVars, RateVars};
use weir_aqm::fairness::{self, FairnessParams, FairnessVerdict, FlowVars};
use weir_aqm::share::ShareVars;
use weir_aqm::{Bytes, Nanos, Pace};

/// What decides on packets. Signals are drops here: nothing reacts to a mark.
pub trait Gate {
    /// Whether the packet goes on.
    fn accepts(&mut self, now: Nanos, flow: usize, length: u64, weight: u32) -> bool;
}

/// Per-flow phantom queues.
pub struct Phantom {
    pub params: FairnessParams,
    pub pace: Pace,
    pub share: ShareVars,
    pub flows: Vec<FlowVars>,
}

impl Phantom {
    pub fn new(rate: u64, cap: Nanos) -> Self {
        let pace = Pace::from_bits_per_second(rate).expect("a rate within range");
        let params = FairnessParams::new(pace, cap, Bytes::new(1514));
        Self { params, pace, share: ShareVars::default(), flows: vec![FlowVars::default(); 1024] }
    }
}

impl Gate for Phantom {
    fn accepts(&mut self, now: Nanos, flow: usize, length: u64, weight: u32) -> bool {
        let _ = self.share.drain_timed(&self.params.share, self.pace, now);
        let flow = &mut self.flows[flow];
        let verdict = fairness::judge(&self.params, &self.share, flow, self.pace, now);
        let accepts = verdict == FairnessVerdict::Accept;
        if accepts {
            self.share.charge(&self.params.share, &mut flow.tag, weight, Bytes::new(length));
        }
        accepts
    }
}

/// Rate estimates and random drops.
pub struct Csfq {
    pub params: CsfqParams,
    pub vars: CsfqVars,
    pub flows: Vec<RateVars>,
    pub random: Random,
}

impl Csfq {
    pub fn new(rate: u64, interval: Nanos) -> Self {
        let pace = Pace::from_bits_per_second(rate).expect("a rate within range");
        let params =
            CsfqParams { pace, interval, target: Nanos::from_millis(5), limit: Nanos::from_millis(200) };
        Self { params, vars: CsfqVars::default(), flows: vec![RateVars::default(); 1024], random: Random(11) }
    }
}

impl Gate for Csfq {
    fn accepts(&mut self, now: Nanos, flow: usize, length: u64, _weight: u32) -> bool {
        let (random, length) = (self.random.next(), Bytes::new(length));
        let verdict = self.vars.judge(&self.params, &mut self.flows[flow], now, length, random);
        let accepts = verdict == FairnessVerdict::Accept;
        if accepts {
            self.vars.charge(&self.params, now, length);
        }
        accepts
    }
}

/// A small reproducible generator (PCG-XSH-RR 64/32 without its stream).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u32 {
        let state = self.0;
        self.0 = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (((state >> 18) ^ state) >> 27) as u32;
        mixed.rotate_right((state >> 59) as u32)
    }
}

/// A constant-rate flow.
#[derive(Clone, Copy)]
pub struct Source {
    pub bits_per_second: u64,
    pub length: u64,
    pub weight: u32,
    pub start: Nanos,
    pub stop: Nanos,
}

impl Source {
    pub fn new(bits_per_second: u64, length: u64) -> Self {
        Self { bits_per_second, length, weight: 1, start: Nanos::ZERO, stop: Nanos::MAX }
    }
}

/// What became of each flow's bytes between `from` and the end.
pub struct Outcome {
    pub offered: Vec<u64>,
    pub accepted: Vec<u64>,
    /// Accepted bytes of all flows in each 100 ms from `from` on.
    pub windows: Vec<u64>,
}

impl Outcome {
    pub fn total(&self) -> u64 {
        self.accepted.iter().sum()
    }

    /// Jain's index of what was accepted (RFC 5166 section 2.3.4).
    pub fn jain(&self) -> f64 {
        let sum: f64 = self.accepted.iter().map(|&x| x as f64).sum();
        let squares: f64 = self.accepted.iter().map(|&x| (x as f64).powi(2)).sum();
        sum * sum / (self.accepted.len() as f64 * squares)
    }
}

const START_NS: u64 = 5_000_000_000;

/// Runs `sources` through a gate. Gaps vary by a tenth, so that flows do not lock step; batches of arrivals share a
/// timestamp of 50 us. Counting begins at `from`.
pub fn run(gate: &mut impl Gate, sources: &[Source], from: Nanos, until: Nanos) -> Outcome {
    let mut random = Random(3);
    let mut next: Vec<u64> =
        sources.iter().map(|source| source.start.as_nanos() + u64::from(random.next() >> 12)).collect();
    let windows = (until.as_nanos() - from.as_nanos()).div_ceil(100_000_000) as usize;
    let mut outcome = Outcome {
        offered: vec![0; sources.len()],
        accepted: vec![0; sources.len()],
        windows: vec![0; windows],
    };
    loop {
        let flow = (0..next.len()).min_by_key(|&i| next[i]).expect("a flow");
        let at = next[flow];
        if at >= until.as_nanos() {
            return outcome;
        }
        let source = sources[flow];
        let gap = source.length * 8 * 1_000_000_000 / source.bits_per_second;
        next[flow] = at + gap * 9 / 10 + gap / 5 * u64::from(random.next() >> 16) / 65_536;
        if at >= source.stop.as_nanos() {
            next[flow] = u64::MAX;
            continue;
        }
        let now = Nanos::from_nanos(START_NS + at / 50_000 * 50_000);
        let accepted = gate.accepts(now, flow, source.length, source.weight);
        if at >= from.as_nanos() {
            outcome.offered[flow] += source.length;
            if accepted {
                outcome.accepted[flow] += source.length;
                outcome.windows[((at - from.as_nanos()) / 100_000_000) as usize] += source.length;
            }
        }
    }
}
