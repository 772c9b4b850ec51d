//! Events of flows, from the program that moves them to the log: what they say, how many there are, and what becomes of those that
//! nobody has room for.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::ops::Range;
use std::time::Duration;

use nix::sys::signal::Signal;
use weir::datapath::{Reader, events::Events};
use weir::lab::clock::{now_ns, sleep_until};
use weir_shared_maps::{EVENT_FLOW, Event, STICKY_DIVERTED, STICKY_SPILLED, STICKY_STRAIGHT, TELL_SHIFT};
use weir_wire::Pause;

use super::daemon::Daemon;
use super::frame::{PORT, RECEIVER, udp};
use super::pause::partner;
use super::router::{LAN, Router, Running, privileged, wait_for};

const MS: u64 = 1_000_000;
const LIMIT: Duration = Duration::from_secs(20);
const DIVERT: &str = "on_congested = \"divert\"\non_full = \"divert\"\ndivert_rate = \"40mbit\"\n[port.aqm]\nalgorithm = \"none\"";
const SPILL: &str =
    "on_congested = \"spill\"\non_full = \"spill\"\nspill_to = \"other0\"\n[port.aqm]\nalgorithm = \"none\"";
const METRICS: &str = "127.0.0.1:9469";

/// A packet of a flow: the flow is the source port.
fn send(router: &Router, to: IpAddr, flow: u16) {
    router.inject(&udp(to).ports(10_000 + flow, PORT).build());
}

/// Waits for a moment in which no event of a flow has been told yet.
fn next_tick() {
    let tick = now_ns() >> TELL_SHIFT;
    while now_ns() >> TELL_SHIFT == tick {
        std::hint::spin_loop();
    }
}

/// Fills the ring of `wan0` with packets of one flow, lets them grow older than any target, and has the last one find that out.
fn congest(router: &Router, to: IpAddr) {
    for _ in 0..20 {
        send(router, to, 5_000);
    }
    sleep_until(now_ns() + 20 * MS);
    send(router, to, 5_000);
}

/// Of some ten flows, those that share an entry with an earlier one (there are 8,192, seeded anew in each instance), at most.
const COLLISIONS: u64 = 4;

/// One packet of each of these flows, each in a moment of its own. Each has one in the ring before: what has none does not divert.
fn move_flows(router: &Router, flows: Range<u16>) {
    enter(router, RECEIVER.0.into(), flows.clone());
    for flow in flows {
        next_tick();
        send(router, RECEIVER.0.into(), flow);
    }
}

/// One packet of each of these flows, which is in the ring when this returns.
fn enter(router: &Router, to: IpAddr, flows: Range<u16>) {
    for flow in flows {
        send(router, to, flow);
    }
    sleep_until(now_ns() + MS);
}

fn flows(events: &mut Events) -> Vec<Event> {
    std::iter::from_fn(|| events.next()).filter(|event| event.kind == EVENT_FLOW).collect()
}

/// One flow leaves its way when `wan0` stands still and comes back when it goes on; what is told of it.
fn there_and_back(router: &Router, running: &Running, to: IpAddr, moved: &str) -> Vec<Event> {
    let mut events = Events::open(router.instance()).unwrap();
    congest(router, to);
    if moved == "diverted" {
        enter(router, to, 1..2);
    }
    next_tick();
    send(router, to, 1);
    assert_eq!(running.port(moved), 1);
    let sent = running.port("sent");
    wait_for("the flow returns", LIMIT, || {
        while router.take().is_some() || router.take_other().is_some() {}
        sleep_until(now_ns() + 50 * MS);
        next_tick();
        send(router, to, 1);
        running.port("sent") > sent
    });
    flows(&mut events)
}

fn assert_there_and_back(events: &[Event], moved: u64) {
    let moved = u32::try_from(moved).unwrap();
    let straight = u32::try_from(STICKY_STRAIGHT).unwrap();
    let ways: Vec<(u32, u32)> = events.iter().map(|event| (event.before, event.after)).collect();
    assert_eq!(ways, [(straight, moved), (moved, straight)]);
    assert!(events.iter().all(|event| (event.port, event.ring) == (0, u32::MAX)), "{events:?}");
    assert_eq!(events[0].value, events[1].value, "it is one flow");
    assert!(events[0].at_ns < events[1].at_ns, "{events:?}");
}

#[test]
fn a_flow_that_is_diverted_and_returns_is_told_twice_with_its_port_its_ways_and_its_hash() {
    let Some(_machine) = privileged("a_flow_that_is_diverted_and_returns_is_told") else { return };
    let router = Router::new();
    let running = router.start("", DIVERT);
    let events = there_and_back(&router, &running, RECEIVER.0.into(), "diverted");
    assert_there_and_back(&events, STICKY_DIVERTED);
    assert_eq!(running.port("events_lost"), 0);
}

/// A network that `wan0` has a route to; with `detour` the spill port has another.
fn far(router: &Router, detour: bool) -> IpAddr {
    router.command("ip -4 route add 10.88.0.0/16 via 10.77.2.1 dev wan0 metric 1");
    if detour {
        router.command("ip -4 route add 10.88.0.0/16 via 10.77.3.1 dev other0 metric 2");
    }
    Ipv4Addr::new(10, 88, 0, 1).into()
}

fn start_with_spill(router: &Router) -> Running {
    let other = "[[port]]\ndevice = \"other0\"\n[port.aqm]\nalgorithm = \"none\"\n";
    router.start_text(&(router.config_text("", SPILL) + other))
}

#[test]
fn a_flow_that_spills_and_returns_is_told_twice_by_the_port_that_it_is_routed_to() {
    let Some(_machine) = privileged("a_flow_that_spills_and_returns_is_told") else { return };
    let router = Router::new();
    let to = far(&router, true);
    let running = start_with_spill(&router);
    let events = there_and_back(&router, &running, to, "spilled");
    assert_there_and_back(&events, STICKY_SPILLED);
}

#[test]
fn a_flow_that_finds_no_route_by_the_spill_port_goes_straight_and_nothing_is_told() {
    let Some(_machine) = privileged("a_flow_that_finds_no_route") else { return };
    let router = Router::new();
    let to = far(&router, false);
    let running = start_with_spill(&router);
    let mut events = Events::open(router.instance()).unwrap();
    congest(&router, to);
    let sent = running.port("sent");
    for flow in 0..20 {
        next_tick();
        send(&router, to, flow);
    }
    assert_ne!(running.snapshot().ports[0].rings[0].signal, "clear");
    assert_eq!((running.port("spilled"), running.port("sent")), (0, sent + 20));
    assert_eq!(flows(&mut events), []);
}

#[test]
fn flow_events_that_find_the_buffer_full_are_counted_and_their_packets_move_all_the_same() {
    let Some(_machine) = privileged("flow_events_that_find_the_buffer_full") else { return };
    let router = Router::new();
    let text = format!("{}\n[[port]]\ndevice = \"{LAN}\"\n", router.config_text("", DIVERT));
    let running = router.start_text(&text);
    let mut events = Events::open(router.instance()).unwrap();
    // More than the buffer holds, of another port.
    for _ in 0..3_000 {
        router.inject(&partner(Pause::Link(0)));
    }
    assert!(running.snapshot().ports[1].counters["events_lost"] > 0);
    congest(&router, RECEIVER.0.into());
    let before = running.port("events_lost");
    move_flows(&router, 0..20);
    let lost = running.port("events_lost");
    let diverted = running.port("diverted");
    assert!((20..=20 + COLLISIONS).contains(&diverted), "{:?}", running.snapshot().ports[0].counters);
    assert!((20 - COLLISIONS..=20).contains(&(lost - before)), "{before}, {lost}");
    assert_eq!(flows(&mut events), []);
    // There is room again.
    move_flows(&router, 20..40);
    let told = flows(&mut events).len() as u64;
    assert!((20 - COLLISIONS..=20).contains(&told), "{told}");
    assert!((20..=20 + COLLISIONS).contains(&(running.port("diverted") - diverted)));
    assert_eq!(running.port("events_lost"), lost);
}

/// What the daemon's exporter says of a metric, with these labels.
fn metric(router: &Router, line: &str) -> u64 {
    let text = router.run(|| {
        let mut stream = TcpStream::connect(METRICS).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok()).unwrap_or(0)
}

#[test]
fn the_daemon_counts_every_flow_event_and_logs_one_a_second_with_the_number_held_back() {
    let Some(_machine) = privileged("the_daemon_counts_every_flow_event") else { return };
    const COUNTED: &str = "weir_events_total{device=\"wan0\",kind=\"flow\"}";
    let router = Router::new();
    router.command("ip link set lo up");
    let metrics = format!("[metrics]\nlisten = \"{METRICS}\"\n");
    let text = router.config_text("", DIVERT).replacen("[[ingress]]", &format!("{metrics}[[ingress]]"), 1);
    let daemon = Daemon::start_in(router.namespace(), &text);
    congest(&router, RECEIVER.0.into());
    move_flows(&router, 0..50);
    wait_for("all are counted", LIMIT, || metric(&router, COUNTED) >= 50 - COLLISIONS);
    // A second later the next one is logged, with the number of those that were not.
    sleep_until(now_ns() + 1_100 * MS);
    let before = metric(&router, COUNTED);
    congest(&router, RECEIVER.0.into());
    let mut next = 50;
    wait_for("one more is counted", LIMIT, || {
        move_flows(&router, next..next + 1);
        next += 1;
        metric(&router, COUNTED) > before
    });
    let moved = Reader::open(router.instance()).unwrap().snapshot().unwrap().ports[0].counters["diverted"];
    let (code, said) = daemon.stop(Signal::SIGTERM);
    assert_eq!(code, Some(0), "{said}");
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("wan0: flow ") && line.contains(": straight -> diverted"))
        .collect();
    let held_back = lines.iter().filter_map(|line| {
        line.rsplit_once(" (")?.1.strip_suffix(" like it suppressed)")?.parse::<u64>().ok()
    });
    let logged = lines.len() as u64 + held_back.sum::<u64>();
    assert!(before < logged && logged <= moved, "{before}, {logged}, {moved}: {said}");
    assert!(lines.len() >= 2 && lines.len() as u64 * 5 < logged, "{said}");
}
