//! Which class a packet is of: ingress's own rules and hashes, on the header that a simulated packet stands for.

use std::net::Ipv4Addr;

use weir_ingress::{
    hash::{destination_hash, flow_hash, source_hash},
    key::transport,
    rules::{RuleTables, first_match},
};
use weir_shared_maps::{
    DIM_DESTINATION, DIM_DESTINATION_PORT, DIM_DSCP, DIM_PROTOCOL, DIM_SIZE, DIM_SOURCE, HASH_DESTINATION,
    HASH_FLOW, HASH_SOURCE, META_MAGIC, MetaHead, PacketMeta,
};
use weir_wire::{L3, Packet as Frame, ethernet};

use super::subscribers::Members;
use crate::{Packet, Protocol, address};

/// Of the payload the ports are read, and nothing else.
const HEADERS: usize = ethernet::HEADER_LEN + 20 + 4;

/// Prefixes, their lengths and the bits of the rules that hold for them.
pub type Prefixes = Vec<(Ipv4Addr, u8, u64)>;

/// Rules as bit vectors, as the programs read them, for what a simulated packet has. A table that no rule looks at may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Bits of the rules that may match here at all.
    pub start: u64,
    /// What the rules look at, of [`Rules::DIMENSIONS`].
    pub dimensions: u32,
    /// By code point, 64 entries.
    pub dscp: Vec<u64>,
    /// By bytes of the IP packet.
    pub size: Vec<u64>,
    /// By protocol number, 256 entries.
    pub protocol: Vec<u64>,
    /// By destination port, 65,536 entries.
    pub destination_port: Vec<u64>,
    /// By source prefix and its length, the longest that matches; addresses are those of [`address`].
    pub source: Prefixes,
    /// By destination prefix, alike.
    pub destination: Prefixes,
    /// The class that each rule names, by index at the port.
    pub classes: Vec<u32>,
}

impl Rules {
    /// The `DIM_*` that simulated packets can answer for.
    pub const DIMENSIONS: u32 =
        DIM_DSCP | DIM_SIZE | DIM_PROTOCOL | DIM_DESTINATION_PORT | DIM_SOURCE | DIM_DESTINATION;

    /// What ingress would pass on in a packet's metadata: the first rule that matches says the class, else the subscriber's
    /// plan, else the port. `hashes` are the `HASH_*` that the port asks for.
    pub(super) fn meta(
        &self,
        packet: &Packet,
        members: &Members,
        default_class: u32,
        hashes: u32,
        seed: u32,
    ) -> PacketMeta {
        let mut meta = PacketMeta {
            head: MetaHead { magic: META_MAGIC, ip_version: 4, l3_offset: ethernet::HEADER_LEN as u8 },
            class: default_class as u16,
            plan: 0,
            subscriber: 0,
            flow_hash: 0,
            source_hash: 0,
            destination_hash: 0,
        };
        let frame = Header::of(packet);
        let Ok(l3) = L3::parse_at(&frame, 4, ethernet::HEADER_LEN as u8) else { return meta };
        meta.subscriber = members.find(&l3);
        if let Some((plan, class)) = members.plan(meta.subscriber) {
            (meta.plan, meta.class) = (plan, class as u16);
        }
        if self.start != 0
            && let Some(rule) = first_match(self, self.start, self.dimensions, 0, &l3, &frame)
            && let Some(class) = self.classes.get(rule as usize)
        {
            meta.class = *class as u16;
        }
        if hashes & HASH_FLOW != 0 {
            meta.flow_hash = flow_hash(&l3, &transport(&l3, &frame), seed);
        }
        if hashes & (HASH_SOURCE | HASH_DESTINATION) != 0 {
            (meta.source_hash, meta.destination_hash) = (source_hash(&l3, seed), destination_hash(&l3, seed));
        }
        meta
    }
}

fn at(table: &[u64], index: usize) -> u64 {
    table.get(index).copied().unwrap_or(0)
}

fn longest(prefixes: &Prefixes, address: [u8; 4]) -> u64 {
    let address = u32::from_be_bytes(address);
    let covers = |net: &Ipv4Addr, length: u8| {
        let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
        address & mask == net.to_bits()
    };
    let covering = prefixes.iter().filter(|(net, length, _)| covers(net, *length));
    covering.max_by_key(|(_, length, _)| *length).map_or(0, |(_, _, rules)| *rules)
}

/// Simulated packets have no VLAN, and no source port that a rule could name.
impl RuleTables for Rules {
    fn dscp(&self, dscp: u8) -> u64 {
        at(&self.dscp, dscp.into())
    }
    fn vlan(&self, _vlan: u16) -> u64 {
        0
    }
    fn protocol(&self, protocol: u8) -> u64 {
        at(&self.protocol, protocol.into())
    }
    fn source_port(&self, _port: u16) -> u64 {
        0
    }
    fn destination_port(&self, port: u16) -> u64 {
        at(&self.destination_port, port.into())
    }
    fn size(&self, size: u32) -> u64 {
        at(&self.size, size as usize)
    }
    fn source_v4(&self, address: [u8; 4]) -> u64 {
        longest(&self.source, address)
    }
    fn destination_v4(&self, address: [u8; 4]) -> u64 {
        longest(&self.destination, address)
    }
    fn source_v6(&self, _address: &[u8; 16]) -> u64 {
        0
    }
    fn destination_v6(&self, _address: &[u8; 16]) -> u64 {
        0
    }
}

/// The two bits of the ECN field (RFC 3168 section 5).
pub(super) const fn ecn_bits(packet: &Packet) -> u8 {
    match packet.ecn {
        crate::Ecn::NotEct => 0,
        crate::Ecn::Ect1 => 1,
        crate::Ecn::Ect0 => 2,
        crate::Ecn::Ce => 3,
    }
}

/// IANA's numbers.
const fn protocol(packet: &Packet) -> u8 {
    match packet.service.protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

/// Spreads what is folded into a port over all of it (2^16 over the golden ratio, odd).
const FOLD: u16 = 0x9e37;

/// A frame of which the headers alone exist.
struct Header {
    bytes: [u8; HEADERS],
    len: usize,
}

impl Header {
    /// The host is in the source address, the flow in the source port. What of its number does not fit there is folded in:
    /// two flows of one service may share a port as they may on a network.
    fn of(packet: &Packet) -> Self {
        let len = (packet.bytes as usize).max(HEADERS);
        let [total_high, total_low] = ((len - ethernet::HEADER_LEN) as u16).to_be_bytes();
        let [s0, s1, s2, s3] = address::of_host(packet.host).octets();
        let [d0, d1, d2, d3] = address::RECEIVER.octets();
        let (low, high) = (packet.flow.0 as u16, (packet.flow.0 >> 16) as u16);
        let [p0, p1] = (low ^ high.wrapping_mul(FOLD)).to_be_bytes();
        let [p2, p3] = packet.service.port.to_be_bytes();
        let mut bytes = [0; HEADERS];
        let (link, ip) = bytes.split_at_mut(ethernet::HEADER_LEN);
        link.copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
        ip.copy_from_slice(&[
            0x45,
            packet.dscp << 2 | ecn_bits(packet),
            total_high,
            total_low,
            0,
            0,
            0,
            0,
            64,
            protocol(packet),
            0,
            0,
            s0,
            s1,
            s2,
            s3,
            d0,
            d1,
            d2,
            d3,
            p0,
            p1,
            p2,
            p3,
        ]);
        Self { bytes, len }
    }
}

impl Frame for Header {
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.bytes.read(offset)
    }

    fn write<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()> {
        self.bytes.write(offset, bytes)
    }

    fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ecn, FlowId, Service, queue::Subscribers};
    use weir_aqm::Nanos;
    use weir_shared_maps::{
        CLASS_NONE, DIM_DSCP, DIM_SIZE, DIM_SOURCE, PlanConfig, SIDE_SOURCE, SIZE_ENTRIES,
    };
    use zerocopy::FromZeros;

    fn packet(flow: u32, host: u16, dscp: u8, bytes: u32) -> Packet {
        let ecn = Ecn::NotEct;
        let service = Service { protocol: Protocol::Udp, port: 6_200 };
        Packet {
            flow: FlowId(flow),
            bytes,
            number: 0,
            segment: 0,
            sent: Nanos::ZERO,
            host,
            dscp,
            service,
            ecn,
        }
    }

    #[test]
    fn the_first_rule_that_matches_says_the_class_and_else_the_port_does() {
        // Rule 0: EF; rule 1: IP packets below 100 bytes of hosts 256 to 511.
        let mut rules = Rules { start: 3, dimensions: DIM_DSCP | DIM_SIZE | DIM_SOURCE, ..Rules::default() };
        rules.dscp = (0..64).map(|dscp| if dscp == 46 { 3 } else { 2 }).collect();
        rules.size = (0..SIZE_ENTRIES).map(|size| if size < 100 { 3 } else { 1 }).collect();
        let any = (Ipv4Addr::UNSPECIFIED, 0, 1);
        rules.source = vec![any, (Ipv4Addr::new(10, 78, 1, 0), 24, 3)];
        rules.classes = vec![5, 6];
        let nobody = Members::new(&Subscribers::default(), 0);
        let class = |packet| rules.meta(&packet, &nobody, 9, 0, 1).class;
        assert_eq!(class(packet(0, 0, 46, 1_514)), 5);
        assert_eq!(class(packet(0, 256, 0, 113)), 6);
        assert_eq!(class(packet(0, 256, 0, 114)), 9);
        assert_eq!(class(packet(0, 512, 0, 113)), 9);
        assert_eq!(class(packet(0, 256, 46, 113)), 5);
    }

    #[test]
    fn a_rule_finds_a_flow_by_its_protocol_its_port_and_its_addresses() {
        let service =
            |protocol, port| Packet { service: Service { protocol, port }, ..packet(0, 3, 0, 1_514) };
        // Rule 0: TCP to port 80; rule 1: anything else to the receiver from host 3.
        let mut rules =
            Rules { start: 3, dimensions: Rules::DIMENSIONS, classes: vec![5, 6], ..Rules::default() };
        rules.dscp = vec![3; 64];
        rules.size = vec![3; SIZE_ENTRIES as usize];
        rules.protocol = (0..256).map(|protocol| if protocol == 6 { 3 } else { 2 }).collect();
        rules.destination_port = (0..65_536).map(|port| if port == 80 { 3 } else { 2 }).collect();
        rules.source = vec![(Ipv4Addr::UNSPECIFIED, 0, 1), (address::of_host(3), 32, 3)];
        rules.destination = vec![(Ipv4Addr::UNSPECIFIED, 0, 1), (address::RECEIVER, 32, 3)];
        let nobody = Members::new(&Subscribers::default(), 0);
        let class = |packet| rules.meta(&packet, &nobody, 9, 0, 1).class;
        assert_eq!(class(service(Protocol::Tcp, 80)), 5);
        assert_eq!(class(service(Protocol::Udp, 80)), 6);
        assert_eq!(class(service(Protocol::Tcp, 81)), 6);
        assert_eq!(class(Packet { host: 4, ..service(Protocol::Tcp, 80) }), 5);
        assert_eq!(class(Packet { host: 4, ..service(Protocol::Udp, 80) }), 9);
    }

    #[test]
    fn a_subscribers_plan_says_the_class_where_no_rule_does() {
        let subscribers = Subscribers {
            plans: vec![PlanConfig::new_zeroed(); 2],
            plan_classes: vec![4, CLASS_NONE],
            members: vec![1, 0, 1],
            prefixes: vec![(Ipv4Addr::new(10, 78, 1, 0), 24, 1), (Ipv4Addr::new(10, 78, 2, 7), 32, 2)],
        };
        let members = Members::new(&subscribers, SIDE_SOURCE.into());
        let rules = Rules {
            start: 1,
            dimensions: DIM_DSCP,
            dscp: (0..64).map(|dscp| u64::from(dscp == 46)).collect(),
            classes: vec![5],
            ..Rules::default()
        };
        let meta = |host, dscp| rules.meta(&packet(0, host, dscp, 1_514), &members, 9, 0, 1);
        for (host, dscp, subscriber, class) in
            [(256, 0, 1, 4), (511, 46, 1, 5), (519, 0, 2, 9), (520, 0, 0, 9)]
        {
            let meta = meta(host, dscp);
            assert_eq!((meta.subscriber, meta.class), (subscriber, class), "host {host}");
        }
    }

    #[test]
    fn flows_and_hosts_have_hashes_of_their_own_if_the_port_asks() {
        let nobody = Members::new(&Subscribers::default(), 0);
        let meta =
            |flow, host, hashes| Rules::default().meta(&packet(flow, host, 0, 1_514), &nobody, 0, hashes, 7);
        let all = HASH_FLOW | HASH_SOURCE;
        let (one, other) = (meta(1, 1, all), meta(2, 1, all));
        assert_ne!(one.flow_hash, other.flow_hash);
        assert_ne!(one.flow_hash, meta(1 << 16, 1, all).flow_hash);
        assert_eq!(one.source_hash, other.source_hash);
        assert_ne!(one.source_hash, meta(1, 2, all).source_hash);
        assert_eq!((meta(1, 1, 0).flow_hash, meta(1, 1, 0).source_hash), (0, 0));
    }
}
