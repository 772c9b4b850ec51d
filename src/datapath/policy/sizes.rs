//! How large the maps of a policy are.

use std::collections::BTreeMap;

use aya::EbpfLoader;
use ipnet::IpNet;
use weir_shared_maps::{
    DIM_DESTINATION_PORT, DIM_DSCP, DIM_PROTOCOL, DIM_SIZE, DIM_SOURCE_PORT, DIM_VLAN, ENTRY4_WORDS,
    ENTRY6_WORDS, MAX_CLASSES, MAX_PLANS, MAX_RULES, SIZE_ENTRIES, STICKY_BUCKETS, names,
};

use crate::config::Config;
use crate::config::back_off::moves_flows;
use crate::config::policy::compile::Compiled;
use crate::config::policy::place::all_buckets;
use crate::datapath::table::buckets_for;

/// Entries of the maps whose size depends on the policy. The default is that of a configuration without any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicySizes {
    /// Ports, where any of them has classes; else 0.
    ports: u32,
    /// `DIM_*` that the rules look at.
    dimensions: u32,
    /// Marks of the rules, and devices where packets arrive.
    values: [u32; 2],
    /// Prefixes of the rules: sources and destinations, IPv4 and IPv6.
    prefixes: [u32; 4],
    /// Subscribers that fit, nobody included.
    subscribers: u32,
    /// Buckets of the tables of their prefixes, IPv4 and IPv6.
    subscriber_buckets: [u32; 2],
    /// Plans that fit.
    plans: u32,
    /// Flow buckets of all classes, at least 1.
    buckets: u32,
    /// Buckets of flows that move between ways, at least 1.
    sticky: u32,
}

impl Default for PolicySizes {
    fn default() -> Self {
        Self {
            ports: 0,
            dimensions: 0,
            values: [1; 2],
            prefixes: [1; 4],
            subscribers: 1,
            subscriber_buckets: [1; 2],
            plans: 1,
            buckets: 1,
            sticky: 1,
        }
    }
}

impl PolicySizes {
    /// Sizes for a configuration. Subscribers get room for as many more as a reload may bring: an eighth, at least 256.
    pub fn of(config: &Config, compiled: &Compiled) -> Self {
        let classes = config.ports.iter().any(|port| !port.classes.is_empty());
        let count = |table: &BTreeMap<IpNet, u64>, v6: bool| {
            let of_family = table.keys().filter(|net| matches!(net, IpNet::V6(_)) == v6);
            (of_family.count() as u32).max(1)
        };
        let (source, destination) = (&compiled.source, &compiled.destination);
        let mut sizes = Self {
            ports: if classes { config.ports.len() as u32 } else { 0 },
            dimensions: compiled.dimensions,
            buckets: all_buckets(config).max(1),
            values: [compiled.mark.len().max(1) as u32, compiled.arrived.len() as u32 + 1],
            sticky: if moves_flows(config) { config.ports.len() as u32 * STICKY_BUCKETS } else { 1 },
            prefixes: [
                count(source, false),
                count(destination, false),
                count(source, true),
                count(destination, true),
            ],
            ..Self::default()
        };
        if config.ports.iter().any(|port| port.subscribers.is_some()) {
            let subscribers = &config.policy.subscribers;
            let nets = subscribers.iter().flat_map(|subscriber| &subscriber.prefixes);
            let v6 = nets.clone().filter(|net| matches!(net, IpNet::V6(_))).count();
            let v4 = nets.count() - v6;
            sizes.subscribers = with_room(subscribers.len()) + 1;
            sizes.subscriber_buckets =
                [buckets_for(with_room(v4), ENTRY4_WORDS), buckets_for(with_room(v6), ENTRY6_WORDS)];
            sizes.plans = MAX_PLANS;
        }
        sizes
    }

    pub(in crate::datapath) fn apply(self, loader: &mut EbpfLoader<'_>) {
        let ports = self.ports.max(1);
        let classed = |entries: u32| if self.ports == 0 { 1 } else { entries };
        let dimension = |bit: u32, entries: u32| if self.dimensions & bit == 0 { 1 } else { entries };
        let [marks, devices] = self.values;
        let [source4, destination4, source6, destination6] = self.prefixes;
        let [subscribers4, subscribers6] = self.subscriber_buckets;
        for (name, entries) in [
            (names::MAP_CLASSES, classed(ports * MAX_CLASSES)),
            (names::MAP_CLASS_COUNTERS, classed(ports * MAX_CLASSES)),
            (names::MAP_CLASS_PLACES, classed(ports * MAX_CLASSES)),
            (names::MAP_CLASS_STATE, classed(ports * MAX_CLASSES)),
            (names::MAP_POLICY, ports),
            (names::MAP_FLOWS, self.buckets),
            (names::MAP_HOSTS, self.buckets),
            (names::MAP_RULE_CLASS, classed(ports * MAX_RULES)),
            (names::MAP_PLAN_CLASS, if self.plans > 1 { classed(ports * MAX_PLANS) } else { 1 }),
            (names::MAP_RULE_DSCP, dimension(DIM_DSCP, 64)),
            (names::MAP_RULE_VLAN, dimension(DIM_VLAN, 4_096)),
            (names::MAP_RULE_PROTOCOL, dimension(DIM_PROTOCOL, 256)),
            (names::MAP_RULE_SOURCE_PORT, dimension(DIM_SOURCE_PORT, 65_536)),
            (names::MAP_RULE_DESTINATION_PORT, dimension(DIM_DESTINATION_PORT, 65_536)),
            (names::MAP_RULE_SIZE, dimension(DIM_SIZE, SIZE_ENTRIES)),
            (names::MAP_RULE_MARK, marks),
            (names::MAP_RULE_INGRESS, devices),
            (names::MAP_RULE_SOURCE4, source4),
            (names::MAP_RULE_DESTINATION4, destination4),
            (names::MAP_RULE_SOURCE6, source6),
            (names::MAP_RULE_DESTINATION6, destination6),
            (names::MAP_PLANS, self.plans),
            (names::MAP_SUBSCRIBERS4, subscribers4),
            (names::MAP_SUBSCRIBERS6, subscribers6),
            (names::MAP_SUBSCRIBER_DOWN, self.subscribers),
            (names::MAP_SUBSCRIBER_UP, self.subscribers),
            (names::MAP_SUBSCRIBER_CONTROL, self.subscribers),
            (names::MAP_STICKY, self.sticky),
        ] {
            loader.map_max_entries(name, entries);
        }
    }
}

fn with_room(count: usize) -> u32 {
    let count = count as u32;
    count + (count / 8).max(256)
}
