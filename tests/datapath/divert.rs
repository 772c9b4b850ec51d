//! Diversion into the kernel's stack: bounded, and in the order of each flow.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use aya::maps::{Array, Map, MapData};
use weir::lab::clock::{now_ns, sleep_until};
use weir_shared_maps::{ABI_VERSION, DivertState, names};

use super::frame::{BOTH, RECEIVER, udp};
use super::order::Flows;
use super::router::{Router, Running, privileged, wait_for};

const MS: u64 = 1_000_000;
/// Flows that send in turns. One of them pauses for longer than the stack takes to settle.
const FLOWS: usize = 64;
const LIMIT: Duration = Duration::from_secs(20);
/// Each sends once in this time: 10 Mbit/s altogether, half of what the slowest discipline below lets through. A discipline that never
/// empties never gives its flows back.
const ROUND: u64 = 8 * MS;

/// The queueing disciplines of `wan0`: a real queue, one that is bypassed while it is empty, and the kernel's default for a tap.
const QDISCS: [(&str, &[&str]); 3] = [
    (
        "htb",
        &[
            "tc qdisc replace dev wan0 root handle 1: htb default 10",
            "tc class add dev wan0 parent 1: classid 1:10 htb rate 20mbit ceil 20mbit",
        ],
    ),
    ("pfifo", &["tc qdisc replace dev wan0 root pfifo limit 100"]),
    ("pfifo_fast", &[]),
];

/// Runs `cycles` of congestion: `wan0` stands still until flows are diverted, then is read until all of them have returned. The receiver
/// panics where a packet overtakes an earlier one of its flow.
fn cycles(router: &Router, running: &Running, flows: &mut Flows, cycles: u32) {
    for cycle in 0..cycles {
        let diverted = running.port("diverted");
        until(&format!("cycle {cycle}: flows are diverted"), || {
            round(router, flows, false);
            running.port("diverted") >= diverted + FLOWS as u64 / 2
        });
        // All flows came by in a round in which none of them was diverted.
        until(&format!("cycle {cycle}: flows return"), || {
            let before = running.port("diverted");
            round(router, flows, true);
            running.port("diverted") == before
        });
    }
    let drained = Instant::now();
    while drained.elapsed() < Duration::from_millis(200) {
        read(router, flows);
        sleep_until(now_ns() + MS);
    }
}

/// One packet of each flow, in a burst that a shaper has to queue; a link that is `open` takes every frame at once.
fn round(router: &Router, flows: &mut Flows, open: bool) {
    let next = now_ns() + ROUND;
    for _ in 0..FLOWS {
        flows.send(router);
        if open {
            read(router, flows);
        }
    }
    while now_ns() < next {
        sleep_until(now_ns() + MS / 4);
        if open {
            read(router, flows);
        }
    }
}

fn read(router: &Router, flows: &mut Flows) {
    while let Some(frame) = router.take() {
        flows.receive(&frame);
    }
}

fn until(what: &str, mut round: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !round() {
        assert!(Instant::now() < deadline, "{what}: not within {LIMIT:?}");
    }
}

fn start(router: &Router, qdisc: &[&str], rate: &str) -> Running {
    for line in qdisc {
        router.command(line);
    }
    let keys = format!(
        "on_congested = \"divert\"\non_full = \"divert\"\ndivert_rate = \"{rate}\"\n[port.aqm]\nalgorithm = \"none\""
    );
    router.start("", &keys)
}

fn no_flow_overtakes_itself(count: u32) {
    for (name, qdisc) in QDISCS {
        for to in BOTH {
            let router = Router::new();
            let running = start(&router, qdisc, "40mbit");
            let mut flows = Flows::new(FLOWS, to, 100);
            cycles(&router, &running, &mut flows, count);
            let (diverted, sent) = (running.port("diverted"), running.port("sent"));
            assert!(diverted >= u64::from(count) * FLOWS as u64 / 2, "{name}: {diverted} diverted");
            assert!(sent > 0 && flows.received > sent, "{name}: {sent} sent, {} received", flows.received);
            assert_eq!(running.ingress("pass_diverted"), diverted, "{name}");
            assert_eq!(running.snapshot().unaccounted(), 0, "{name}");
        }
    }
}

#[test]
fn no_flow_overtakes_itself_on_its_way_into_the_stack_and_back() {
    let Some(_machine) = privileged("no_flow_overtakes_itself") else { return };
    no_flow_overtakes_itself(5);
}

#[test]
#[ignore = "a hundred cycles of congestion on each queueing discipline take a minute"]
fn no_flow_overtakes_itself_in_a_hundred_cycles_of_congestion() {
    let Some(_machine) = privileged("no_flow_overtakes_itself_in_a_hundred_cycles") else { return };
    no_flow_overtakes_itself(100);
}

/// Whether `wan0` rests: nobody looks at its flows.
fn rests(router: &Router) -> bool {
    let pins = PathBuf::from("/sys/fs/bpf/weir").join(router.instance()).join(format!("v{ABI_VERSION}"));
    let data = MapData::from_pin(pins.join(names::MAP_DIVERT)).unwrap();
    let watches: Array<MapData, DivertState> = Map::Array(data).try_into().unwrap();
    watches.get(&0, 0).unwrap().awake_ns == 0
}

#[test]
fn a_port_rests_between_congestions_and_no_flow_overtakes_itself_when_it_wakes() {
    let Some(_machine) = privileged("a_port_rests_between_congestions") else { return };
    for (name, qdisc) in QDISCS {
        let router = Router::new();
        let running = start(&router, qdisc, "40mbit");
        assert!(rests(&router));
        let mut flows = Flows::new(FLOWS, RECEIVER.0, 100);
        for _ in 0..3 {
            cycles(&router, &running, &mut flows, 1);
            let diverted = running.port("diverted");
            until(&format!("{name}: the port rests"), || {
                round(&router, &mut flows, true);
                rests(&router)
            });
            // Unseen.
            (0..20).for_each(|_| round(&router, &mut flows, true));
            assert!(rests(&router), "{name}");
            assert_eq!(running.port("diverted"), diverted, "{name}");
        }
        assert_eq!(running.snapshot().unaccounted(), 0, "{name}");
    }
}

#[test]
fn a_flood_enters_the_stack_up_to_its_bound_and_no_further() {
    let Some(_machine) = privileged("a_flood_enters_the_stack") else { return };
    let router = Router::new();
    let running = start(&router, &[], "1mbit");
    let mut flows = Flows::new(512, RECEIVER.0, 1_472);
    for _ in 0..20 {
        router.inject(&udp(RECEIVER.0).payload(1_472).build());
    }
    sleep_until(now_ns() + 20 * MS);
    // Nobody reads: the signal stands from the first frame on that finds the others old.
    let start = now_ns();
    while now_ns() < start + 500 * MS {
        flows.send(&router);
        sleep_until(now_ns() + MS / 20);
    }
    let bytes = running.port("diverted") * 1_514;
    // Ten full frames of burst, and what 1 Mbit/s lets through.
    let bound = 15_140 + (now_ns() - start) / 8_000 + 1_514;
    assert!(bytes <= bound, "{bytes} bytes where {bound} are the bound");
    assert!(bytes >= 15_140, "{bytes} bytes");
    // Those of the diverted flows that found no room.
    assert!(running.port("backpressure") > 0);
    assert_eq!(running.ingress("backpressure"), running.port("backpressure"));
    assert_eq!(running.snapshot().unaccounted(), 0);
}

#[test]
fn a_flow_stays_in_the_stack_while_a_packet_waits_in_the_queueing_discipline() {
    let Some(_machine) = privileged("a_flow_stays_in_the_stack") else { return };
    let router = Router::new();
    // 100 bytes of payload: one frame of 142 bytes takes 142 ms.
    let slow = [
        "tc qdisc replace dev wan0 root handle 1: htb default 10",
        "tc class add dev wan0 parent 1: classid 1:10 htb rate 8kbit ceil 8kbit burst 150 cburst 150",
    ];
    let running = start(&router, &slow, "40mbit");
    let mut flow = Flows::new(1, RECEIVER.0, 100);
    for _ in 0..20 {
        router.inject(&udp(RECEIVER.0).build());
    }
    wait_for("the flow is diverted", LIMIT, || {
        sleep_until(now_ns() + 10 * MS);
        flow.send(&router);
        running.port("diverted") >= 4
    });
    // The ring is clear again, but packets wait in the discipline.
    let cleared = running.port("diverted");
    let first = router.drain();
    assert!(!first.is_empty());
    wait_for("the signal is clear", LIMIT, || running.snapshot().ports[0].rings[0].signal == "clear");
    let redirected = running.ingress("redirected");
    flow.send(&router);
    assert_eq!((running.ingress("redirected"), running.port("diverted")), (redirected, cleared + 1));
    // Once they have left, the flow goes straight.
    wait_for("the flow returns", LIMIT, || {
        while router.take().is_some() {}
        sleep_until(now_ns() + 400 * MS);
        flow.send(&router);
        running.ingress("redirected") > redirected
    });
}
