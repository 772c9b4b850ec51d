//! Is this frame a clean forward as far as its headers say?

use weir_shared_maps::{IngressCounter, VLAN_WORDS};
use weir_wire::{L3, Link, Malformed, Packet, parse};

/// The low 48 bits of a little-endian 8-byte load: a MAC address.
pub const ETH_MAC_MASK: u64 = 0x0000_ffff_ffff_ffff;

/// A frame that may be routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classified {
    /// Ethernet and tags.
    pub link: Link,
    /// The checked network header.
    pub l3: L3,
}

/// Whether the frame's destination is this device's own address; broadcast, multicast and other hosts' frames (a
/// device in promiscuous mode sees them) are the stack's.
#[inline(always)]
pub fn addressed_to<P: Packet + ?Sized>(p: &P, mac: u64) -> Result<bool, Malformed> {
    let head = u64::from_le_bytes(p.read(0).ok_or(Malformed::TruncatedEthernet)?);
    Ok(head & ETH_MAC_MASK == mac)
}

/// Whether the bitmap lists VLAN `vid` (0 to 4095).
#[inline(always)]
pub fn vlan_listed(vlans: &[u64; VLAN_WORDS], vid: u16) -> bool {
    let word = vlans.get(usize::from(vid >> 6) & (VLAN_WORDS - 1));
    word.is_some_and(|word| word >> (vid & 63) & 1 == 1)
}

/// Reads and checks the headers; every reason not to forward is an `Err` with its counter.
///
/// Not forwarded: what is not IP, what is malformed, IPv4 options and IPv6 hop-by-hop headers (routers must read
/// them: RFC 1812 section 5.2.2, RFC 8200 section 4.3), a TTL or hop limit used up, link-local and loopback
/// addresses (RFC 4291 section 2.5.6, RFC 1812 section 5.3.7, RFC 3927 section 7).
#[inline(always)]
pub fn classify<P: Packet + ?Sized>(p: &P) -> Result<Classified, IngressCounter> {
    let parsed = match parse(p) {
        Ok(parsed) => parsed,
        Err(_) => return Err(IngressCounter::PassMalformed),
    };
    match parsed.l3 {
        L3::V4(v4) => {
            if v4.has_options() {
                return Err(IngressCounter::PassOptions);
            }
            if v4.ttl() <= 1 {
                return Err(IngressCounter::PassTtl);
            }
            if stays_on_link_v4(v4.src()) || stays_on_link_v4(v4.dst()) {
                return Err(IngressCounter::PassNotForwarded);
            }
        }
        L3::V6(v6) => {
            if v6.has_hop_by_hop() {
                return Err(IngressCounter::PassOptions);
            }
            if v6.hop_limit() <= 1 {
                return Err(IngressCounter::PassTtl);
            }
            if stays_on_link_v6(v6.src()) || stays_on_link_v6(v6.dst()) {
                return Err(IngressCounter::PassNotForwarded);
            }
        }
        L3::Other => {
            let tagged = parsed.link.vlans > 0 && weir_wire::ethernet::is_tag(parsed.link.ethertype);
            return Err(if tagged { IngressCounter::PassVlan } else { IngressCounter::PassNotIp });
        }
    }
    Ok(Classified { link: parsed.link, l3: parsed.l3 })
}

/// "This network" and loopback, link-local, multicast and the reserved block with the limited broadcast address.
#[inline(always)]
const fn stays_on_link_v4([a, b, _, _]: [u8; 4]) -> bool {
    a == 0 || a == 127 || a >= 224 || (a == 169 && b == 254)
}

/// Multicast, link-local unicast, and `::/16` where the unspecified and loopback addresses and the v4-mapped ones are.
#[inline(always)]
const fn stays_on_link_v6(address: [u8; 16]) -> bool {
    let [a, b, ..] = address;
    a == 0xff || (a == 0xfe && b & 0xc0 == 0x80) || (a == 0 && b == 0)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn udp4() -> Vec<u8> {
        let mut f = std::vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        f.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 1, 0, 1]);
        f.extend([0, 1, 0, 2, 0, 8, 0, 0]);
        f
    }

    fn udp6() -> Vec<u8> {
        let mut f = std::vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd];
        f.extend([0x60, 0, 0, 0, 0, 8, 17, 64]);
        f.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        f.extend([0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        f.extend([0, 1, 0, 2, 0, 8, 0, 0]);
        f
    }

    #[test]
    fn a_plain_packet_of_either_family_is_a_clean_forward() {
        assert!(classify(udp4().as_slice()).is_ok());
        assert!(classify(udp6().as_slice()).is_ok());
    }

    #[test]
    fn every_truncation_is_malformed_and_never_forwards() {
        for full in [udp4(), udp6()] {
            for len in 0..full.len() {
                assert_eq!(classify(&full[..len]), Err(IngressCounter::PassMalformed), "{len}");
            }
        }
    }

    #[test]
    fn a_ttl_of_one_is_for_the_stack_to_answer() {
        for (mut f, at) in [(udp4(), 22), (udp6(), 21)] {
            for ttl in [0, 1] {
                f[at] = ttl;
                assert_eq!(classify(f.as_slice()), Err(IngressCounter::PassTtl));
            }
            f[at] = 2;
            assert!(classify(f.as_slice()).is_ok());
        }
    }

    #[test]
    fn rfc_4291_link_local_packets_are_never_forwarded() {
        for at in [22, 38] {
            let mut f = udp6();
            (f[at], f[at + 1]) = (0xfe, 0x80);
            assert_eq!(classify(f.as_slice()), Err(IngressCounter::PassNotForwarded));
        }
        for at in [26, 30] {
            let mut f = udp4();
            (f[at], f[at + 1]) = (169, 254);
            assert_eq!(classify(f.as_slice()), Err(IngressCounter::PassNotForwarded));
        }
    }

    #[test]
    fn arp_is_not_ip_and_a_third_tag_is_a_vlan_matter() {
        let mut f = udp4();
        (f[12], f[13]) = (8, 6);
        assert_eq!(classify(f.as_slice()), Err(IngressCounter::PassNotIp));
        let mut f = udp4();
        for _ in 0..3 {
            f.splice(12..12, [0x81, 0, 0, 5]);
        }
        assert_eq!(classify(f.as_slice()), Err(IngressCounter::PassVlan));
    }

    #[test]
    fn only_the_devices_own_address_is_forwarded() {
        let own = u64::from_le_bytes([2, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(addressed_to(udp4().as_slice(), own), Ok(true));
        assert_eq!(addressed_to(udp4().as_slice(), own ^ 1 << 40), Ok(false));
        assert!(addressed_to(&udp4()[..7], own).is_err());
    }

    #[test]
    fn the_vlan_bitmap_knows_its_members() {
        let mut map = [0; VLAN_WORDS];
        map[10] |= 1 << 5;
        for vid in 0..4096 {
            assert_eq!(vlan_listed(&map, vid), vid == 645);
        }
    }
}
