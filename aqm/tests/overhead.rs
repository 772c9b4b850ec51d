//! Link-layer accounting: CAKE's numbers, its keywords, and frames as XDP sees them.

use proptest::prelude::*;
use serde_json::Value;
use weir_aqm::Bytes;
use weir_aqm::overhead::{Basis, Framing, LinkLayer, PRESETS};

#[test]
fn cakes_adjusted_lengths_are_met() {
    let vectors: Value = serde_json::from_str(include_str!("vectors/cobalt_cake.json")).unwrap();
    let rows = vectors["overhead"].as_array().unwrap();
    for row in rows {
        let number = |name: &str| row[name].as_u64().unwrap();
        let framing = match row["mode"].as_str().unwrap() {
            "none" => Framing::None,
            "atm" => Framing::Atm,
            "ptm" => Framing::Ptm,
            other => panic!("mode {other}"),
        };
        let link = LinkLayer {
            overhead: number("overhead") as i32,
            mpu: number("mpu") as u32,
            framing,
            basis: Basis::Packet,
        };
        let packet = Bytes::new(number("len"));
        let want = Bytes::new(number("adj"));
        assert_eq!(link.adjusted(packet), want, "{row}");
        // The same packet behind an Ethernet header, and behind a tagged one.
        for offset in [14, 18] {
            let frame = packet.saturating_add(Bytes::new(u64::from(offset)));
            assert_eq!(link.on_wire(frame, offset), want, "{row}");
        }
    }
    assert_eq!(rows.len(), 10);
}

#[test]
fn the_keywords_are_those_of_tc_cake() {
    let parts = |name: &str| {
        let link = LinkLayer::preset(name).unwrap();
        (link.overhead, link.mpu, link.framing)
    };
    // tc-cake(8), each "Equivalent to".
    assert_eq!(parts("conservative"), (48, 0, Framing::Atm));
    assert_eq!(parts("pppoa-vcmux"), (10, 0, Framing::Atm));
    assert_eq!(parts("pppoa-llc"), (14, 0, Framing::Atm));
    assert_eq!(parts("pppoe-vcmux"), (32, 0, Framing::Atm));
    assert_eq!(parts("pppoe-llcsnap"), (40, 0, Framing::Atm));
    assert_eq!(parts("bridged-vcmux"), (24, 0, Framing::Atm));
    assert_eq!(parts("bridged-llcsnap"), (32, 0, Framing::Atm));
    assert_eq!(parts("ipoa-vcmux"), (8, 0, Framing::Atm));
    assert_eq!(parts("ipoa-llcsnap"), (16, 0, Framing::Atm));
    assert_eq!(parts("pppoe-ptm"), (30, 0, Framing::Ptm));
    assert_eq!(parts("bridged-ptm"), (22, 0, Framing::Ptm));
    assert_eq!(parts("docsis"), (18, 64, Framing::None));
    assert_eq!(parts("ethernet"), (38, 84, Framing::None));
    assert_eq!(LinkLayer::preset("ether"), None);
    let mut names: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), PRESETS.len());
}

#[test]
fn a_frame_on_a_cable_takes_what_ethernet_takes() {
    let cable = LinkLayer::preset("ethernet").unwrap();
    // XDP sees no check sequence: 1514 for an MTU of 1500, 60 for the shortest frame.
    assert_eq!(cable.on_wire(Bytes::new(1514), 14), Bytes::new(1538));
    assert_eq!(cable.on_wire(Bytes::new(60), 14), Bytes::new(84));
    assert_eq!(cable.with_vlan().on_wire(Bytes::new(1518), 18), Bytes::new(1542));
    assert_eq!(LinkLayer::RAW.on_wire(Bytes::new(1514), 14), Bytes::new(1514));
}

#[test]
fn a_negative_overhead_stops_at_nothing() {
    let link = LinkLayer { overhead: -64, ..LinkLayer::default() };
    assert_eq!(link.adjusted(Bytes::new(40)), Bytes::ZERO);
    assert_eq!(link.adjusted(Bytes::new(100)), Bytes::new(36));
    assert_eq!(link.on_wire(Bytes::new(10), 14), Bytes::ZERO);
}

proptest! {
    #[test]
    fn a_longer_packet_never_costs_less(
        length in any::<u64>(), more in 0u64..2000, which in 0usize..14, offset in 0u32..64,
    ) {
        let link = PRESETS[which].link;
        let (short, long) = (Bytes::new(length), Bytes::new(length.saturating_add(more)));
        prop_assert!(link.on_wire(short, offset) <= link.on_wire(long, offset));
        prop_assert!(link.on_wire(long, offset) >= Bytes::new(u64::from(link.mpu)));
    }

    #[test]
    fn cells_hold_the_packet_and_are_not_one_too_many(length in 1u64..70_000) {
        let link = LinkLayer { framing: Framing::Atm, ..LinkLayer::default() };
        let wire = link.adjusted(Bytes::new(length)).get();
        prop_assert_eq!(wire % 53, 0);
        prop_assert!(wire / 53 * 48 >= length && (wire / 53 - 1) * 48 < length);
    }
}
