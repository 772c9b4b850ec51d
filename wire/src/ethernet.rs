//! Ethernet II and its VLAN tags.

use crate::{Malformed, Packet};

/// Bytes of an Ethernet header without tags.
pub const HEADER_LEN: usize = 14;
/// Bytes of one VLAN tag.
pub const TAG_LEN: usize = 4;
/// Tags that are looked through.
pub const MAX_TAGS: u8 = 2;
/// The farthest a network header can start: behind two tags.
pub const MAX_L3_OFFSET: usize = HEADER_LEN + MAX_TAGS as usize * TAG_LEN;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// Tag protocol identifier of a customer tag (IEEE 802.1Q).
pub const CUSTOMER_TAG: u16 = 0x8100;
/// Tag protocol identifier of a service tag (IEEE 802.1ad).
pub const SERVICE_TAG: u16 = 0x88a8;

const ETHERTYPE_OFFSET: usize = 12;
const VID_MASK: u16 = 0x0fff;

/// The link layer of a frame: its tags, and what follows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// EtherType behind the last tag looked through; still a tag's if the frame carries more than two, and a
    /// length below `0x0600` if the frame is IEEE 802.3.
    pub ethertype: u16,
    /// Where the network header starts, in bytes from the start of the frame: 14, 18 or 22.
    pub l3_offset: u16,
    /// Tag protocol identifier of the outer tag; 0 without a tag.
    pub outer_tpid: u16,
    /// VLAN of the outer tag, 0 to 4095; 0 without a tag and for a tag that carries only a priority.
    pub outer_vid: u16,
    /// VLAN of the inner tag, 0 to 4095; 0 with less than two tags.
    pub inner_vid: u16,
    /// Tags looked through: 0, 1 or 2.
    pub vlans: u8,
}

/// Reads the EtherType and looks through at most two VLAN tags, in either order of their kinds.
///
/// # Errors
///
/// [`Malformed::TruncatedEthernet`], [`Malformed::TruncatedVlan`].
#[inline(always)]
pub fn parse_link<P: Packet + ?Sized>(p: &P) -> Result<Link, Malformed> {
    let ethertype = u16::from_be_bytes(p.read(ETHERTYPE_OFFSET).ok_or(Malformed::TruncatedEthernet)?);
    let mut link =
        Link { ethertype, l3_offset: HEADER_LEN as u16, outer_tpid: 0, outer_vid: 0, inner_vid: 0, vlans: 0 };
    if is_tag(link.ethertype) {
        link.outer_tpid = ethertype;
        (link.outer_vid, link.ethertype) = read_tag(p, HEADER_LEN)?;
        (link.vlans, link.l3_offset) = (1, (HEADER_LEN + TAG_LEN) as u16);
        if is_tag(link.ethertype) {
            (link.inner_vid, link.ethertype) = read_tag(p, HEADER_LEN + TAG_LEN)?;
            (link.vlans, link.l3_offset) = (2, (HEADER_LEN + 2 * TAG_LEN) as u16);
        }
    }
    Ok(link)
}

/// Overwrites both MAC addresses.
///
/// # Errors
///
/// [`Malformed::TruncatedEthernet`] if the frame has no room for them; it is unchanged.
#[inline(always)]
pub fn set_macs<P: Packet + ?Sized>(p: &mut P, dst: [u8; 6], src: [u8; 6]) -> Result<(), Malformed> {
    let ([d0, d1, d2, d3, d4, d5], [s0, s1, s2, s3, s4, s5]) = (dst, src);
    p.write(0, [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5]).ok_or(Malformed::TruncatedEthernet)
}

/// Whether this EtherType is that of a tag which is looked through.
#[inline(always)]
pub const fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, CUSTOMER_TAG | SERVICE_TAG)
}

/// The VLAN of the tag control information at `offset`, and the EtherType behind it.
#[inline(always)]
fn read_tag<P: Packet + ?Sized>(p: &P, offset: usize) -> Result<(u16, u16), Malformed> {
    let [tci_high, tci_low, type_high, type_low] = p.read(offset).ok_or(Malformed::TruncatedVlan)?;
    Ok((u16::from_be_bytes([tci_high, tci_low]) & VID_MASK, u16::from_be_bytes([type_high, type_low])))
}
