//! Programs that decide nothing: what weir is measured against, and what prepares drivers as redirect targets.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "the program macros expand to undocumented functions")]

use aya_ebpf::{
    Global,
    bindings::{bpf_fib_lookup as FibLookup, xdp_action},
    helpers::generated::{bpf_fib_lookup, bpf_get_prandom_u32},
    macros::{map, xdp},
    maps::{DevMapHash, ProgramArray},
    programs::XdpContext,
};
use weir_wire::{L3, Packet as _, RawPacket, parse, set_macs};

#[unsafe(no_mangle)]
static BASE_TARGET: Global<u32> = Global::new(0);

#[unsafe(no_mangle)]
static BASE_FIRST: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static BASE_COUNT: Global<u32> = Global::new(1);

#[map]
static BASE_DEVMAP: DevMapHash = DevMapHash::with_max_entries(64, 0);
#[map]
static BASE_NEXT: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Where an untagged IPv4 frame has its destination address.
const DESTINATION_AT: usize = 14 + 16;

/// Passes everything.
#[xdp]
pub fn base_pass(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Drops everything.
#[xdp]
pub fn base_drop(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// Redirects everything, unparsed and unchanged.
#[xdp]
pub fn base_redirect(_ctx: XdpContext) -> u32 {
    BASE_DEVMAP.redirect(BASE_TARGET.load(), 0).unwrap_or(xdp_action::XDP_ABORTED)
}

/// A generator: sends each frame to one of `BASE_COUNT` addresses, drawn at random, and goes on with the next program. The
/// header checksum is left as it is; no XDP program looks at it.
#[xdp]
pub fn base_spread(ctx: XdpContext) -> u32 {
    // SAFETY: the context's bounds; no helper below moves them before the last use.
    let mut packet = unsafe { RawPacket::new(ctx.data(), ctx.data_end()) };
    // SAFETY: the helper takes no argument.
    let random = unsafe { bpf_get_prandom_u32() };
    let address = BASE_FIRST.load().wrapping_add(random.checked_rem(BASE_COUNT.load()).unwrap_or(0));
    if packet.write(DESTINATION_AT, address.to_be_bytes()).is_some() {
        // SAFETY: of the same kind as this program; the kernel refuses others when they are entered.
        unsafe { BASE_NEXT.tail_call(&ctx, 0) };
    }
    xdp_action::XDP_ABORTED
}

/// Routes as `xdp-forward` of xdp-tools does: parse, FIB lookup, device map lookup, TTL, MAC addresses, redirect.
#[xdp]
pub fn base_fib(ctx: XdpContext) -> u32 {
    fib(&ctx).unwrap_or(xdp_action::XDP_PASS)
}

/// Devmap program that passes everything.
#[xdp(map = "devmap")]
pub fn base_egress(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

#[inline(always)]
fn fib(ctx: &XdpContext) -> Option<u32> {
    // SAFETY: the context's bounds; no helper below moves them.
    let mut packet = unsafe { RawPacket::new(ctx.data(), ctx.data_end()) };
    let mut parsed = parse(&packet).ok()?;
    // SAFETY: all-zero bytes are a valid `bpf_fib_lookup`.
    let mut lookup: FibLookup = unsafe { core::mem::zeroed() };
    // SAFETY: the context is valid for the program's run.
    lookup.ifindex = unsafe { (*ctx.ctx).ingress_ifindex };
    match parsed.l3 {
        L3::V4(v4) if v4.ttl() > 1 && !v4.has_options() => {
            lookup.family = 2;
            lookup.l4_protocol = v4.protocol();
            lookup.__bindgen_anon_1.tot_len = v4.total_len();
            lookup.__bindgen_anon_2.tos = v4.tos();
            lookup.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes(v4.src());
            lookup.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(v4.dst());
        }
        L3::V6(v6) if v6.hop_limit() > 1 => {
            lookup.family = 10;
            lookup.l4_protocol = v6.next_header();
            lookup.__bindgen_anon_1.tot_len = v6.total_len() as u16;
            lookup.__bindgen_anon_3.ipv6_src = words(v6.src());
            lookup.__bindgen_anon_4.ipv6_dst = words(v6.dst());
        }
        L3::V4(_) | L3::V6(_) | L3::Other => return None,
    }
    // SAFETY: the helper reads and writes our stack and reads the context.
    let answer = unsafe { bpf_fib_lookup(ctx.ctx.cast(), &raw mut lookup, size_of::<FibLookup>() as i32, 0) };
    if answer != 0 {
        return None;
    }
    BASE_DEVMAP.get_ifindex(lookup.ifindex)?;
    let _forwarded = parsed.l3.decrement_hops(&mut packet).ok()?;
    set_macs(&mut packet, lookup.dmac, lookup.smac).ok()?;
    BASE_DEVMAP.redirect(lookup.ifindex, 0).ok()
}

#[inline(always)]
fn words(address: [u8; 16]) -> [u32; 4] {
    // SAFETY: both are 16 bytes of plain data.
    unsafe { core::mem::transmute::<[u8; 16], [u32; 4]>(address) }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
