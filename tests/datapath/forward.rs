//! What is forwarded, how it looks then, and where everything else goes.

use std::collections::BTreeMap;

use weir::lab::device;
use weir_shared_maps::{CounterId as _, IngressCounter as Reason};

use super::frame::{BOTH, RECEIVER, arp, tagged, udp};
use super::router::{NOWHERE, RECEIVER_MAC, Router, Running, UNMANAGED, WAN_MAC, privileged};

/// Ingress outcomes that are not zero.
fn outcomes(running: &Running) -> BTreeMap<&'static str, u64> {
    let mut counters = running.snapshot().ingress.remove(0).counters;
    counters.retain(|name, frames| *frames > 0 && *name != Reason::Received.name());
    counters
}

#[test]
fn packets_of_both_families_are_forwarded_with_one_hop_less_and_right_checksums() {
    let Some(_machine) = privileged("packets_of_both_families_are_forwarded") else { return };
    let router = Router::new();
    let running = router.start("", "");
    let mut sent = 0;
    for to in BOTH {
        for (hops, dscp, ecn, payload) in
            [(64, 0, 0, 100), (2, 46, 1, 8), (255, 8, 2, 1_400), (3, 63, 3, 999)]
        {
            router.inject(&udp(to).hops(hops).dscp(dscp).ecn(ecn).payload(payload).stamp(sent).build());
            let frames = router.drain();
            assert_eq!(frames.len(), 1, "{to}: {hops} hops, DSCP {dscp}, ECN {ecn}, {payload} bytes");
            let frame = &frames[0];
            assert_eq!((frame.from_mac, frame.to_mac), (WAN_MAC, RECEIVER_MAC), "{to}");
            assert_eq!((frame.hops, frame.dscp, frame.ecn), (hops - 1, dscp, ecn), "{to}");
            assert_eq!((frame.stamp, frame.payload), (sent, payload), "{to}");
            sent += 1;
        }
    }
    for counter in ["received", "redirected"] {
        assert_eq!(running.ingress(counter), sent, "{counter}");
    }
    for counter in ["seen", "accepted", "sent"] {
        assert_eq!(running.port(counter), sent, "{counter}");
    }
    let snapshot = running.snapshot();
    assert_eq!(
        (snapshot.unaccounted(), snapshot.ingress[0].unaccounted, snapshot.ports[0].unaccounted),
        (0, 0, 0)
    );
    assert_eq!(snapshot.ports[0].drops.values().sum::<u64>(), 0);
}

#[test]
fn a_listed_vlan_is_forwarded_untagged_and_every_other_tag_goes_to_the_stack() {
    let Some(_machine) = privileged("a_listed_vlan_is_forwarded_untagged") else { return };
    let router = Router::new();
    let running = router.start("vlans = [10, 4094]", "");
    for to in BOTH {
        let plain = udp(to).build();
        for vid in [10, 4094] {
            // Priority bits are no part of the identifier.
            for tag in [vid, 0xe000 | vid] {
                router.inject(&tagged(&plain, &[tag]));
                let frames = router.drain();
                assert_eq!(frames.len(), 1, "{to} in VLAN {tag:#x}");
                assert_eq!((frames[0].from_mac, frames[0].to_mac), (WAN_MAC, RECEIVER_MAC));
                assert_eq!((frames[0].hops, frames[0].payload), (63, 100));
            }
        }
        router.inject(&plain);
        assert_eq!(router.drain().len(), 1, "{to} untagged");
        let before = running.ingress("pass_vlan");
        for tags in [&[11][..], &[10, 10], &[10, 20], &[20, 10], &[10, 10, 10]] {
            router.inject(&tagged(&plain, tags));
            assert_eq!(router.drain(), [], "{to} behind {tags:?}");
        }
        // A priority tag names no VLAN: the stack, where it goes, forwards the packet (IEEE 802.1Q section 6.9.1).
        router.inject(&tagged(&plain, &[0]));
        assert_eq!(router.drain().len(), 1, "{to} with a priority");
        assert_eq!(running.ingress("pass_vlan") - before, 6);
    }
    assert_eq!(outcomes(&running), BTreeMap::from([("redirected", 10), ("pass_vlan", 12)]));
    assert_eq!(running.snapshot().unaccounted(), 0);
}

#[test]
fn without_listed_vlans_every_tag_goes_to_the_stack() {
    let Some(_machine) = privileged("without_listed_vlans") else { return };
    let router = Router::new();
    let running = router.start("", "");
    router.inject(&tagged(&udp(RECEIVER.0).build(), &[10]));
    assert_eq!(outcomes(&running), BTreeMap::from([("pass_vlan", 1)]));
}

#[test]
fn every_reason_not_to_forward_has_its_counter() {
    let Some(_machine) = privileged("every_reason_not_to_forward") else { return };
    let router = Router::new();
    let running = router.start("", "");
    let dark = (RECEIVER.0.octets(), RECEIVER.1.segments());
    // An address each: the stack makes an entry of the first packet that it is handed.
    let v4 = |last| [dark.0[0], dark.0[1], dark.0[2], last];
    let v6 = |last| [dark.1[0], dark.1[1], 0, 0, 0, 0, 0, last];
    let own = ([10, 77, 1, 254], [0xfd77_u16, 1, 0, 0, 0, 0, 0, 0xfe]);
    let mut lying = udp(RECEIVER.0).build();
    lying[16] = 0xff;
    let cases = [
        (Reason::PassNoNeighbour, vec![udp(v4(100)).build(), udp(v4(101)).build(), udp(v6(0x100)).build()]),
        (
            Reason::PassTtl,
            vec![
                udp(RECEIVER.0).hops(1).build(),
                udp(RECEIVER.0).hops(0).build(),
                udp(RECEIVER.1).hops(1).build(),
            ],
        ),
        (Reason::PassNotIp, vec![arp()]),
        (Reason::PassOptions, BOTH.map(|to| udp(to).with_options().build()).to_vec()),
        (Reason::PassFragNeeded, BOTH.map(|to| udp(to).payload(1_600).build()).to_vec()),
        (Reason::PassUnreachable, vec![udp(NOWHERE.0).build(), udp(NOWHERE.1).build()]),
        (Reason::PassNotManaged, vec![udp(UNMANAGED).build()]),
        (
            Reason::PassNotUnicast,
            vec![
                udp(RECEIVER.0).addressed([0xff; 6]).build(),
                udp(RECEIVER.1).addressed([0x33, 0x33, 0, 0, 0, 1]).build(),
                udp(RECEIVER.0).addressed(RECEIVER_MAC).build(),
            ],
        ),
        (
            Reason::PassNotForwarded,
            vec![
                udp(own.0).build(),
                udp(own.1).build(),
                udp([169, 254, 1, 1]).build(),
                udp([0xfe80_u16, 0, 0, 0, 0, 0, 0, 1]).build(),
                udp([192, 0, 2, 1]).build(),
            ],
        ),
        (Reason::PassMalformed, vec![lying]),
    ];
    let mut injected = 0;
    for (reason, frames) in cases {
        let before = running.ingress(reason.name());
        for frame in &frames {
            router.inject(frame);
            injected += 1;
        }
        let counted = running.ingress(reason.name()) - before;
        assert_eq!(counted, frames.len() as u64, "{}: {:?}", reason.name(), outcomes(&running));
        assert_eq!(running.ingress("received"), injected, "after {}", reason.name());
    }
    assert_eq!((running.ingress("redirected"), running.port("seen")), (0, 0));
    assert_eq!(running.snapshot().unaccounted(), 0);
    drop(running);

    router.run(|| device::set_sysctl("net/ipv4/conf/lan0/forwarding", "0")).unwrap();
    let running = router.start("", "");
    router.inject(&udp(RECEIVER.0).build());
    assert_eq!(outcomes(&running), BTreeMap::from([("pass_forwarding_disabled", 1)]));
}

#[test]
fn the_stack_answers_and_forwards_what_it_is_handed() {
    let Some(_machine) = privileged("the_stack_answers_and_forwards") else { return };
    let router = Router::new();
    let running = router.start("", "");
    router.inject(&udp(RECEIVER.0).with_options().stamp(5).build());
    let frames = router.drain();
    assert_eq!(frames.iter().map(|f| (f.hops, f.stamp)).collect::<Vec<_>>(), [(63, 5)]);
    assert_eq!((running.port("seen"), running.port("stack_sent")), (0, 1));
    assert_eq!(running.snapshot().unaccounted(), 0);
}

#[test]
fn a_frame_cut_short_anywhere_is_counted_and_never_aborts_the_program() {
    let Some(_machine) = privileged("a_frame_cut_short_anywhere") else { return };
    let router = Router::new();
    let running = router.start("vlans = [10]", "");
    let mut injected = 0_u64;
    let mut inject = |frame: &[u8]| {
        router.inject(frame);
        injected += 1;
    };
    for to in BOTH {
        for options in [false, true] {
            let packet = udp(to).payload(20);
            let full = if options { packet.with_options().build() } else { packet.build() };
            for tags in [&[][..], &[10], &[11], &[10, 10]] {
                let full = tagged(&full, tags);
                // The kernel takes no frame from a tap that is shorter than an Ethernet header.
                for length in 14..=full.len() {
                    // As if the tail were lost on the way ...
                    inject(&full[..length]);
                    // ... and as if a sender had meant it.
                    if let Some(honest) = honest(&full[..length], 14 + 4 * tags.len()) {
                        inject(&honest);
                    }
                }
            }
        }
    }
    let snapshot = running.snapshot();
    let counters = &snapshot.ingress[0].counters;
    assert!(injected > 1_000, "{injected}");
    assert_eq!(snapshot.ingress[0].received, injected);
    // Received frames less all outcomes: an aborted program has no outcome.
    assert_eq!((snapshot.ingress[0].unaccounted, snapshot.unaccounted()), (0, 0), "{counters:?}");
    assert_eq!(counters["redirected"], running.port("sent"));
    assert!(counters["pass_malformed"] > injected / 4, "{counters:?}");
    for counter in ["backpressure", "pass_rewrite", "pass_no_state", "pass_fib_error"] {
        assert_eq!(counters[counter], 0, "{counter}: {counters:?}");
    }
}

/// The same frame with an IP length that fits what is there; `None` where the IP header itself is cut.
fn honest(frame: &[u8], ip: usize) -> Option<Vec<u8>> {
    let mut frame = frame.to_vec();
    let length = u16::try_from(frame.len().checked_sub(ip)?).unwrap();
    match frame.get(ip)? >> 4 {
        4 if length >= 20 => {
            frame[ip + 2..ip + 4].copy_from_slice(&length.to_be_bytes());
            let header = usize::from(frame[ip] & 15) * 4;
            if usize::from(length) >= header {
                frame[ip + 10..ip + 12].fill(0);
                let sum: u32 = frame[ip..ip + header]
                    .chunks(2)
                    .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
                    .sum();
                let folded = (sum & 0xffff) + (sum >> 16);
                let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
                frame[ip + 10..ip + 12].copy_from_slice(&checksum.to_be_bytes());
            }
            Some(frame)
        }
        6 if length >= 40 => {
            frame[ip + 4..ip + 6].copy_from_slice(&(length - 40).to_be_bytes());
            Some(frame)
        }
        _ => None,
    }
}

#[test]
fn frames_of_another_namespace_with_the_same_ifindexes_are_not_counted() {
    const FRAMES: u64 = 50;
    const FEW: u64 = 5;
    let Some(_machine) = privileged("frames_of_another_namespace") else { return };
    let (here, there) = (Router::new(), Router::new());
    let (mine, theirs) = (here.start("", ""), there.start("", ""));
    assert_eq!(mine.snapshot().ports[0].ifindex, theirs.snapshot().ports[0].ifindex);
    for _ in 0..FRAMES {
        there.inject(&udp(RECEIVER.0).build());
        // By the stack: its frames are seen by a tracepoint that all namespaces share.
        there.inject(&udp(RECEIVER.0).with_options().build());
    }
    assert!(there.drain().len() as u64 >= 2 * FRAMES);
    assert_eq!(theirs.port("sent"), FRAMES);
    // Each namespace's own kernel may send a multicast listener report at its leisure.
    assert!((FRAMES..FRAMES + FEW).contains(&theirs.port("stack_sent")), "{}", theirs.port("stack_sent"));
    let counters = &mine.snapshot().ports[0].counters;
    for (name, count) in counters {
        assert!(*count == 0 || (*name == "stack_sent" && *count < FEW), "{counters:?}");
    }
    assert_eq!(theirs.snapshot().unaccounted(), 0);
}
