//! A packet of the kernel's stack at the TC hook: its frames, its traffic class, and the two fields that may change.
//!
//! Read and written by helpers rather than through packet pointers: a program that writes through them makes the kernel copy
//! the header of each cloned packet, which is what TCP sends (`bpf_unclone_prologue`, `net/core/filter.c` at v6.18).

use aya_ebpf::{
    bindings::bpf_hdr_start_off::BPF_HDR_START_NET,
    helpers::generated::{
        bpf_l3_csum_replace, bpf_skb_ecn_set_ce, bpf_skb_load_bytes_relative, bpf_skb_store_bytes,
    },
    programs::TcContext,
};
use weir_egress::frames::{Frames, Lengths};
use weir_wire::{Dscp, Ecn, ethernet};

const IPV4: u32 = ethernet::IPV4.to_be() as u32;
const IPV6: u32 = ethernet::IPV6.to_be() as u32;
/// Where the header checksum stands in an IPv4 header.
const CHECKSUM: u32 = 10;
const LINK_HEADER: u32 = ethernet::HEADER_LEN as u32;

/// What the packet becomes on the wire.
#[inline(always)]
pub fn frames(ctx: &TcContext) -> Frames {
    // SAFETY: the context is valid while the program runs; so everywhere in this file.
    let skb = unsafe { &*ctx.skb.skb };
    Frames::of(&Lengths {
        len: skb.len,
        wire_len: skb.wire_len,
        gso_size: skb.gso_size,
        gso_segs: skb.gso_segs,
        tagged: skb.vlan_present != 0,
    })
}

/// Whether the packet's sender understands marks (ECT or CE already).
#[inline(always)]
pub fn capable(ctx: &TcContext) -> bool {
    traffic_class(ctx).is_some_and(|class| Ecn::of(class).is_capable())
}

/// Code point and ECN bits of an IP packet.
#[inline(always)]
pub fn traffic_class(ctx: &TcContext) -> Option<u8> {
    let [first, second] = head(ctx)?;
    match ctx.skb.protocol() {
        IPV4 => Some(second),
        IPV6 => Some(first << 4 | second >> 4),
        _ => None,
    }
}

/// Sets CE if the packet is ECN-capable; whether it now bears CE.
#[inline(always)]
pub fn mark(ctx: &TcContext) -> bool {
    // SAFETY: as above; no packet pointer lives across the call.
    unsafe { bpf_skb_ecn_set_ce(ctx.skb.skb) == 1 }
}

/// Sets the code point; whether it could. Only behind an Ethernet header without a tag in it.
#[inline(always)]
pub fn remark(ctx: &TcContext, code_point: u8) -> bool {
    let Ok(ethertype) = ctx.load::<u16>(ethernet::HEADER_LEN - 2) else { return false };
    let protocol = ctx.skb.protocol();
    let (Some([first, second]), Some(dscp)) = (head(ctx), Dscp::new(code_point)) else { return false };
    if u32::from(ethertype) != protocol {
        return false;
    }
    let new = match protocol {
        IPV4 => [first, dscp.get() << 2 | second & 3],
        IPV6 => {
            let class = dscp.get() << 2 | (second >> 4) & 3;
            [first & 0xf0 | class >> 4, class << 4 | second & 0x0f]
        }
        _ => return false,
    };
    let (from, to) = (u16::from_ne_bytes([first, second]), u16::from_ne_bytes(new));
    // SAFETY: as above; the helper reads two bytes of our stack.
    unsafe {
        if protocol == IPV4
            && bpf_l3_csum_replace(ctx.skb.skb, LINK_HEADER + CHECKSUM, from.into(), to.into(), 2) != 0
        {
            return false;
        }
        bpf_skb_store_bytes(ctx.skb.skb, LINK_HEADER, new.as_ptr().cast(), 2, 0) == 0
    }
}

/// The first two bytes of the network header.
#[inline(always)]
fn head(ctx: &TcContext) -> Option<[u8; 2]> {
    let mut bytes = [0_u8; 2];
    // SAFETY: as above; the helper writes two bytes of our stack.
    let read = unsafe {
        bpf_skb_load_bytes_relative(
            ctx.skb.skb.cast(),
            0,
            bytes.as_mut_ptr().cast(),
            2,
            BPF_HDR_START_NET as u32,
        )
    };
    (read == 0).then_some(bytes)
}
