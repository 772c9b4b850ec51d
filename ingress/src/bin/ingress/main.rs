//! The XDP ingress program: route with the kernel's own tables, look up policy, back off, send.
//!
//! One copy is loaded for each ingress device, specialised by its load-time constants. Minimum kernel 5.14 (metadata
//! survives to the devmap program); `bpf_fib_lookup`'s MTU check with `tot_len` needs 5.13.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "the program macros expand to undocumented functions")]
#![feature(asm_experimental_arch, core_intrinsics)]
#![allow(internal_features, reason = "the BPF target has no other atomics")]

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use weir_ingress::{Backing, Exit, exit_of};
use weir_shared_maps::{
    ClassCounter, IngressCounter, IngressCounters, META_MAGIC, MetaHead, PacketMeta, PortCounter, PortRoute,
};
use weir_wire::ethernet;

// Shared with the egress object: how rings are read, and the atomics of the BPF target.
#[path = "../../../../egress/src/bin/egress/atomics.rs"]
#[allow(dead_code, reason = "egress uses more of them")]
mod atomics;
mod back_off;
mod events;
mod maps;
mod pause;
mod policy;
mod queues;
#[path = "../../../../egress/src/bin/egress/ring.rs"]
#[allow(dead_code, reason = "the observers, which are the other object's, find the rings")]
mod ring;
mod route;
mod send;
mod stack;

use maps::{INGRESS_INDEX, META, WEIR_IN_COUNT, WEIR_LONG_WAY, WEIR_ROUTES, bump, count};
use route::Routed;

/// [`META`]: egress wants class, subscriber and hashes as well.
const META_POLICY: u32 = 2;

/// Forwards, without policy; where flows may move, while nothing moves any.
#[xdp]
pub fn weir_ingress(ctx: XdpContext) -> u32 {
    // Without counters nothing could be accounted for: fail open, the stack forwards.
    let Some(counters) = WEIR_IN_COUNT.get_ptr_mut(INGRESS_INDEX.load()) else {
        return xdp_action::XDP_PASS;
    };
    finish(&ctx, counters, forward(&ctx))
}

/// Forwards by class, subscriber and flow, and leaves them in the metadata.
///
/// Its steps are functions of their own: their stack is free again for the next one (a program and the functions it calls
/// have 512 bytes together). The program without policy does not pay for the calls.
#[xdp]
pub fn weir_ingress_pol(ctx: XdpContext) -> u32 {
    // As above.
    let Some(counters) = WEIR_IN_COUNT.get_ptr_mut(INGRESS_INDEX.load()) else {
        return xdp_action::XDP_PASS;
    };
    finish(&ctx, counters, forward_by_policy(&ctx))
}

/// Counts what became of the packet, and says how it leaves.
#[inline(always)]
fn finish(ctx: &XdpContext, counters: *mut IngressCounters, outcome: Result<(), IngressCounter>) -> u32 {
    let outcome = match outcome {
        Ok(()) => IngressCounter::Redirected,
        Err(reason) => pause::receive(ctx, reason),
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

/// The packet's way to the device map; `Err` carries the counter of the reason it does not get there.
#[inline(always)]
fn forward(ctx: &XdpContext) -> Result<(), IngressCounter> {
    let mut routed = Routed::NOWHERE;
    let (port, l3) = route::route(ctx, &mut routed)?;
    let backing =
        if back_off::moves() { at_rest(ctx, port)? } else { back_off::by_packet(port, 0, l3.ecn())? };
    stops(port, None, backing)?;
    send::send(ctx, &routed, l3, backing)?;
    counts(port, None, backing);
    if META.load() != 0 {
        send::describe(ctx, head(&routed));
    }
    Ok(())
}

/// Where flows may move: straight on at a port that rests. Else [`weir_ingress_pol`] begins again, from the frame as it arrived: the
/// two programs' steps together have more than 512 bytes of stack, and a tail call leaves that of this one.
#[inline(always)]
fn at_rest(ctx: &XdpContext, port: &PortRoute) -> Result<Backing, IngressCounter> {
    if back_off::rests(port)? {
        return Ok(Backing::Go);
    }
    // SAFETY: a program array of XDP programs, given the context that this program was given.
    unsafe { WEIR_LONG_WAY.tail_call(ctx, INGRESS_INDEX.load()) };
    // Nobody is there: fail open.
    Err(IngressCounter::PassNoState)
}

/// The same with policy in between.
#[inline(always)]
fn forward_by_policy(ctx: &XdpContext) -> Result<(), IngressCounter> {
    let mut routed = Routed::NOWHERE;
    route_apart(ctx, &mut routed)?;
    let Some(port) = WEIR_ROUTES.get(routed.target) else {
        return Err(IngressCounter::PassNotManaged);
    };
    let mut meta = policy::of(ctx, port, policy::Sight::of(&routed), head(&routed));
    let class = if META.load() == META_POLICY { Some(u32::from(meta.class)) } else { None };
    let backing = back_off::by_class(ctx, &mut routed, &meta)?;
    stops(port, class, backing)?;
    if back_off::spills() && backing == Backing::Spill {
        // The spill port sorts by its own rules.
        let Some(other) = WEIR_ROUTES.get(routed.target) else {
            return Err(IngressCounter::PassNotManaged);
        };
        meta = policy::of(ctx, other, policy::Sight::of(&routed), head(&routed));
    }
    send_apart(ctx, &routed, backing)?;
    counts(port, class, backing);
    describe_apart(ctx, &meta);
    Ok(())
}

#[inline(never)]
fn route_apart(ctx: &XdpContext, routed: &mut Routed) -> Result<(), IngressCounter> {
    route::route(ctx, routed).map(|_| ())
}

#[inline(never)]
fn send_apart(ctx: &XdpContext, routed: &Routed, backing: Backing) -> Result<(), IngressCounter> {
    let Some(l3) = policy::header(ctx.data(), ctx.data_end(), routed.version, routed.vlan) else {
        return Err(IngressCounter::PassRewrite);
    };
    send::send(ctx, routed, l3, backing)
}

#[inline(always)]
fn describe_apart(ctx: &XdpContext, meta: &PacketMeta) {
    match META.load() {
        0 => {}
        META_POLICY => send::describe(ctx, *meta),
        _ => send::describe(ctx, meta.head),
    }
}

/// The packets that end here or go to the stack, with their counters.
#[inline(always)]
fn stops(port: &PortRoute, class: Option<u32>, backing: Backing) -> Result<(), IngressCounter> {
    match backing {
        Backing::Go | Backing::Mark | Backing::Spill => Ok(()),
        Backing::Drop => {
            let class = class.map(|class| (class, ClassCounter::DropBackpressure));
            count(port.port, PortCounter::DropBackpressure, class);
            Err(IngressCounter::DropBackpressure)
        }
        Backing::Divert => {
            count(port.port, PortCounter::Diverted, class.map(|class| (class, ClassCounter::Diverted)));
            Err(IngressCounter::PassDiverted)
        }
    }
}

/// The counters of those that go on otherwise than they would have.
#[inline(always)]
fn counts(port: &PortRoute, class: Option<u32>, backing: Backing) {
    match backing {
        Backing::Go | Backing::Drop | Backing::Divert => {}
        Backing::Mark => {
            let class = class.map(|class| (class, ClassCounter::IngressMarked));
            count(port.port, PortCounter::IngressMarked, class);
        }
        Backing::Spill => {
            count(port.port, PortCounter::Spilled, class.map(|class| (class, ClassCounter::Spilled)));
        }
    }
}

/// What egress learns of any frame.
#[inline(always)]
fn head(routed: &Routed) -> MetaHead {
    MetaHead { magic: META_MAGIC, ip_version: routed.version as u8, l3_offset: ethernet::HEADER_LEN as u8 }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
