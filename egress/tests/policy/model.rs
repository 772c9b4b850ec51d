//! A port with classes on a virtual clock, and constant-rate traffic through it.

use std::cell::Cell;

use weir_aqm::{Bytes, FlowVars, Nanos, Pace};
use weir_egress::policy::{self, Action, Cause, ClassVars, Packet, Policy, Ruling, Situation, Work};
use weir_egress::{Queue, pace_word};
use weir_shared_maps::{
    AQM_CODEL, AQM_NONE, AqmState, ClassConfig, ClassPlace, DSCP_KEEP, FAIRNESS_NONE, FLAG_ECN, HostState,
    MODE_BOTTLENECK, MODE_POLICER, MetaHead, PacketMeta, PlanRates, PortConfig, SubscriberCodel,
    SubscriberMeter,
};
use zerocopy::FromZeros;

pub const MBIT: u64 = 1_000_000;
const MS: u64 = 1_000_000;
const BUCKETS: u32 = 256;

pub fn pace(bits: u64) -> Pace {
    Pace::from_bits_per_second(bits).expect("a rate within range")
}

/// A class without guarantee, borrowing up to `rate`.
pub fn class(rate: u64) -> ClassConfig {
    let mut c = ClassConfig::new_zeroed();
    c.ceil_pace = pace_word(Some(pace(rate)));
    c.ceil_burst_ns = 20 * MS;
    (c.target_ns, c.interval_ns, c.limit_ns, c.t_update_ns) = (5 * MS, 100 * MS, 20 * MS, 16 * MS);
    (c.alpha, c.beta) = (44, 879);
    (c.weight, c.aqm, c.fairness, c.flags) = (1, AQM_NONE, FAIRNESS_NONE, FLAG_ECN);
    (c.dscp, c.yellow, c.red) = (DSCP_KEEP, DSCP_KEEP, DSCP_KEEP);
    c
}

pub fn guaranteed(c: ClassConfig, bits: u64) -> ClassConfig {
    ClassConfig { rate_pace: pace_word(Some(pace(bits))), rate_burst_ns: 20 * MS, ..c }
}

/// A plan that guarantees `rate` and lets borrow up to `ceil`.
pub fn plan(rate: u64, ceil: u64) -> PlanRates {
    PlanRates {
        rate_pace: pace_word(Some(pace(rate))),
        ceil_pace: pace_word(Some(pace(ceil))),
        rate_burst_ns: 20 * MS,
        ceil_burst_ns: 20 * MS,
    }
}

/// A frame that is offered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Frame {
    pub class: usize,
    pub length: u64,
    /// Bytes of the frames that follow it in one packet (GSO).
    pub rest: u64,
    pub flow: u32,
    pub host: u32,
    pub subscriber: u32,
    pub ecn: u8,
    pub dscp: u8,
}

pub struct Member {
    pub config: ClassConfig,
    pub place: ClassPlace,
    pub vars: ClassVars,
    /// Peak and committed word of its policer.
    pub policer: [Cell<Nanos>; 2],
    flows: Vec<FlowVars>,
    hosts: Vec<HostState>,
}

pub struct Port {
    pub config: PortConfig,
    pub policy: Policy,
    pub classes: Vec<Member>,
    pub subscribers: Vec<(PlanRates, SubscriberMeter, SubscriberCodel)>,
    /// The real queue in bottleneck mode: when it was looked at, bytes in it, and its true rate.
    ring: Option<(Nanos, f64, u64)>,
}

impl Port {
    /// A port of `rate`. Ranks are the classes' priorities in order.
    pub fn policer(rate: u64, classes: Vec<ClassConfig>) -> Self {
        let mut config = PortConfig::new_zeroed();
        let own = pace(rate);
        (config.pace_mult, config.pace_shift, config.mode) = (own.mult(), own.shift(), MODE_POLICER);
        (config.max_packet_bytes, config.ring_slots, config.reserve_slots) = (1_514, 1_000, 64);
        let mut priorities: Vec<u32> = classes.iter().map(|c| c.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        let classes = classes
            .into_iter()
            .map(|config| Member {
                config,
                place: ClassPlace {
                    rank: priorities.iter().filter(|&&p| p < config.priority).count() as u32,
                    ranks: priorities.len() as u32,
                    port_grain: 6,
                    grain: 6,
                    flow_base: 0,
                    flow_mask: if config.fairness == FAIRNESS_NONE { u32::MAX } else { BUCKETS - 1 },
                },
                vars: ClassVars {
                    node: Default::default(),
                    aqm: AqmState::new_zeroed(),
                    share: Default::default(),
                    claims: Default::default(),
                },
                policer: Default::default(),
                flows: vec![FlowVars::default(); BUCKETS as usize],
                hosts: vec![HostState::new_zeroed(); BUCKETS as usize],
            })
            .collect();
        Self { config, policy: Policy::default(), classes, subscribers: Vec::new(), ring: None }
    }

    /// A port whose ring is the queue, drained at `rate`, which weir is not told.
    pub fn bottleneck(rate: u64, classes: Vec<ClassConfig>) -> Self {
        let mut port = Self::policer(rate, classes);
        (port.config.mode, port.config.limit_ns) = (MODE_BOTTLENECK, 25 * MS);
        (port.config.target_ns, port.config.interval_ns) = (5 * MS, 100 * MS);
        port.ring = Some((Nanos::ZERO, 0.0, rate));
        port
    }

    pub fn with_subscribers(mut self, plans: &[PlanRates]) -> Self {
        self.subscribers = plans
            .iter()
            .map(|&plan| (plan, SubscriberMeter::new_zeroed(), SubscriberCodel::new_zeroed()))
            .collect();
        for member in &mut self.classes {
            member.place.flow_mask = BUCKETS - 1;
        }
        self
    }

    pub fn backlog(&self) -> u64 {
        self.ring.map_or(0, |(_, bytes, _)| bytes as u64)
    }

    fn queue(&mut self, now: Nanos) -> Queue {
        let (mut backlog, mut measured) = (Bytes::ZERO, None);
        if let Some((at, bytes, rate)) = &mut self.ring {
            let left = now.saturating_sub(*at).as_nanos() as f64 * *rate as f64 / 8e9;
            (*bytes, *at) = ((*bytes - left).max(0.0), now.max(*at));
            backlog = Bytes::new(*bytes as u64);
            measured = Some(pace(*rate));
        }
        let head_sojourn = measured.map_or(Nanos::ZERO, |pace| pace.time_for(backlog));
        let occupancy = backlog.get().div_ceil(1_000) as u32;
        let slots = self.config.ring_slots;
        Queue { now, backlog, occupancy, slots, head_sojourn, pace: measured, ..Queue::NONE }
    }

    pub fn offer(&mut self, now: Nanos, frame: &Frame) -> Ruling {
        let queue = self.queue(now);
        let member = &mut self.classes[frame.class];
        let packet = Packet { now, cost: Bytes::new(frame.length), ecn: frame.ecn, dscp: frame.dscp };
        let mut work = Work::default();
        assert!(work.begin(&self.config, &member.config, &member.place, &queue, &packet));
        work.follow(Bytes::new(frame.rest));
        let meta = PacketMeta {
            head: MetaHead { magic: 0, ip_version: 4, l3_offset: 14 },
            class: 0,
            plan: 0,
            subscriber: frame.subscriber,
            flow_hash: frame.flow.wrapping_mul(0x9e37_79b9),
            source_hash: frame.host.wrapping_mul(0x85eb_ca6b),
            destination_hash: 0,
        };
        let mut subscriber = self.subscribers.get_mut((frame.subscriber as usize).wrapping_sub(1));
        let (rates, meter, codel) = match &mut subscriber {
            Some((rates, meter, codel)) => (Some(&*rates), Some(meter), Some(codel)),
            None => (None, None, None),
        };
        work.find(&member.config, &member.place, &meta, rates);
        let key = *work.key();
        let situation = Situation {
            policy: &mut self.policy.vars,
            class: &mut member.vars,
            flow: member.flows.get_mut(key.flow as usize),
            group: member.hosts.get_mut(key.group as usize),
            rates,
            meter,
            codel,
        };
        let [peak, committed] = &member.policer;
        if !work.police(&member.config, peak, committed) {
            policy::decide(&policy::Direct, &mut work, &member.config, situation);
        }
        let ruling = *work.ruling();
        if let (Some((_, bytes, _)), Action::Accept | Action::Mark) = (&mut self.ring, ruling.action) {
            *bytes += (frame.length + frame.rest) as f64;
        }
        ruling
    }

    /// Takes the charge of a frame back that was accepted.
    pub fn give_back(&mut self, frame: &Frame, guaranteed: bool) {
        let queue = self.queue(Nanos::ZERO);
        let member = &mut self.classes[frame.class];
        let packet = Packet { now: Nanos::ZERO, cost: Bytes::new(frame.length), ecn: 0, dscp: 0 };
        let mut work = Work::default();
        assert!(work.begin(&self.config, &member.config, &member.place, &queue, &packet));
        let situation = Situation {
            policy: &mut self.policy.vars,
            class: &mut member.vars,
            flow: None,
            group: None,
            rates: None,
            meter: None,
            codel: None,
        };
        policy::refund(&policy::Direct, &work, guaranteed, situation);
    }
}

/// A constant-rate source.
#[derive(Clone, Copy)]
pub struct Source {
    pub frame: Frame,
    pub bits_per_second: u64,
}

pub fn source(class: usize, bits_per_second: u64) -> Source {
    Source { frame: Frame { class, length: 1_000, ..Frame::default() }, bits_per_second }
}

/// Accepted bits per second of each source, from the second second on, and the drops of each.
pub struct Outcome {
    pub rates: Vec<u64>,
    pub drops: Vec<Vec<Cause>>,
    pub marks: Vec<usize>,
    pub backlog_max: u64,
}

impl Outcome {
    pub fn total(&self) -> u64 {
        self.rates.iter().sum()
    }
}

/// Runs sources for `seconds` after one of settling; gaps vary by a tenth, arrivals share a timestamp in batches of 50 us.
pub fn run(port: &mut Port, sources: &[Source], seconds: u64) -> Outcome {
    let mut state = 9u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 48
    };
    let mut next: Vec<u64> = sources.iter().map(|_| random() * 10).collect();
    let n = sources.len();
    let mut outcome =
        Outcome { rates: vec![0; n], drops: vec![Vec::new(); n], marks: vec![0; n], backlog_max: 0 };
    loop {
        let i = (0..n).min_by_key(|&i| next[i]).expect("a source");
        let at = next[i];
        if at >= (seconds + 1) * 1_000_000_000 {
            outcome.rates.iter_mut().for_each(|bytes| *bytes = *bytes * 8 / seconds);
            return outcome;
        }
        let frame = sources[i].frame;
        let length = frame.length + frame.rest;
        let gap = length * 8_000_000_000 / sources[i].bits_per_second;
        next[i] = at + gap * 9 / 10 + gap / 5 * random() / 65_536;
        let ruling = port.offer(Nanos::from_nanos(5_000_000_000 + at / 50_000 * 50_000), &frame);
        if at < 1_000_000_000 {
            continue;
        }
        outcome.backlog_max = outcome.backlog_max.max(port.backlog());
        match ruling.action {
            Action::Accept => outcome.rates[i] += length,
            Action::Mark => {
                outcome.rates[i] += length;
                outcome.marks[i] += 1;
            }
            Action::Drop(cause) => outcome.drops[i].push(cause),
        }
    }
}

/// Whether `got` is within `percent` of `want`.
pub fn within(got: u64, want: u64, percent: u64) -> bool {
    got.abs_diff(want) * 100 <= want * percent
}

pub fn codel(c: ClassConfig) -> ClassConfig {
    ClassConfig { aqm: AQM_CODEL, ..c }
}
