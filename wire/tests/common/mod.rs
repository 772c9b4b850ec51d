//! Random valid frames, written by `etherparse`.

use etherparse::{
    IpAuthHeader, IpDscp, IpEcn, IpFragOffset, IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv4Options,
    Ipv6Extensions, Ipv6FlowLabel, Ipv6FragmentHeader, Ipv6Header, Ipv6RawExtHeader, Ipv6RoutingExtensions,
    PacketBuilder, SingleVlanHeader, TcpHeader, TcpOptions, VlanHeader, VlanId, VlanPcp,
};
use proptest::{array, collection::vec, option, prelude::*};

/// What the frame carries on top of IP.
#[derive(Clone, Debug)]
enum Transport {
    Tcp(TcpHeader),
    Udp(u16, u16),
    Raw(u8),
}

/// Frames with 0 to 2 VLAN tags of either kind, IPv4 with options or IPv6 with extension headers, whole or
/// fragmented, TCP, UDP or something else, and up to 20 bytes of padding.
pub fn frames() -> impl Strategy<Value = Vec<u8>> {
    (vec((0u16..4096, 0u8..8, any::<bool>()), 0..=2), ip(), transport(), vec(any::<u8>(), 0..64), 0usize..=20)
        .prop_map(|(tags, ip, transport, payload, padding)| {
            let mut bytes = build(&tags, ip, transport, &payload);
            for (index, (_, _, service)) in tags.iter().enumerate() {
                let tpid: u16 = if *service { 0x88a8 } else { 0x8100 };
                bytes[12 + 4 * index..][..2].copy_from_slice(&tpid.to_be_bytes());
            }
            bytes.resize(bytes.len() + padding, 0xa5);
            bytes
        })
}

/// Frames of [`frames`] that carry IPv4.
#[allow(dead_code, reason = "not every test that includes this module asks for IPv4 alone")]
pub fn ipv4_frames() -> impl Strategy<Value = Vec<u8>> {
    frames().prop_filter("IPv4", |bytes| {
        matches!(weir_wire::parse(bytes.as_slice()), Ok(weir_wire::Parsed { l3: weir_wire::L3::V4(_), .. }))
    })
}

fn build(tags: &[(u16, u8, bool)], ip: IpHeaders, transport: Transport, payload: &[u8]) -> Vec<u8> {
    let tag = |&(vid, pcp, _): &(u16, u8, bool)| SingleVlanHeader {
        pcp: VlanPcp::try_new(pcp).unwrap(),
        vlan_id: VlanId::try_new(vid).unwrap(),
        ..SingleVlanHeader::default()
    };
    let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let ip = match tags {
        [] => link.ip(ip),
        [one] => link.vlan(VlanHeader::Single(tag(one))).ip(ip),
        [outer, inner, ..] => link
            .vlan(VlanHeader::Double(etherparse::DoubleVlanHeader { outer: tag(outer), inner: tag(inner) }))
            .ip(ip),
    };
    let mut bytes = Vec::new();
    match transport {
        Transport::Tcp(header) => ip.tcp_header(header).write(&mut bytes, payload).unwrap(),
        Transport::Udp(src, dst) => ip.udp(src, dst).write(&mut bytes, payload).unwrap(),
        Transport::Raw(protocol) => ip.write(&mut bytes, IpNumber(protocol), payload).unwrap(),
    }
    bytes
}

fn transport() -> impl Strategy<Value = Transport> {
    let tcp = (any::<(u16, u16, u8)>(), (0usize..=10).prop_flat_map(|words| vec(any::<u8>(), words * 4)))
        .prop_map(|((src, dst, flags), options)| {
            let mut tcp = TcpHeader::new(src, dst, 1, 1024);
            tcp.fin = flags & 1 != 0;
            tcp.syn = flags & 2 != 0;
            tcp.rst = flags & 4 != 0;
            tcp.psh = flags & 8 != 0;
            tcp.ack = flags & 16 != 0;
            tcp.urg = flags & 32 != 0;
            tcp.ece = flags & 64 != 0;
            tcp.cwr = flags & 128 != 0;
            tcp.options = TcpOptions::try_from_slice(&options).unwrap();
            Transport::Tcp(tcp)
        });
    let udp = any::<(u16, u16)>().prop_map(|(src, dst)| Transport::Udp(src, dst));
    // ESP, GRE, OSPF and SCTP: nothing of theirs is read.
    prop_oneof![3 => tcp, 3 => udp, 1 => prop::sample::select(vec![50u8, 47, 89, 132]).prop_map(Transport::Raw)]
}

fn ip() -> impl Strategy<Value = IpHeaders> {
    prop_oneof![ipv4(), ipv6()]
}

/// A fragment offset and a more-fragments bit; most packets are whole.
fn fragmentation() -> impl Strategy<Value = (u16, bool)> {
    prop_oneof![4 => Just((0, false)), 1 => Just((0, true)), 1 => (1u16..0x2000, any::<bool>())]
}

fn ipv4() -> impl Strategy<Value = IpHeaders> {
    let options = prop_oneof![Just(0usize), 0usize..=10].prop_flat_map(|words| vec(any::<u8>(), words * 4));
    (any::<([u8; 4], [u8; 4], u8, u8, u16, bool)>(), fragmentation(), options).prop_map(
        |(
            (source, destination, time_to_live, tos, identification, dont_fragment),
            (offset, more),
            options,
        )| {
            let header = Ipv4Header {
                dscp: IpDscp::try_new(tos >> 2).unwrap(),
                ecn: IpEcn::try_new(tos & 3).unwrap(),
                identification,
                dont_fragment,
                more_fragments: more,
                fragment_offset: IpFragOffset::try_new(offset).unwrap(),
                time_to_live,
                source,
                destination,
                options: Ipv4Options::try_from(options.as_slice()).unwrap(),
                ..Ipv4Header::default()
            };
            IpHeaders::Ipv4(header, Ipv4Extensions::default())
        },
    )
}

fn ipv6() -> impl Strategy<Value = IpHeaders> {
    let fixed = (array::uniform16(any::<u8>()), array::uniform16(any::<u8>()), any::<(u8, u8, u32)>());
    let generic =
        || prop_oneof![8 => 0usize..4, 1 => Just(255)].prop_flat_map(|units| vec(any::<u8>(), 6 + units * 8));
    let authentication = (0usize..8).prop_flat_map(|words| vec(any::<u8>(), words * 4));
    let extensions = (
        option::of(generic()),
        option::of(generic()),
        option::of((generic(), option::of(generic()))),
        option::of(fragmentation()),
        option::of(authentication),
    );
    (fixed, extensions).prop_map(|((source, destination, (traffic_class, hop_limit, label)), extensions)| {
        let (hop_by_hop, destination_options, routing, fragment, authentication) = extensions;
        let none = IpNumber(59);
        let raw = |payload: Vec<u8>| Ipv6RawExtHeader::new_raw(none, &payload).unwrap();
        let header = Ipv6Header {
            traffic_class,
            hop_limit,
            flow_label: Ipv6FlowLabel::try_new(label & 0xf_ffff).unwrap(),
            source,
            destination,
            ..Ipv6Header::default()
        };
        let extensions = Ipv6Extensions {
            hop_by_hop_options: hop_by_hop.map(raw),
            destination_options: destination_options.map(raw),
            routing: routing.map(|(routing, last)| Ipv6RoutingExtensions {
                routing: raw(routing),
                final_destination_options: last.map(raw),
            }),
            fragment: fragment.map(|(offset, more)| {
                Ipv6FragmentHeader::new(none, IpFragOffset::try_new(offset).unwrap(), more, 7)
            }),
            auth: authentication.map(|icv| IpAuthHeader::new(none, 1, 2, &icv).unwrap()),
        };
        IpHeaders::Ipv6(header, extensions)
    })
}
