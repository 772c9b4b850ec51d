//! PAUSE and PFC frames: as others write them, as we write them, and what is neither.

#![allow(clippy::indexing_slicing, reason = "functions that tests share are tests, too")]

use proptest::prelude::*;
use weir_wire::Pause;
use weir_wire::mac_control::FRAME_LEN;

const OWN: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// The bytes of IEEE 802.3 annex 31B.3.1 (figure 31B-1) with pause_time 0xffff, as an Intel NIC sends them.
fn pause_vector() -> Vec<u8> {
    let mut frame = b"\x01\x80\xc2\x00\x00\x01\x00\x1b\x21\xaa\xbb\xcc\x88\x08\x00\x01\xff\xff".to_vec();
    frame.resize(FRAME_LEN, 0);
    frame
}

/// IEEE 802.3 annex 31D.2: class-enable vector 0x0018, priority 3 for 0xffff quanta, priority 4 released.
fn priority_vector() -> Vec<u8> {
    let mut frame = b"\x01\x80\xc2\x00\x00\x01\x00\x1b\x21\xaa\xbb\xcc\x88\x08\x01\x01\x00\x18".to_vec();
    frame.extend([0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    frame.resize(FRAME_LEN, 0);
    frame
}

#[test]
fn ieee_802_3_annex_31b_pause_is_read_and_written_byte_by_byte() {
    assert_eq!(Pause::parse(pause_vector().as_slice(), OWN), Some(Pause::Link(0xffff)));
    let source = [0x00, 0x1b, 0x21, 0xaa, 0xbb, 0xcc];
    assert_eq!(Pause::Link(0xffff).frame(source).to_vec(), pause_vector());
}

#[test]
fn ieee_802_3_annex_31d_priorities_outside_of_the_enable_vector_are_not_spoken_of() {
    let read = Pause::parse(priority_vector().as_slice(), OWN).unwrap();
    let said: Vec<Option<u16>> = (0..9).map(|priority| read.quanta(priority)).collect();
    let none = None;
    assert_eq!(said, [none, none, none, Some(0xffff), Some(0), none, none, none, none]);
    let source = [0x00, 0x1b, 0x21, 0xaa, 0xbb, 0xcc];
    assert_eq!(read.frame(source).to_vec(), priority_vector());
}

#[test]
fn the_reserved_octet_of_the_enable_vector_is_ignored_on_receipt() {
    let mut frame = priority_vector();
    frame[16] = 0xff;
    assert_eq!(Pause::parse(frame.as_slice(), OWN), Pause::parse(priority_vector().as_slice(), OWN));
}

#[test]
fn a_frame_for_another_station_or_of_another_kind_asks_for_nothing() {
    let mut own = pause_vector();
    own[..6].copy_from_slice(&OWN);
    assert_eq!(Pause::parse(own.as_slice(), OWN), Some(Pause::Link(0xffff)));
    // Another station, the address of LLDP, another EtherType, GATE of EPON (clause 64), no opcode at all.
    for (at, byte) in [(0, 0x03), (5, 0x0e), (12, 0x08), (15, 0x02), (15, 0x00)] {
        let mut frame = pause_vector();
        frame[at] = byte;
        if frame != pause_vector() {
            assert_eq!(Pause::parse(frame.as_slice(), OWN), None, "byte {at} = {byte:#x}");
        }
    }
}

#[test]
fn every_frame_that_ends_before_its_last_parameter_asks_for_nothing() {
    for (frame, needed) in [(pause_vector(), 18), (priority_vector(), 34)] {
        for len in 0..FRAME_LEN {
            assert_eq!(Pause::parse(&frame[..len], OWN).is_some(), len >= needed, "{len} of {needed}");
        }
    }
}

fn pauses() -> impl Strategy<Value = Pause> {
    let priority = (any::<u8>(), any::<[u16; 8]>());
    prop_oneof![
        any::<u16>().prop_map(Pause::Link),
        priority.prop_map(|(enabled, quanta)| Pause::Priority { enabled, quanta }),
    ]
}

proptest! {
    #[test]
    fn what_a_frame_says_of_each_priority_survives_the_wire(pause in pauses(), source: [u8; 6]) {
        let frame = pause.frame(source);
        let read = Pause::parse(frame.as_slice(), OWN).unwrap();
        for priority in 0..8 {
            prop_assert_eq!(read.quanta(priority), pause.quanta(priority));
        }
        prop_assert_eq!(&frame[6..12], &source[..]);
    }

    #[test]
    fn no_bytes_whatsoever_are_taken_for_a_pause_without_its_ethertype(bytes: Vec<u8>) {
        let typed = bytes.get(12..14) == Some(&[0x88, 0x08]);
        prop_assert!(typed || Pause::parse(bytes.as_slice(), OWN).is_none());
    }
}
