//! What a frame costs on the link, on the real programs: overhead, ATM cells, PTM blocks.

use std::time::Duration;

use weir_aqm::{Bytes, LinkLayer};

use super::frame::{RECEIVER, udp};
use super::load::{Drain, Load, run};
use super::router::{Router, privileged, wait_for};

const RATE: u64 = 10_000_000;
const SETTLE: Duration = Duration::from_millis(500);
const WINDOW: Duration = Duration::from_secs(2);
/// Bytes of the Ethernet header, which CAKE's keywords do not count.
const ETHERNET: u32 = 14;

/// Keywords, and frames whose last cell or block is nearly empty, nearly full, and in between.
const LINKS: [(&str, [usize; 3]); 2] = [("pppoe-llcsnap", [98, 118, 503]), ("pppoe-ptm", [60, 200, 497])];

#[test]
fn a_policed_rate_lets_exactly_the_bytes_through_that_cells_and_blocks_leave_room_for() {
    let Some(_machine) = privileged("a_policed_rate_of_cells_and_blocks") else { return };
    // Without classes, and with one: two programs.
    for class in ["", "[[port.class]]\nname = \"c\"\nburst = \"125kb\"\n"] {
        for (keyword, lengths) in LINKS {
            let link = LinkLayer::preset(keyword).unwrap();
            let router = Router::new();
            let port = format!(
                "mode = \"policer\"\nrate = \"{RATE}bit\"\noverhead = \"{keyword}\"\nburst = \"125kb\"\n\
                 [port.aqm]\nalgorithm = \"none\"\n{class}"
            );
            let running = router.start("", &port);
            for length in lengths {
                let frame = udp(RECEIVER.0).payload(length - 42);
                assert_eq!(frame.build().len(), length);
                let load = Load::new([frame], 2 * RATE);
                let rates = run(&router, &running, &[load], Drain::Fast, SETTLE, WINDOW);
                let on_wire = link.on_wire(Bytes::new(length as u64), ETHERNET).get();
                let cost = rates.total * on_wire as f64 / length as f64;
                assert!(
                    (cost - RATE as f64).abs() <= 0.005 * RATE as f64,
                    "{keyword}, frames of {length} that cost {on_wire}, class {class:?}: {cost} bit/s"
                );
            }
            wait_for("the counters add up", Duration::from_secs(2), || running.snapshot().unaccounted() == 0);
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
