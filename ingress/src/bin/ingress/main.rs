//! The XDP ingress program: classify, route with the kernel's own tables, back off or redirect.
//!
//! One copy is loaded for each ingress device, specialised by its load-time constants. Minimum kernel 5.14 (metadata
//! survives to the devmap program); `bpf_fib_lookup`'s MTU check with `tot_len` needs 5.13.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "the program macros expand to undocumented functions")]

use aya_ebpf::{
    bindings::{bpf_fib_lookup as FibLookup, xdp_action},
    helpers::generated::{bpf_fib_lookup, bpf_get_smp_processor_id, bpf_ktime_get_ns},
    helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_meta},
    macros::xdp,
    programs::XdpContext,
};
use weir_aqm::Nanos;
use weir_ingress::{
    Backing, Classified, Exit, FibAnswer, addressed_to, back_off, classify, exit_of, fib_exit, vlan_listed,
};
use weir_shared_maps::{
    CounterId, IngressCounter, IngressCounters, META_MAGIC, MetaHead, PortCounter, PortRoute,
};
use weir_wire::{Hop, L3, Link, RawPacket, ethernet, set_macs};

mod maps;
mod policy;
mod stack;

use maps::{
    IFINDEX, INGRESS_INDEX, MAC_HIGH, MAC_LOW, META, VLANS, WEIR_DEVMAP, WEIR_IN_COUNT, WEIR_INGRESS,
    WEIR_OUT_COUNT, WEIR_RINGS, WEIR_ROUTES,
};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// [`META`]: egress wants class, subscriber and hashes as well.
const META_POLICY: u32 = 2;

/// Forwards, without policy.
#[xdp]
pub fn weir_ingress(ctx: XdpContext) -> u32 {
    // Without counters nothing could be accounted for: fail open, the stack forwards.
    let Some(counters) = WEIR_IN_COUNT.get_ptr_mut(INGRESS_INDEX.load()) else {
        return xdp_action::XDP_PASS;
    };
    let mut place = Place::NOWHERE;
    finish(counters, forward(&ctx, &mut place))
}

/// Forwards, and leaves class, subscriber and hashes in the metadata.
///
/// The way there is a function of its own: its stack is free again when the policy is looked up (a program and the functions
/// it calls have 512 bytes together). The program without policy does not pay for the call.
#[xdp]
pub fn weir_ingress_pol(ctx: XdpContext) -> u32 {
    // As above.
    let Some(counters) = WEIR_IN_COUNT.get_ptr_mut(INGRESS_INDEX.load()) else {
        return xdp_action::XDP_PASS;
    };
    let mut place = Place::NOWHERE;
    let outcome = forward_apart(&ctx, &mut place);
    if place.target != 0
        && let Some(route) = WEIR_ROUTES.get(place.target)
    {
        describe(
            &ctx,
            policy::of(&ctx, route, place.ip_version as u8, place.vlan as u16, policy::rules_here()),
        );
    }
    finish(counters, outcome)
}

#[inline(never)]
fn forward_apart(ctx: &XdpContext, place: &mut Place) -> Result<(), IngressCounter> {
    forward(ctx, place)
}

/// Counts what became of the packet, and says how it leaves.
#[inline(always)]
fn finish(counters: *mut IngressCounters, outcome: Result<(), IngressCounter>) -> u32 {
    let outcome = match outcome {
        Ok(()) => IngressCounter::Redirected,
        Err(reason) => reason,
    };
    // SAFETY: a per-CPU value; nothing else on this CPU runs between load and store.
    let slots = unsafe { &mut (*counters).slots };
    bump(slots, IngressCounter::Received);
    bump(slots, outcome);
    match exit_of(outcome) {
        Exit::Redirect => xdp_action::XDP_REDIRECT,
        Exit::Stack => xdp_action::XDP_PASS,
        Exit::Drop => xdp_action::XDP_DROP,
    }
}

/// What policy has to know of a packet that is on its way.
struct Place {
    /// Interface index of the port it leaves by; 0 for what does not leave.
    target: u32,
    ip_version: u32,
    vlan: u32,
}

impl Place {
    const NOWHERE: Self = Self { target: 0, ip_version: 0, vlan: 0 };
}

/// The packet's way to the device map; `Err` carries the counter of the reason it does not get there.
#[inline(always)]
fn forward(ctx: &XdpContext, place: &mut Place) -> Result<(), IngressCounter> {
    // SAFETY: the context's bounds; the view is not used after a helper that moves them.
    let mut packet = unsafe { RawPacket::new(ctx.data(), ctx.data_end()) };
    let mac = u64::from(MAC_HIGH.load()) << 32 | u64::from(MAC_LOW.load());
    if !addressed_to(&packet, mac).map_err(|_| IngressCounter::PassMalformed)? {
        return Err(IngressCounter::PassNotUnicast);
    }
    let Classified { link, mut l3 } = classify(&packet)?;
    if link.vlans > 0 && !tag_admitted(&link) {
        return Err(IngressCounter::PassVlan);
    }

    let mut lookup = request(&l3, IFINDEX.load());
    // SAFETY: the helper reads and writes `size_of::<FibLookup>()` bytes of our stack, and reads the context.
    let answer = unsafe { bpf_fib_lookup(ctx.ctx.cast(), &raw mut lookup, size_of::<FibLookup>() as i32, 0) };
    fib_exit(FibAnswer(answer as i64))?;

    let target = lookup.ifindex;
    let Some(route) = WEIR_ROUTES.get(target) else {
        return Err(IngressCounter::PassNotManaged);
    };
    if route.rings == 0 {
        return Err(IngressCounter::PassNotManaged);
    }
    if let Backing::Drop = heed_signal(route)? {
        if let Some(port) = WEIR_OUT_COUNT.get_ptr_mut(route.port) {
            // SAFETY: a per-CPU value, as above.
            bump(unsafe { &mut (*port).slots }, PortCounter::DropBackpressure);
        }
        return Err(IngressCounter::DropBackpressure);
    }

    // Looked up before the packet is touched: the kernel removes the entry of a device that goes away. The helper only
    // notes the target; the redirect happens when the program returns its verdict.
    match WEIR_DEVMAP.redirect(target, u64::from(xdp_action::XDP_PASS)) {
        Ok(_) => {}
        Err(_) => return Err(IngressCounter::PassNotManaged),
    }

    match l3.decrement_hops(&mut packet) {
        Ok(Hop::Forward) => {}
        Ok(Hop::Expired) => return Err(IngressCounter::PassTtl),
        Err(_) => return Err(IngressCounter::PassRewrite),
    }
    if VLANS.load() != 0 && link.vlans == 1 {
        // The tag goes: what stood before it is overwritten by the MAC addresses below. The program's own copy of
        // the EtherType stays where it was, right in front of the IP header.
        // SAFETY: plain helper call; the old view is dropped.
        if unsafe { bpf_xdp_adjust_head(ctx.ctx, ethernet::TAG_LEN as i32) } != 0 {
            return Err(IngressCounter::PassRewrite);
        }
    }
    if META.load() != 0 {
        let ip_version = if matches!(l3, L3::V6(_)) { 6 } else { 4 };
        if META.load() == META_POLICY {
            let vlan = u32::from(link.outer_vid);
            *place = Place { target, ip_version: u32::from(ip_version), vlan };
        } else {
            let l3_offset = ethernet::HEADER_LEN as u8;
            describe(ctx, MetaHead { magic: META_MAGIC, ip_version, l3_offset });
        }
    }
    // SAFETY: bounds read anew after the helpers.
    let mut packet = unsafe { RawPacket::new(ctx.data(), ctx.data_end()) };
    set_macs(&mut packet, lookup.dmac, lookup.smac).map_err(|_| IngressCounter::PassRewrite)
}

/// A single tag that the config lists for this device.
#[inline(always)]
fn tag_admitted(link: &Link) -> bool {
    if VLANS.load() == 0 || link.vlans > 1 {
        return false;
    }
    WEIR_INGRESS.get(INGRESS_INDEX.load()).is_some_and(|config| vlan_listed(&config.vlans, link.outer_vid))
}

/// The signal of the ring this CPU's frames would enter. The clock is read only while a signal stands.
#[inline(always)]
fn heed_signal(route: &PortRoute) -> Result<Backing, IngressCounter> {
    // SAFETY: no arguments, no memory.
    let cpu = if route.rings > 1 { unsafe { bpf_get_smp_processor_id() } } else { 0 };
    let ring = if cpu < route.rings { cpu } else { cpu % route.rings.max(1) };
    let Some(ring) = WEIR_RINGS.get_ptr(route.ring_base.wrapping_add(ring)) else {
        return Err(IngressCounter::PassNoState);
    };
    // SAFETY: a map value lives as long as the program; volatile reads, since other CPUs write it.
    if unsafe { (&raw const (*ring).signal.level).read_volatile() } == weir_shared_maps::SIGNAL_CLEAR {
        return Ok(Backing::Go);
    }
    // SAFETY: as above.
    let signal = unsafe { (&raw const (*ring).signal).read_volatile() };
    // SAFETY: no arguments, no memory.
    let now = unsafe { bpf_ktime_get_ns() };
    Ok(back_off(&signal, Nanos::from_nanos(now)))
}

/// Leaves metadata for egress: a head, or all of it. A driver without metadata support refuses; egress then derives what
/// it can from the packet.
#[inline(always)]
fn describe<M>(ctx: &XdpContext, meta: M) {
    // SAFETY: plain helper call; all packet pointers are read anew below.
    if unsafe { bpf_xdp_adjust_meta(ctx.ctx, -(size_of::<M>() as i32)) } != 0 {
        return;
    }
    let (start, end) = (ctx.metadata(), ctx.metadata_end());
    if start + size_of::<M>() > end {
        return;
    }
    // SAFETY: the comparison above proved the room; the area is 4-byte aligned, like the words of all metadata, and ours.
    unsafe { (start as *mut M).write(meta) };
}

/// The routing question. `tot_len` makes the kernel check the MTU; ports stay zero, so routes by port do not match.
#[inline(always)]
fn request(l3: &L3, ifindex: u32) -> FibLookup {
    // SAFETY: all-zero bytes are a valid `bpf_fib_lookup`: integers, arrays and unions of them.
    let mut lookup: FibLookup = unsafe { core::mem::zeroed() };
    lookup.ifindex = ifindex;
    match l3 {
        L3::V4(v4) => {
            lookup.family = AF_INET;
            lookup.l4_protocol = v4.protocol();
            lookup.__bindgen_anon_1.tot_len = v4.total_len();
            lookup.__bindgen_anon_2.tos = v4.tos();
            lookup.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes(v4.src());
            lookup.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(v4.dst());
        }
        L3::V6(v6) => {
            lookup.family = AF_INET6;
            lookup.l4_protocol = v6.next_header();
            lookup.__bindgen_anon_1.tot_len = v6.total_len() as u16;
            lookup.__bindgen_anon_2.flowinfo =
                (u32::from(v6.traffic_class()) << 20 | v6.flow_label()).to_be();
            lookup.__bindgen_anon_3.ipv6_src = words(v6.src());
            lookup.__bindgen_anon_4.ipv6_dst = words(v6.dst());
        }
        L3::Other => {}
    }
    lookup
}

#[inline(always)]
fn words(address: [u8; 16]) -> [u32; 4] {
    // SAFETY: both are 16 bytes of plain data.
    unsafe { core::mem::transmute::<[u8; 16], [u32; 4]>(address) }
}

#[inline(always)]
fn bump<C: CounterId>(slots: &mut [u64; 32], counter: C) {
    if let Some(slot) = slots.get_mut(counter.slot()) {
        *slot = slot.wrapping_add(1);
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
