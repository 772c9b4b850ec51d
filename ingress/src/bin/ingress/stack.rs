//! The TC program that says what a packet of the kernel's stack is, before the one that decides on it (egress's
//! `weir_stack_pol`): the rules, subscribers and hashes that ingress applies to what arrives.
//!
//! One copy serves all ports. Both programs run in one pass of the hook, on one CPU, and nothing of weir's runs between them.

use aya_ebpf::{bindings::TC_ACT_UNSPEC, macros::classifier, maps::HashMap, programs::TcContext};
use weir_shared_maps::{DIM_INGRESS, DIM_MARK, META_MAGIC, MetaHead, PacketMeta};
use weir_wire::{ethernet, ipv4, ipv6};

use crate::maps::{DIMENSIONS, WEIR_R_INGRESS, WEIR_R_MARK, WEIR_ROUTES, WEIR_STACK_META};
use crate::policy;

const IPV4: u32 = ethernet::IPV4.to_be() as u32;
const IPV6: u32 = ethernet::IPV6.to_be() as u32;
/// Ports: the first bytes of every header that has them.
const PORTS: usize = 4;
/// Bytes of headers that are made accessible where the packet's buffer begins with less.
const PULLED: u32 = 128;

/// Leaves the packet's metadata, or none: what is not IP, or begins with a tag, is of the port's default class.
///
/// Those of an earlier packet are taken away first: somebody else's program between the two may have ended its way before they
/// were read.
#[classifier]
pub fn weir_stack_cls(ctx: TcContext) -> i32 {
    let Some(slot) = WEIR_STACK_META.get_ptr_mut(0) else { return TC_ACT_UNSPEC };
    // SAFETY: this CPU's own value.
    unsafe { (*slot).head.magic = 0 };
    if let Some(meta) = describe(&ctx) {
        // SAFETY: as above.
        unsafe { *slot = meta };
    }
    // The next program, which decides.
    TC_ACT_UNSPEC
}

#[inline(always)]
fn describe(ctx: &TcContext) -> Option<PacketMeta> {
    let (version, headers) = match ctx.skb.protocol() {
        IPV4 => (4, ethernet::HEADER_LEN + ipv4::MIN_HEADER_LEN + PORTS),
        IPV6 => (6, ethernet::HEADER_LEN + ipv6::HEADER_LEN + PORTS),
        _ => return None,
    };
    // SAFETY: the context is valid while the program runs.
    let skb = unsafe { &*ctx.skb.skb };
    let route = WEIR_ROUTES.get(skb.ifindex)?;
    let mut rules = policy::rules_here();
    if DIMENSIONS.load() & DIM_MARK != 0 {
        rules &= by(&WEIR_R_MARK, skb.mark);
    }
    if DIMENSIONS.load() & DIM_INGRESS != 0 {
        rules &= by(&WEIR_R_INGRESS, skb.ingress_ifindex);
    }
    // Only where it must: for a packet whose buffer is shared the kernel copies the header (`bpf_try_make_writable`).
    if ctx.data() + headers > ctx.data_end() && ctx.pull_data(skb.len.min(PULLED)).is_err() {
        return None;
    }
    let head = MetaHead { magic: META_MAGIC, ip_version: version, l3_offset: ethernet::HEADER_LEN as u8 };
    Some(policy::of(ctx, route, policy::Sight { version: version.into(), vlan: 0, rules }, head))
}

/// Rules that hold for a value; entry 0 stands for all that have none.
#[inline(always)]
fn by(map: &HashMap<u32, u64>, value: u32) -> u64 {
    // SAFETY: written before the programs run, and never after.
    unsafe { map.get(&value).or_else(|| map.get(&0)) }.copied().unwrap_or(0)
}
