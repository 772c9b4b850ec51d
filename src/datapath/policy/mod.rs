//! Policy in the maps: what is written before the programs run.

mod constants;
mod sizes;
mod subscribers;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _};
use std::path::Path;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Map, MapData};
use ipnet::IpNet;
use weir_shared_maps::{
    BackOff, CLASS_NONE, ClassConfig, ClassPlace, DIM_DESTINATION, DIM_SOURCE, MAX_CLASSES, MAX_PLANS,
    MAX_RULES, PlanConfig, PortConfig, names,
};

use super::batch::BatchMap;
use super::roster::Roster;
use super::{Error, Result};
use crate::config::back_off;
use crate::config::policy::compile::{Compiled, compile};
use crate::config::policy::encode::{class_at, class_config, plan_class, plan_config};
use crate::config::policy::place::places;
use crate::config::{Config, DeviceName};

pub use constants::IngressConstants;
pub use sizes::PolicySizes;
pub(super) use subscribers::{Entries, Subscribers};

/// Compiles the rules of a configuration.
pub fn compiled(config: &Config) -> Compiled {
    compile(&config.policy.rules, config.ingress.len())
}

/// Writes everything, before any program can read it. `devices` are the interface indices where packets arrive.
pub(super) fn write(
    directory: &Path,
    config: &Config,
    compiled: &Compiled,
    ports: &[PortConfig],
    devices: &[u32],
    roster: &Roster,
) -> Result<()> {
    let classes = config.ports.iter().any(|port| !port.classes.is_empty());
    if classes {
        write_rules(directory, compiled)?;
        write_stack_rules(directory, compiled, devices)?;
        write_classes(directory, config, ports)?;
    }
    if config.ports.iter().any(|port| port.subscribers.is_some()) {
        write_plans(directory, config, roster)?;
        let mut subscribers = Subscribers::open(directory)?;
        let seed = random();
        let plans: Vec<_> =
            roster.members().map(|(index, member)| (index as u32, member.plan as u16)).collect();
        subscribers.reset(&plans)?;
        subscribers.write(seed, &Entries::of(roster.members()))?;
        subscribers.write_masks(seed, config)?;
    }
    Ok(())
}

fn write_rules(directory: &Path, compiled: &Compiled) -> Result<()> {
    for (name, table) in [
        (names::MAP_RULE_DSCP, &compiled.dscp),
        (names::MAP_RULE_VLAN, &compiled.vlan),
        (names::MAP_RULE_PROTOCOL, &compiled.protocol),
        (names::MAP_RULE_SOURCE_PORT, &compiled.source_port),
        (names::MAP_RULE_DESTINATION_PORT, &compiled.destination_port),
        (names::MAP_RULE_SIZE, &compiled.size),
    ] {
        BatchMap::open::<u32, u64>(directory, name)?.fill(table)?;
    }
    for (used, name4, name6, table) in [
        (DIM_SOURCE, names::MAP_RULE_SOURCE4, names::MAP_RULE_SOURCE6, &compiled.source),
        (DIM_DESTINATION, names::MAP_RULE_DESTINATION4, names::MAP_RULE_DESTINATION6, &compiled.destination),
    ] {
        if compiled.dimensions & used == 0 {
            continue;
        }
        let (mut v4, mut v6) = (trie::<[u8; 4]>(directory, name4)?, trie::<[u8; 16]>(directory, name6)?);
        for (net, rules) in table {
            match net {
                IpNet::V4(net) => {
                    let key = Key::new(u32::from(net.prefix_len()), net.network().octets());
                    v4.insert(&key, rules, 0).map_err(Error::map(name4))?;
                }
                IpNet::V6(net) => {
                    let key = Key::new(u32::from(net.prefix_len()), net.network().octets());
                    v6.insert(&key, rules, 0).map_err(Error::map(name6))?;
                }
            }
        }
    }
    Ok(())
}

/// What the stack's packets have and XDP's do not: a mark, and any device where they arrived.
fn write_stack_rules(directory: &Path, compiled: &Compiled, devices: &[u32]) -> Result<()> {
    let marks: Vec<(u32, u64)> = compiled.mark.iter().map(|(mark, rules)| (*mark, *rules)).collect();
    BatchMap::open::<u32, u64>(directory, names::MAP_RULE_MARK)?.update(&marks)?;
    let arrived = devices.iter().copied().zip(compiled.arrived.iter().copied());
    let arrived: Vec<(u32, u64)> = arrived.chain([(0, compiled.own)]).collect();
    BatchMap::open::<u32, u64>(directory, names::MAP_RULE_INGRESS)?.update(&arrived)
}

fn trie<K: aya::Pod>(directory: &Path, name: &'static str) -> Result<LpmTrie<MapData, K, u64>> {
    let path = directory.join(name);
    let data = MapData::from_pin(&path).map_err(|source| Error::Pin { path, source: Box::new(source) })?;
    LpmTrie::try_from(Map::LpmTrie(data)).map_err(Error::map(name))
}

fn write_classes(directory: &Path, config: &Config, ports: &[PortConfig]) -> Result<()> {
    let mut classes: Vec<(u32, ClassConfig)> = Vec::new();
    let mut rule_classes: Vec<(u32, u32)> = Vec::new();
    let mut placed: Vec<(u32, ClassPlace)> = Vec::new();
    let mut bucket = 0;
    for (index, (port, encoded)) in (0_u32..).zip(config.ports.iter().zip(ports)) {
        let entries: Vec<ClassConfig> =
            port.classes.iter().map(|class| class_config(class, port, encoded)).collect();
        let (of_port, free) = places(config, port, encoded, &entries, bucket);
        bucket = free;
        placed.extend((index * MAX_CLASSES..).zip(of_port));
        classes.extend((index * MAX_CLASSES..).zip(entries));
        let entries = config.policy.rules.iter().map(|rule| class_at(port, &rule.class) as u32);
        rule_classes.extend((index * MAX_RULES..).zip(entries));
    }
    BatchMap::open::<u32, ClassConfig>(directory, names::MAP_CLASSES)?.update(&classes)?;
    BatchMap::open::<u32, ClassPlace>(directory, names::MAP_CLASS_PLACES)?.update(&placed)?;
    BatchMap::open::<u32, u32>(directory, names::MAP_RULE_CLASS)?.update(&rule_classes)
}

/// Writes the plans, and what each says of the ports' classes, at the indices of the roster.
pub(super) fn write_plans(directory: &Path, config: &Config, roster: &Roster) -> Result<()> {
    let at: HashMap<&str, u32> =
        (0..).zip(&roster.plans).filter_map(|(index, name)| Some((name.as_deref()?, index))).collect();
    let plans = config.policy.plans.iter();
    let plans = plans.filter_map(|plan| Some((*at.get(plan.name.as_str())?, plan)));
    let entries: Vec<(u32, PlanConfig)> =
        plans.clone().map(|(index, plan)| (index, plan_config(plan))).collect();
    BatchMap::open::<u32, PlanConfig>(directory, names::MAP_PLANS)?.update(&entries)?;
    if config.ports.iter().all(|port| port.classes.is_empty()) {
        return Ok(());
    }
    let mut classes = vec![CLASS_NONE; config.ports.len() * MAX_PLANS as usize];
    for (number, port) in config.ports.iter().enumerate() {
        for (index, plan) in plans.clone() {
            let slot = classes.get_mut(number * MAX_PLANS as usize + index as usize);
            slot.map(|slot| *slot = plan_class(port, plan)).unwrap_or_default();
        }
    }
    BatchMap::open::<u32, u32>(directory, names::MAP_PLAN_CLASS)?.fill(&classes)
}

/// Writes what ingress does while a signal stands. `ifindexes` are those of the ports.
pub(super) fn write_back_off(
    directory: &Path,
    config: &Config,
    ports: &[PortConfig],
    ifindexes: &[u32],
) -> Result<()> {
    let ifindex = |device: &DeviceName| {
        let mut at = config.ports.iter().zip(ifindexes);
        at.find(|(port, _)| port.device == *device).map(|(_, ifindex)| *ifindex)
    };
    let mut entries: Vec<(u32, BackOff)> = Vec::new();
    for (index, (port, encoded)) in (0_u32..).zip(config.ports.iter().zip(ports)) {
        entries.extend((index * MAX_CLASSES..).zip(back_off::entries(port, encoded, ifindex)));
    }
    BatchMap::open::<u32, BackOff>(directory, names::MAP_BACK_OFF)?.update(&entries)
}

/// Differs in each process, so that nobody outside can choose what collides.
fn random() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}
