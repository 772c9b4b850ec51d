//! What a frame costs on the link, on the real programs: overhead, ATM cells, PTM blocks.

use std::time::Instant;

use weir_aqm::{Bytes, LinkLayer};

use super::frame::{RECEIVER, udp};
use super::router::{Router, privileged};

/// The slowest rate: what time adds to the burst is little, and counted.
const RATE: &str = "64kbit";
const BYTES_PER_SECOND: f64 = 8_000.0;
const BURST: u64 = 500_000;
/// Bytes of the Ethernet header, which CAKE's keywords do not count.
const ETHERNET: u32 = 14;

/// Keywords, and frames whose last cell or block is nearly empty, nearly full, and in between.
const LINKS: [(&str, [usize; 3]); 2] = [("pppoe-llcsnap", [98, 118, 503]), ("pppoe-ptm", [60, 200, 497])];

#[test]
fn a_policer_lets_exactly_the_bytes_through_that_cells_and_blocks_leave_room_for() {
    let Some(_machine) = privileged("a_policer_lets_exactly_the_bytes_through") else { return };
    // Without classes, and with one: two programs.
    for class in ["", "[[port.class]]\nname = \"c\"\nburst = \"500000b\"\n"] {
        for (keyword, lengths) in LINKS {
            for length in lengths {
                let router = Router::new();
                let port = format!(
                    "mode = \"policer\"\nrate = \"{RATE}\"\noverhead = \"{keyword}\"\nburst = \"500000b\"\n\
                     [port.aqm]\nalgorithm = \"none\"\n{class}"
                );
                let running = router.start("", &port);
                let frame = udp(RECEIVER.0).payload(length - 42).build();
                assert_eq!(frame.len(), length);
                let cost =
                    LinkLayer::preset(keyword).unwrap().on_wire(Bytes::new(length as u64), ETHERNET).get();
                let begun = Instant::now();
                for _ in 0..BURST / cost * 3 / 2 {
                    router.inject(&frame);
                    while router.take().is_some() {}
                }
                let earned = (begun.elapsed().as_secs_f64() * BYTES_PER_SECOND) as u64;
                let charged = running.port("sent") * cost;
                let tolerance = BURST / 200;
                assert!(
                    (BURST - tolerance..=BURST + earned + tolerance).contains(&charged),
                    "{keyword}, frames of {length} that cost {cost}, class {class:?}: {charged} of {BURST} bytes"
                );
                assert_eq!(running.snapshot().unaccounted(), 0);
            }
        }
    }
}

#[test]
fn the_status_says_what_frames_cost_on_the_link() {
    let Some(_machine) = privileged("the_status_says_what_frames_cost") else { return };
    let status = |router: &Router| {
        let arguments = ["status", "--instance", router.instance()];
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    // IP packets of 46 and 1,500 bytes and 40 bytes of overhead: 2 and 33 cells of 53 bytes.
    let router = Router::new();
    let running = router.start("", "mode = \"policer\"\nrate = \"10mbit\"\noverhead = \"pppoe-llcsnap\"");
    let said = status(&router);
    let line = "wan0 on the wire: frames of 60 to 1514 bytes cost 106 to 1749 (overhead 26, mpu 0, atm)\n";
    assert!(said.contains(line), "{said}");
    drop(running);
    let _running = router.start("", "mode = \"policer\"\nrate = \"10mbit\"");
    let said = status(&router);
    assert!(said.contains("wan0") && !said.contains("on the wire"), "{said}");
}
