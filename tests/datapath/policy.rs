//! Which class a packet comes to, on the real programs: seen in the classes' counters.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use aya::{EbpfLoader, TestRun as _, TestRunAttrs, TestRunOptions};
use weir::datapath::{netdev, objects::BASELINE};
use weir_shared_maps::{ABI_VERSION, names};

use super::frame::{BOTH, RECEIVER, SENDER, Udp, tagged, udp};
use super::router::{LAN, Router, Running, WAN, privileged};

/// Classes of `wan0`, one for each dimension, and a default one.
const CLASSES: [&str; 10] =
    ["dscp", "vlan", "source", "destination", "protocol", "sport", "dport", "size", "ingress", "default"];

fn text(router: &Router, rules: &str) -> String {
    let mut text = router.config_text("vlans = [10, 20]", "mode = \"policer\"\nrate = \"10gbit\"\n");
    for class in CLASSES {
        text.push_str(&format!("[[port.class]]\nname = \"{class}\"\n"));
    }
    text + rules
}

/// Frames that each class has seen, those without any left out.
fn seen(running: &Running) -> BTreeMap<String, u64> {
    let snapshot = running.snapshot();
    let classes = snapshot.ports[0].classes.iter().map(|class| (class.name.clone(), class.counters["seen"]));
    classes.filter(|(_, frames)| *frames > 0).collect()
}

/// The class that the packet comes to.
fn class_of(router: &Router, running: &Running, frame: &[u8]) -> String {
    let before = seen(running);
    router.inject(frame);
    while router.take().is_some() {}
    let after = seen(running);
    let grown: Vec<&String> =
        after.iter().filter(|(name, n)| before.get(*name) != Some(n)).map(|(name, _)| name).collect();
    assert_eq!(grown.len(), 1, "{before:?} -> {after:?}");
    grown[0].clone()
}

#[test]
fn each_dimension_finds_its_class_in_both_families_and_the_rest_goes_to_the_default_class() {
    let Some(_machine) = privileged("each_dimension_finds_its_class") else { return };
    let router = Router::new();
    let (v4, v6) = RECEIVER;
    let rules = format!(
        "[[rule]]\nclass = \"dscp\"\ndscp = [\"ef\", 8]\n\
         [[rule]]\nclass = \"vlan\"\nvlan = 20\n\
         [[rule]]\nclass = \"source\"\nsource = [\"10.77.1.8/29\", \"fd77:1::8:0/112\"]\n\
         [[rule]]\nclass = \"sport\"\nprotocol = \"udp\"\nsource_port = [\"1000-1009\", 53]\n\
         [[rule]]\nclass = \"dport\"\ndestination_port = 5060\nsize = \"64..\"\n\
         [[rule]]\nclass = \"size\"\nsize = \"1200..1300\"\n\
         [[rule]]\nclass = \"destination\"\ndestination = [\"{v4}\", \"{v6}\"]\nprotocol = 6\n"
    );
    let running = router.start_text(&text(&router, &rules));
    let class = |frame: &Udp| class_of(&router, &running, &frame.build());
    for to in BOTH {
        let from = |last: u8| -> std::net::IpAddr {
            if to.is_ipv4() {
                Ipv4Addr::new(10, 77, 1, last).into()
            } else {
                format!("fd77:1::8:{last:x}").parse().unwrap()
            }
        };
        let plain = udp(to);
        let header = if to.is_ipv4() { 28 } else { 48 };
        assert_eq!(class(&plain), "default", "{to}");
        assert_eq!(class(&plain.clone().dscp(46)), "dscp", "{to}");
        assert_eq!(class(&plain.clone().dscp(8).ecn(2)), "dscp", "{to}");
        assert_eq!(class(&plain.clone().dscp(9)), "default", "{to}");
        assert_eq!(class_of(&router, &running, &tagged(&plain.build(), &[20])), "vlan", "{to}");
        assert_eq!(class_of(&router, &running, &tagged(&plain.build(), &[10])), "default", "{to}");
        assert_eq!(class(&plain.clone().from(from(9))), "source", "{to}");
        assert_eq!(
            class(&plain.clone().from(if to.is_ipv4() { from(16) } else { SENDER.1.into() })),
            "default"
        );
        assert_eq!(class(&plain.clone().ports(1009, 7)), "sport", "{to}");
        assert_eq!(class(&plain.clone().ports(53, 7)), "sport", "{to}");
        assert_eq!(class(&plain.clone().ports(1010, 7)), "default", "{to}");
        assert_eq!(class(&plain.clone().ports(1010, 5060)), "dport", "{to}");
        assert_eq!(class(&plain.clone().ports(1010, 5060).payload(8)), "default", "{to}: too small");
        assert_eq!(class(&plain.clone().payload(1_200 - header)), "size", "{to}");
        assert_eq!(class(&plain.clone().payload(1_300 - header)), "size", "{to}");
        assert_eq!(class(&plain.clone().payload(1_301 - header)), "default", "{to}");
        // The first rule that matches wins, whatever the others say.
        assert_eq!(class(&plain.clone().dscp(46).ports(53, 5060)), "dscp", "{to}");
        assert_eq!(class(&plain.clone().from(from(9)).ports(53, 5060)), "source", "{to}");
    }
    assert_eq!(running.port("no_metadata"), 0);
    assert_eq!(running.snapshot().unaccounted(), 0);
}

#[test]
fn ports_and_protocol_are_found_behind_ipv6_extension_headers_and_not_in_later_fragments() {
    let Some(_machine) = privileged("ports_and_protocol_are_found_behind") else { return };
    let router = Router::new();
    let rules = "[[rule]]\nclass = \"dport\"\ndestination_port = 5060\n[[rule]]\nclass = \"protocol\"\nprotocol = \"udp\"\n";
    let running = router.start_text(&text(&router, rules));
    let v6 = udp(RECEIVER.1).ports(9, 5060).build();
    // A destination-options header (RFC 8200 section 4.6) in front of UDP: next header 60, and 8 bytes more.
    let mut extended = v6.clone();
    extended.splice(54..54, [17, 0, 1, 4, 0, 0, 0, 0]);
    extended[20] = 60;
    extended[18..20].copy_from_slice(&(u16::from_be_bytes([v6[18], v6[19]]) + 8).to_be_bytes());
    assert_eq!(class_of(&router, &running, &extended), "dport");
    // A fragment (RFC 8200 section 4.5): first with offset 0 and more to come, then a later one.
    for (offset, class) in [(1_u16, "dport"), (8 << 3, "protocol")] {
        let mut fragment = v6.clone();
        fragment.splice(54..54, [17, 0, (offset >> 8) as u8, offset as u8, 0, 0, 0, 7]);
        fragment[20] = 44;
        fragment[18..20].copy_from_slice(&(u16::from_be_bytes([v6[18], v6[19]]) + 8).to_be_bytes());
        assert_eq!(class_of(&router, &running, &fragment), class, "offset {offset}");
    }
    assert_eq!(class_of(&router, &running, &udp(RECEIVER.0).build()), "protocol");
}

#[test]
fn the_ingress_device_is_a_condition_and_rules_for_other_devices_do_not_match() {
    let Some(_machine) = privileged("the_ingress_device_is_a_condition") else { return };
    let router = Router::new();
    let rules = "[[ingress]]\ndevice = \"other0\"\n[[rule]]\nclass = \"vlan\"\ningress = \"other0\"\n\
                 [[rule]]\nclass = \"ingress\"\ningress = [\"lan0\"]\n";
    let running = router.start_text(&text(&router, rules));
    assert_eq!(class_of(&router, &running, &udp(RECEIVER.0).build()), "ingress");
}

#[test]
fn without_rules_every_packet_is_of_the_default_class_that_the_port_names() {
    let Some(_machine) = privileged("without_rules_every_packet") else { return };
    let router = Router::new();
    let keys = "default_class = \"b\"\n[[port.class]]\nname = \"a\"\n[[port.class]]\nname = \"b\"\n[[port.class]]\nname = \"c\"\n";
    let running = router.start("", keys);
    for to in BOTH {
        assert_eq!(class_of(&router, &running, &udp(to).build()), "b");
    }
    let classes = running.snapshot().ports.remove(0).classes;
    let default: Vec<&str> =
        classes.iter().filter(|class| class.default).map(|class| class.name.as_str()).collect();
    assert_eq!(default, ["b"]);
}

#[test]
fn sixty_four_rules_are_all_told_apart() {
    let Some(_machine) = privileged("sixty_four_rules") else { return };
    let router = Router::new();
    // Rule 63 alone says "dport"; those before it are for ports that it does not send to.
    let mut rules = String::new();
    for i in 0..63 {
        rules.push_str(&format!("[[rule]]\nclass = \"sport\"\ndestination_port = {}\n", 2_000 + i));
    }
    rules.push_str("[[rule]]\nclass = \"dport\"\ndestination_port = \"2000-2063\"\n");
    let running = router.start_text(&text(&router, &rules));
    let class = |port| class_of(&router, &running, &udp(RECEIVER.0).ports(9, port).build());
    assert_eq!(
        (class(2_000), class(2_062), class(2_063), class(2_064)),
        ("sport".into(), "sport".into(), "dport".into(), "default".into())
    );
}

#[test]
fn a_frame_that_another_program_redirects_has_no_metadata_and_goes_to_the_default_class() {
    let Some(_machine) = privileged("a_frame_that_another_program_redirects") else { return };
    let router = Router::new();
    let running = router.start_text(&text(&router, "[[rule]]\nclass = \"dscp\"\ndscp = \"ef\"\n"));
    let frame = udp(RECEIVER.0).dscp(46).build();
    assert_eq!(class_of(&router, &running, &frame), "dscp");
    assert_eq!(running.port("no_metadata"), 0);

    // A program that redirects everything into weir's own devmap, and looks at nothing.
    let map = format!("/sys/fs/bpf/weir/{}/v{ABI_VERSION}/{}", router.instance(), names::MAP_DEVMAP);
    const FRAMES: u32 = 5;
    router.run(|| {
        let (lan, wan) = (netdev::by_name(LAN).unwrap().ifindex, netdev::by_name(WAN).unwrap().ifindex);
        let mut ebpf = EbpfLoader::new()
            .map_pin_path(names::MAP_BASE_DEVMAP, Path::new(&map))
            .override_global(names::GLOBAL_BASE_TARGET, &wan, true)
            .load(BASELINE.bytes)
            .unwrap();
        let program = BASELINE.xdp(&mut ebpf, names::PROG_BASE_REDIRECT).unwrap();
        program.load().unwrap();
        // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context = [0, frame.len() as u32, 0, lan, 0, 0].map(u32::to_ne_bytes).concat();
        let options = TestRunOptions {
            data_in: Some(&frame),
            ctx_in: Some(&context),
            repeat: FRAMES,
            attrs: TestRunAttrs::new().xdp_live_frames(FRAMES),
            ..TestRunOptions::new()
        };
        program.test_run(options).unwrap();
    });
    let left = router.drain();
    assert!(left.len() == FRAMES as usize && left.iter().all(|frame| frame.dscp == 46), "{left:?}");
    assert_eq!(running.port("no_metadata"), u64::from(FRAMES));
    let expected = BTreeMap::from([("dscp".to_owned(), 1), ("default".to_owned(), FRAMES.into())]);
    assert_eq!(seen(&running), expected);
    let snapshot = running.snapshot();
    assert_eq!((snapshot.ports[0].unaccounted, running.port("sent")), (0, u64::from(FRAMES) + 1));
}
