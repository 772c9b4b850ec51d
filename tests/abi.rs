//! The committed eBPF objects and the crate both sides share, compared without privileges: names, sizes, licence.
//!
//! The eBPF sources repeat names as identifiers, because the linker needs literals there. This is what keeps the two
//! from drifting apart.

#![allow(clippy::panic, reason = "functions that tests share are tests, too")]

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aya_obj::{
    Map, Object, ProgramSection,
    generated::bpf_map_type::{
        self, BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_DEVMAP_HASH, BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_LPM_TRIE,
        BPF_MAP_TYPE_PERCPU_ARRAY, BPF_MAP_TYPE_PROG_ARRAY, BPF_MAP_TYPE_RINGBUF,
    },
    programs::XdpAttachType,
};
use weir::datapath::objects::{self, BASELINE, EGRESS, INGRESS, RIVAL};
use weir_aqm::csfq::{CsfqVars, RateVars};
use weir_shared_maps::{
    BackOff, BatchCharges, BatchScratch, ClassConfig, ClassCounters, ClassPlace, ClassState, DivertState,
    EVENTS_BYTES, FLOW_BUCKETS, FlowState, HostState, IngressConfig, IngressCounters, MAX_CLASSES,
    MAX_INGRESS, MAX_PORTS, PacketMeta, PauseState, PlanConfig, PolicyState, PortConfig, PortCounters,
    PortRoute, PortState, PrefixMasks, RingHistory, RingRecipe, RingState, StickyState, SubscriberBucket,
    SubscriberControl, SubscriberMeter, names,
};

/// What a map must be: type, key and value size, entries (`None` where user space sizes the map at load).
type Shape = (bpf_map_type, usize, usize, Option<u32>);

/// `struct bpf_devmap_val` (`include/uapi/linux/bpf.h`): an ifindex and a program. Objects declare the ifindex alone
/// where they were built for any kernel; aya widens it when it makes the map.
const DEVMAP_VALUES: [usize; 2] = [4, 8];

fn shapes() -> BTreeMap<&'static str, Shape> {
    let array = |value, entries| (BPF_MAP_TYPE_ARRAY, 4, value, entries);
    // `struct bpf_lpm_trie_key` (`include/uapi/linux/bpf.h`): the prefix length, then the address.
    let trie = |address: usize| (BPF_MAP_TYPE_LPM_TRIE, 4 + address, 8, None);
    let per_cpu = |value, entries| (BPF_MAP_TYPE_PERCPU_ARRAY, 4, value, Some(entries));
    BTreeMap::from([
        (names::MAP_DEVMAP, (BPF_MAP_TYPE_DEVMAP_HASH, 4, 8, Some(MAX_PORTS))),
        (names::MAP_BASE_DEVMAP, (BPF_MAP_TYPE_DEVMAP_HASH, 4, 8, Some(MAX_PORTS))),
        (names::MAP_BASE_NEXT, (BPF_MAP_TYPE_PROG_ARRAY, 4, 4, Some(1))),
        // The lock's word, padded, and the drain.
        (names::MAP_RIVAL_DRAIN, array(8 + size_of::<CsfqVars>(), Some(1))),
        (names::MAP_RIVAL_FLOWS, array(size_of::<RateVars>(), Some(FLOW_BUCKETS))),
        (names::MAP_RIVAL_COUNTERS, per_cpu(size_of::<ClassCounters>(), 1)),
        (names::MAP_ROUTES, array(size_of::<PortRoute>(), None)),
        (names::MAP_PORTS, array(size_of::<PortConfig>(), Some(MAX_PORTS))),
        (names::MAP_RECIPES, array(size_of::<RingRecipe>(), Some(MAX_PORTS))),
        (names::MAP_PORT_STATE, array(size_of::<PortState>(), Some(MAX_PORTS))),
        (names::MAP_RINGS, array(size_of::<RingState>(), None)),
        (names::MAP_HISTORY, array(size_of::<RingHistory>(), None)),
        (names::MAP_SCRATCH, per_cpu(size_of::<BatchScratch>(), 1)),
        (names::MAP_INGRESS, array(size_of::<IngressConfig>(), Some(MAX_INGRESS))),
        (names::MAP_INGRESS_COUNTERS, per_cpu(size_of::<IngressCounters>(), MAX_INGRESS)),
        (names::MAP_PORT_COUNTERS, per_cpu(size_of::<PortCounters>(), MAX_PORTS)),
        (names::MAP_CLASSES, array(size_of::<ClassConfig>(), None)),
        (names::MAP_CLASS_COUNTERS, (BPF_MAP_TYPE_PERCPU_ARRAY, 4, size_of::<ClassCounters>(), None)),
        (names::MAP_CLASS_PLACES, array(size_of::<ClassPlace>(), None)),
        (names::MAP_CLASS_STATE, array(size_of::<ClassState>(), None)),
        (names::MAP_POLICY, array(size_of::<PolicyState>(), None)),
        (names::MAP_FLOWS, array(size_of::<FlowState>(), None)),
        (names::MAP_HOSTS, array(size_of::<HostState>(), None)),
        (names::MAP_CHARGES, per_cpu(size_of::<BatchCharges>(), 1)),
        (names::MAP_RULE_DSCP, array(8, None)),
        (names::MAP_RULE_VLAN, array(8, None)),
        (names::MAP_RULE_PROTOCOL, array(8, None)),
        (names::MAP_RULE_SOURCE_PORT, array(8, None)),
        (names::MAP_RULE_DESTINATION_PORT, array(8, None)),
        (names::MAP_RULE_SIZE, array(8, None)),
        (names::MAP_STACK_META, per_cpu(size_of::<PacketMeta>(), 1)),
        (names::MAP_RULE_MARK, (BPF_MAP_TYPE_HASH, 4, 8, None)),
        (names::MAP_RULE_INGRESS, (BPF_MAP_TYPE_HASH, 4, 8, None)),
        (names::MAP_RULE_SOURCE4, trie(4)),
        (names::MAP_RULE_DESTINATION4, trie(4)),
        (names::MAP_RULE_SOURCE6, trie(16)),
        (names::MAP_RULE_DESTINATION6, trie(16)),
        (names::MAP_RULE_CLASS, array(4, None)),
        (names::MAP_PLANS, array(size_of::<PlanConfig>(), None)),
        (names::MAP_PLAN_CLASS, array(4, None)),
        (names::MAP_PREFIX_MASKS, array(size_of::<PrefixMasks>(), Some(1))),
        (names::MAP_SUBSCRIBERS4, array(size_of::<SubscriberBucket>(), None)),
        (names::MAP_SUBSCRIBERS6, array(size_of::<SubscriberBucket>(), None)),
        (names::MAP_SUBSCRIBER_DOWN, array(size_of::<SubscriberMeter>(), None)),
        (names::MAP_SUBSCRIBER_UP, array(size_of::<SubscriberMeter>(), None)),
        (names::MAP_SUBSCRIBER_CONTROL, array(size_of::<SubscriberControl>(), None)),
        (names::MAP_BACK_OFF, array(size_of::<BackOff>(), Some(MAX_PORTS * MAX_CLASSES))),
        (names::MAP_STICKY, array(size_of::<StickyState>(), None)),
        (names::MAP_DIVERT, array(size_of::<DivertState>(), Some(MAX_PORTS))),
        (names::MAP_PAUSE, array(size_of::<PauseState>(), Some(MAX_PORTS))),
        (names::MAP_EVENTS, (BPF_MAP_TYPE_RINGBUF, 0, 0, Some(EVENTS_BYTES))),
    ])
}

fn parse(object: &objects::Object) -> Object {
    Object::parse(object.bytes).unwrap_or_else(|error| panic!("{}: {error}", object.name))
}

/// Maps of the program's own; sections of data are maps, too, and begin with a dot.
fn maps(object: &Object) -> impl Iterator<Item = (&str, &Map)> {
    let maps = object.maps.iter().map(|(name, map)| (name.as_str(), map));
    maps.filter(|(name, _)| !name.starts_with('.') && !names::PRIVATE_MAPS.contains(name))
}

fn names_of<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'a str> {
    names.into_iter().collect()
}

#[test]
fn every_map_has_the_name_type_and_sizes_that_user_space_expects() {
    let shapes = shapes();
    for object in [&INGRESS, &EGRESS, &BASELINE, &RIVAL] {
        for (name, map) in maps(&parse(object)) {
            let place = format!("{}: map {name}", object.name);
            let Some((kind, key, value, entries)) = shapes.get(name) else {
                panic!("{place} is not in the shared names");
            };
            assert_eq!(map.map_type(), *kind as u32, "{place}: type");
            assert_eq!(map.key_size() as usize, *key, "{place}: key");
            if *kind == BPF_MAP_TYPE_DEVMAP_HASH {
                assert!(
                    DEVMAP_VALUES.contains(&(map.value_size() as usize)),
                    "{place}: {}",
                    map.value_size()
                );
            } else {
                assert_eq!(map.value_size() as usize, *value, "{place}: value");
            }
            if let Some(entries) = entries {
                assert_eq!(map.max_entries(), *entries, "{place}: entries");
            }
        }
    }
}

#[test]
fn the_two_objects_together_have_every_shared_map_and_no_other() {
    let (ingress, egress) = (parse(&INGRESS), parse(&EGRESS));
    let found = names_of(maps(&ingress).chain(maps(&egress)).map(|(name, _)| name));
    assert_eq!(found, names_of(names::PINNED_MAPS));
    let baseline = parse(&BASELINE);
    assert_eq!(
        names_of(maps(&baseline).map(|(name, _)| name)),
        names_of([names::MAP_BASE_DEVMAP, names::MAP_BASE_NEXT])
    );
    let rival = parse(&RIVAL);
    assert_eq!(
        names_of(maps(&rival).map(|(name, _)| name)),
        names_of([names::MAP_RIVAL_DRAIN, names::MAP_RIVAL_FLOWS, names::MAP_RIVAL_COUNTERS])
    );
}

#[test]
fn every_program_has_its_name_and_its_section() {
    let is_xdp = |section: &ProgramSection| {
        matches!(section, ProgramSection::Xdp { frags: false, attach_type: XdpAttachType::Interface })
    };
    let is_devmap = |section: &ProgramSection| {
        matches!(section, ProgramSection::Xdp { frags: false, attach_type: XdpAttachType::DevMap })
    };
    let is_btf = |section: &ProgramSection| matches!(section, ProgramSection::BtfTracePoint);
    let is_tc = |section: &ProgramSection| matches!(section, ProgramSection::SchedClassifier);
    let is_raw = |section: &ProgramSection| matches!(section, ProgramSection::RawTracePoint);
    type Is<'a> = &'a dyn Fn(&ProgramSection) -> bool;
    let expected: [(&objects::Object, &[(&str, Is<'_>)]); 4] = [
        (
            &INGRESS,
            &[
                (names::PROG_INGRESS, &is_xdp),
                (names::PROG_INGRESS_POLICY, &is_xdp),
                (names::PROG_STACK_CLASSIFY, &is_tc),
            ],
        ),
        (
            &EGRESS,
            &[
                (names::PROG_EGRESS, &is_devmap),
                (names::PROG_POLICY, &is_devmap),
                (names::PROG_STACK, &is_tc),
                (names::PROG_STACK_POLICY, &is_tc),
                (names::PROG_OBSERVER_BTF, &is_btf),
                (names::PROG_OBSERVER_RAW, &is_raw),
                (names::PROG_STACK_OBSERVER, &is_raw),
                (names::PROG_REDIRECT_ERR, &is_raw),
            ],
        ),
        (
            &BASELINE,
            &[
                (names::PROG_BASE_PASS, &is_xdp),
                (names::PROG_BASE_DROP, &is_xdp),
                (names::PROG_BASE_REDIRECT, &is_xdp),
                (names::PROG_BASE_SPREAD, &is_xdp),
                (names::PROG_BASE_FIB, &is_xdp),
                (names::PROG_BASE_EGRESS, &is_devmap),
            ],
        ),
        (&RIVAL, &[(names::PROG_RIVAL, &is_devmap)]),
    ];
    for (object, programs) in expected {
        let parsed = parse(object);
        let found = names_of(parsed.programs.keys().map(String::as_str));
        assert_eq!(found, names_of(programs.iter().map(|(name, _)| *name)), "{}", object.name);
        for (name, is) in programs {
            let section = &parsed.programs[*name].section;
            assert!(is(section), "{}: program {name} is in section {section:?}", object.name);
        }
    }
}

#[test]
fn every_object_declares_the_licence_that_its_helpers_ask_for() {
    for object in [&INGRESS, &EGRESS, &BASELINE, &RIVAL] {
        assert_eq!(parse(object).license.to_str(), Ok("Dual MIT/GPL"), "{}", object.name);
    }
}

#[test]
fn every_load_time_constant_is_a_word_of_its_object() {
    let expected: [(&objects::Object, &[&str]); 4] = [
        (
            &INGRESS,
            &[
                names::GLOBAL_INGRESS_INDEX,
                names::GLOBAL_IFINDEX,
                names::GLOBAL_MAC_LOW,
                names::GLOBAL_MAC_HIGH,
                names::GLOBAL_VLANS,
                names::GLOBAL_META,
                names::GLOBAL_RULES_LOW,
                names::GLOBAL_RULES_HIGH,
                names::GLOBAL_DIMENSIONS,
                names::GLOBAL_SUBSCRIBERS,
                names::GLOBAL_PLAN_CLASSES,
                names::GLOBAL_HASHES,
                names::GLOBAL_HASH_SEED,
                names::GLOBAL_ACTIONS,
                names::GLOBAL_PAUSE_QUANTUM_PS,
            ],
        ),
        (
            &EGRESS,
            &[
                names::GLOBAL_PORT_INDEX,
                names::GLOBAL_MODE,
                names::GLOBAL_AQM,
                names::GLOBAL_DRIVER,
                names::GLOBAL_RINGS,
                names::GLOBAL_CLASSES,
                names::GLOBAL_FRAMING,
            ],
        ),
        (&BASELINE, &[names::GLOBAL_BASE_TARGET, names::GLOBAL_BASE_FIRST, names::GLOBAL_BASE_COUNT]),
        (&RIVAL, &[names::GLOBAL_RIVAL_PACE_MULT, names::GLOBAL_RIVAL_PACE_SHIFT, names::GLOBAL_HASH_SEED]),
    ];
    let word = 0xa5a5_5a5a_u32.to_ne_bytes();
    for (object, constants) in expected {
        for constant in constants {
            let mut parsed = parse(object);
            // Refuses a symbol that is missing, that is not in a data section, or whose size is not that of a word.
            let patched = parsed.patch_map_data(HashMap::from([(*constant, (&word[..], true))]));
            patched.unwrap_or_else(|error| panic!("{}: {constant}: {error}", object.name));
            let Some(rodata) = parsed.maps.get(".rodata") else { panic!("{} has no .rodata", object.name) };
            assert!(
                rodata.data().windows(4).any(|w| w == word),
                "{}: {constant} is not constant",
                object.name
            );
        }
    }
}
