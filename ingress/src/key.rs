//! What rules and hashes look at in a packet.

use weir_wire::{Fragment, L3, Packet};

/// Stands for a protocol that cannot be found (IANA reserves 255): no rule can name it.
pub const PROTOCOL_UNKNOWN: u8 = 255;

/// What is known of the payload's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// IANA protocol number behind extension headers, or [`PROTOCOL_UNKNOWN`].
    pub protocol: u8,
    /// Source port; 0 where there is none.
    pub source_port: u16,
    /// Destination port; 0 where there is none.
    pub destination_port: u16,
    /// Whether the packet is a part of a datagram. Only the first part has ports.
    pub fragment: bool,
}

/// Reads protocol and ports. A packet whose extension headers cannot be followed has neither; it is still forwarded, and only
/// rules without such a condition match it.
#[inline(always)]
pub fn transport<P: Packet + ?Sized>(l3: &L3, packet: &P) -> Transport {
    let Ok(Some(upper)) = l3.upper(packet) else {
        return Transport {
            protocol: PROTOCOL_UNKNOWN,
            source_port: 0,
            destination_port: 0,
            fragment: false,
        };
    };
    let (source_port, destination_port) = upper.ports(packet).unwrap_or((0, 0));
    Transport {
        protocol: upper.protocol,
        source_port,
        destination_port,
        fragment: !matches!(upper.fragment, Fragment::Whole),
    }
}

/// Bytes of the IP packet with its header.
#[inline(always)]
pub const fn size(l3: &L3) -> u32 {
    match l3 {
        L3::V4(v4) => v4.total_len() as u32,
        L3::V6(v6) => v6.total_len(),
        L3::Other => 0,
    }
}
