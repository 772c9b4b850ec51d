//! What the router's own stack sends through a port: policed, marked and classified like what is redirected.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use aya::maps::{Array, Map, MapData, PerCpuArray, PerCpuValues};
use aya::programs::{SchedClassifier, TcAttachType};
use socket2::{Domain, Socket, Type};
use weir::config::Config;
use weir::datapath::{Instance, StartOptions, stack::Hook};
use weir_shared_maps::{ABI_VERSION, META_MAGIC, MetaHead, PacketMeta, PortConfig, names};
use zerocopy::{FromZeros as _, transmute};

use super::frame::{BOTH, RECEIVER, Seen, seen, udp};
use super::own::{Own, rate, rate_in_turns};
use super::router::{Router, Running, WAN, causes, privileged, wait_for};

const MBIT: u64 = 1_000_000;
/// Bytes of a frame that these tests send.
const FRAME: usize = 1_000;

/// Keys of a policed port whose burst of 100 ms bridges what a busy machine does to the sender.
fn policer(mbit: u64) -> String {
    format!("mode = \"policer\"\nrate = \"{mbit}mbit\"\nburst = \"{}kb\"", mbit * 1_000 / 8 / 10)
}

const NO_AQM: &str = "[port.aqm]\nalgorithm = \"none\"";

/// A class that gets the whole port, with the same burst.
fn class(name: &str, mbit: u64, keys: &str) -> String {
    format!("[[port.class]]\nname = \"{name}\"\nburst = \"{}kb\"\n{keys}\n", mbit * 1_000 / 8 / 10)
}

fn assert_within(got: f64, want: u64, percent: f64) {
    let most = want as f64 * percent / 100.0;
    assert!((got - want as f64).abs() <= most, "{got} bit/s, and {want} were promised");
}

fn adds_up(running: &Running) {
    wait_for("the counters add up", Duration::from_secs(2), || running.snapshot().unaccounted() == 0);
    let port = running.snapshot().ports.remove(0);
    assert_eq!(port.unaccounted, 0);
    let decided: u64 =
        ["aqm", "limit", "ring_admission", "policer", "class_ceil", "class_share", "fairness", "busy"]
            .iter()
            .map(|cause| port.counters[cause])
            .sum();
    // What was dropped of the stack's is among the causes.
    assert!(port.counters["stack_dropped"] <= decided);
    for class in &port.classes {
        let drops: u64 = class.counters["aqm"]
            + class.counters["limit"]
            + class.counters["ring_admission"]
            + class.counters["class_ceil"]
            + class.counters["class_share"]
            + class.counters["fairness"]
            + class.counters["busy"];
        assert_eq!(class.counters["seen"], class.counters["accepted"] + drops, "{}", class.name);
    }
}

/// Where the instance's maps and links are pinned.
fn pins(router: &Router) -> PathBuf {
    PathBuf::from("/sys/fs/bpf/weir").join(router.instance()).join(format!("v{ABI_VERSION}"))
}

/// Names of the TC egress programs on `wan0`.
fn programs(router: &Router) -> Vec<String> {
    let (_, programs) = router.run(|| SchedClassifier::query_tcx(WAN, TcAttachType::Egress)).unwrap();
    programs.iter().map(|program| program.name_as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_flood_of_the_routers_own_leaves_a_policed_port_at_its_rate() {
    let Some(_machine) = privileged("a_flood_of_the_routers_own") else { return };
    let router = Router::new();
    let classes = format!("{NO_AQM}\n{}", class("all", 20, ""));
    for keys in [NO_AQM, &classes] {
        let running = router.start("", &format!("{}\n{keys}", policer(20)));
        let mut own = Own::new(&router, RECEIVER.0, FRAME);
        let got = rate(&router, |_| own.send(0));
        assert_within(got, 20 * MBIT, 0.5);
        adds_up(&running);
        let port = running.snapshot().ports.remove(0);
        assert_eq!(port.counters["seen"], 0, "nothing was redirected");
        let passed = port.counters["stack_seen"] - port.counters["stack_dropped"];
        assert_eq!(passed, port.counters["stack_sent"]);
        assert!(port.counters["stack_dropped"] > passed, "{:?}", port.counters);
    }
}

#[test]
fn redirected_frames_and_the_routers_own_share_one_rate() {
    let Some(_machine) = privileged("redirected_frames_and_the_routers_own") else { return };
    let router = Router::new();
    let classes = format!("{NO_AQM}\n{}", class("all", 20, ""));
    for keys in [NO_AQM, &classes] {
        let running = router.start("", &format!("{}\n{keys}", policer(20)));
        let got = rate_in_turns(&router, FRAME);
        assert_within(got, 20 * MBIT, 0.5);
        adds_up(&running);
        let port = running.snapshot().ports.remove(0);
        assert!(port.counters["sent"] > 0 && port.counters["stack_sent"] > 0, "{:?}", port.counters);
    }
}

#[test]
fn a_rule_on_the_mark_chooses_the_class_of_what_the_stack_sends() {
    let Some(_machine) = privileged("a_rule_on_the_mark") else { return };
    let router = Router::new();
    let rules =
        "[[rule]]\nclass = \"arrived\"\ningress = \"lan0\"\n[[rule]]\nclass = \"marked\"\nmark = [7, 0x20]\n";
    let text = format!(
        "{}\n{}{}{}{rules}",
        policer(100),
        class("marked", 100, "dscp = \"ef\""),
        class("arrived", 100, ""),
        class("rest", 100, "")
    );
    let running = router.start("", &text);
    for to in BOTH {
        for (mark, frames) in [(Some(7), 5), (Some(0x20), 4), (Some(8), 3), (None, 2)] {
            let own = Own::new(&router, to, FRAME);
            let mut own = if let Some(mark) = mark { own.mark(mark) } else { own };
            (0..frames).for_each(|stamp| own.send(stamp));
        }
        // Through the stack, which looks at the options, and by XDP: both arrived at `lan0`.
        router.inject(&udp(to).with_options().build());
        router.inject(&udp(to).build());
    }
    let frames: Vec<Seen> = router.drain();
    assert_eq!(frames.iter().filter(|frame| frame.dscp == 46).count(), 2 * 9);
    assert_eq!(frames.len(), 2 * 16);
    let classes = running.snapshot().ports.remove(0).classes;
    let seen: Vec<u64> = classes.iter().map(|class| class.counters["seen"]).collect();
    assert_eq!(seen[..2], [2 * 9, 2 * 2]);
    // IPv6 has packets of its own: neighbour discovery.
    assert!(seen[2] >= 2 * 5, "{seen:?}");
    assert_eq!(classes[0].counters["remarked"], 2 * 9);
    assert_eq!(running.port("no_metadata"), 0);
    adds_up(&running);
}

#[test]
fn an_ecn_capable_packet_of_the_routers_own_is_marked_where_another_is_dropped() {
    let Some(_machine) = privileged("an_ecn_capable_packet_of_the_routers_own") else { return };
    let router = Router::new();
    let aqm = "[port.aqm]\ntarget = \"1ms\"\ninterval = \"2ms\"\n";
    for classes in ["", &class("all", 5, "")] {
        for to in BOTH {
            let running = router.start("", &format!("{}\n{aqm}{classes}", policer(5)));
            let mut own = Own::new(&router, to, FRAME).traffic_class(2);
            let mut ecn = BTreeSet::new();
            let mut marked = 0;
            // 50 ms of the rate at once: all of it is within the burst.
            for stamp in 0..31 {
                own.send(stamp);
                std::thread::sleep(Duration::from_micros(300));
                let frames: Vec<u8> = std::iter::from_fn(|| router.take())
                    .filter_map(|frame| Some(seen(&frame)?.ecn))
                    .collect();
                marked += frames.iter().filter(|bits| **bits == 3).count() as u64;
                ecn.extend(frames);
            }
            assert_eq!(ecn, BTreeSet::from([2, 3]), "{to}: {:?}", running.snapshot().ports[0].counters);
            assert_eq!((running.port("stack_marked"), running.port("marked")), (marked, marked));
            assert_eq!(running.port("stack_dropped"), 0);
            adds_up(&running);
        }
    }
}

#[test]
fn in_front_of_a_slow_link_the_routers_own_flood_meets_the_limit_and_not_the_end_of_the_ring() {
    let Some(_machine) = privileged("in_front_of_a_slow_link_the_routers_own") else { return };
    let router = Router::new();
    for classes in ["", "[[port.class]]\nname = \"all\"\n"] {
        let running = router.start("", &format!("rate = \"10mbit\"\n{classes}"));
        let mut own = Own::new(&router, RECEIVER.0, FRAME);
        let (start, mut left) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_secs(1) {
            own.send(0);
            let due = start.elapsed().as_micros() as usize * 10 / 8;
            while left < due {
                // A link that has nothing to send does not catch up.
                left = router.take().map_or(due, |frame| left + frame.len());
            }
        }
        let port = running.snapshot().ports.remove(0);
        let (counters, ring) = (&port.counters, &port.rings[0]);
        assert_eq!((counters["stack_drops"], counters["ring_admission"]), (0, 0), "{counters:?}");
        assert!(counters["stack_dropped"] > counters["stack_sent"], "{counters:?}");
        // 15 ms of the rate are 19 frames; what a pause of this thread let in before the next look is far from 1,000.
        assert!((10..100).contains(&ring.occupancy_max), "{}", ring.occupancy_max);
        router.drain();
        adds_up(&running);
    }
}

#[test]
fn what_is_charged_takes_from_redirected_frames_and_is_never_dropped() {
    let Some(_machine) = privileged("what_is_charged") else { return };
    let router = Router::new();
    let classes = format!("{NO_AQM}\n{}", class("all", 20, ""));
    for keys in [NO_AQM, &classes] {
        let running = router.start("", &format!("stack = \"charge\"\n{}\n{keys}", policer(20)));
        assert!(programs(&router).is_empty());
        let mut own = Own::new(&router, RECEIVER.0, FRAME);
        let frame = udp(RECEIVER.0).payload(FRAME - 42).build();
        let mut sent = 0;
        // The router's own at 5 Mbit/s of the 20, and more of the others than fits.
        let got = rate(&router, |since| {
            let due = since.as_micros() as usize * 5 / 8 / FRAME;
            if sent < due {
                sent += 1;
                own.send(0);
            } else {
                router.inject(&frame);
            }
        });
        assert_within(got, 20 * MBIT, 1.0);
        adds_up(&running);
        let port = running.snapshot().ports.remove(0);
        assert_eq!(port.counters["stack_sent"], sent as u64);
        assert_eq!(port.counters["stack_seen"] + port.counters["stack_dropped"], 0);
        assert!(sent > 1_000, "{sent}");
    }
}

#[test]
fn what_is_ignored_passes_and_costs_redirected_frames_nothing() {
    let Some(_machine) = privileged("what_is_ignored") else { return };
    let router = Router::new();
    let running = router.start("", &format!("stack = \"ignore\"\n{}\n{NO_AQM}", policer(1)));
    assert!(programs(&router).is_empty());
    let mut own = Own::new(&router, RECEIVER.0, FRAME);
    // More than the burst of 12,500 bytes.
    (0..50).for_each(|stamp| own.send(stamp));
    assert_eq!(router.drain().len(), 50);
    for _ in 0..10 {
        router.inject(&udp(RECEIVER.0).payload(FRAME - 42).build());
    }
    assert_eq!((router.drain().len(), running.port("policer")), (10, 0));
}

/// Frames of the router's own that pass a port of 1 Mbit/s, of 100 at once.
fn passed(router: &Router) -> usize {
    let mut own = Own::new(router, RECEIVER.0, FRAME);
    (0..100).for_each(|stamp| own.send(stamp));
    router.drain().len()
}

#[test]
fn nothing_is_left_attached_after_a_stop_and_a_dead_daemons_programs_decide_on() {
    let Some(_machine) = privileged("nothing_is_left_attached_after_a_stop") else { return };
    for (hook, classes) in [
        (Hook::Tcx, ""),
        (Hook::Tcx, "[[port.class]]\nname = \"all\"\n"),
        (Hook::Clsact, "[[port.class]]\nname = \"all\"\n"),
    ] {
        let router = Router::new();
        let text = router.config_text("", &format!("{}\n{NO_AQM}\n{classes}", policer(1)));
        let config = Config::from_toml_str("t.toml", &text).unwrap();
        let start = |keep| {
            let options = StartOptions { keep, hook, ..StartOptions::default() };
            router.run(|| Instance::start(&config, &options)).unwrap_or_else(|e| panic!("{}", causes(&e)))
        };
        let names = match (hook, classes) {
            (Hook::Tcx, "") => vec![names::PROG_STACK],
            (Hook::Tcx, _) => vec![names::PROG_STACK_CLASSIFY, names::PROG_STACK_POLICY],
            (Hook::Best | Hook::Clsact, _) => vec![],
        };
        // As if it had been killed.
        drop(start(true));
        assert_eq!(programs(&router), names);
        assert!(passed(&router) < 20, "{hook:?}: the burst is 12 frames");
        let running = start(false);
        assert_eq!(programs(&router), names, "those of the dead daemon are gone");
        assert!(passed(&router) < 20, "{hook:?}");
        assert_eq!(running.reader().snapshot().unwrap().ports[0].counters["no_metadata"], 0);
        router.run(|| drop(running));
        assert!(programs(&router).is_empty());
        assert_eq!(passed(&router), 100, "{hook:?}: nobody decides any more");
    }
}

#[test]
fn a_port_whose_state_is_missing_lets_the_stacks_frames_pass_and_counts_them() {
    let Some(_machine) = privileged("a_port_whose_state_is_missing") else { return };
    for classes in ["", "[[port.class]]\nname = \"all\"\n"] {
        let router = Router::new();
        let running = router.start("", &format!("{}\n{NO_AQM}\n{classes}", policer(1)));
        let data = MapData::from_pin(pins(&router).join(names::MAP_PORTS)).unwrap();
        let mut ports: Array<MapData, PortConfig> = Map::Array(data).try_into().unwrap();
        let config = ports.get(&0, 0).unwrap();
        ports.set(0, PortConfig { pace_mult: 0, ..config }, 0).unwrap();
        assert_eq!(passed(&router), 100);
        let port = running.snapshot().ports.remove(0);
        assert_eq!((port.counters["fail_open"], port.counters["stack_dropped"]), (100, 0));
        ports.set(0, config, 0).unwrap();
        assert!(passed(&router) < 20);
    }
}

#[test]
fn without_the_describing_program_the_default_class_decides() {
    let Some(_machine) = privileged("without_the_describing_program") else { return };
    let router = Router::new();
    let text = format!(
        "default_class = \"rest\"\n{}\n{}{}[[rule]]\nclass = \"marked\"\nmark = 7\n",
        policer(100),
        class("marked", 100, ""),
        class("rest", 100, "")
    );
    let running = router.start("", &text);
    let link = format!("links/{}-{WAN}", names::PROG_STACK_CLASSIFY);
    std::fs::remove_file(pins(&router).join(link)).unwrap();
    wait_for("the link is gone", Duration::from_secs(2), || programs(&router).len() == 1);
    let to: IpAddr = RECEIVER.0.into();
    let mut own = Own::new(&router, to, FRAME).mark(7);
    (0..10).for_each(|stamp| own.send(stamp));
    assert_eq!(router.drain().len(), 10);
    let port = running.snapshot().ports.remove(0);
    let seen: Vec<u64> = port.classes.iter().map(|class| class.counters["seen"]).collect();
    assert_eq!((port.counters["no_metadata"], seen), (10, vec![0, 10]));
}

/// Sends a frame of the Link Layer Discovery Protocol (IEEE 802.1AB) out of `wan0`, past the router's IP.
fn send_lldp(router: &Router) {
    const ETHERTYPE: u16 = 0x88cc;
    let mut frame = [0_u8; 60];
    frame[..6].copy_from_slice(&[0x01, 0x80, 0xc2, 0, 0, 0x0e]);
    frame[12..14].copy_from_slice(&ETHERTYPE.to_be_bytes());
    router.run(|| {
        let socket = Socket::new(Domain::PACKET, Type::RAW, None).unwrap();
        // SAFETY: all-zero bytes are a valid `sockaddr_ll`.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as libc::c_ushort;
        to.sll_protocol = ETHERTYPE.to_be();
        to.sll_ifindex = nix::net::if_::if_nametoindex(WAN).unwrap().cast_signed();
        // SAFETY: the kernel reads the frame and the address, of the lengths that are given.
        let sent = unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                size_of_val(&to) as libc::socklen_t,
            )
        };
        assert_eq!(sent, 60, "{}", std::io::Error::last_os_error());
    });
}

/// Somebody else's program between the two of a port can end a packet's way after it was described.
#[test]
fn what_was_left_of_an_earlier_packet_says_nothing_of_one_that_is_not_ip() {
    let Some(_machine) = privileged("what_was_left_of_an_earlier_packet") else { return };
    let router = Router::new();
    let classes = format!("{}{}", class("left", 100, ""), class("rest", 100, ""));
    let running = router.start("", &format!("default_class = \"rest\"\n{}\n{classes}", policer(100)));
    let data = MapData::from_pin(pins(&router).join(names::MAP_STACK_META)).unwrap();
    let mut metadata: PerCpuArray<MapData, [u8; size_of::<PacketMeta>()]> =
        Map::PerCpuArray(data).try_into().unwrap();
    let head = MetaHead { magic: META_MAGIC, ip_version: 4, l3_offset: 14 };
    let left = PacketMeta { head, ..PacketMeta::new_zeroed() };
    let everywhere = vec![transmute!(left); aya::util::nr_cpus().unwrap()];
    metadata.set(0, PerCpuValues::try_from(everywhere).unwrap(), 0).unwrap();
    send_lldp(&router);
    let found = || {
        let port = running.snapshot().ports.remove(0);
        (port.classes[0].counters["seen"], port.counters["no_metadata"])
    };
    wait_for("the frame", Duration::from_secs(2), || found() != (0, 0));
    assert_eq!(found().0, 0, "it was taken for the packet before it");
}
