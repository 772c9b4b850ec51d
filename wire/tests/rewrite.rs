//! Rewrites against `etherparse`: what they change, what they leave, and the checksum after them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails, and clippy exempts only the test functions themselves"
)]

mod common;

use common::{frames, ipv4_frames};
use etherparse::Ipv4HeaderSlice;
use proptest::prelude::*;
use weir_wire::{Dscp, Ecn, Hop, L3, Malformed, Mark, parse, set_macs};

/// `after` differs from `before` only where `allowed` says so, its IPv4 checksum is the one etherparse computes,
/// and the view that made the rewrite equals one made anew.
fn check(before: &[u8], after: &[u8], view: L3, allowed: impl Fn(usize) -> u8) -> Result<(), TestCaseError> {
    let parsed = parse(after).unwrap();
    let l3 = usize::from(parsed.link.l3_offset);
    for (at, (old, new)) in before.iter().zip(after).enumerate() {
        let mask = at.checked_sub(l3).map_or(0, &allowed);
        prop_assert_eq!((old ^ new) & !mask, 0, "byte {} of the frame", at);
    }
    if let L3::V4(v4) = parsed.l3 {
        let header = Ipv4HeaderSlice::from_slice(&after[l3..]).unwrap().to_header();
        prop_assert_eq!(v4.checksum(), header.calc_header_checksum());
    }
    prop_assert_eq!(view, parsed.l3);
    Ok(())
}

/// Bits of the network header that may change: `v4` and `v6` as pairs of byte and mask, and IPv4's checksum.
fn bits(l3: L3, v4: &[(usize, u8)], v6: &[(usize, u8)]) -> impl Fn(usize) -> u8 {
    let mut masks = [0u8; 64];
    let list = match l3 {
        L3::V4(_) => {
            masks[10..12].fill(0xff);
            v4
        }
        L3::V6(_) => v6,
        L3::Other => panic!("an IP frame"),
    };
    for &(at, mask) in list {
        masks[at] = mask;
    }
    move |at| masks.get(at).copied().unwrap_or(0)
}

fn hops(l3: L3) -> u8 {
    match l3 {
        L3::V4(v4) => v4.ttl(),
        L3::V6(v6) => v6.hop_limit(),
        L3::Other => panic!("an IP frame"),
    }
}

proptest! {
    #[test]
    fn a_hop_takes_one_from_the_ttl_and_changes_nothing_else(before in frames()) {
        let mut after = before.clone();
        let mut l3 = parse(before.as_slice()).unwrap().l3;
        let (old, hop) = (hops(l3), l3.decrement_hops(after.as_mut_slice()).unwrap());
        if old <= 1 {
            prop_assert_eq!(hop, Hop::Expired);
            prop_assert_eq!(&before, &after);
        } else {
            prop_assert_eq!(hop, Hop::Forward);
            prop_assert_eq!(hops(l3), old - 1);
        }
        check(&before, &after, l3, bits(l3, &[(8, 0xff)], &[(7, 0xff)]))?;
    }

    #[test]
    fn a_mark_sets_ce_on_ecn_capable_packets_and_changes_nothing_else(before in frames()) {
        let mut after = before.clone();
        let mut l3 = parse(before.as_slice()).unwrap().l3;
        let (old, mark) = (l3.ecn(), l3.set_ecn_ce(after.as_mut_slice()).unwrap());
        match old {
            Ecn::Ect0 | Ecn::Ect1 => prop_assert_eq!((mark, l3.ecn()), (Mark::Marked, Ecn::Ce)),
            Ecn::Ce => prop_assert_eq!((mark, &after), (Mark::AlreadyCe, &before)),
            Ecn::NotEct => prop_assert_eq!((mark, &after), (Mark::NotEct, &before)),
        }
        check(&before, &after, l3, bits(l3, &[(1, 0x03)], &[(1, 0x30)]))?;
    }

    #[test]
    fn a_new_dscp_keeps_the_ecn_field_and_changes_nothing_else(before in frames(), dscp in 0u8..64) {
        let dscp = Dscp::new(dscp).unwrap();
        let mut after = before.clone();
        let mut l3 = parse(before.as_slice()).unwrap().l3;
        let ecn = l3.ecn();
        l3.set_dscp(after.as_mut_slice(), dscp).unwrap();
        prop_assert_eq!((l3.dscp(), l3.ecn()), (dscp, ecn));
        check(&before, &after, l3, bits(l3, &[(1, 0xfc)], &[(0, 0x0f), (1, 0xc0)]))?;
    }

    #[test]
    fn rewrites_in_a_row_on_one_view_keep_the_checksum_exact(before in frames(), dscp in 0u8..64) {
        let mut after = before.clone();
        let mut l3 = parse(before.as_slice()).unwrap().l3;
        let _ = l3.decrement_hops(after.as_mut_slice()).unwrap();
        l3.set_dscp(after.as_mut_slice(), Dscp::new(dscp).unwrap()).unwrap();
        let _ = l3.set_ecn_ce(after.as_mut_slice()).unwrap();
        let _ = l3.decrement_hops(after.as_mut_slice()).unwrap();
        check(&before, &after, l3, bits(l3, &[(1, 0xff), (8, 0xff)], &[(0, 0x0f), (1, 0xf0), (7, 0xff)]))?;
    }

    #[test]
    fn a_wrong_checksum_stays_wrong_by_the_same_difference(mut before in ipv4_frames(), damage in 1u16..0xffff) {
        let parsed = parse(before.as_slice()).unwrap();
        let L3::V4(v4) = parsed.l3 else { panic!("an IPv4 frame") };
        prop_assume!(v4.ttl() > 1);
        let at = usize::from(v4.l3_offset()) + 10;
        before[at..at + 2].copy_from_slice(&v4.checksum().wrapping_add(damage).to_be_bytes());
        let mut l3 = parse(before.as_slice()).unwrap().l3;
        prop_assert_eq!(l3.decrement_hops(before.as_mut_slice()).unwrap(), Hop::Forward);
        let header = Ipv4HeaderSlice::from_slice(&before[at - 10..]).unwrap().to_header();
        // In one's complement 0 and 0xffff are the same number: differences are taken modulo 0xffff.
        let error = |is: u16, should: u16| (u32::from(is) + 0xffff - u32::from(should)) % 0xffff;
        prop_assert_eq!(
            error(header.header_checksum, header.calc_header_checksum()),
            error(v4.checksum().wrapping_add(damage), v4.checksum()),
        );
    }

    #[test]
    fn new_macs_change_the_first_twelve_bytes_only(
        mut bytes in frames(),
        dst in any::<[u8; 6]>(),
        src in any::<[u8; 6]>(),
    ) {
        let rest = bytes[12..].to_vec();
        set_macs(bytes.as_mut_slice(), dst, src).unwrap();
        prop_assert_eq!(&bytes[..6], &dst);
        prop_assert_eq!(&bytes[6..12], &src);
        prop_assert_eq!(&bytes[12..], rest.as_slice());
    }

    #[test]
    fn a_rewrite_of_a_packet_that_got_shorter_is_an_error_and_never_a_panic(bytes in frames()) {
        let parsed = parse(bytes.as_slice()).unwrap();
        let l3 = parsed.l3;
        for len in 0..=usize::from(parsed.link.l3_offset) {
            let mut cut = bytes[..len].to_vec();
            let (mut one, mut two) = (l3, l3);
            prop_assert!(one.set_dscp(cut.as_mut_slice(), Dscp::EF).is_err());
            prop_assert!(!matches!(two.decrement_hops(cut.as_mut_slice()), Ok(Hop::Forward)));
            prop_assert_eq!(&cut, &bytes[..len]);
            prop_assert_eq!((one, two), (l3, l3));
        }
    }
}

#[test]
fn every_ttl_and_tos_keeps_the_checksum_exact() {
    for (ttl, tos) in (0..=255u8).flat_map(|ttl| (0..=255u8).map(move |tos| (ttl, tos))) {
        let header = etherparse::Ipv4Header {
            time_to_live: ttl,
            dscp: etherparse::IpDscp::try_new(tos >> 2).unwrap(),
            ecn: etherparse::IpEcn::try_new(tos & 3).unwrap(),
            total_len: 20,
            ..Default::default()
        };
        let mut bytes = [0u8; 34];
        bytes[12..14].copy_from_slice(&[0x08, 0x00]);
        let sum = header.calc_header_checksum();
        bytes[14..].copy_from_slice(&etherparse::Ipv4Header { header_checksum: sum, ..header }.to_bytes());
        let mut l3 = parse(&bytes).unwrap().l3;
        let _ = l3.decrement_hops(&mut bytes).unwrap();
        let _ = l3.set_ecn_ce(&mut bytes).unwrap();
        l3.set_dscp(&mut bytes, Dscp::MAX).unwrap();
        let header = Ipv4HeaderSlice::from_slice(&bytes[14..]).unwrap().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum(), "ttl {ttl}, tos {tos}");
    }
}

#[test]
fn macs_do_not_fit_into_eleven_bytes() {
    assert_eq!(set_macs(&mut [0u8; 11], [1; 6], [2; 6]), Err(Malformed::TruncatedEthernet));
}
