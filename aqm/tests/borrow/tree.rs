//! A port with classes and subscribers, and constant-rate traffic through it.

use weir_aqm::borrow::{self, Admission, ClassParams, ClassVars, NodeParams, NodeVars, PortParams, PortVars};
use weir_aqm::gcra::{self, Conformance, GcraParams};
use weir_aqm::{Bytes, Nanos, Pace, ShareParams};

pub const MBIT: u64 = 1_000_000;

pub fn pace(bits: u64) -> Pace {
    Pace::from_bits_per_second(bits).expect("a rate within range")
}

/// A class with its subscribers.
pub struct Class {
    pub params: ClassParams,
    pub vars: ClassVars,
    pub subscribers: Vec<(NodeParams, NodeVars)>,
}

impl Class {
    /// `guaranteed` of 0 is none. Bursts of 6,000 bytes, room for 40 ms of `ceil`.
    pub fn new(guaranteed: u64, ceil: u64, weight: u32, priority: u32) -> Self {
        let own = (guaranteed > 0).then(|| pace(guaranteed));
        let room = Bytes::new(ceil / 8 * 40 / 1000);
        let params = ClassParams::new(own, pace(ceil), Bytes::new(6_000), room, weight, priority);
        Self { params, vars: ClassVars::default(), subscribers: Vec::new() }
    }

    pub fn subscriber(mut self, guaranteed: u64, ceil: u64, weight: u32) -> Self {
        let meter = |bits| GcraParams::with_burst(pace(bits), Bytes::new(6_000));
        let guaranteed = (guaranteed > 0).then(|| meter(guaranteed));
        self.subscribers.push((NodeParams { guaranteed, ceil: meter(ceil), weight }, NodeVars::default()));
        self
    }

    /// With the one subscriber of a class that has none.
    pub fn alone(self, ceil: u64) -> Self {
        self.subscriber(0, ceil, 1)
    }
}

/// Decides for a packet of (class, subscriber).
pub trait Policy {
    fn admit(&mut self, class: usize, subscriber: usize, now: Nanos, length: u64) -> Admission;
}

/// The tree of phantom queues.
pub struct Tree {
    pub port: PortParams,
    pub vars: PortVars,
    pub classes: Vec<Class>,
}

impl Tree {
    pub fn new(rate: u64, classes: Vec<Class>) -> Self {
        let port =
            PortParams { pace: pace(rate), share: ShareParams::for_horizon(rate / 8 / 20), priorities: 4 };
        Self { port, vars: PortVars::default(), classes }
    }
}

impl Policy for Tree {
    fn admit(&mut self, class: usize, subscriber: usize, now: Nanos, length: u64) -> Admission {
        let class = &mut self.classes[class];
        let (params, vars) = &mut class.subscribers[subscriber];
        let length = Bytes::new(length);
        borrow::admit(&self.port, &class.params, params, &mut self.vars, &mut class.vars, vars, now, length)
    }
}

/// The plainer way: what exceeds its guarantees passes while one meter for the port is below a mark, which is lower
/// for each lower priority. No shares are kept.
pub struct Marks {
    pub tree: Tree,
    pub port: GcraParams,
    pub tat: Nanos,
}

impl Marks {
    pub fn new(tree: Tree) -> Self {
        // As much burst as the tree has room for: 40 ms.
        let port = GcraParams { pace: tree.port.pace, tolerance: Nanos::from_millis(40) };
        Self { tree, port, tat: Nanos::ZERO }
    }

    fn meter(meter: &GcraParams, tat: &mut Nanos, now: Nanos, length: Bytes) -> bool {
        match gcra::conform(meter, *tat, now, length) {
            Conformance::Conform { tat: next } => *tat = next,
            Conformance::Exceed { .. } => return false,
        }
        true
    }
}

impl Policy for Marks {
    fn admit(&mut self, class: usize, subscriber: usize, now: Nanos, length: u64) -> Admission {
        let class = &mut self.tree.classes[class];
        let (params, vars) = &mut class.subscribers[subscriber];
        let length = Bytes::new(length);
        let start = if self.tat > now { self.tat } else { now };
        let charged = start.saturating_add(self.port.pace.time_for_rounded_up(length));
        let own =
            params.guaranteed.is_some_and(|meter| Self::meter(&meter, &mut vars.guaranteed_tat, now, length));
        if !own {
            let levels = u64::from(self.tree.port.priorities);
            let steps = levels - u64::from(class.params.priority);
            let mark = Nanos::from_nanos(self.port.tolerance.as_nanos() / levels * steps);
            if charged.saturating_sub(now) > mark {
                return Admission::ClassShare;
            }
            if !Self::meter(&params.ceil, &mut vars.ceil_tat, now, length) {
                return Admission::SubscriberCeil;
            }
        }
        self.tat = charged;
        if own { Admission::Guaranteed } else { Admission::Borrowed }
    }
}

/// A constant-rate source for one subscriber.
#[derive(Clone, Copy)]
pub struct Source {
    pub class: usize,
    pub subscriber: usize,
    pub bits_per_second: u64,
    pub length: u64,
    pub start: Nanos,
    pub stop: Nanos,
}

impl Source {
    pub fn new(class: usize, subscriber: usize, bits_per_second: u64) -> Self {
        Self { class, subscriber, bits_per_second, length: 1000, start: Nanos::ZERO, stop: Nanos::MAX }
    }
}

/// Accepted bits per second of each source from `from` to `until`, and the refusals by kind.
pub struct Outcome {
    pub rates: Vec<u64>,
    pub refusals: [u64; 4],
}

impl Outcome {
    pub fn total(&self) -> u64 {
        self.rates.iter().sum()
    }

    pub fn class(&self, sources: &[Source], class: usize) -> u64 {
        let of_class = sources.iter().zip(&self.rates).filter(|(source, _)| source.class == class);
        of_class.map(|(_, rate)| rate).sum()
    }
}

const START_NS: u64 = 5_000_000_000;

/// Runs sources; gaps vary by a tenth either way, arrivals share a timestamp in batches of 50 us.
pub fn run(policy: &mut impl Policy, sources: &[Source], from: Nanos, until: Nanos) -> Outcome {
    let mut state = 9u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 48
    };
    let mut next: Vec<u64> = sources.iter().map(|source| source.start.as_nanos() + random() * 10).collect();
    let mut outcome = Outcome { rates: vec![0; sources.len()], refusals: [0; 4] };
    loop {
        let i = (0..next.len()).min_by_key(|&i| next[i]).expect("a source");
        let (at, source) = (next[i], sources[i]);
        if at >= until.as_nanos() {
            let elapsed = until.as_nanos() - from.as_nanos();
            outcome.rates.iter_mut().for_each(|rate| *rate = *rate * 1_000_000 / (elapsed / 8_000));
            return outcome;
        }
        let gap = source.length * 8_000_000_000 / source.bits_per_second;
        next[i] = if at >= source.stop.as_nanos() {
            u64::MAX
        } else {
            at + gap * 9 / 10 + gap / 5 * random() / 65_536
        };
        let now = Nanos::from_nanos(START_NS + at / 50_000 * 50_000);
        let admission = policy.admit(source.class, source.subscriber, now, source.length);
        if at < from.as_nanos() {
            continue;
        }
        match admission {
            Admission::Guaranteed | Admission::Borrowed => outcome.rates[i] += source.length,
            Admission::SubscriberCeil => outcome.refusals[0] += 1,
            Admission::ClassCeil => outcome.refusals[1] += 1,
            Admission::SubscriberShare => outcome.refusals[2] += 1,
            Admission::ClassShare => outcome.refusals[3] += 1,
        }
    }
}
