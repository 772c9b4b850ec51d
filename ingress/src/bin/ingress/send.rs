//! The last step: to the device map, with what a router changes in a packet, and what egress is told about it.

use aya_ebpf::{
    bindings::xdp_action,
    helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_meta},
    programs::XdpContext,
};
use weir_ingress::Backing;
use weir_shared_maps::IngressCounter;
use weir_wire::{Hop, L3, Mark, RawPacket, ethernet, set_macs};

use crate::{
    maps::{VLANS, WEIR_DEVMAP},
    policy::headers,
    route::Routed,
};

/// Notes the target and rewrites the frame; `Err` carries the counter of the reason it is not sent.
#[inline(always)]
pub fn send(ctx: &XdpContext, routed: &Routed, mut l3: L3, backing: Backing) -> Result<(), IngressCounter> {
    // Looked up before the packet is touched: the kernel removes the entry of a device that goes away. The helper only
    // notes the target; the redirect happens when the program returns its verdict.
    match WEIR_DEVMAP.redirect(routed.target, u64::from(xdp_action::XDP_PASS)) {
        Ok(_) => {}
        Err(_) => return Err(IngressCounter::PassNotManaged),
    }
    // SAFETY: the context's bounds; the view is not used after a helper that moves them.
    let mut packet = unsafe { RawPacket::new(ctx.data(), ctx.data_end()) };
    match l3.decrement_hops(&mut packet) {
        Ok(Hop::Forward) => {}
        Ok(Hop::Expired) => return Err(IngressCounter::PassTtl),
        Err(_) => return Err(IngressCounter::PassRewrite),
    }
    if VLANS.load() != 0 && routed.vlan != 0 {
        // The tag goes: what stood before it is overwritten by the MAC addresses below. The program's own copy of
        // the EtherType stays where it was, right in front of the IP header.
        // SAFETY: plain helper call; the old view is dropped.
        if unsafe { bpf_xdp_adjust_head(ctx.ctx, ethernet::TAG_LEN as i32) } != 0 {
            return Err(IngressCounter::PassRewrite);
        }
    }
    // SAFETY: bounds read anew after the helpers.
    let mut packet = unsafe { RawPacket::new(ctx.data(), ctx.data_end()) };
    set_macs(&mut packet, routed.dmac, routed.smac).map_err(|_| IngressCounter::PassRewrite)?;
    if backing == Backing::Mark && !mark(ctx.data(), ctx.data_end(), routed.version) {
        return Err(IngressCounter::PassRewrite);
    }
    Ok(())
}

/// Sets CE in a frame that is untagged by now. Its header is read anew, at a constant place: the verifier follows no other through
/// several writes.
#[inline(never)]
fn mark(start: usize, end: usize, version: u32) -> bool {
    let Some((mut l3, _)) = headers(start, end, version, 0) else { return false };
    // SAFETY: the context's bounds; no helper moves them while the view lives.
    let mut packet = unsafe { RawPacket::new(start, end) };
    matches!(l3.set_ecn_ce(&mut packet), Ok(Mark::Marked))
}

/// Leaves metadata for egress: a head, or all of it. A driver without metadata support refuses; egress then derives what
/// it can from the packet.
#[inline(always)]
pub fn describe<M>(ctx: &XdpContext, meta: M) {
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
