//! `mode = "tc"` and `mode = "auto"`: the kernel forwards, and the TC programs decide on all that leaves.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::frame::{BOTH, PORT, RECEIVER, udp};
use super::own::rate_in_turns;
use super::router::{LAN, OTHER, Router, UNMANAGED, WAN, privileged, wait_for};
use super::veth::Pair;

const MBIT: f64 = 1e6;
const FRAME: usize = 1_000;
const TC: &str = "mode = \"tc\"\nrate = \"20mbit\"\nburst = \"250kb\"";
const NO_AQM: &str = "[port.aqm]\nalgorithm = \"none\"";

#[test]
fn in_mode_tc_what_the_kernel_forwards_and_what_the_router_sends_have_one_rate() {
    let Some(_machine) = privileged("in_mode_tc_what_the_kernel_forwards") else { return };
    let router = Router::new();
    let running = router.start("", &format!("{TC}\n{NO_AQM}"));
    for to in BOTH {
        router.inject(&udp(to).build());
        assert_eq!(router.drain().iter().map(|frame| frame.hops).collect::<Vec<_>>(), [63]);
    }
    let got = rate_in_turns(&router, FRAME);
    assert!((got - 20.0 * MBIT).abs() < 0.1 * MBIT, "{got}");
    let port = running.snapshot().ports.remove(0);
    assert_eq!((port.mode, port.unaccounted), ("tc", 0));
    assert_eq!(port.counters["stack_seen"] - port.counters["stack_dropped"], port.counters["stack_sent"]);
    // No XDP program, on no device.
    assert_eq!(running.ingress("received"), 0);
    assert!(running.actions().iter().any(|action| action.contains("no XDP program runs")));
}

#[test]
fn beside_a_redirect_target_ingress_passes_what_leaves_by_a_port_in_mode_tc() {
    let Some(_machine) = privileged("beside_a_redirect_target") else { return };
    let router = Router::new();
    let second = format!("[[port]]\ndevice = \"{OTHER}\"\nmode = \"auto\"\nrate = \"50mbit\"");
    let running = router.start("", &format!("{TC}\n{second}"));
    for to in BOTH {
        router.inject(&udp(to).build());
    }
    router.inject(&udp(UNMANAGED).build());
    assert_eq!(router.drain().len(), 2);
    let snapshot = running.snapshot();
    assert_eq!((snapshot.ports[0].mode, snapshot.ports[0].mode_reason.as_deref()), ("tc", None));
    assert_eq!(snapshot.ports[0].counters["stack_seen"], 2);
    assert_eq!(snapshot.ingress[0].counters["pass_not_managed"], 2);
    // A tap is a redirect target.
    assert_eq!(snapshot.ports[1].mode, "policer");
    assert_eq!(snapshot.ports[1].counters["sent"], 1);
    assert!(snapshot.ports[1].mode_reason.as_deref().is_some_and(|why| why.contains("redirect target")));
    assert_eq!(snapshot.unaccounted(), 0);
}

#[test]
fn mode_auto_lets_the_kernel_forward_to_a_device_that_is_no_redirect_target_and_says_why() {
    let Some(_machine) = privileged("mode_auto_lets_the_kernel_forward") else { return };
    let pair = Pair::without_gro();
    let running = pair.start("mode = \"auto\"\nrate = \"20mbit\"");
    let port = running.reader().snapshot().unwrap().ports.remove(0);
    assert_eq!(port.mode, "tc");
    let why = port.mode_reason.unwrap();
    assert!(why.contains("veth peer is in another network namespace"), "{why}");
    let said = running.actions().join("\n");
    assert!(said.contains(&format!("port {WAN}: mode = \"tc\": {why}")), "{said}");
    let socket = pair.socket(RECEIVER.0.into());
    for stamp in 0..5 {
        pair.inject(&udp(RECEIVER.0).stamp(stamp).build());
    }
    let mut buffer = [0; 256];
    let mut arrived = 0;
    wait_for("five packets", Duration::from_secs(2), || {
        arrived += std::iter::from_fn(|| socket.recv(&mut buffer).ok()).count();
        arrived == 5
    });
    let port = running.reader().snapshot().unwrap().ports.remove(0);
    assert!(port.counters["stack_seen"] >= 5, "{LAN} to {WAN}: {:?}", port.counters);
}

/// Packets that the kernel cuts up behind the TC hook: `UDP_SEGMENT` (udp(7)), 40 frames each.
#[test]
fn a_packet_of_many_frames_costs_what_its_frames_cost() {
    const FRAMES: usize = 40;
    const PAYLOAD: usize = FRAME - 42;
    let Some(_machine) = privileged("a_packet_of_many_frames") else { return };
    let pair = Pair::without_gro();
    // 400 ms of the rate, for a machine that has other things to do.
    let tc = TC.replace("250kb", "1000kb");
    let classes = format!("{NO_AQM}\n[[port.class]]\nname = \"all\"\nburst = \"1000kb\"\n");
    // Not read: what its buffer does not take is dropped behind the wire.
    let _sink = pair.socket(RECEIVER.0.into());
    for keys in [NO_AQM, &classes] {
        let running = pair.start(&format!("{tc}\n{keys}"));
        let socket = pair.router.run(|| Ok(UdpSocket::bind("10.77.2.254:0").unwrap()));
        socket.connect((RECEIVER.0, PORT)).unwrap();
        let (segment, level) = (libc::c_int::try_from(PAYLOAD).unwrap(), libc::SOL_UDP);
        // SAFETY: the kernel reads the option's value of the length that is given.
        let set = unsafe {
            libc::setsockopt(socket.as_raw_fd(), level, libc::UDP_SEGMENT, (&raw const segment).cast(), 4)
        };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
        let before = running.reader().snapshot().unwrap().ports.remove(0);
        let packet = vec![0x5a; FRAMES * PAYLOAD];
        let (start, mut offered) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_secs(2) {
            socket.send(&packet).unwrap();
            offered += FRAMES;
        }
        let seconds = start.elapsed().as_secs_f64();
        let after = running.reader().snapshot().unwrap().ports.remove(0);
        let grown = |counter: &str| after.counters[counter] - before.counters[counter];
        assert!(grown("stack_seen") >= offered as u64);
        let passed = grown("stack_seen") - grown("stack_dropped");
        // The meter is full at both ends but for the first burst, and ahead by less than one packet at the second.
        let most = 20.0 * MBIT / 8.0 * seconds + 1000.0 * 1024.0 + (FRAMES * FRAME) as f64;
        let (got, one) = (passed as f64 * FRAME as f64, (FRAMES * FRAME) as f64);
        assert!(got <= most + one && got >= most - 2.0 * one, "{got} bytes passed, and {most} fit");
    }
}

/// Where a packet of a socket's own is dropped before the wire and nothing is in flight, which between two namespaces is
/// always so, its TCP tries again after 200 ms. Several connections, and a burst that outlasts that, keep the port busy.
#[test]
fn tcp_with_segmentation_offload_is_held_to_the_rate_and_works() {
    const FLOWS: usize = 8;
    let Some(_machine) = privileged("tcp_with_segmentation_offload") else { return };
    let pair = Pair::without_gro();
    let running = pair.start("mode = \"tc\"\nrate = \"50mbit\"\nburst = \"1500kb\"");
    let listener = pair.receiver.run(|| Ok(TcpListener::bind((RECEIVER.0, PORT)).unwrap()));
    let flows: Vec<(TcpStream, TcpStream)> = (0..FLOWS)
        .map(|_| {
            let sender = pair.router.run(|| Ok(TcpStream::connect((RECEIVER.0, PORT)).unwrap()));
            (sender, listener.accept().unwrap().0)
        })
        .collect();
    let (start, received) = (Instant::now(), AtomicUsize::new(0));
    let seconds = thread::scope(|scope| {
        for (sender, receiver) in &flows {
            scope.spawn(move || {
                let (mut sender, chunk) = (sender, vec![0x5a; 1 << 16]);
                // Until the connection is shut down.
                while sender.write_all(&chunk).is_ok() {
                    std::hint::spin_loop();
                }
            });
            let received = &received;
            scope.spawn(move || {
                let (mut receiver, mut buffer) = (receiver, vec![0; 1 << 16]);
                while let Ok(bytes @ 1..) = receiver.read(&mut buffer) {
                    received.fetch_add(bytes, Ordering::Relaxed);
                }
            });
        }
        thread::sleep(Duration::from_secs(4));
        for (sender, receiver) in &flows {
            sender.shutdown(Shutdown::Both).unwrap();
            receiver.shutdown(Shutdown::Both).unwrap();
        }
        start.elapsed().as_secs_f64()
    });
    let port = running.reader().snapshot().unwrap().ports.remove(0);
    let (counters, bytes) = (&port.counters, received.load(Ordering::Relaxed) as f64);
    // The burst, and one packet of 64 KiB beyond it.
    let most = 50.0 * MBIT / 8.0 * seconds + (1500.0 + 64.0) * 1024.0;
    assert!(bytes <= most, "{bytes} bytes, and {most} fit: {counters:?}");
    assert!(bytes > most / 2.0, "{bytes} bytes of {most}: {counters:?}");
    assert!(counters["stack_dropped"] > 0, "the port was never full: {counters:?}");
    // Packets of several frames did pass: the driver got fewer packets than there were frames.
    let passed = counters["stack_seen"] - counters["stack_dropped"];
    assert!(passed > counters["stack_sent"], "{counters:?}");
}
