//! Ports with classes, as the configuration would encode them (`src/config/policy` of the root crate).
#![allow(dead_code, reason = "each test has its own use for a part of it")]

use weir_aqm::Pace;
use weir_egress::pace_word;
use weir_shared_maps::{
    AQM_CODEL, CLASS_NONE, ClassConfig, ClassPlace, DIM_DSCP, DSCP_KEEP, FAIRNESS_NONE, FLAG_ECN,
    FLOW_BUCKETS, HASH_FLOW, HASH_SOURCE, MODE_BOTTLENECK, MODE_POLICER, PlanConfig, PlanRates, PortConfig,
    SIDE_SOURCE,
};
use weir_sim::queue::{PolicyConfig, Rules, Subscribers};
use weir_sim::{Contender, address, port_config};
use zerocopy::FromZeros;

const MS: u64 = 1_000_000;
/// Wheels from 64 bytes on, the finest there are.
const GRAIN: u32 = 6;

/// The word of a pace of so many Mbit/s.
pub fn pace(mbit: u64) -> u64 {
    pace_word(Pace::from_bits_per_second(mbit * 1_000_000))
}

/// A class of weight 1 with the port's AQM.
pub fn class() -> ClassConfig {
    let port = port_config();
    let mut class = ClassConfig::new_zeroed();
    (class.target_ns, class.interval_ns, class.limit_ns) = (port.target_ns, port.interval_ns, port.limit_ns);
    (class.t_update_ns, class.alpha, class.beta) = (port.t_update_ns, port.alpha, port.beta);
    (class.priority, class.weight, class.aqm, class.flags) = (4, 1, AQM_CODEL, FLAG_ECN);
    (class.fairness, class.dscp, class.yellow, class.red) = (FAIRNESS_NONE, DSCP_KEEP, DSCP_KEEP, DSCP_KEEP);
    class
}

/// A class with a guaranteed rate of so many Mbit/s.
pub fn guaranteed(mbit: u64) -> ClassConfig {
    ClassConfig { rate_pace: pace(mbit), rate_burst_ns: 10 * MS, ..class() }
}

/// A port whose ring is the queue; the class of a packet is its code point, and the last one's beyond.
pub fn bottleneck(classes: Vec<ClassConfig>) -> PolicyConfig {
    policy(PortConfig { mode: MODE_BOTTLENECK, ..port_config() }, classes)
}

/// The same at a rate of so many Mbit/s.
pub fn policer(mbit: u64, classes: Vec<ClassConfig>) -> PolicyConfig {
    let mut config = PortConfig { mode: MODE_POLICER, burst_ns: 10 * MS, ..port_config() };
    let word = pace(mbit);
    (config.pace_mult, config.pace_shift) = ((word >> 32) as u32, word as u32);
    let limited = |class: ClassConfig| ClassConfig { ceil_pace: word, ceil_burst_ns: 10 * MS, ..class };
    policy(config, classes.into_iter().map(limited).collect())
}

fn policy(port: PortConfig, classes: Vec<ClassConfig>) -> PolicyConfig {
    let count = classes.len() as u32;
    let mut priorities: Vec<u32> = classes.iter().map(|class| class.priority).collect();
    priorities.sort_unstable();
    priorities.dedup();
    let mut free = 0;
    let place = |class: &ClassConfig| {
        let buckets = if class.fairness == FAIRNESS_NONE { 0 } else { FLOW_BUCKETS };
        let place = ClassPlace {
            rank: priorities.iter().filter(|&&priority| priority < class.priority).count() as u32,
            ranks: priorities.len() as u32,
            port_grain: GRAIN,
            grain: GRAIN,
            flow_base: free,
            flow_mask: u32::wrapping_sub(buckets, 1),
        };
        free += buckets;
        place
    };
    let places = classes.iter().map(place).collect();
    let rules = Rules {
        start: (1 << count) - 1,
        dimensions: DIM_DSCP,
        dscp: (0..64).map(|dscp| if dscp < count { 1 << dscp } else { 0 }).collect(),
        classes: (0..count).collect(),
        ..Rules::default()
    };
    let port = PortConfig { classes: count, default_class: count - 1, ..port };
    PolicyConfig {
        port,
        classes,
        places,
        rules,
        hashes: HASH_FLOW | HASH_SOURCE,
        subscribers: Subscribers::default(),
    }
}

/// The port with subscribers behind it: host `n` is subscriber `n + 1`, with a guaranteed rate and a ceiling of so many Mbit/s.
pub fn subscribers(mut config: PolicyConfig, rates: &[(u64, u64)]) -> PolicyConfig {
    config.port.side = SIDE_SOURCE.into();
    for place in config.places.iter_mut().filter(|place| place.flow_mask == u32::MAX) {
        (place.flow_base, place.flow_mask) = (0, FLOW_BUCKETS - 1);
    }
    let burst_ns = 10 * MS;
    let limited = |&(rate, ceil): &(u64, u64)| PlanRates {
        rate_pace: pace(rate),
        ceil_pace: pace(ceil),
        rate_burst_ns: burst_ns,
        ceil_burst_ns: burst_ns,
    };
    let plan = |rates| PlanConfig { up: limited(rates), ..PlanConfig::new_zeroed() };
    let prefix = |plan: u16| (address::of_host(plan), 32, u32::from(plan) + 1);
    config.subscribers = Subscribers {
        plans: rates.iter().map(plan).collect(),
        plan_classes: vec![CLASS_NONE; rates.len()],
        members: std::iter::once(0).chain(0..rates.len() as u16).collect(),
        prefixes: (0..rates.len() as u16).map(prefix).collect(),
    };
    config
}

/// weir with such a port.
pub fn weir(config: PolicyConfig) -> Contender {
    Contender::WeirPolicy(Box::new(config))
}
