//! What a packet is: its class, subscriber and hashes. Each part is there only if the configuration uses it.
//!
//! The parts are functions of their own, called one after the other, and each reads the headers anew: what one of them
//! keeps on the stack, the others can use again (a program and the functions it calls have 512 bytes together).

use aya_ebpf::{
    maps::{Array, lpm_trie::Key},
    programs::{TcContext, XdpContext},
};
use weir_ingress::{
    hash::{destination_hash, flow_hash, source_hash},
    key::transport,
    rules::{RuleTables, first_match},
    subscriber::{SubscriberTables, subscriber_of},
    table::{Buckets, Place, find},
};
use weir_shared_maps::{
    ENTRY4_WORDS, ENTRY6_WORDS, HASH_DESTINATION, HASH_FLOW, HASH_SOURCE, MAX_CLASSES, MAX_PLANS, MAX_RULES,
    MetaHead, PacketMeta, PortRoute, SIDE_DESTINATION, SIDE_NONE, SubscriberBucket, SubscriberMeter,
};
use weir_wire::{L3, RawHeaders, RawPacket, ethernet};

use crate::maps::{
    DIMENSIONS, HASH_SEED, HASHES, PLAN_CLASSES, RULES_HIGH, RULES_LOW, SUBSCRIBERS, VLANS, WEIR_CLASS_PLACE,
    WEIR_CLASSES, WEIR_FLOWS, WEIR_PLAN_CLASS, WEIR_R_DPORT, WEIR_R_DSCP, WEIR_R_DST4, WEIR_R_DST6,
    WEIR_R_PROTO, WEIR_R_SIZE, WEIR_R_SPORT, WEIR_R_SRC4, WEIR_R_SRC6, WEIR_R_VLAN, WEIR_RULE_CLASS,
    WEIR_SUB_DOWN, WEIR_SUB_MASKS, WEIR_SUB_UP, WEIR_SUB4, WEIR_SUB6,
};
use crate::route::Routed;

/// What [`matching_rule`] answers where no rule matches.
const NO_RULE: u32 = MAX_RULES;

/// Where a program finds its packet.
pub trait Bounds {
    /// Address of the first byte.
    fn start(&self) -> usize;
    /// Address behind the last byte that can be reached.
    fn end(&self) -> usize;
}

impl Bounds for XdpContext {
    #[inline(always)]
    fn start(&self) -> usize {
        self.data()
    }
    #[inline(always)]
    fn end(&self) -> usize {
        self.data_end()
    }
}

impl Bounds for TcContext {
    #[inline(always)]
    fn start(&self) -> usize {
        self.data()
    }
    #[inline(always)]
    fn end(&self) -> usize {
        self.data_end()
    }
}

/// What is known of a packet before its policy is looked up.
#[derive(Clone, Copy)]
pub struct Sight {
    /// 4 or 6.
    pub version: u32,
    /// The VLAN of the tag that stands in the packet, with which it arrived; 0 without one.
    pub vlan: u32,
    /// Bits of the rules that may match.
    pub rules: u64,
}

impl Sight {
    /// What ingress has found out.
    #[inline(always)]
    pub fn of(routed: &Routed) -> Self {
        Self { version: routed.version, vlan: routed.vlan, rules: rules_here() }
    }
}

/// What is known of a frame, which is still as it arrived, or as the stack has made it, at the port `route`.
///
/// The first rule that matches says the class, else the subscriber's plan, else the port.
#[inline(always)]
pub fn of<C: Bounds>(ctx: &C, route: &PortRoute, sight: Sight, head: MetaHead) -> PacketMeta {
    let mut meta = PacketMeta {
        head,
        class: route.default_class,
        plan: 0,
        subscriber: 0,
        flow_hash: 0,
        source_hash: 0,
        destination_hash: 0,
    };
    let Sight { version, vlan, rules } = sight;
    if SUBSCRIBERS.load() != 0 && route.side != SIDE_NONE {
        meta.subscriber = subscriber(ctx.start(), ctx.end(), version, vlan, u32::from(route.side));
        fetch_meter(meta.subscriber, route.side);
        if PLAN_CLASSES.load() != 0
            && meta.subscriber != 0
            && let Some(plan) = plan_of(meta.subscriber, route.side)
            && let Some(class) = WEIR_PLAN_CLASS.get(route.port * MAX_PLANS + u32::from(plan))
            && *class < MAX_CLASSES
        {
            (meta.class, meta.plan) = (*class as u16, plan);
        }
    }
    if rules != 0 {
        let rule = matching_rule(ctx.start(), ctx.end(), version, vlan, rules);
        if rule < NO_RULE
            && let Some(class) = WEIR_RULE_CLASS.get(route.port * MAX_RULES + rule)
        {
            meta.class = *class as u16;
        }
    }
    if HASHES.load() & HASH_FLOW != 0 {
        meta.flow_hash = flow(ctx.start(), ctx.end(), version, vlan);
    }
    if HASHES.load() & (HASH_SOURCE | HASH_DESTINATION) != 0 {
        let both = hosts(ctx.start(), ctx.end(), version, vlan);
        (meta.source_hash, meta.destination_hash) = (both as u32, (both >> 32) as u32);
    }
    if SUBSCRIBERS.load() != 0 && meta.subscriber != 0 {
        fetch_queue(route.port, &meta);
    }
    meta
}

/// The meter of a subscriber.
#[inline(always)]
fn meter_of(subscriber: u32, side: u8) -> Option<*mut SubscriberMeter> {
    let meters = if side == SIDE_DESTINATION { &WEIR_SUB_DOWN } else { &WEIR_SUB_UP };
    meters.get_ptr_mut(subscriber)
}

/// Has the cache line of a subscriber's meter fetched. Egress reads it after this CPU's other work on the frame and on those that
/// arrived with it.
///
/// BPF has no prefetch. A load would do as well, but what follows it soon waits for a miss; a store waits in the store buffer by
/// itself (docs/policy.md).
#[inline(always)]
fn fetch_meter(subscriber: u32, side: u8) {
    if let Some(meter) = meter_of(subscriber, side) {
        // SAFETY: a map's value; this byte means nothing to anybody.
        unsafe { (&raw mut (*meter).ahead).write_volatile(0) };
    }
}

/// The same for the queue of a subscriber in its class.
#[inline(always)]
fn fetch_queue(port: u32, meta: &PacketMeta) {
    let class = port * MAX_CLASSES + u32::from(meta.class);
    if let (Some(config), Some(place)) = (WEIR_CLASSES.get(class), WEIR_CLASS_PLACE.get(class))
        && place.flow_mask != u32::MAX
        && let Some(flow) = WEIR_FLOWS
            .get_ptr_mut(place.bucket(meta.queue_hash(config.fairness).wrapping_add(meta.subscriber)))
    {
        // SAFETY: as in `fetch_meter`.
        unsafe { (&raw mut (*flow).ahead).write_volatile(0) };
    }
}

/// The plan of a subscriber.
#[inline(always)]
fn plan_of(subscriber: u32, side: u8) -> Option<u16> {
    // SAFETY: a map's value; user space writes the plan whole.
    meter_of(subscriber, side).map(|meter| unsafe { (&raw const (*meter).plan).read_volatile() })
}

/// Bits of the rules that may match here at all: what arrives at the device, or what the stack sends.
#[inline(always)]
pub fn rules_here() -> u64 {
    u64::from(RULES_HIGH.load()) << 32 | u64::from(RULES_LOW.load())
}

/// The first rule that matches, or [`NO_RULE`].
#[inline(never)]
fn matching_rule(start: usize, end: usize, version: u32, vlan: u32, rules: u64) -> u32 {
    let Some((l3, packet)) = headers(start, end, version, vlan) else { return NO_RULE };
    first_match(&Maps, rules, DIMENSIONS.load(), vlan as u16, &l3, &packet).unwrap_or(NO_RULE)
}

/// 0 for nobody.
#[inline(never)]
fn subscriber(start: usize, end: usize, version: u32, vlan: u32, side: u32) -> u32 {
    let (Some((l3, _)), Some(masks)) = (headers(start, end, version, vlan), WEIR_SUB_MASKS.get(0)) else {
        return 0;
    };
    subscriber_of(&Maps, masks, side as u8, &l3)
}

/// The hash of its flow.
#[inline(never)]
pub fn flow(start: usize, end: usize, version: u32, vlan: u32) -> u32 {
    let Some((l3, packet)) = headers(start, end, version, vlan) else { return 0 };
    flow_hash(&l3, &transport(&l3, &packet), HASH_SEED.load())
}

/// The source's hash in the lower and the destination's in the upper half.
#[inline(never)]
fn hosts(start: usize, end: usize, version: u32, vlan: u32) -> u64 {
    let Some((l3, _)) = headers(start, end, version, vlan) else { return 0 };
    let (hashes, seed) = (HASHES.load(), HASH_SEED.load());
    let source = if hashes & HASH_SOURCE != 0 { source_hash(&l3, seed) } else { 0 };
    let destination = if hashes & HASH_DESTINATION != 0 { destination_hash(&l3, seed) } else { 0 };
    u64::from(destination) << 32 | u64::from(source)
}

/// The IP header of a frame whose lengths were checked when it arrived, or were set by our own stack.
#[inline(always)]
pub fn header(start: usize, end: usize, version: u32, vlan: u32) -> Option<L3> {
    headers(start, end, version, vlan).map(|(l3, _)| l3)
}

/// The same with the packet. Bounds come as the pointers that the caller has loaded: loaded here, the compiler may widen them
/// apart from their load, and the verifier loses sight of the packet.
#[inline(always)]
pub fn headers(start: usize, end: usize, version: u32, vlan: u32) -> Option<(L3, RawHeaders)> {
    // SAFETY: the context's bounds; no helper moves them while the view lives.
    let packet = RawHeaders::new(unsafe { RawPacket::new(start, end) });
    // Two values each, so that the verifier sees no third way through with nothing parsed. A tag that was admitted has a VLAN.
    let version = if version == 6 { 6 } else { 4 };
    let tag = if VLANS.load() != 0 && vlan != 0 { ethernet::TAG_LEN } else { 0 };
    let l3 = L3::parse_at(&packet, version, (ethernet::HEADER_LEN + tag) as u8).ok()?;
    Some((l3, packet))
}

/// The tables in the maps. A lookup that fails holds for no rule: the packet falls to the default class.
struct Maps;

impl RuleTables for Maps {
    #[inline(always)]
    fn dscp(&self, dscp: u8) -> u64 {
        at(&WEIR_R_DSCP, u32::from(dscp))
    }
    #[inline(always)]
    fn vlan(&self, vlan: u16) -> u64 {
        at(&WEIR_R_VLAN, u32::from(vlan))
    }
    #[inline(always)]
    fn protocol(&self, protocol: u8) -> u64 {
        at(&WEIR_R_PROTO, u32::from(protocol))
    }
    #[inline(always)]
    fn source_port(&self, port: u16) -> u64 {
        at(&WEIR_R_SPORT, u32::from(port))
    }
    #[inline(always)]
    fn destination_port(&self, port: u16) -> u64 {
        at(&WEIR_R_DPORT, u32::from(port))
    }
    #[inline(always)]
    fn size(&self, size: u32) -> u64 {
        at(&WEIR_R_SIZE, size)
    }
    #[inline(always)]
    fn source_v4(&self, address: [u8; 4]) -> u64 {
        WEIR_R_SRC4.get(Key::new(32, address)).copied().unwrap_or(0)
    }
    #[inline(always)]
    fn destination_v4(&self, address: [u8; 4]) -> u64 {
        WEIR_R_DST4.get(Key::new(32, address)).copied().unwrap_or(0)
    }
    #[inline(always)]
    fn source_v6(&self, address: &[u8; 16]) -> u64 {
        WEIR_R_SRC6.get(Key::new(128, *address)).copied().unwrap_or(0)
    }
    #[inline(always)]
    fn destination_v6(&self, address: &[u8; 16]) -> u64 {
        WEIR_R_DST6.get(Key::new(128, *address)).copied().unwrap_or(0)
    }
}

impl SubscriberTables for Maps {
    #[inline(always)]
    fn v4(&self, place: Place, key: [u64; ENTRY4_WORDS]) -> u32 {
        let [word] = key;
        find_subscriber4(place.0, word)
    }
    #[inline(always)]
    fn v6(&self, place: Place, key: [u64; ENTRY6_WORDS]) -> u32 {
        let [length, high, low] = key;
        find_subscriber6(place.0, length, high, low)
    }
}

/// Global functions (their names are exported): the verifier looks at each once, not once for each prefix length.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn find_subscriber4(place: u32, key: u64) -> u32 {
    find(&Table(&WEIR_SUB4), Place(place), &[key])
}

/// As [`find_subscriber4`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn find_subscriber6(place: u32, length: u64, high: u64, low: u64) -> u32 {
    find(&Table(&WEIR_SUB6), Place(place), &[length, high, low])
}

/// A table of subscribers in its map.
struct Table(&'static Array<SubscriberBucket>);

impl Buckets for Table {
    type Bucket = *const u64;

    #[inline(always)]
    fn bucket(&self, index: u32) -> Option<*const u64> {
        self.0.get_ptr(index).map(<*const SubscriberBucket>::cast)
    }

    #[inline(always)]
    fn word(&self, bucket: *const u64, at: usize) -> u64 {
        // SAFETY: a word of a map's value, which user space writes whole.
        unsafe { bucket.add(at).read_volatile() }
    }

    /// In assembly: the compiler would find that all of it is a comparison, and make a branch of that.
    #[inline(always)]
    fn spread_sign(mut word: u64) -> u64 {
        // SAFETY: arithmetic on a register.
        unsafe {
            core::arch::asm!("{0} s>>= 63", inout(reg) word, options(pure, nomem, nostack, preserves_flags));
        }
        word
    }
}

#[inline(always)]
fn at(map: &Array<u64>, index: u32) -> u64 {
    map.get(index).copied().unwrap_or(0)
}
