//! Policy in the maps: how large they are, what is written before the programs run, and the programs' constants.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _};
use std::path::Path;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, Map, MapData, ProgramArray};
use aya::{Ebpf, EbpfLoader};
use ipnet::IpNet;
use weir_shared_maps::{
    AQM_NONE, BackOff, CLASS_NONE, ClassConfig, ClassPlace, DIM_DESTINATION, DIM_DESTINATION_PORT, DIM_DSCP,
    DIM_PROTOCOL, DIM_SIZE, DIM_SOURCE, DIM_SOURCE_PORT, DIM_VLAN, ENTRY4_WORDS, ENTRY6_WORDS, FLAG_ECN,
    MAX_CLASSES, MAX_PLANS, MAX_RULES, PlanConfig, PortConfig, PrefixMasks, SIZE_ENTRIES, STICKY_BUCKETS,
    SubscriberControl, names,
};
use zerocopy::FromZeros as _;

use super::batch::BatchMap;
use super::objects::INGRESS;
use super::reader::array;
use super::roster::{Member, Roster};
use super::table::{Meters, Table, buckets_for};
use super::{Error, Result};
use crate::config::back_off::{self, actions, moves_flows};
use crate::config::policy::compile::{Compiled, compile};
use crate::config::policy::encode::{
    SubscriberKey, class_at, class_config, hashes, plan_class, plan_config, prefix_masks, subscriber_key,
};
use crate::config::policy::place::{all_buckets, places};
use crate::config::{Config, DeviceName};

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
        let count = |table: &std::collections::BTreeMap<IpNet, u64>, v6: bool| {
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

    pub(super) fn apply(self, loader: &mut EbpfLoader<'_>) {
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

/// Load-time constants of the ingress programs, the same for all devices but for the rules.
#[derive(Clone, Debug)]
pub struct IngressConstants {
    program: &'static str,
    meta: u32,
    dimensions: u32,
    subscribers: u32,
    plan_classes: u32,
    hashes: u32,
    seed: u32,
    long_way: bool,
    actions: u32,
    rules: Vec<u64>,
    all_rules: u64,
}

impl IngressConstants {
    /// What a configuration makes of the ingress programs.
    pub fn of(config: &Config, compiled: &Compiled, ports: &[PortConfig]) -> Self {
        let classes = config.ports.iter().any(|port| !port.classes.is_empty());
        let subscribers = config.ports.iter().any(|port| port.subscribers.is_some());
        let marks = ports.iter().any(|port| port.flags & FLAG_ECN != 0 && port.aqm != AQM_NONE);
        let policy = classes || subscribers;
        let meta = if policy { 2 } else { u32::from(marks) };
        Self {
            program: if policy { names::PROG_INGRESS_POLICY } else { names::PROG_INGRESS },
            meta,
            // Without classes there is nothing that a rule could say.
            dimensions: if classes { compiled.dimensions } else { 0 },
            rules: if classes { compiled.ingress.clone() } else { Vec::new() },
            all_rules: if classes { every_rule(config) } else { 0 },
            subscribers: u32::from(subscribers),
            plan_classes: u32::from(
                subscribers && config.policy.plans.iter().any(|plan| plan.class.is_some()),
            ),
            hashes: config.ports.iter().fold(0, |all, port| all | hashes(port)),
            long_way: !policy && moves_flows(config),
            actions: actions(config),
            seed: random() as u32,
        }
    }

    /// The program that does what the configuration asks for.
    pub fn program(&self) -> &'static str {
        self.program
    }

    /// Loads the program that looks at flows where [`Self::program`] leaves it to another one, and leaves it for that of device
    /// `index`; the array keeps it.
    pub(super) fn load_long_way(&self, ebpf: &mut Ebpf, index: u32) -> Result<()> {
        if !self.long_way {
            return Ok(());
        }
        let name = names::PROG_INGRESS_POLICY;
        let program = INGRESS.xdp(ebpf, name)?;
        program.load().map_err(Error::program("load", name, None))?;
        let fd =
            program.fd().and_then(|fd| Ok(fd.try_clone()?)).map_err(Error::program("load", name, None))?;
        let missing = || Error::MissingPart { object: INGRESS.name, part: names::MAP_LONG_WAY };
        let map = ebpf.map_mut(names::MAP_LONG_WAY).ok_or_else(missing)?;
        let mut programs = ProgramArray::try_from(map).map_err(Error::map(names::MAP_LONG_WAY))?;
        programs.set(index, &fd, 0).map_err(Error::map(names::MAP_LONG_WAY))
    }

    /// The constants of the program of ingress device `index`.
    pub fn globals(&self, index: usize) -> [(&'static str, u32); 9] {
        self.with_rules(self.rules.get(index).copied().unwrap_or(0))
    }

    /// Those of the program that describes what the stack sends: any rule may match.
    pub fn of_stack(&self) -> [(&'static str, u32); 9] {
        self.with_rules(self.all_rules)
    }

    fn with_rules(&self, rules: u64) -> [(&'static str, u32); 9] {
        [
            (names::GLOBAL_META, self.meta),
            (names::GLOBAL_RULES_LOW, rules as u32),
            (names::GLOBAL_RULES_HIGH, (rules >> 32) as u32),
            (names::GLOBAL_DIMENSIONS, self.dimensions),
            (names::GLOBAL_SUBSCRIBERS, self.subscribers),
            (names::GLOBAL_PLAN_CLASSES, self.plan_classes),
            (names::GLOBAL_HASHES, self.hashes),
            (names::GLOBAL_HASH_SEED, self.seed),
            (names::GLOBAL_ACTIONS, self.actions),
        ]
    }
}

/// A bit for each rule.
fn every_rule(config: &Config) -> u64 {
    match config.policy.rules.len() {
        0 => 0,
        count => u64::MAX >> (64 - count.min(64)),
    }
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

/// Entries of the two tables of subscribers.
#[derive(Default)]
pub(super) struct Entries {
    pub v4: Vec<([u64; ENTRY4_WORDS], u32)>,
    pub v6: Vec<([u64; ENTRY6_WORDS], u32)>,
}

impl Entries {
    pub fn of<'a>(members: impl Iterator<Item = (usize, &'a Member)>) -> Self {
        let mut entries = Self::default();
        for (index, member) in members {
            for net in &member.prefixes {
                entries.push(net, index as u32);
            }
        }
        entries
    }

    pub fn push(&mut self, net: &IpNet, subscriber: u32) {
        match subscriber_key(net) {
            SubscriberKey::V4(key) => self.v4.push((key, subscriber)),
            SubscriberKey::V6(key) => self.v6.push((key, subscriber)),
        }
    }
}

/// The maps of the subscribers.
pub(super) struct Subscribers {
    pub v4: Table<ENTRY4_WORDS>,
    pub v6: Table<ENTRY6_WORDS>,
    meters: [Meters; 2],
    control: BatchMap,
    masks: Array<MapData, PrefixMasks>,
}

impl Subscribers {
    pub fn open(directory: &Path) -> Result<Self> {
        Ok(Self {
            v4: Table::open(directory, names::MAP_SUBSCRIBERS4)?,
            v6: Table::open(directory, names::MAP_SUBSCRIBERS6)?,
            meters: [
                Meters::open(directory, names::MAP_SUBSCRIBER_DOWN)?,
                Meters::open(directory, names::MAP_SUBSCRIBER_UP)?,
            ],
            control: BatchMap::open::<u32, SubscriberControl>(directory, names::MAP_SUBSCRIBER_CONTROL)?,
            masks: array(directory, names::MAP_PREFIX_MASKS)?,
        })
    }

    /// The seed of the tables of a running instance.
    pub fn seed(&self) -> Result<u64> {
        self.masks.get(&0, 0).map(|masks| masks.seed).map_err(Error::map(names::MAP_PREFIX_MASKS))
    }

    /// Subscribers that fit.
    pub fn room(&self) -> u32 {
        self.control.entries().saturating_sub(1)
    }

    /// Gives subscribers that are new at their indices a fresh state and a plan.
    pub fn reset(&self, plans: &[(u32, u16)]) -> Result<()> {
        let control: Vec<_> =
            plans.iter().map(|(index, _)| (*index, SubscriberControl::new_zeroed())).collect();
        self.control.update(&control)?;
        self.meters.iter().try_for_each(|meters| meters.reset(plans))
    }

    /// Gives subscribers another plan.
    pub fn set_plans(&self, plans: &[(u32, u16)]) {
        for (subscriber, plan) in plans {
            self.meters.iter().for_each(|meters| meters.set_plan(*subscriber, *plan));
        }
    }

    pub fn write(&self, seed: u64, entries: &Entries) -> Result<()> {
        entries.v4.iter().try_for_each(|(key, subscriber)| self.v4.insert(seed, key, *subscriber))?;
        entries.v6.iter().try_for_each(|(key, subscriber)| self.v6.insert(seed, key, *subscriber))
    }

    pub fn remove(&self, seed: u64, entries: &Entries) {
        entries.v4.iter().for_each(|(key, _)| self.v4.remove(seed, key));
        entries.v6.iter().for_each(|(key, _)| self.v6.remove(seed, key));
    }

    /// Writes the prefix lengths in use, and how the tables are to be read.
    pub fn write_masks(&mut self, seed: u64, config: &Config) -> Result<()> {
        let nets = config.policy.subscribers.iter().flat_map(|subscriber| &subscriber.prefixes);
        let (pages4, pages6) = (self.v4.pages(), self.v6.pages());
        let masks = PrefixMasks { seed, pages4, pages6, ..prefix_masks(nets) };
        self.masks.set(0, masks, 0).map_err(Error::map(names::MAP_PREFIX_MASKS))
    }
}
