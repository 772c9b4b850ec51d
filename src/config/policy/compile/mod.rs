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
mod tests;
