//! What follows from all classes of a port for each: its place among the priorities, its flow buckets, the grain of its shares.

use weir_aqm::{Bytes, Nanos, ShareParams};
use weir_egress::pace_of_word;
use weir_shared_maps::{
    ClassConfig, ClassPlace, FAIRNESS_DESTINATION_FLOW, FAIRNESS_SOURCE_FLOW, FLOW_BUCKETS, MODE_BOTTLENECK,
    PortConfig, SUBSCRIBER_BUCKETS_MAX,
};

use super::model::{Class, Fairness};
use crate::config::Config;
use crate::config::model::Port;

/// Packets that a phantom queue holds beyond what its limit says.
const SPARE_FRAMES: u64 = 4;
/// Flows of a host or subscriber share its weight; a quarter of a host's is what the wheel has room for with certainty.
const GROUP_WEIGHT: u64 = 15;

/// Flow buckets that a class needs; 0 where nothing shares it.
fn buckets(config: &Config, port: &Port, class: &Class) -> u32 {
    if port.subscribers.is_some() {
        let subscribers = u32::try_from(config.policy.subscribers.len()).unwrap_or(u32::MAX);
        return subscribers.saturating_add(1).clamp(FLOW_BUCKETS, SUBSCRIBER_BUCKETS_MAX).next_power_of_two();
    }
    match class.fairness {
        Fairness::None => 0,
        Fairness::Flow | Fairness::SourceHost | Fairness::DestinationHost | Fairness::HostFlow => {
            FLOW_BUCKETS
        }
    }
}

/// Flow buckets of all classes.
pub fn all_buckets(config: &Config) -> u32 {
    let ports = config.ports.iter();
    ports.flat_map(|port| port.classes.iter().map(move |class| buckets(config, port, class))).sum()
}

/// The places of a port's classes. `first` is the first flow bucket that is free; the second result is the next one.
pub fn places(
    config: &Config,
    port: &Port,
    encoded: &PortConfig,
    classes: &[ClassConfig],
    first: u32,
) -> (Vec<ClassPlace>, u32) {
    let mut priorities: Vec<u32> = classes.iter().map(|class| class.priority).collect();
    priorities.sort_unstable();
    priorities.dedup();
    let lightest = classes.iter().map(|class| u64::from(class.weight)).min().unwrap_or(1);
    let longest = classes.iter().map(|class| class.limit_ns.max(class.ceil_burst_ns)).max().unwrap_or(0);
    let port_grain =
        grain(encoded, weir_egress::pace_word(weir_egress::pace_from_map(encoded)), longest, lightest);
    let mut free = first;
    let places = port.classes.iter().zip(classes).map(|(class, entry)| {
        let buckets = buckets(config, port, class);
        let place = ClassPlace {
            rank: priorities.iter().filter(|&&priority| priority < entry.priority).count() as u32,
            ranks: priorities.len() as u32,
            port_grain,
            grain: grain(
                encoded,
                entry.ceil_pace,
                entry.limit_ns.max(entry.ceil_burst_ns),
                sharing(config, port, entry),
            ),
            flow_base: free,
            flow_mask: buckets.wrapping_sub(1),
        };
        free += buckets;
        place
    });
    (places.collect(), free)
}

/// The least weight of who shares a class.
fn sharing(config: &Config, port: &Port, class: &ClassConfig) -> u64 {
    if port.subscribers.is_some() {
        let weights = config.policy.plans.iter().map(|plan| {
            let plan = super::encode::plan_config(plan);
            let weight = weir_egress::policy::subscriber_weight;
            u64::from(weight(&plan.down).min(weight(&plan.up)))
        });
        return weights.min().unwrap_or(1).max(1);
    }
    match class.fairness {
        FAIRNESS_SOURCE_FLOW | FAIRNESS_DESTINATION_FLOW => GROUP_WEIGHT,
        _ => 1,
    }
}

/// The finest wheel that has room for what waits `longest` at a rate, or for a full ring, for one of `weight`.
fn grain(port: &PortConfig, pace: u64, longest: u64, weight: u64) -> u32 {
    let frame = u64::from(port.max_packet_bytes);
    let ring = u64::from(port.ring_slots.max(1)) * frame;
    let held = match pace_of_word(pace) {
        Some(pace) if port.mode != MODE_BOTTLENECK => pace.bytes_in(Nanos::from_nanos(longest)).get(),
        Some(pace) => pace.bytes_in(Nanos::from_nanos(longest)).max(Bytes::new(ring)).get(),
        None => ring,
    };
    ShareParams::for_horizon(held / weight.max(1) + SPARE_FRAMES * frame).grain_shift
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::encode::{PortFacts, port_config};
    use crate::config::policy::encode::class_config;

    fn place(text: &str) -> Vec<ClassPlace> {
        let config = Config::from_toml_str("test.toml", text).unwrap();
        let facts = PortFacts::TAP;
        let port = &config.ports[0];
        let encoded = port_config(port, &facts).unwrap();
        let classes: Vec<ClassConfig> =
            port.classes.iter().map(|class| class_config(class, port, &encoded)).collect();
        places(&config, port, &encoded, &classes, 0).0
    }

    #[test]
    fn priorities_become_ranks_and_classes_that_share_get_buckets_of_their_own() {
        let places = place(
            "instance = \"a\"\n[[ingress]]\ndevice = \"lan0\"\n[[port]]\ndevice = \"wan0\"\nmode = \"policer\"\n\
             rate = \"100mbit\"\n[[port.class]]\nname = \"a\"\npriority = 7\nfairness = \"flow\"\n[[port.class]]\n\
             name = \"b\"\npriority = 2\n[[port.class]]\nname = \"c\"\nfairness = \"host+flow\"\n",
        );
        let ranks: Vec<_> = places.iter().map(|place| (place.rank, place.ranks)).collect();
        assert_eq!(ranks, [(2, 3), (0, 3), (1, 3)]);
        let flows: Vec<_> = places.iter().map(|place| (place.flow_base, place.flow_mask)).collect();
        assert_eq!(flows, [(0, 1_023), (1_024, u32::MAX), (1_024, 1_023)]);
    }
}
