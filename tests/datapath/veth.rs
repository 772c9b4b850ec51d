//! Ports on a veth pair: the ring is the peer's, drained by the peer's NAPI.

use std::io::Write as _;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use weir::config::Config;
use weir::datapath::ethtool::Ethtool;
use weir::datapath::{Instance, StartOptions};
use weir::lab::clock::{make_timely, now_ns, sleep_until};
use weir::lab::device;
use weir::lab::netlink::{self, Mac, Wiring};
use weir_shared_maps::RingState;

use super::frame::{BOTH, PORT, RECEIVER, STAMP, udp};
use super::live::run_on;
use super::router::{
    LAN, LAN_MAC, Namespace, RECEIVER_MAC, WAN, WAN_MAC, causes, configure_router, lan_wiring, namespace,
    privileged, quiet_ipv6, wait_for, wan_wiring_to,
};

const MS: u64 = 1_000_000;

/// A router whose `wan0` is one end of a veth pair; the receiver has the other.
pub struct Pair {
    name: String,
    pub router: Namespace,
    pub receiver: Namespace,
    lan: OwnedFd,
}

impl Pair {
    pub fn new() -> Self {
        Self::between(RECEIVER_MAC).with_gro()
    }

    /// As [`super::router::Router::looped`].
    pub fn looped() -> Self {
        Self::between(LAN_MAC).with_gro()
    }

    /// A pair whose near end is no redirect target.
    pub fn without_gro() -> Self {
        Self::between(RECEIVER_MAC)
    }

    /// What redirected frames need at the far end (`veth_xdp_xmit`, `drivers/net/veth.c` at v6.18).
    fn with_gro(self) -> Self {
        self.receiver.run(|| {
            Ethtool::open().unwrap().set_gro(WAN, true).unwrap();
            Ok(())
        });
        self
    }

    fn between(receiver_mac: Mac) -> Self {
        let (name, router) = namespace("rtr");
        let (_name, receiver) = namespace("rcv");
        let lan = router.run(|| {
            let lan = device::create_tap(LAN)?;
            netlink::with_handle(async |handle| {
                netlink::add_veth(&handle, WAN, WAN, receiver.0.raw_fd()).await
            })?;
            configure_router(&[lan_wiring(), wan_wiring_to(receiver_mac)])?;
            Ok(lan)
        });
        receiver.run(|| {
            quiet_ipv6()?;
            netlink::with_handle(async |handle| {
                netlink::rename_far_end(&handle, WAN).await?;
                netlink::wire(&handle, &Wiring { mac: receiver_mac, ..receiver_wiring() }).await
            })
        });
        Self { name, router, receiver, lan }
    }

    pub fn start(&self, port: &str) -> Instance {
        let text = format!(
            "instance = \"{}\"\n[[ingress]]\ndevice = \"{LAN}\"\n[[port]]\ndevice = \"{WAN}\"\n{port}\n",
            self.name
        );
        let config = Config::from_toml_str("test.toml", &text).unwrap();
        self.router.run(|| {
            let instance = Instance::start(&config, &StartOptions::default());
            Ok(instance.unwrap_or_else(|e| panic!("{}", causes(&e))))
        })
    }

    pub fn inject(&self, frame: &[u8]) {
        assert_eq!(nix::unistd::write(&self.lan, frame), Ok(frame.len()));
    }

    /// The receiver's socket, which answers at once or not at all.
    pub fn socket(&self, address: IpAddr) -> UdpSocket {
        self.receiver.run(|| {
            let socket = UdpSocket::bind((address, PORT)).unwrap();
            socket.set_nonblocking(true).unwrap();
            Ok(socket)
        })
    }
}

fn receiver_wiring() -> Wiring {
    Wiring {
        device: WAN,
        mac: RECEIVER_MAC,
        queue_len: None,
        addresses: vec![(RECEIVER.0.into(), 24), (RECEIVER.1.into(), 64)],
        neighbours: vec![("10.77.2.254".parse().unwrap(), WAN_MAC), ("fd77:2::fe".parse().unwrap(), WAN_MAC)],
        routes: vec![
            ("0.0.0.0".parse().unwrap(), 0, "10.77.2.254".parse().unwrap()),
            ("::".parse().unwrap(), 0, "fd77:2::fe".parse().unwrap()),
        ],
    }
}

/// The moment in a packet's payload, if one has arrived.
pub fn stamp(socket: &UdpSocket) -> Option<u64> {
    let mut buffer = [0; 2_048];
    let length = socket.recv(&mut buffer).ok()?;
    assert!(length >= STAMP);
    Some(u64::from_be_bytes(buffer[..STAMP].try_into().unwrap()))
}

#[test]
fn a_sockets_peer_behind_a_veth_port_gets_packets_of_both_families() {
    let Some(_machine) = privileged("a_sockets_peer_behind_a_veth_port") else { return };
    let pair = Pair::new();
    let instance = pair.start("");
    for to in BOTH {
        let socket = pair.socket(to);
        for i in 0..100 {
            pair.inject(&udp(to).stamp(i).build());
        }
        let mut stamps = Vec::new();
        wait_for("100 packets", Duration::from_secs(2), || {
            stamps.extend(std::iter::from_fn(|| stamp(&socket)));
            stamps.len() == 100
        });
        // The kernel checked their checksums, and their order is the sender's.
        assert_eq!(stamps, (0..100).collect::<Vec<_>>(), "{to}");
    }
    let snapshot = instance.reader().snapshot().unwrap();
    assert_eq!((snapshot.ports[0].counters["sent"], snapshot.unaccounted()), (200, 0));
    assert_eq!((snapshot.ports[0].driver.as_str(), snapshot.ports[0].observed), ("veth", true));
    assert_eq!(snapshot.ports[0].config.mode, snapshot.ports[0].mode);
}

/// Makes the NAPI of the receiver's device a thread on processor 1 (`/sys/class/net/DEV/threaded`, kernel 5.12).
/// `false` where the kernel cannot.
fn napi_on_cpu_1(pair: &Pair) -> bool {
    // A sysfs mounted on a thread of the namespace shows the namespace's devices.
    let place = tempfile::tempdir().unwrap();
    let switched = pair.receiver.run(|| {
        mount(Some("sysfs"), place.path(), Some("sysfs"), MsFlags::empty(), None::<&str>).unwrap();
        let file = place.path().join("class/net").join(WAN).join("threaded");
        let written = std::fs::OpenOptions::new().write(true).open(file).and_then(|mut f| f.write_all(b"1"));
        umount2(place.path(), MntFlags::MNT_DETACH).unwrap();
        Ok(written.is_ok())
    });
    let mut cpu = CpuSet::new();
    cpu.set(1).unwrap();
    switched && with_napi_threads(|thread| sched_setaffinity(thread, &cpu).is_ok()) > 0
}

/// The same, at the lowest priority.
pub fn slow_napi_on_cpu_1(pair: &Pair) -> bool {
    let slow = |thread: Pid| {
        // SAFETY: takes numbers.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, thread.as_raw().cast_unsigned(), 19) == 0 }
    };
    napi_on_cpu_1(pair) && with_napi_threads(slow) > 0
}

/// Lets a thread come first whatever else the machine has to do, but for other real-time threads.
fn timely(thread: Pid) -> bool {
    let param = libc::sched_param { sched_priority: 1 };
    // SAFETY: `param` lives for the duration of the call.
    unsafe { libc::sched_setscheduler(thread.as_raw(), libc::SCHED_FIFO, &raw const param) == 0 }
}

/// Does something to the NAPI threads of devices called [`WAN`]; to how many.
fn with_napi_threads(act: impl Fn(Pid) -> bool) -> usize {
    let prefix = format!("napi/{WAN}-");
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let comm = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("comm"));
        comm.is_ok_and(|name| name.starts_with(&prefix)) && act(Pid::from_raw(*pid))
    })
    .count()
}

/// A veth ring empties in the same softirq that fills it, so that no queue ever stands, unless its NAPI is a thread
/// that does not get to run: here it is pinned to a processor which a real-time thread holds for 40 ms at a time. The
/// ring is then as any other whose receiver is slow, and the delay is measured by the receiver's socket.
#[test]
fn the_observers_sojourn_agrees_with_the_delay_measured_outside_of_a_veths_ring() {
    let Some(_machine) = privileged("the_observers_sojourn_on_a_veth") else { return };
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        eprintln!("skipped: this needs a second processor to keep busy");
        return;
    }
    let pair = Pair::new();
    let instance = pair.start("[port.aqm]\nalgorithm = \"none\"");
    assert!(
        napi_on_cpu_1(&pair) && with_napi_threads(timely) > 0,
        "the peer's NAPI could not be made a real-time thread"
    );
    let socket = pair.socket(RECEIVER.0.into());
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let (gap, held) = (MS, 40 * MS);
    let (mut compared, mut seen) = (Vec::new(), Vec::new());
    for round in 0..20 {
        let (holding, released) = (AtomicBool::new(false), AtomicBool::new(false));
        let (looks, sent, (first, arrived)) = thread::scope(|scope| {
            // The first packet, and when it arrived; the others are taken, too, for the sake of the next round.
            let receiver = scope.spawn(|| {
                run_on(0);
                make_timely(2);
                stamp(&socket).map(|stamp| (stamp, now_ns()))
            });
            scope.spawn(|| {
                run_on(1);
                assert!(make_timely(2), "root may take a real-time class");
                let end = now_ns() + held;
                holding.store(true, Ordering::Relaxed);
                while now_ns() < end {
                    std::hint::spin_loop();
                }
                released.store(true, Ordering::Relaxed);
            });
            // On the other processor: these frames enter ring 0 until the NAPI gets to run, and a little longer.
            let injector = scope.spawn(|| {
                run_on(0);
                make_timely(1);
                wait_for("processor 1 is held", Duration::from_secs(1), || holding.load(Ordering::Relaxed));
                let (mut looks, mut sent) = (Vec::new(), 0);
                let mut last = false;
                while !last {
                    last = released.load(Ordering::Relaxed);
                    pair.inject(&udp(RECEIVER.0).stamp(now_ns()).build());
                    sent += 1;
                    looks.push(instance.reader().ring(0).unwrap());
                    sleep_until(now_ns() + gap);
                }
                (looks, sent)
            });
            let (looks, sent) = injector.join().unwrap();
            (looks, sent, receiver.join().unwrap().expect("a packet arrives within two seconds"))
        });
        for _ in 1..sent {
            assert!(stamp(&socket).is_some(), "round {round}: a packet was lost");
        }
        // The last look at the ring while its oldest frame was that packet, the first of this round.
        let head = |look: &RingState| look.sent - u64::from(look.occupancy_pkts);
        let look = looks.iter().rfind(|look| look.occupancy_pkts > 0 && head(look) == head(&looks[0]));
        seen.push((arrived - first, look.map(|look| (arrived - look.observed_ns, look.occupancy_pkts))));
        // A round in which the holder did not get its processor at once, or not alone, has no queue to compare.
        if let Some(look) =
            look.filter(|look| arrived - first > held / 2 && arrived - look.observed_ns < 2 * gap)
        {
            compared.push((arrived - first, look.head_sojourn_ns));
        }
    }
    assert!(compared.len() >= 10, "a queue stood in {} rounds of 20: {seen:?}", compared.len());
    for (measured, observed) in &compared {
        let apart = measured.abs_diff(*observed);
        assert!(
            apart <= 2 * MS + 2 * gap,
            "{apart} ns apart: {measured} ns, and the observer says {observed} ns"
        );
    }
}
