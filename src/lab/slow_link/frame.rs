//! What the emulator reads of a frame.

use std::net::IpAddr;

use weir_wire::{L3, ethernet};

use crate::experiment::Family;

/// What the emulator wants to know of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) from_sender: bool,
    pub(super) ce_marked: bool,
}

/// Reads the source address and the ECN field (RFC 3168 section 5: the two low bits of the traffic class).
pub(super) fn inspect(frame: &[u8], family: Family) -> Seen {
    let network = frame.get(ethernet::HEADER_LEN..).unwrap_or(&[]);
    let (source, ecn) = match (frame.get(12..14), family) {
        (Some([0x08, 0x00]), Family::Ipv4) => {
            let source = network.get(12..16).and_then(|s| <[u8; 4]>::try_from(s).ok()).map(IpAddr::from);
            (source, network.get(1).map(|tos| tos & 3))
        }
        (Some([0x86, 0xdd]), Family::Ipv6) => {
            let source = network.get(8..24).and_then(|s| <[u8; 16]>::try_from(s).ok()).map(IpAddr::from);
            (source, network.get(1).map(|low| (low >> 4) & 3))
        }
        _ => (None, None),
    };
    Seen { from_sender: source.is_some_and(|source| family.is_sender(source)), ce_marked: ecn == Some(3) }
}

/// Which flow a frame is of: the protocol's number, and the port of the receiver's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Service {
    /// IANA's number.
    pub protocol: u8,
    /// The receiver's port: the destination on the way there, the source on the way back.
    pub port: u16,
}

/// Which of a frame's ports is the receiver's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    ToReceiver,
    ToSender,
}

/// The flow of a frame; nothing where it has no ports.
pub(super) fn service(frame: &[u8], family: Family, direction: Direction) -> Option<Service> {
    let version = match family {
        Family::Ipv4 => 4,
        Family::Ipv6 => 6,
    };
    let l3 = L3::parse_at(frame, version, ethernet::HEADER_LEN as u8).ok()?;
    let upper = l3.upper(frame).ok()??;
    let (source, destination) = upper.ports(frame)?;
    let port = match direction {
        Direction::ToReceiver => destination,
        Direction::ToSender => source,
    };
    Some(Service { protocol: upper.protocol, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv4_frame(source: [u8; 4], tos: u8) -> Vec<u8> {
        let mut frame = vec![0_u8; 14 + 20 + 8];
        frame[12] = 0x08;
        frame[14] = 0x45;
        frame[15] = tos;
        frame[17] = 28;
        frame[22] = 64;
        frame[23] = 17;
        frame[26..30].copy_from_slice(&source);
        frame[34..38].copy_from_slice(&[0x12, 0x34, 0x18, 0x38]);
        frame
    }

    const SENDER: [u8; 4] = [10, 77, 1, 1];

    #[test]
    fn a_frame_of_the_sender_or_of_one_of_its_hosts_is_told_from_the_routers_own() {
        let from_sender = |source| inspect(&ipv4_frame(source, 0), Family::Ipv4).from_sender;
        assert!(from_sender(SENDER) && from_sender([10, 78, 0, 9]));
        assert!(!from_sender([10, 77, 2, 254]) && !from_sender([10, 79, 0, 1]));
    }

    #[test]
    fn only_both_ecn_bits_are_congestion_experienced() {
        for (tos, marked) in [(0, false), (1, false), (2, false), (3, true), (0xb8 | 3, true)] {
            assert_eq!(inspect(&ipv4_frame(SENDER, tos), Family::Ipv4).ce_marked, marked, "tos {tos}");
        }
    }

    #[test]
    fn a_flow_is_known_by_the_receivers_port_in_both_directions() {
        let frame = ipv4_frame(SENDER, 0);
        let port = |direction| service(&frame, Family::Ipv4, direction).map(|service| service.port);
        assert_eq!((port(Direction::ToReceiver), port(Direction::ToSender)), (Some(6_200), Some(0x1234)));
    }

    #[test]
    fn a_frame_of_any_length_can_be_inspected() {
        let frame = ipv4_frame(SENDER, 3);
        for length in 0..frame.len() {
            let frame = &frame[..length];
            assert!(!inspect(frame, Family::Ipv4).from_sender || length >= 30);
            assert_eq!(service(frame, Family::Ipv4, Direction::ToReceiver), None, "{length}");
        }
    }
}
