//! The views against `etherparse`, on whole, cut, shortened, corrupt and random frames.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails, and clippy exempts only the test functions themselves"
)]

mod common;

use common::{frames, ipv4_frames};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::{collection::vec, prelude::*};
use weir_wire::{Flow, Fragment, L3, Malformed, Parsed, TcpView, UdpView, Upper, l4, parse};

/// Everything this crate reads from a frame.
type Everything = (Parsed, Option<(Upper, Flow, Option<TcpView>, Option<UdpView>)>);

fn read(bytes: &[u8]) -> Result<Everything, Malformed> {
    let parsed = parse(bytes)?;
    let Some(upper) = parsed.l3.upper(bytes)? else { return Ok((parsed, None)) };
    Ok((parsed, Some((upper, upper.flow(bytes)?, upper.tcp(bytes)?, upper.udp(bytes)?))))
}

fn datagram_end(parsed: &Parsed) -> usize {
    match parsed.l3 {
        L3::V4(v4) => usize::from(v4.l3_offset()) + usize::from(v4.total_len()),
        L3::V6(v6) => usize::from(v6.l3_offset()) + v6.total_len() as usize,
        L3::Other => panic!("an IP frame"),
    }
}

fn compare_link(bytes: &[u8], parsed: &Parsed, oracle: &SlicedPacket) -> Result<(), TestCaseError> {
    let vids: Vec<u16> = oracle.vlan_ids().iter().map(|vid| vid.value()).collect();
    let link = parsed.link;
    prop_assert_eq!(usize::from(link.vlans), vids.len());
    prop_assert_eq!(link.outer_vid, vids.first().copied().unwrap_or(0));
    prop_assert_eq!(link.inner_vid, vids.get(1).copied().unwrap_or(0));
    let tpid = if vids.is_empty() { 0 } else { u16::from_be_bytes([bytes[12], bytes[13]]) };
    prop_assert_eq!(link.outer_tpid, tpid);
    prop_assert_eq!(link.ethertype, oracle.ether_payload().unwrap().ether_type.0);
    Ok(())
}

fn compare_net(parsed: &Parsed, oracle: &SlicedPacket) -> Result<(), TestCaseError> {
    match (&parsed.l3, oracle.net.as_ref().unwrap()) {
        (L3::V4(v4), NetSlice::Ipv4(slice)) => {
            let header = slice.header();
            prop_assert_eq!(v4.src(), header.source());
            prop_assert_eq!(v4.dst(), header.destination());
            prop_assert_eq!(v4.total_len(), header.total_len());
            prop_assert_eq!(usize::from(v4.header_len()), header.slice().len());
            prop_assert_eq!(v4.has_options(), !header.options().is_empty());
            prop_assert_eq!(v4.dscp().get(), header.dcp().value());
            prop_assert_eq!(v4.ecn() as u8, header.ecn().value());
            prop_assert_eq!(v4.ttl(), header.ttl());
            prop_assert_eq!(v4.protocol(), header.protocol().0);
            prop_assert_eq!(v4.checksum(), header.header_checksum());
            prop_assert_eq!(v4.dont_fragment(), header.dont_fragment());
            prop_assert_eq!(v4.fragment() == Fragment::Later, header.fragments_offset().value() != 0);
            prop_assert_eq!(v4.fragment() != Fragment::Whole, header.is_fragmenting_payload());
        }
        (L3::V6(v6), NetSlice::Ipv6(slice)) => {
            let header = slice.header();
            prop_assert_eq!(v6.src(), header.source());
            prop_assert_eq!(v6.dst(), header.destination());
            prop_assert_eq!(v6.payload_len(), header.payload_length());
            prop_assert_eq!(v6.traffic_class(), header.traffic_class());
            prop_assert_eq!(v6.flow_label(), header.flow_label().value());
            prop_assert_eq!(v6.hop_limit(), header.hop_limit());
            prop_assert_eq!(v6.next_header(), header.next_header().0);
            prop_assert_eq!(v6.has_hop_by_hop(), header.next_header().0 == 0);
        }
        (ours, theirs) => prop_assert!(false, "{ours:?} against {theirs:?}"),
    }
    Ok(())
}

fn compare_upper(bytes: &[u8], everything: &Everything, oracle: &SlicedPacket) -> Result<(), TestCaseError> {
    let Some((upper, flow, tcp, udp)) = everything.1 else { panic!("an IP frame") };
    let payload = oracle.ip_payload().unwrap();
    prop_assert_eq!(upper.fragment != Fragment::Whole, payload.fragmented);
    if upper.fragment != Fragment::Whole {
        // Of fragments etherparse reads neither ports nor, in IPv6, the extension headers behind.
        return Ok(());
    }
    prop_assert_eq!(upper.protocol, payload.ip_number.0);
    prop_assert_eq!(usize::from(upper.offset), payload.payload.as_ptr().addr() - bytes.as_ptr().addr());
    prop_assert_eq!(usize::from(upper.len), payload.payload.len());
    let (src_port, dst_port) = match oracle.transport.as_ref() {
        Some(TransportSlice::Tcp(slice)) => {
            let view = tcp.unwrap();
            prop_assert_eq!(usize::from(view.header_len), slice.header_slice().len());
            for (bit, set) in [
                (TcpView::FIN, slice.fin()),
                (TcpView::SYN, slice.syn()),
                (TcpView::RST, slice.rst()),
                (TcpView::PSH, slice.psh()),
                (TcpView::ACK, slice.ack()),
                (TcpView::URG, slice.urg()),
                (TcpView::ECE, slice.ece()),
                (TcpView::CWR, slice.cwr()),
            ] {
                prop_assert_eq!(view.flags & bit != 0, set);
            }
            prop_assert_eq!((view.src_port, view.dst_port), (flow.src_port, flow.dst_port));
            (slice.source_port(), slice.destination_port())
        }
        Some(TransportSlice::Udp(slice)) => {
            let view = udp.unwrap();
            prop_assert_eq!(view.len, slice.length());
            prop_assert_eq!((view.src_port, view.dst_port), (flow.src_port, flow.dst_port));
            (slice.source_port(), slice.destination_port())
        }
        _ => {
            prop_assert_eq!((tcp, udp), (None, None));
            (0, 0)
        }
    };
    prop_assert_eq!(flow, Flow { protocol: upper.protocol, src_port, dst_port });
    Ok(())
}

/// The cause a valid frame must fail with when only its first `len` bytes are left of `whole`.
fn cause_of_cut(whole: &Parsed, len: usize) -> Malformed {
    let l3 = usize::from(whole.link.l3_offset);
    let (header_len, no_header, short) = match whole.l3 {
        L3::V4(_) => (20, Malformed::TruncatedIpv4, Malformed::BadIpv4TotalLength),
        L3::V6(_) => (40, Malformed::TruncatedIpv6, Malformed::BadIpv6PayloadLength),
        L3::Other => panic!("an IP frame"),
    };
    match len {
        0..14 => Malformed::TruncatedEthernet,
        _ if len < l3 => Malformed::TruncatedVlan,
        _ if len < l3 + header_len => no_header,
        _ => short,
    }
}

proptest! {
    #[test]
    fn every_field_of_a_valid_frame_is_what_etherparse_reads(bytes in frames()) {
        let oracle = SlicedPacket::from_ethernet(&bytes).unwrap();
        let everything = read(&bytes).map_err(|cause| TestCaseError::fail(cause.as_str()))?;
        compare_link(&bytes, &everything.0, &oracle)?;
        compare_net(&everything.0, &oracle)?;
        compare_upper(&bytes, &everything, &oracle)?;
    }

    #[test]
    fn every_truncation_is_malformed_by_its_own_cause_until_only_padding_is_lost(bytes in frames()) {
        let everything = read(&bytes).unwrap();
        let end = datagram_end(&everything.0);
        for len in 0..bytes.len() {
            let expected = if len < end { Err(cause_of_cut(&everything.0, len)) } else { Ok(everything) };
            prop_assert_eq!(read(&bytes[..len]), expected, "cut to {} of {}", len, bytes.len());
        }
    }

    /// The IP length is cut with the frame, so that the damage is in the headers behind.
    #[test]
    fn a_datagram_that_ends_inside_its_upper_headers_is_malformed_where_etherparse_says_so(bytes in frames()) {
        let (parsed, upper) = read(&bytes).unwrap();
        if upper.unwrap().0.fragment != Fragment::Whole {
            return Ok(());
        }
        let l3 = usize::from(parsed.link.l3_offset);
        let (at, from, counted) = match parsed.l3 {
            L3::V4(v4) => (l3 + 2, usize::from(v4.header_len()), 0),
            // etherparse takes a payload length of 0 for "as far as the frame goes".
            L3::V6(_) => (l3 + 4, 41, 40),
            L3::Other => unreachable!(),
        };
        for total in from..datagram_end(&parsed) - l3 {
            let mut cut = bytes.clone();
            cut[at..at + 2].copy_from_slice(&u16::try_from(total - counted).unwrap().to_be_bytes());
            let oracle = SlicedPacket::from_ethernet(&cut);
            match (read(&cut), &oracle) {
                (Ok(everything), Ok(oracle)) => compare_upper(&cut, &everything, oracle)?,
                (Err(cause), Err(_)) => prop_assert!(matches!(
                    cause,
                    Malformed::TruncatedExtension | Malformed::TruncatedTcp | Malformed::TruncatedUdp
                        | Malformed::BadUdpLength
                )),
                (ours, theirs) => prop_assert!(false, "{} bytes: {:?} against {:?}", total, ours, theirs),
            }
        }
    }

    #[test]
    fn a_corrupt_ipv4_header_is_refused_exactly_where_etherparse_refuses_it(
        mut bytes in ipv4_frames(),
        at in 0usize..20,
        value in any::<u8>(),
    ) {
        let l3 = usize::from(parse(bytes.as_slice()).unwrap().link.l3_offset);
        bytes[l3 + at] = value;
        // An authentication header in IPv4 is a protocol like any other here, and read by etherparse.
        prop_assume!(bytes[l3 + 9] != 51);
        let ours = parse(bytes.as_slice());
        let theirs = etherparse::Ipv4Slice::from_slice(&bytes[l3..]);
        prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{:?} against {:?}", ours, theirs);
    }

    #[test]
    fn random_bytes_behind_any_ethertype_never_panic_and_stay_inside_the_frame(
        mut bytes in vec(any::<u8>(), 0..200),
        ethertype in prop::sample::select(vec![0x0800u16, 0x86dd, 0x8100, 0x88a8, 0x0806, 0x0020]),
        first in prop::sample::select(vec![0x45u8, 0x46, 0x4f, 0x60, 0x00]),
    ) {
        if bytes.len() > 14 {
            bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
            bytes[14] = first;
        }
        if let Ok((_, Some((upper, ..)))) = read(&bytes) {
            prop_assert!(usize::from(upper.offset) + usize::from(upper.len) <= bytes.len());
        }
    }
}

fn ipv6_frame(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 12];
    bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend([next_header, 64]);
    bytes.extend([0; 32]);
    bytes.extend(payload);
    bytes
}

#[test]
fn a_third_vlan_tag_is_left_to_the_stack() {
    let mut bytes = [0; 60];
    for at in [12, 16, 20] {
        bytes[at..at + 2].copy_from_slice(&[0x81, 0x00]);
    }
    let parsed = parse(&bytes).unwrap();
    assert_eq!((parsed.link.vlans, parsed.link.ethertype, parsed.l3), (2, 0x8100, L3::Other));
}

#[test]
fn six_extension_headers_are_walked_and_a_seventh_is_too_many() {
    let chain = |count: usize| {
        let mut payload = Vec::new();
        for index in 1..=count {
            payload.extend([if index == count { 17 } else { 60 }, 0, 0, 0, 0, 0, 0, 0]);
        }
        payload.extend([0, 1, 0, 2, 0, 8, 0, 0]);
        read(&ipv6_frame(60, &payload))
    };
    let (_, upper) = chain(6).unwrap();
    assert_eq!(upper.unwrap().1, Flow { protocol: 17, src_port: 1, dst_port: 2 });
    assert_eq!(chain(7), Err(Malformed::TooManyExtensions));
}

#[test]
fn the_longest_chain_of_extension_headers_ends_at_the_greatest_offset() {
    let mut payload = vec![0; 6 * 2048];
    for index in 0..6 {
        payload[index * 2048..][..2].copy_from_slice(&[if index == 5 { 17 } else { 60 }, 255]);
    }
    payload.extend([0, 1, 0, 2, 0, 8, 0, 0]);
    let mut bytes = ipv6_frame(60, &payload);
    // Two tags, by moving what follows the addresses.
    bytes.splice(12..12, [0x88, 0xa8, 0, 5, 0x81, 0, 0, 6]);
    let (_, upper) = read(&bytes).unwrap();
    let (upper, flow, ..) = upper.unwrap();
    assert_eq!(usize::from(upper.offset), l4::MAX_OFFSET);
    assert_eq!((flow.src_port, flow.dst_port), (1, 2));
}

#[test]
fn a_later_ipv6_fragment_has_no_ports() {
    let payload = [17, 0, 0x00, 0x08, 0, 0, 0, 1, 0xde, 0xad, 0xbe, 0xef, 0, 8, 0, 0];
    let (_, upper) = read(&ipv6_frame(44, &payload)).unwrap();
    let (upper, flow, tcp, udp) = upper.unwrap();
    assert_eq!(upper.fragment, Fragment::Later);
    assert_eq!((flow, tcp, udp), (Flow { protocol: 17, src_port: 0, dst_port: 0 }, None, None));
}

#[test]
fn the_first_ipv6_fragment_has_ports() {
    let payload = [17, 0, 0x00, 0x01, 0, 0, 0, 1, 0, 1, 0, 2, 5, 0, 0, 0];
    let (_, upper) = read(&ipv6_frame(44, &payload)).unwrap();
    let (upper, flow, _, udp) = upper.unwrap();
    assert_eq!(upper.fragment, Fragment::First);
    assert_eq!(flow, Flow { protocol: 17, src_port: 1, dst_port: 2 });
    assert_eq!(udp.unwrap().len, 0x500);
}

#[test]
fn protocols_that_begin_with_ports_show_them_and_later_fragments_do_not() {
    for protocol in 0..=255_u8 {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        frame.extend([0x45, 0, 0, 24, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 1, 0, 1]);
        frame.extend([0x12, 0x34, 0x56, 0x78]);
        let ports = |frame: &[u8]| parse(frame).unwrap().l3.upper(frame).unwrap().unwrap().ports(frame);
        let has = matches!(protocol, l4::TCP | l4::UDP | l4::DCCP | l4::SCTP);
        assert_eq!(ports(&frame), has.then_some((0x1234, 0x5678)), "{protocol}");
        frame[21] = 1;
        assert_eq!(ports(&frame), None, "a later fragment of {protocol}");
        (frame[17], frame[21]) = (23, 0);
        assert_eq!(ports(&frame), None, "{protocol} of three bytes");
    }
}
