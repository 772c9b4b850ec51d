//! A frame as egress needs it: what ingress said about it, its traffic class, and the two fields that may change.

use aya_ebpf::programs::XdpContext;
use weir_shared_maps::{META_MAGIC, MetaHead, PacketMeta};
use weir_wire::{Dscp, L3, Mark, Packet, RawPacket, ethernet};

/// Whether the packet's sender understands marks (ECT or CE already).
#[inline(always)]
pub fn capable(ctx: &XdpContext) -> bool {
    // SAFETY: the context's bounds; no helper moves them while the view lives.
    let packet = unsafe { RawPacket::new(ctx.data(), ctx.data_end()) };
    network_header(ctx, &packet).is_some_and(|l3| l3.ecn().is_capable())
}

/// Code point and ECN bits.
#[inline(always)]
pub fn traffic_class(ctx: &XdpContext) -> Option<(u8, u8)> {
    // SAFETY: the context's bounds; no helper moves them while the view lives.
    let packet = unsafe { RawPacket::new(ctx.data(), ctx.data_end()) };
    let l3 = network_header(ctx, &packet)?;
    Some((l3.dscp().get(), l3.ecn() as u8))
}

/// Sets CE if the packet is ECN-capable; whether it now bears CE.
#[inline(always)]
pub fn mark(ctx: &XdpContext) -> bool {
    // SAFETY: as above.
    let mut packet = unsafe { RawPacket::new(ctx.data(), ctx.data_end()) };
    let Some(mut l3) = network_header(ctx, &packet) else { return false };
    matches!(l3.set_ecn_ce(&mut packet), Ok(Mark::Marked | Mark::AlreadyCe))
}

/// Sets the code point; whether it could.
#[inline(always)]
pub fn remark(ctx: &XdpContext, code_point: u8) -> bool {
    // SAFETY: as above.
    let mut packet = unsafe { RawPacket::new(ctx.data(), ctx.data_end()) };
    let (Some(mut l3), Some(dscp)) = (network_header(ctx, &packet), Dscp::new(code_point)) else {
        return false;
    };
    l3.set_dscp(&mut packet, dscp).is_ok()
}

/// The IP header. Ingress forwards only frames that are untagged by then, so its place is a constant, which the
/// verifier wants; which version it is stands in the metadata, or in the EtherType where the driver keeps none.
#[inline(always)]
fn network_header(ctx: &XdpContext, packet: &RawPacket) -> Option<L3> {
    let version = match metadata(ctx) {
        Some(meta) if usize::from(meta.l3_offset) == ethernet::HEADER_LEN => meta.ip_version,
        Some(_) => return None,
        None => match u16::from_be_bytes(packet.read(ethernet::HEADER_LEN - 2)?) {
            ethernet::IPV4 => 4,
            ethernet::IPV6 => 6,
            _ => return None,
        },
    };
    L3::parse_at(packet, version, ethernet::HEADER_LEN as u8).ok()
}

/// All of the metadata, where ingress left all of it.
#[inline(always)]
pub fn policy_metadata(ctx: &XdpContext) -> Option<PacketMeta> {
    let (start, end) = (ctx.metadata(), ctx.metadata_end());
    if start + size_of::<PacketMeta>() > end {
        return None;
    }
    // SAFETY: the comparison proved the room; metadata is 4-byte aligned.
    let meta = unsafe { (start as *const PacketMeta).read() };
    (meta.head.magic == META_MAGIC).then_some(meta)
}

/// The part of the metadata that is always there.
#[inline(always)]
fn metadata(ctx: &XdpContext) -> Option<MetaHead> {
    let (start, end) = (ctx.metadata(), ctx.metadata_end());
    if start + size_of::<MetaHead>() > end {
        return None;
    }
    // SAFETY: the comparison proved the room; metadata is 4-byte aligned.
    let meta = unsafe { (start as *const MetaHead).read() };
    (meta.magic == META_MAGIC).then_some(meta)
}
