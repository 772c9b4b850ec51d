//! Frames, built and checked by `etherparse`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv4Options, Ipv6Extensions, Ipv6FlowLabel, Ipv6Header,
    NetHeaders, PacketBuilder, PacketHeaders, TransportHeader,
};

use super::router::{LAN_MAC, SENDER_MAC};

pub const SENDER: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(10, 77, 1, 1), Ipv6Addr::new(0xfd77, 1, 0, 0, 0, 0, 0, 1));
pub const RECEIVER: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(10, 77, 2, 1), Ipv6Addr::new(0xfd77, 2, 0, 0, 0, 0, 0, 1));
/// The receiver's addresses.
pub const BOTH: [IpAddr; 2] = [IpAddr::V4(RECEIVER.0), IpAddr::V6(RECEIVER.1)];

/// The port that tells a test's own frames from those that the router makes.
pub const PORT: u16 = 7777;
/// Bytes of a stamp: what [`Udp::build`] puts in front of the payload.
pub const STAMP: usize = 8;

/// A UDP packet from the sender, in an Ethernet frame to the router.
#[derive(Clone)]
pub struct Udp {
    to: IpAddr,
    hops: u8,
    traffic_class: u8,
    options: bool,
    payload: usize,
    stamp: u64,
    to_mac: [u8; 6],
    from: Option<IpAddr>,
    ports: (u16, u16),
}

/// A packet to `to` of 100 bytes of payload, with 64 hops left and Not-ECT.
pub fn udp(to: impl Into<IpAddr>) -> Udp {
    Udp {
        to: to.into(),
        hops: 64,
        traffic_class: 0,
        options: false,
        payload: 100,
        stamp: 0,
        to_mac: LAN_MAC,
        from: None,
        ports: (PORT, PORT),
    }
}

impl Udp {
    pub fn hops(self, hops: u8) -> Self {
        Self { hops, ..self }
    }

    pub fn ecn(self, ecn: u8) -> Self {
        Self { traffic_class: self.traffic_class & 0xfc | ecn, ..self }
    }

    pub fn dscp(self, dscp: u8) -> Self {
        Self { traffic_class: dscp << 2 | self.traffic_class & 3, ..self }
    }

    /// From another address than the sender's, of the same family as the destination.
    pub fn from(self, from: impl Into<IpAddr>) -> Self {
        Self { from: Some(from.into()), ..self }
    }

    /// From and to other ports than [`PORT`].
    pub fn ports(self, source: u16, destination: u16) -> Self {
        Self { ports: (source, destination), ..self }
    }

    /// With an IPv4 option, or an IPv6 hop-by-hop header.
    pub fn with_options(self) -> Self {
        Self { options: true, ..self }
    }

    /// Bytes of payload, at least [`STAMP`].
    pub fn payload(self, payload: usize) -> Self {
        Self { payload, ..self }
    }

    /// A number that travels in the payload: a moment, or an index.
    pub fn stamp(self, stamp: u64) -> Self {
        Self { stamp, ..self }
    }

    /// With another destination in the Ethernet header than the router's.
    pub fn addressed(self, to_mac: [u8; 6]) -> Self {
        Self { to_mac, ..self }
    }

    pub fn build(&self) -> Vec<u8> {
        let ip = match self.to {
            IpAddr::V4(to) => {
                let from = match self.from {
                    Some(IpAddr::V4(from)) => from,
                    Some(IpAddr::V6(_)) | None => SENDER.0,
                };
                let mut header =
                    Ipv4Header::new(0, self.hops, IpNumber::UDP, from.octets(), to.octets()).unwrap();
                header.dscp = (self.traffic_class >> 2).try_into().unwrap();
                header.ecn = (self.traffic_class & 3).try_into().unwrap();
                if self.options {
                    // Four times "no operation" (RFC 791 section 3.1).
                    header.options = Ipv4Options::try_from(&[1_u8; 4][..]).unwrap();
                }
                IpHeaders::Ipv4(header, Ipv4Extensions::default())
            }
            IpAddr::V6(to) => IpHeaders::Ipv6(
                Ipv6Header {
                    traffic_class: self.traffic_class,
                    flow_label: Ipv6FlowLabel::try_new(0x1_2345).unwrap(),
                    payload_length: 0,
                    next_header: IpNumber::UDP,
                    hop_limit: self.hops,
                    source: match self.from {
                        Some(IpAddr::V6(from)) => from.octets(),
                        Some(IpAddr::V4(_)) | None => SENDER.1.octets(),
                    },
                    destination: to.octets(),
                },
                Ipv6Extensions::default(),
            ),
        };
        let mut payload = vec![0x5a; self.payload];
        payload[..STAMP].copy_from_slice(&self.stamp.to_be_bytes());
        let mut frame = Vec::new();
        let builder =
            PacketBuilder::ethernet2(SENDER_MAC, self.to_mac).ip(ip).udp(self.ports.0, self.ports.1);
        builder.write(&mut frame, &payload).unwrap();
        if self.options && self.to.is_ipv6() {
            // Next header UDP, no further eight bytes, and a PadN option of four bytes (RFC 8200 section 4.3).
            frame.splice(54..54, [17, 0, 1, 4, 0, 0, 0, 0]);
            frame[20] = 0;
            let length = u16::from_be_bytes([frame[18], frame[19]]) + 8;
            frame[18..20].copy_from_slice(&length.to_be_bytes());
        }
        frame
    }
}

/// The frame behind 802.1Q tags of these identifiers, the outermost first.
pub fn tagged(frame: &[u8], vids: &[u16]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    for vid in vids.iter().rev() {
        let [high, low] = vid.to_be_bytes();
        frame.splice(12..12, [0x81, 0x00, high, low]);
    }
    frame
}

/// An ARP request to the router's own hardware address.
pub fn arp() -> Vec<u8> {
    let mut frame = [LAN_MAC, SENDER_MAC].concat();
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend([&SENDER_MAC[..], &SENDER.0.octets(), &[0; 6], &RECEIVER.0.octets()].concat());
    frame
}

/// What a test wants to know of a frame that left the router.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub from_mac: [u8; 6],
    pub to_mac: [u8; 6],
    pub hops: u8,
    pub dscp: u8,
    pub ecn: u8,
    pub stamp: u64,
    pub payload: usize,
}

/// Reads one of our frames, whose checksums must be right; `None` for a frame of somebody else's.
pub fn seen(frame: &[u8]) -> Option<Seen> {
    let packet = PacketHeaders::from_ethernet_slice(frame).ok()?;
    let Some(TransportHeader::Udp(udp)) = packet.transport else { return None };
    if udp.destination_port != PORT {
        return None;
    }
    let link = packet.link?.ethernet2()?;
    let payload = packet.payload.slice();
    let (hops, class, checksum) = match packet.net? {
        NetHeaders::Ipv4(ip, _) => {
            assert_eq!(ip.header_checksum, ip.calc_header_checksum(), "IPv4 header checksum of {frame:02x?}");
            let checksum = udp.calc_checksum_ipv4(&ip, payload).unwrap();
            (ip.time_to_live, ip.dscp.value() << 2 | ip.ecn.value(), checksum)
        }
        NetHeaders::Ipv6(ip, _) => {
            (ip.hop_limit, ip.traffic_class, udp.calc_checksum_ipv6(&ip, payload).unwrap())
        }
        NetHeaders::Arp(_) => return None,
    };
    assert_eq!(udp.checksum, checksum, "UDP checksum of {frame:02x?}");
    Some(Seen {
        from_mac: link.source,
        to_mac: link.destination,
        hops,
        dscp: class >> 2,
        ecn: class & 3,
        stamp: u64::from_be_bytes(payload[..STAMP].try_into().unwrap()),
        payload: payload.len(),
    })
}
