//! From rules to bit vectors: for each dimension, which rules hold for each of its values.
//!
//! A rule without a condition on a dimension holds for all of its values. Values of prefixes carry the bits of all
//! prefixes that cover them, so that the longest match alone is the answer ([`weir_ingress::rules`] reads them).

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use weir_ingress::rules::RuleTables;
use weir_shared_maps::{
    DIM_DESTINATION, DIM_DESTINATION_PORT, DIM_DSCP, DIM_INGRESS, DIM_MARK, DIM_PROTOCOL, DIM_SIZE,
    DIM_SOURCE, DIM_SOURCE_PORT, DIM_VLAN, SIZE_ENTRIES,
};

use super::model::MatchRule;

/// The rules as the programs read them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// `DIM_*` of what the rules look at; the tables of all others are empty.
    pub dimensions: u32,
    /// By code point, 64 entries.
    pub dscp: Vec<u64>,
    /// By VLAN, 4,096 entries.
    pub vlan: Vec<u64>,
    /// By protocol, 256 entries.
    pub protocol: Vec<u64>,
    /// By source port, 65,536 entries; 0 is "none".
    pub source_port: Vec<u64>,
    /// By destination port, alike.
    pub destination_port: Vec<u64>,
    /// By bytes of the IP packet, [`SIZE_ENTRIES`].
    pub size: Vec<u64>,
    /// By source prefix, both families; that of length 0 is always there.
    pub source: BTreeMap<IpNet, u64>,
    /// By destination prefix, alike.
    pub destination: BTreeMap<IpNet, u64>,
    /// By ingress device: the rules that may match what arrives there. Those with a mark are not among them: XDP sees packets
    /// before they have one.
    pub ingress: Vec<u64>,
    /// The same for what the stack sends and has received there: those with a mark, too.
    pub arrived: Vec<u64>,
    /// By mark of a packet of the stack; 0 stands for all that no rule names.
    pub mark: BTreeMap<u32, u64>,
    /// The rules that hold for what arrived nowhere: those without an ingress device.
    pub own: u64,
}

/// The tables as the maps hold them: arrays by index, prefixes by longest match. A value that has no entry holds for no rule.
impl RuleTables for Compiled {
    fn dscp(&self, dscp: u8) -> u64 {
        at(&self.dscp, dscp.into())
    }
    fn vlan(&self, vlan: u16) -> u64 {
        at(&self.vlan, vlan.into())
    }
    fn protocol(&self, protocol: u8) -> u64 {
        at(&self.protocol, protocol.into())
    }
    fn source_port(&self, port: u16) -> u64 {
        at(&self.source_port, port.into())
    }
    fn destination_port(&self, port: u16) -> u64 {
        at(&self.destination_port, port.into())
    }
    fn size(&self, size: u32) -> u64 {
        at(&self.size, size as usize)
    }
    fn source_v4(&self, address: [u8; 4]) -> u64 {
        longest(&self.source, address.into())
    }
    fn destination_v4(&self, address: [u8; 4]) -> u64 {
        longest(&self.destination, address.into())
    }
    fn source_v6(&self, address: &[u8; 16]) -> u64 {
        longest(&self.source, (*address).into())
    }
    fn destination_v6(&self, address: &[u8; 16]) -> u64 {
        longest(&self.destination, (*address).into())
    }
}

fn at(table: &[u64], index: usize) -> u64 {
    table.get(index).copied().unwrap_or(0)
}

fn longest(table: &BTreeMap<IpNet, u64>, address: IpAddr) -> u64 {
    let covering = table.iter().filter(|(net, _)| net.contains(&address));
    covering.max_by_key(|(net, _)| net.prefix_len()).map_or(0, |(_, rules)| *rules)
}

/// Compiles at most 64 rules for `ingress` devices.
pub fn compile(rules: &[MatchRule], ingress: usize) -> Compiled {
    let dimensions = rules.iter().fold(0, |all, rule| all | dimensions(rule));
    let used = |dimension: u32, entries: usize| if dimensions & dimension == 0 { 0 } else { entries };
    let mut compiled = Compiled {
        dimensions,
        dscp: vec![0; used(DIM_DSCP, 64)],
        vlan: vec![0; used(DIM_VLAN, 4_096)],
        protocol: vec![0; used(DIM_PROTOCOL, 256)],
        source_port: vec![0; used(DIM_SOURCE_PORT, 65_536)],
        destination_port: vec![0; used(DIM_DESTINATION_PORT, 65_536)],
        size: vec![0; used(DIM_SIZE, SIZE_ENTRIES as usize)],
        source: prefixes(rules.iter().map(|rule| rule.source.as_deref()), used(DIM_SOURCE, 1)),
        destination: prefixes(rules.iter().map(|rule| rule.destination.as_deref()), used(DIM_DESTINATION, 1)),
        ingress: vec![0; ingress],
        arrived: vec![0; ingress],
        mark: marks(rules),
        own: 0,
    };
    for (bit, rule) in rules.iter().enumerate().take(64).map(|(index, rule)| (1_u64 << index, rule)) {
        let MatchRule {
            class: _,
            dscp,
            vlan,
            source: _,
            destination: _,
            protocol,
            source_port,
            destination_port,
            ingress,
            size,
            mark,
        } = rule;
        values(&mut compiled.dscp, bit, dscp.as_ref().map(|list| list.iter().map(|v| usize::from(*v))));
        values(&mut compiled.vlan, bit, vlan.as_ref().map(|list| list.iter().map(|v| usize::from(v.get()))));
        values(
            &mut compiled.protocol,
            bit,
            protocol.as_ref().map(|list| list.iter().map(|v| usize::from(*v))),
        );
        let ports = |range: &std::ops::RangeInclusive<u16>| range.clone().map(usize::from);
        values(&mut compiled.source_port, bit, source_port.as_ref().map(|list| list.iter().flat_map(ports)));
        let list = destination_port.as_ref();
        values(&mut compiled.destination_port, bit, list.map(|list| list.iter().flat_map(ports)));
        let sizes = |range: &std::ops::RangeInclusive<u32>| range.clone().map(|size| size as usize);
        values(&mut compiled.size, bit, size.as_ref().map(|list| list.iter().flat_map(sizes)));
        if ingress.is_none() {
            compiled.own |= bit;
        }
        values(&mut compiled.arrived, bit, ingress.as_ref().map(|list| list.iter().copied()));
        if mark.is_none() {
            values(&mut compiled.ingress, bit, ingress.as_ref().map(|list| list.iter().copied()));
        }
    }
    compiled
}

/// `DIM_*` of what a rule looks at.
fn dimensions(rule: &MatchRule) -> u32 {
    [
        (DIM_DSCP, rule.dscp.is_some()),
        (DIM_VLAN, rule.vlan.is_some()),
        (DIM_SOURCE, rule.source.is_some()),
        (DIM_DESTINATION, rule.destination.is_some()),
        (DIM_PROTOCOL, rule.protocol.is_some()),
        (DIM_SOURCE_PORT, rule.source_port.is_some()),
        (DIM_DESTINATION_PORT, rule.destination_port.is_some()),
        (DIM_SIZE, rule.size.is_some()),
        (DIM_MARK, rule.mark.is_some()),
        (DIM_INGRESS, rule.ingress.is_some()),
    ]
    .into_iter()
    .filter(|(_, used)| *used)
    .fold(0, |all, (dimension, _)| all | dimension)
}

/// Sets a rule's bit at the values it lists, or at all where it has no condition.
fn values(table: &mut [u64], bit: u64, listed: Option<impl Iterator<Item = usize>>) {
    match listed {
        None => table.iter_mut().for_each(|word| *word |= bit),
        Some(listed) => {
            for value in listed {
                if let Some(word) = table.get_mut(value) {
                    *word |= bit;
                }
            }
        }
    }
}

/// Every mark that a rule names, and 0 for the others.
fn marks(rules: &[MatchRule]) -> BTreeMap<u32, u64> {
    let rules = rules.iter().take(64).enumerate().map(|(index, rule)| (1_u64 << index, rule.mark.as_deref()));
    let rules: Vec<(u64, Option<&[u32]>)> = rules.collect();
    let named = rules.iter().flat_map(|(_, marks)| marks.unwrap_or_default());
    let mut table: BTreeMap<u32, u64> = named.map(|mark| (*mark, 0)).chain([(0, 0)]).collect();
    for (mark, word) in &mut table {
        for (bit, marks) in &rules {
            if marks.is_none_or(|marks| marks.contains(mark)) {
                *word |= bit;
            }
        }
    }
    table
}

/// Every prefix that a rule names, and the two that hold everything, with the bits of all that cover it.
fn prefixes<'a>(rules: impl Iterator<Item = Option<&'a [IpNet]>>, used: usize) -> BTreeMap<IpNet, u64> {
    let mut table = BTreeMap::new();
    if used == 0 {
        return table;
    }
    let everything = [IpAddr::from([0; 4]), IpAddr::from([0; 16])].map(|any| IpNet::new_assert(any, 0));
    for net in everything {
        table.insert(net, 0);
    }
    let rules: Vec<(u64, Option<&[IpNet]>)> =
        rules.take(64).enumerate().map(|(index, nets)| (1_u64 << index, nets)).collect();
    for (_, nets) in &rules {
        for net in nets.unwrap_or_default() {
            table.insert(net.trunc(), 0);
        }
    }
    for (prefix, word) in &mut table {
        for (bit, nets) in &rules {
            if nets.is_none_or(|nets| nets.iter().any(|net| net.contains(prefix))) {
                *word |= bit;
            }
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::VlanId;
    use proptest::option;
    use proptest::prelude::*;
    use std::net::Ipv6Addr;
    use std::ops::RangeInclusive;
    use weir_ingress::rules::first_match;
    use weir_wire::parse;

    /// A packet as the oracle sees it.
    #[derive(Clone, Debug)]
    struct Sample {
        source: IpAddr,
        destination: IpAddr,
        dscp: u8,
        vlan: u16,
        protocol: u8,
        ports: (u16, u16),
        payload: u16,
        /// Where it arrived; the router's own packets did nowhere.
        ingress: Option<usize>,
        /// The mark of what the stack sends; 0 is none. What XDP sees has no place for one.
        mark: Option<u32>,
    }

    impl Sample {
        fn has_ports(&self) -> bool {
            super::super::words::has_ports(self.protocol) && self.payload >= 4
        }

        fn size(&self) -> u32 {
            u32::from(self.payload) + if self.source.is_ipv4() { 20 } else { 40 }
        }

        fn frame(&self) -> Vec<u8> {
            let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
            match (self.source, self.destination) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => {
                    let size = (self.size() as u16).to_be_bytes();
                    frame.extend([8, 0, 0x45, self.dscp << 2, size[0], size[1], 0, 0, 0, 0, 64]);
                    frame.extend([self.protocol, 0, 0]);
                    frame.extend([source.octets(), destination.octets()].concat());
                }
                (source, destination) => {
                    let bytes = |address| match address {
                        IpAddr::V6(address) => address.octets(),
                        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                    };
                    let size = self.payload.to_be_bytes();
                    frame.extend([0x86, 0xdd, 0x60 | self.dscp >> 2, (self.dscp & 3) << 6, 0, 0]);
                    frame.extend([size[0], size[1], self.protocol, 64]);
                    frame.extend([bytes(source), bytes(destination)].concat());
                }
            }
            let mut payload = vec![0; self.payload.into()];
            if self.payload >= 4 {
                payload[..2].copy_from_slice(&self.ports.0.to_be_bytes());
                payload[2..4].copy_from_slice(&self.ports.1.to_be_bytes());
            }
            frame.extend(payload);
            frame
        }
    }

    /// Whether a rule holds, condition by condition, as docs/policy.md says it.
    fn holds(rule: &MatchRule, packet: &Sample) -> bool {
        fn any<T>(list: &Option<Vec<T>>, holds: impl Fn(&T) -> bool) -> bool {
            list.as_ref().is_none_or(|list| list.iter().any(holds))
        }
        let ports = packet.has_ports();
        any(&rule.dscp, |dscp| *dscp == packet.dscp)
            && any(&rule.vlan, |vlan| vlan.get() == packet.vlan)
            && any(&rule.source, |net| net.contains(&packet.source))
            && any(&rule.destination, |net| net.contains(&packet.destination))
            && any(&rule.protocol, |protocol| *protocol == packet.protocol)
            && any(&rule.source_port, |range| ports && range.contains(&packet.ports.0))
            && any(&rule.destination_port, |range| ports && range.contains(&packet.ports.1))
            && any(&rule.size, |range| range.contains(&packet.size()))
            && any(&rule.ingress, |ingress| packet.ingress == Some(*ingress))
            && any(&rule.mark, |mark| packet.mark == Some(*mark))
    }

    fn net() -> impl Strategy<Value = IpNet> {
        prop_oneof![
            (0_u32..16, 24_u8..=32).prop_map(|(low, length)| {
                let net = ipnet::Ipv4Net::new((0x0a00_0000 | low).into(), length).unwrap();
                IpNet::V4(net.trunc())
            }),
            (0_u128..16, 120_u8..=128).prop_map(|(low, length)| {
                let net = ipnet::Ipv6Net::new(Ipv6Addr::from((0x2001_0db8 << 96) | low), length).unwrap();
                IpNet::V6(net.trunc())
            }),
        ]
    }

    fn some<T: std::fmt::Debug>(one: impl Strategy<Value = T>) -> impl Strategy<Value = Option<Vec<T>>> {
        option::weighted(0.3, prop::collection::vec(one, 1..3))
    }

    fn port() -> impl Strategy<Value = u16> {
        prop_oneof![1_u16..6, Just(u16::MAX)]
    }

    fn range<T: Ord + Copy + std::fmt::Debug>(
        ends: impl Strategy<Value = (T, T)>,
    ) -> impl Strategy<Value = RangeInclusive<T>> {
        ends.prop_map(|(a, b)| a.min(b)..=a.max(b))
    }

    fn protocol() -> impl Strategy<Value = u8> {
        prop::sample::select(vec![1_u8, 6, 17, 33, 58, 59, 132])
    }

    fn rule() -> impl Strategy<Value = MatchRule> {
        let ports = || some(range((port(), port())));
        (
            (
                some(0_u8..4),
                some((1_i64..4).prop_map(|id| VlanId::new(id).unwrap())),
                some(net()),
                some(net()),
            ),
            (some(protocol()), ports(), ports(), some(0_usize..3), some(range((20_u32..60, 20_u32..60)))),
            some(1_u32..4),
        )
            .prop_map(
                |(
                    (dscp, vlan, source, destination),
                    (protocol, source_port, destination_port, ingress, size),
                    mark,
                )| {
                    MatchRule {
                        class: String::new(),
                        dscp,
                        vlan,
                        source,
                        destination,
                        protocol,
                        source_port,
                        destination_port,
                        ingress,
                        size,
                        mark,
                    }
                },
            )
    }

    /// By XDP, through the stack, or from the router itself.
    fn way() -> impl Strategy<Value = (Option<usize>, Option<u32>)> {
        prop_oneof![
            (0_usize..3).prop_map(|ingress| (Some(ingress), None)),
            (option::of(0_usize..3), (0_u32..5).prop_map(Some)),
        ]
    }

    fn packet() -> impl Strategy<Value = Sample> {
        let addresses = prop_oneof![
            (0_u32..20, 0_u32..20).prop_map(|(a, b)| {
                let address = |low: u32| IpAddr::from((0x0a00_0000 | low).to_be_bytes());
                (address(a), address(b))
            }),
            (0_u128..20, 0_u128..20).prop_map(|(a, b)| {
                let address = |low: u128| IpAddr::V6(Ipv6Addr::from((0x2001_0db8 << 96) | low));
                (address(a), address(b))
            }),
        ];
        (addresses, 0_u8..4, 0_u16..4, protocol(), (0_u16..6, 0_u16..6), 0_u16..40, way()).prop_map(
            |((source, destination), dscp, vlan, protocol, ports, payload, (ingress, mark))| Sample {
                source,
                destination,
                dscp,
                vlan,
                protocol,
                ports,
                payload,
                ingress,
                mark,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_first_match_is_that_of_reading_the_rules_from_the_top(
            rules in prop::collection::vec(rule(), 0..=64),
            packets in prop::collection::vec(packet(), 32),
        ) {
            let compiled = compile(&rules, 3);
            for packet in packets {
                let expected = rules.iter().position(|rule| holds(rule, &packet)).map(|index| index as u32);
                let frame = packet.frame();
                let l3 = parse(frame.as_slice()).unwrap().l3;
                let start = match (packet.ingress, packet.mark) {
                    (Some(ingress), None) => compiled.ingress[ingress],
                    (ingress, mark) => {
                        let by_mark = compiled.mark.get(&mark.unwrap()).or(compiled.mark.get(&0));
                        by_mark.unwrap() & ingress.map_or(compiled.own, |ingress| compiled.arrived[ingress])
                    }
                };
                let found = first_match(
                    &compiled, start, compiled.dimensions, packet.vlan, &l3, frame.as_slice(),
                );
                prop_assert_eq!(found, expected, "{:?}", packet);
            }
        }
    }

    #[test]
    fn dimensions_that_no_rule_looks_at_have_no_table() {
        let rule = MatchRule { dscp: Some(vec![46]), ..MatchRule::default() };
        let compiled = compile(&[rule], 1);
        assert_eq!((compiled.dimensions, compiled.dscp.len(), compiled.vlan.len()), (DIM_DSCP, 64, 0));
        assert!(compiled.source.is_empty() && compiled.source_port.is_empty());
    }
}
