//! PAUSE and PFC: heard, passed on, and sent, so that what a slow link cannot take waits at its sender and is lost nowhere.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use weir::datapath::ethtool::Ethtool;
use weir::datapath::events::Events;
use weir::datapath::{Reader, Snapshot};
use weir::lab::clock::{make_timely, now_ns, sleep_until};
use weir::lab::device;
use weir::lab::netlink::{self, Mac, Wiring};
use weir_shared_maps::{EVENT_LEVEL, EVENT_PAUSED, SIGNAL_CLEAR, SIGNAL_CONGESTED, SIGNAL_FULL};
use weir_wire::Pause;

use super::daemon::Daemon;
use super::frame::{RECEIVER, seen, udp};
use super::router::{
    LAN, LAN_MAC, Namespace, RECEIVER_MAC, Router, SENDER_MAC, WAN, configure_router, lan_wiring, namespace,
    privileged, wait_for, wan_wiring_to,
};

const MS: u64 = 1_000_000;
/// Payload of a frame of 1,514 bytes.
const FULL: usize = 1_472;
const FRAME: u64 = 1_514;
/// What the slow link takes, and what the sender's own link does, in bits per second.
const LINK_RATE: u64 = 20_000_000;
const SENDER_RATE: u64 = 80_000_000;
/// Expedited forwarding (RFC 3246).
const EF: u8 = 46;

/// Time that a full frame takes.
fn gap(rate: u64) -> u64 {
    FRAME * 8 * 1_000_000_000 / rate
}

fn read_frame(tap: &OwnedFd) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 4_096];
    match nix::unistd::read(tap, &mut buffer) {
        Ok(length) => {
            buffer.truncate(length);
            Some(buffer)
        }
        Err(Errno::EAGAIN) => None,
        Err(error) => panic!("reading a tap: {error}"),
    }
}

/// One kind of a sender's traffic: full frames at a rate, always more to send.
struct Stream {
    dscp: u8,
    priority: usize,
    rate: u64,
}

/// What a sender did and heard.
#[derive(Debug, Default)]
struct Told {
    /// Frames sent, by stream.
    sent: Vec<u64>,
    /// Requests to stop and to go on, by priority.
    stops: [u64; 8],
    goes: [u64; 8],
    /// Time in which at least one stream was stopped, and all of it.
    stopped_ns: u64,
    total_ns: u64,
}

/// Sends until `end` as fast as its link allows, never asks whether anything gets lost, and heeds PAUSE and PFC.
fn send(tap: &OwnedFd, mbit: u64, streams: &[Stream], end: u64) -> Told {
    make_timely(5);
    let mut told = Told { sent: vec![0; streams.len()], ..Told::default() };
    let (start, mut until) = (now_ns(), [0_u64; 8]);
    let mut due = vec![start; streams.len()];
    let mut before = start;
    while now_ns() < end {
        while let Some(frame) = read_frame(tap) {
            let Some(pause) = Pause::parse(frame.as_slice(), SENDER_MAC) else { continue };
            assert_eq!(&frame[6..12], &LAN_MAC[..], "a pause of another station");
            for (priority, until) in until.iter_mut().enumerate() {
                match pause.quanta(priority) {
                    None => {}
                    Some(quanta) => {
                        *until = now_ns() + u64::from(quanta) * 512 * 1_000 / mbit;
                        let count = if quanta == 0 { &mut told.goes } else { &mut told.stops };
                        count[priority] += 1;
                    }
                }
            }
        }
        let now = now_ns();
        told.stopped_ns += if streams.iter().any(|s| until[s.priority] > now) { now - before } else { 0 };
        before = now;
        for (i, stream) in streams.iter().enumerate() {
            if until[stream.priority] > now {
                // What its link could have sent meanwhile is not made up for.
                due[i] = until[stream.priority];
            } else if due[i] <= now {
                let frame = udp(RECEIVER.0).dscp(stream.dscp).payload(FULL).stamp(told.sent[i]).build();
                assert_eq!(nix::unistd::write(tap, &frame), Ok(frame.len()));
                told.sent[i] += 1;
                due[i] = (due[i] + gap(stream.rate)).max(now.saturating_sub(MS));
            }
        }
        // Short enough to hear of a pause in time, as a NIC would at once.
        sleep_until(due.iter().copied().min().unwrap_or(now).min(now + MS / 10));
    }
    told.total_ns = now_ns() - start;
    told
}

/// Frames that the slow link took, by code point, and for how long it had none.
#[derive(Debug, Default)]
struct Taken {
    ef: u64,
    rest: u64,
    idle_ns: u64,
    total_ns: u64,
}

impl Taken {
    /// Part of the time in which the link had something to send.
    fn busy(&self) -> f64 {
        1.0 - self.idle_ns as f64 / self.total_ns as f64
    }
}

/// The slow link: takes a frame from the tap whenever the one before has left, until `done` and nothing is left.
fn link(tap: &OwnedFd, done: &AtomicBool) -> Taken {
    make_timely(10);
    let mut taken = Taken::default();
    let (mut free_at, mut first, mut last, mut idle_since) = (now_ns(), None, 0, None);
    loop {
        sleep_until(free_at);
        let (stopping, now) = (done.load(Ordering::Relaxed), now_ns());
        match read_frame(tap) {
            Some(frame) => {
                let Some(seen) = seen(&frame) else { continue };
                taken.idle_ns += idle_since.take().map_or(0, |since| now - since);
                first.get_or_insert(now);
                if !stopping {
                    last = now;
                }
                *if seen.dscp == EF { &mut taken.ef } else { &mut taken.rest } += 1;
                // Half a millisecond of lateness is made up for, so that the rate holds.
                free_at = free_at.max(now.saturating_sub(MS / 2)) + gap(LINK_RATE);
            }
            None if stopping => break,
            None => {
                if first.is_some() {
                    idle_since.get_or_insert(now);
                }
                free_at = now + MS / 20;
            }
        }
    }
    taken.total_ns = last - first.expect("the link carried something");
    taken
}

/// Everything that a test of a slow link says about a router on the way: nothing lost, nothing missing.
fn assert_lossless(snapshot: &Snapshot, frames: u64) {
    let port = &snapshot.ports[0];
    assert!(port.drops.values().all(|frames| *frames == 0), "{}: {:?}", snapshot.instance, port.drops);
    assert_eq!((snapshot.unaccounted(), port.unaccounted), (0, 0), "{snapshot:#?}");
    assert_eq!((port.counters["seen"], port.counters["sent"]), (frames, frames), "{}", snapshot.instance);
}

fn speed(namespace: &Namespace, device: &str) -> u64 {
    let speed = namespace.run(|| Ok(Ethtool::open().unwrap().speed(device).unwrap()));
    u64::from(speed.expect("a tap says a speed"))
}

/// Two routers in a row: `lan0` - first - `mid0` = `in0` - second - `wan0`.
struct Row {
    first: Namespace,
    second: Namespace,
    names: [String; 2],
    lan: OwnedFd,
    wan: OwnedFd,
}

const MID: &str = "mid0";
const IN: &str = "in0";
const MID_MAC: Mac = [0x02, 0x77, 0, 0, 4, 0x01];
const IN_MAC: Mac = [0x02, 0x77, 0, 0, 4, 0x02];
const MID_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 4, 1));
const IN_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 4, 2));

impl Row {
    fn new() -> Self {
        let (first_name, first) = namespace("one");
        let (second_name, second) = namespace("two");
        let wiring = |device, mac, address, neighbour| Wiring {
            device,
            mac,
            queue_len: None,
            addresses: vec![(address, 24)],
            neighbours: vec![neighbour],
            routes: Vec::new(),
        };
        let lan = first.run(|| {
            let lan = device::create_tap(LAN)?;
            netlink::with_handle(async |handle| {
                netlink::add_veth(&handle, MID, IN, second.0.raw_fd()).await
            })?;
            let mid = wiring(MID, MID_MAC, MID_ADDRESS, (IN_ADDRESS, IN_MAC));
            let routes = vec![(IpAddr::V4(Ipv4Addr::new(10, 77, 2, 0)), 24, IN_ADDRESS)];
            configure_router(&[lan_wiring(), Wiring { routes, ..mid }])?;
            Ok(lan)
        });
        let wan = second.run(|| {
            let wan = device::create_tap(WAN)?;
            netlink::with_handle(async |handle| netlink::rename_far_end(&handle, IN).await)?;
            let wan_end = Wiring { queue_len: Some(1_000), ..wan_wiring_to(RECEIVER_MAC) };
            configure_router(&[wiring(IN, IN_MAC, IN_ADDRESS, (MID_ADDRESS, MID_MAC)), wan_end])?;
            Ok(wan)
        });
        Self { first, second, names: [first_name, second_name], lan, wan }
    }

    /// The configuration of each: the first one's port is an ingress device, too, which is where it hears of a pause.
    fn configs(&self) -> [String; 2] {
        let [first, second] = &self.names;
        let port = "pause = \"802.3x\"\n[port.aqm]\nalgorithm = \"none\"\n";
        [
            format!(
                "instance = \"{first}\"\n[[ingress]]\ndevice = \"{LAN}\"\n[[ingress]]\ndevice = \"{MID}\"\n\
                 [[port]]\ndevice = \"{MID}\"\n{port}"
            ),
            format!(
                "instance = \"{second}\"\n[[ingress]]\ndevice = \"{IN}\"\n[[port]]\ndevice = \"{WAN}\"\n{port}"
            ),
        ]
    }
}

#[test]
fn two_weirs_in_a_row_lose_nothing_before_a_slow_link_and_let_it_wait_at_the_sender() {
    let Some(_machine) = privileged("two_weirs_in_a_row") else { return };
    let row = Row::new();
    let [first, second] = row.configs();
    // The second first: a pair carries redirected frames once its far end has a program.
    let after = Daemon::start_in(&row.second, &second);
    let before = Daemon::start_in(&row.first, &first);
    let readers = row.names.each_ref().map(|name| Reader::open(name).unwrap());
    let mbit = speed(&row.first, LAN);
    let done = AtomicBool::new(false);
    let (told, taken) = thread::scope(|scope| {
        let link = scope.spawn(|| link(&row.wan, &done));
        let streams = [Stream { dscp: 0, priority: 0, rate: SENDER_RATE }];
        let told = send(&row.lan, mbit, &streams, now_ns() + 3_000 * MS);
        done.store(true, Ordering::Relaxed);
        (told, link.join().unwrap())
    });
    let [one, two] = readers.each_ref().map(|reader| reader.snapshot().unwrap());
    let frames = told.sent[0];
    eprintln!("{told:?} {taken:?} {:?}", two.ports[0].rings);
    assert_eq!(taken.rest, frames, "{told:?}");
    assert_lossless(&one, frames);
    assert_lossless(&two, frames);
    assert!(one.ingress[1].counters["pause"] > 0, "the first router heard of no pause: {:?}", one.ingress);
    assert!(taken.busy() >= 0.95, "{taken:?}");
    // The sender could have sent four times as much.
    assert!(told.stopped_ns * 2 > told.total_ns, "{told:?}");
    let ring = &two.ports[0].rings[0];
    assert!(ring.occupancy_max * 2 < ring.slots, "{ring:?}");
    for daemon in [before, after] {
        let (code, _said) = daemon.stop(nix::sys::signal::Signal::SIGTERM);
        assert_eq!(code, Some(0));
    }
}

#[test]
fn pfc_stops_the_class_that_fills_the_ring_and_not_the_one_beside_it() {
    let Some(_machine) = privileged("pfc_stops_the_class") else { return };
    let router = Router::new();
    let text = router.config_text(
        "",
        "pause = \"pfc\"\n[port.aqm]\nalgorithm = \"none\"\n[[port.class]]\nname = \"voice\"\npriority = 1\n\
         [[port.class]]\nname = \"bulk\"\npriority = 5\n[[rule]]\ndscp = \"ef\"\nclass = \"voice\"\n",
    );
    let daemon = Daemon::start_in(router.namespace(), &text);
    let reader = Reader::open(router.instance()).unwrap();
    let mbit = speed(router.namespace(), LAN);
    let done = AtomicBool::new(false);
    let (told, taken) = thread::scope(|scope| {
        let link = scope.spawn(|| link(router.wan(), &done));
        // 7 less the class's priority, where the file does not say another.
        let streams = [
            Stream { dscp: EF, priority: 6, rate: LINK_RATE / 10 },
            Stream { dscp: 0, priority: 2, rate: SENDER_RATE },
        ];
        let told = send(router.lan(), mbit, &streams, now_ns() + 2_000 * MS);
        done.store(true, Ordering::Relaxed);
        (told, link.join().unwrap())
    });
    let snapshot = reader.snapshot().unwrap();
    eprintln!("{told:?} {taken:?} {:?}", snapshot.ports[0].rings);
    assert_eq!((taken.ef, taken.rest), (told.sent[0], told.sent[1]), "{told:?} {snapshot:#?}");
    assert_lossless(&snapshot, told.sent.iter().sum());
    assert!(told.stops[2] > 0, "{told:?}");
    // Hardly ever the other one: what is left in the ring when the first has stopped may for a moment be mostly its own.
    assert!((told.stops.iter().sum::<u64>() - told.stops[2]) * 20 <= told.stops[2], "{told:?}");
    assert!(taken.busy() >= 0.95, "{taken:?}");
    let (code, _said) = daemon.stop(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(code, Some(0));
}

/// A frame of the link partner behind `lan0`.
pub fn partner(pause: Pause) -> Vec<u8> {
    pause.frame(SENDER_MAC).to_vec()
}

#[test]
fn a_pause_of_a_ports_link_partner_ends_at_ingress_and_holds_its_rings_for_the_time_it_says() {
    let Some(_machine) = privileged("a_pause_of_a_ports_link_partner") else { return };
    let router = Router::new();
    let text = format!("{}[[port]]\ndevice = \"{LAN}\"\n", router.config_text("", ""));
    let running = router.start_text(&text);
    let mut events = Events::open(router.instance()).unwrap();
    let quantum_ns = 512_000 / speed(router.namespace(), LAN);
    let before = now_ns();
    router.inject(&partner(Pause::Link(0xffff)));
    let paused = |running: &super::router::Running| running.reader().ring(1).unwrap().signal.paused_until_ns;
    let until = paused(&running);
    assert!((before + 0xffff * quantum_ns..=now_ns() + 0xffff * quantum_ns).contains(&until));
    // One addressed to the station itself, for one priority: the others stay paused.
    let mut own = partner(Pause::Priority { enabled: 1 << 3, quanta: [0; 8] });
    own[..6].copy_from_slice(&LAN_MAC);
    router.inject(&own);
    assert_eq!(paused(&running), until);
    router.inject(&partner(Pause::Link(0)));
    assert_eq!(paused(&running), 0);
    // What is no pause is the stack's: GATE (IEEE 802.3 clause 64), and a pause for another station.
    let mut gate = partner(Pause::Link(1));
    gate[15] = 2;
    let mut other = partner(Pause::Link(1));
    other[..6].copy_from_slice(&RECEIVER_MAC);
    router.inject(&gate);
    router.inject(&other);
    assert_eq!((running.ingress("pause"), running.ingress("pass_not_unicast")), (3, 2));
    assert_eq!(running.snapshot().ingress[0].unaccounted, 0);
    let told: Vec<_> = std::iter::from_fn(|| events.next()).filter(|e| e.kind == EVENT_PAUSED).collect();
    let said: Vec<(u32, u32, bool)> = told.iter().map(|e| (e.port, e.before, e.value > 0)).collect();
    assert_eq!(said, [(1, 0xff, true), (1, 1 << 3, false), (1, 0xff, false)]);
}

#[test]
fn a_class_is_held_back_by_the_pause_of_its_own_priority_alone() {
    let Some(_machine) = privileged("a_class_is_held_back") else { return };
    let router = Router::new();
    let classes = "on_full = \"drop\"\n[[port.class]]\nname = \"voice\"\npriority = 1\n\
                   [[port.class]]\nname = \"bulk\"\npriority = 5\n[[rule]]\ndscp = \"ef\"\nclass = \"voice\"\n";
    let text = format!("{}[[ingress]]\ndevice = \"{WAN}\"\n", router.config_text("", classes));
    let running = router.start_text(&text);
    let mut quanta = [0; 8];
    quanta[2] = 0xffff;
    let pause = partner(Pause::Priority { enabled: 1 << 2, quanta });
    let rounds = 50;
    for _ in 0..rounds {
        assert_eq!(nix::unistd::write(router.wan(), &pause), Ok(pause.len()));
        router.inject(&udp(RECEIVER.0).build());
        router.inject(&udp(RECEIVER.0).dscp(EF).build());
        router.drain();
    }
    let classes = running.snapshot().ports.remove(0).classes;
    let dropped = |class: usize| classes[class].counters["backpressure"];
    assert_eq!((dropped(0), classes[0].counters["seen"]), (0, rounds));
    // A pause may have run out before its frame came, where the machine was busy.
    assert!(dropped(1) > 0, "{:?}", classes[1]);
    assert_eq!(dropped(1) + classes[1].counters["seen"], rounds);
}

#[test]
fn a_port_that_is_no_ingress_device_and_a_device_that_is_no_port_heed_no_pause() {
    let Some(_machine) = privileged("a_device_that_is_no_port") else { return };
    let router = Router::new();
    let running = router.start("", "");
    router.inject(&partner(Pause::Link(0xffff)));
    assert_eq!((running.ingress("pause"), running.ingress("pass_not_unicast")), (0, 1));
    assert_eq!(running.reader().ring(0).unwrap().signal.paused_until_ns, 0);
}

#[test]
fn each_change_of_a_rings_level_is_an_event_and_none_is_told_twice() {
    let Some(_machine) = privileged("each_change_of_a_rings_level") else { return };
    let router = Router::with_ring(256);
    // So that ingress drops nothing at Full, and the frame that finds the ring empty gets there.
    let running = router.start("", "pause = \"802.3x\"\n[port.aqm]\nalgorithm = \"none\"");
    let mut events = Events::open(router.instance()).unwrap();
    let inject = |frames: u64| (0..frames).for_each(|i| router.inject(&udp(RECEIVER.0).stamp(i).build()));
    inject(100);
    // Nobody takes them: they are older than any target now, and nothing but time has passed.
    sleep_until(now_ns() + 20 * MS);
    inject(1);
    inject(200);
    router.drain();
    inject(1);
    let levels: Vec<(u32, u32)> = std::iter::from_fn(|| events.next())
        .filter(|event| event.kind == EVENT_LEVEL)
        .map(|event| {
            assert_eq!((event.port, event.ring), (0, 0));
            (event.before, event.after)
        })
        .collect();
    assert_eq!(levels.first().map(|(before, _)| *before), Some(SIGNAL_CLEAR), "{levels:?}");
    assert!(levels.windows(2).all(|pair| pair[0].1 == pair[1].0 || pair[1].0 == SIGNAL_CLEAR), "{levels:?}");
    assert!(levels.iter().all(|(before, after)| before != after), "{levels:?}");
    for level in [SIGNAL_CONGESTED, SIGNAL_FULL] {
        assert!(levels.iter().any(|(_, after)| *after == level), "{level}: {levels:?}");
    }
    assert_eq!(levels.last().map(|(_, after)| *after), Some(SIGNAL_CLEAR), "{levels:?}");
    assert_eq!(running.port("events_lost"), 0);
}

#[test]
fn events_that_nobody_reads_are_lost_and_counted_and_the_frames_are_not() {
    let Some(_machine) = privileged("events_that_nobody_reads") else { return };
    let router = Router::new();
    let text = format!("{}[[port]]\ndevice = \"{LAN}\"\n", router.config_text("", ""));
    let running = router.start_text(&text);
    let (frames, mut events) = (5_000, Events::open(router.instance()).unwrap());
    for _ in 0..frames {
        router.inject(&partner(Pause::Link(0)));
    }
    assert_eq!(running.ingress("pause"), frames);
    let lost = running.snapshot().ports[1].counters["events_lost"];
    let read = std::iter::from_fn(|| events.next()).count() as u64;
    assert!(lost > 0 && read > 1_000, "{lost} lost, {read} read");
    assert_eq!(lost + read, frames);
}

#[test]
fn the_daemon_logs_a_level_with_its_port_and_ring_and_lets_senders_go_on_when_it_stops() {
    let Some(_machine) = privileged("the_daemon_logs_a_level") else { return };
    let router = Router::new();
    let text = router.config_text("", "pause = \"802.3x\"\n[port.aqm]\nalgorithm = \"none\"");
    let daemon = Daemon::start_in(router.namespace(), &text);
    let pauses = || -> Vec<Pause> {
        let frames = std::iter::from_fn(|| read_frame(router.lan()));
        frames.filter_map(|frame| Pause::parse(frame.as_slice(), SENDER_MAC)).collect()
    };
    let mut heard = Vec::new();
    // Nobody takes the frames: the queue's age passes the target, and the signal is raised anew as often as it expires.
    wait_for("a request to stop", Duration::from_secs(5), || {
        router.inject(&udp(RECEIVER.0).payload(FULL).build());
        heard.extend(pauses());
        heard.iter().any(|pause| matches!(pause, Pause::Link(quanta) if *quanta > 0))
    });
    let (code, said) = daemon.stop(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(code, Some(0));
    heard.extend(pauses());
    assert_eq!(heard.last(), Some(&Pause::Link(0)), "{heard:?}");
    for part in ["wan0: ring 0: signal clear -> congested", "lan0: asks its link partner to stop for"] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
}
