//! One router in a namespace of its own, and the instance that runs on it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use rtnetlink::packet_route::route::RouteType;
use rtnetlink::{LinkUnspec, RouteMessageBuilder};
use weir::config::Config;
use weir::datapath::{Error, Instance, Reader, Snapshot, StartOptions};
use weir::lab::netlink::{self, Mac, Wiring};
use weir::lab::{self, Netns, device};

use super::frame::{RECEIVER, SENDER, Seen, seen};

pub const LAN: &str = "lan0";
pub const WAN: &str = "wan0";
/// A device that no configuration names.
pub const OTHER: &str = "other0";

pub const SENDER_MAC: Mac = [0x02, 0x77, 0, 0, 1, 0x01];
pub const LAN_MAC: Mac = [0x02, 0x77, 0, 0, 1, 0xfe];
pub const WAN_MAC: Mac = [0x02, 0x77, 0, 0, 2, 0xfe];
pub const RECEIVER_MAC: Mac = [0x02, 0x77, 0, 0, 2, 0x01];
const OTHER_MAC: Mac = [0x02, 0x77, 0, 0, 3, 0xfe];

/// A neighbour behind [`OTHER`].
pub const UNMANAGED: Ipv4Addr = Ipv4Addr::new(10, 77, 3, 1);
/// Where unreachable routes lead.
pub const NOWHERE: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(10, 99, 0, 1), Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1));

/// Holds the machine for one test: rates and delays are measured here, and there are two processors.
pub fn privileged(test: &str) -> Option<MutexGuard<'static, ()>> {
    static MACHINE: Mutex<()> = Mutex::new(());
    if nix::unistd::geteuid().is_root() {
        return Some(MACHINE.lock().unwrap_or_else(PoisonError::into_inner));
    }
    let required = ["CI", "WEIR_REQUIRE_PRIVILEGED"]
        .iter()
        .any(|name| std::env::var(name).is_ok_and(|value| value == "true" || value == "1"));
    assert!(!required, "{test} needs root, and this environment does not allow a skip");
    eprintln!("{test}: skipped, it needs root to make network namespaces");
    None
}

/// Waits until `condition` holds. Panics with `what` when it does not within `limit`.
pub fn wait_for(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_micros(200));
    }
}

/// The router: `lan0` towards the sender, `wan0` towards the receiver, `other0` towards neither.
pub struct Router {
    name: String,
    netns: Namespace,
    lan: OwnedFd,
    /// One for each of the rings of `wan0`.
    wan: Vec<OwnedFd>,
    next: AtomicUsize,
    other: OwnedFd,
}

impl Router {
    /// A router whose `wan0` has a ring of `slots`.
    pub fn with_ring(slots: u32) -> Self {
        Self::between(slots, RECEIVER_MAC)
    }

    /// The same with a receiver that has `lan0`'s own address: live frames are used again with what the router wrote into them, and
    /// are to be addressed to it each time ([`super::live`]).
    pub fn looped(slots: u32) -> Self {
        Self::between(slots, LAN_MAC)
    }

    /// A router whose `wan0` may have several queues, of which the first is attached.
    pub fn with_queues() -> Self {
        Self::on(1_000, RECEIVER_MAC, |name| Ok(vec![device::attach_tap_queue(name)?]))
    }

    /// Another queue of `wan0`, attached as long as the descriptor lives.
    pub fn attach_queue(&self) -> OwnedFd {
        self.netns.run(|| device::attach_tap_queue(WAN))
    }

    /// A router with so many rings; the ring of a frame is that of its CPU.
    pub fn with_rings(rings: usize, slots: u32) -> Self {
        Self::on(slots, RECEIVER_MAC, |name| device::create_multiqueue_tap(name, rings))
    }

    fn between(slots: u32, receiver: Mac) -> Self {
        Self::on(slots, receiver, |name| Ok(vec![device::create_tap(name)?]))
    }

    fn on(slots: u32, receiver: Mac, wan: impl Fn(&str) -> lab::Result<Vec<OwnedFd>> + Sync) -> Self {
        let (name, netns) = namespace("rtr");
        let (lan, wan, other) = netns.run(|| {
            let taps = (device::create_tap(LAN)?, wan(WAN)?, device::create_tap(OTHER)?);
            let wan = Wiring { queue_len: Some(slots), ..wan_wiring_to(receiver) };
            configure_router(&[lan_wiring(), wan, other_wiring()])?;
            Ok(taps)
        });
        Self { name, netns, lan, wan, next: AtomicUsize::new(0), other }
    }

    pub fn new() -> Self {
        Self::with_ring(1_000)
    }

    pub fn namespace(&self) -> &Namespace {
        &self.netns
    }

    /// The far side of `lan0`.
    pub fn lan(&self) -> &OwnedFd {
        &self.lan
    }

    /// The far side of `wan0`.
    pub fn wan(&self) -> &OwnedFd {
        &self.wan[0]
    }

    /// Name of the instance that [`Router::start`] starts.
    pub fn instance(&self) -> &str {
        &self.name
    }

    /// The configuration: `lan0` with `ingress` keys, `wan0` with `port` keys.
    pub fn config_text(&self, ingress: &str, port: &str) -> String {
        format!(
            "instance = \"{}\"\n[[ingress]]\ndevice = \"{LAN}\"\n{ingress}\n[[port]]\ndevice = \"{WAN}\"\n{port}\n",
            self.name
        )
    }

    pub fn try_start(&self, ingress: &str, port: &str) -> Result<Running, Error> {
        let config = Config::from_toml_str("test.toml", &self.config_text(ingress, port)).unwrap();
        let instance = self.run(|| Instance::start(&config, &StartOptions::default()))?;
        Ok(Running { instance })
    }

    /// Starts a whole configuration, whose instance must be [`Router::instance`].
    pub fn start_text(&self, text: &str) -> Running {
        let config =
            Config::from_toml_str("test.toml", text).unwrap_or_else(|e| panic!("{:?}", e.problems()));
        self.start_config(&config)
    }

    pub fn start_config(&self, config: &Config) -> Running {
        let started = self.run(|| Instance::start(config, &StartOptions::default()));
        Running { instance: started.unwrap_or_else(|e| panic!("{}", causes(&e))) }
    }

    /// Starts with rings that nobody can read.
    pub fn start_blind(&self, port: &str) -> Running {
        self.start_text_blind(&self.config_text("", port))
    }

    /// The same with a whole configuration.
    pub fn start_text_blind(&self, text: &str) -> Running {
        let config =
            Config::from_toml_str("test.toml", text).unwrap_or_else(|e| panic!("{:?}", e.problems()));
        let options = StartOptions { blind: true, ..StartOptions::default() };
        let started = self.run(|| Instance::start(&config, &options));
        Running { instance: started.unwrap_or_else(|e| panic!("{}", causes(&e))) }
    }

    /// Starts the instance; dropped, it detaches.
    pub fn start(&self, ingress: &str, port: &str) -> Running {
        self.try_start(ingress, port).unwrap_or_else(|e| panic!("{}", causes(&e)))
    }

    /// Runs `f` in the router's namespace.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.netns.run(|| Ok(f()))
    }

    /// Gives the ring of `wan0` another size.
    pub fn set_queue_len(&self, slots: u32) {
        self.netns.run(|| {
            netlink::with_handle(async |handle| {
                let link = LinkUnspec::new_with_name(WAN).txqueuelen(slots).build();
                handle.link().set(link).execute().await.map_err(lab::Error::netlink("set a queue length"))
            })
        });
    }

    /// A frame arrives at `lan0`.
    pub fn inject(&self, frame: &[u8]) {
        assert_eq!(nix::unistd::write(&self.lan, frame), Ok(frame.len()), "a frame of {}", frame.len());
    }

    /// Takes the oldest frame out of the ring of `wan0`; the rings take turns where it has several.
    pub fn take(&self) -> Option<Vec<u8>> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        (0..self.wan.len()).find_map(|turn| take_from(&self.wan[(first + turn) % self.wan.len()]))
    }

    /// Takes the oldest frame out of the ring of `other0`.
    pub fn take_other(&self) -> Option<Vec<u8>> {
        take_from(&self.other)
    }

    /// Runs `ip` or `tc` in the router's namespace.
    pub fn command(&self, line: &str) {
        let mut words = line.split_whitespace();
        let program = words.next().unwrap();
        let output = self.run(|| Command::new(program).args(words).output().unwrap());
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Empties the ring of `wan0`; those of the frames that are the sender's.
    pub fn drain(&self) -> Vec<Seen> {
        std::iter::from_fn(|| self.take()).filter_map(|frame| seen(&frame)).collect()
    }
}

/// Takes the oldest frame out of the ring behind one queue of `wan0`.
pub fn take_from(queue: &OwnedFd) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 4_096];
    match nix::unistd::read(queue, &mut buffer) {
        Ok(length) => {
            buffer.truncate(length);
            Some(buffer)
        }
        Err(Errno::EAGAIN) => None,
        Err(error) => panic!("reading a tap: {error}"),
    }
}

/// A namespace with a name of its own: the name of the instance in it as well.
pub fn namespace(role: &str) -> (String, Namespace) {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let name = format!("{}{}-t{}-{role}", "weir-", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
    let netns = Netns::create(&name).unwrap();
    (name, Namespace(netns))
}

pub struct Namespace(pub Netns);

pub fn quiet_ipv6() -> lab::Result<()> {
    for scope in ["all", "default"] {
        let scope = format!("net/ipv6/conf/{scope}");
        device::set_sysctl(&format!("{scope}/accept_dad"), "0")?;
        device::set_sysctl(&format!("{scope}/router_solicitations"), "0")?;
        // 1: no link-local address is generated (`IN6_ADDR_GEN_MODE_NONE`).
        device::set_sysctl(&format!("{scope}/addr_gen_mode"), "1")?;
    }
    Ok(())
}

/// Makes the namespace a router with these devices.
pub fn configure_router(devices: &[Wiring]) -> lab::Result<()> {
    quiet_ipv6()?;
    device::set_sysctl("net/ipv4/ip_forward", "1")?;
    device::set_sysctl("net/ipv6/conf/all/forwarding", "1")?;
    netlink::with_handle(async |handle| {
        for wiring in devices {
            netlink::wire(&handle, wiring).await?;
        }
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(NOWHERE.0, 32);
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(NOWHERE.1, 128);
        for route in [v4.kind(RouteType::Unreachable).build(), v6.kind(RouteType::Unreachable).build()] {
            handle.route().add(route).execute().await.map_err(lab::Error::netlink("add a route"))?;
        }
        Ok(())
    })
}

pub fn lan_wiring() -> Wiring {
    wiring(LAN, LAN_MAC, 1, SENDER_MAC, &[SENDER.0.into(), SENDER.1.into()])
}

/// `wan0` with a receiver that has this address.
pub fn wan_wiring_to(receiver: Mac) -> Wiring {
    wiring(WAN, WAN_MAC, 2, receiver, &[RECEIVER.0.into(), RECEIVER.1.into()])
}

fn other_wiring() -> Wiring {
    wiring(OTHER, OTHER_MAC, 3, RECEIVER_MAC, &[UNMANAGED.into()])
}

/// The router's device in subnet `subnet`, with its neighbours there.
fn wiring(device: &'static str, mac: Mac, subnet: u8, neighbour: Mac, neighbours: &[IpAddr]) -> Wiring {
    let v4 = Ipv4Addr::new(10, 77, subnet, 254);
    let v6 = Ipv6Addr::new(0xfd77, u16::from(subnet), 0, 0, 0, 0, 0, 0xfe);
    Wiring {
        device,
        mac,
        queue_len: None,
        addresses: vec![(v4.into(), 24), (v6.into(), 64)],
        neighbours: neighbours.iter().map(|address| (*address, neighbour)).collect(),
        routes: Vec::new(),
    }
}

impl Namespace {
    pub fn run<T: Send>(&self, f: impl FnOnce() -> lab::Result<T> + Send) -> T {
        self.0.run(f).unwrap_or_else(|e| panic!("{}", causes(&e)))
    }
}

/// An instance that is attached.
pub struct Running {
    instance: Instance,
}

impl Running {
    pub fn reader(&self) -> &Reader {
        self.instance.reader()
    }

    pub fn snapshot(&self) -> Snapshot {
        self.reader().snapshot().unwrap()
    }

    /// A counter of `lan0`.
    pub fn ingress(&self, counter: &str) -> u64 {
        self.snapshot().ingress[0].counters[counter]
    }

    /// A counter of `wan0`.
    pub fn port(&self, counter: &str) -> u64 {
        self.snapshot().ports[0].counters[counter]
    }

    pub fn actions(&self) -> &[String] {
        self.instance.actions()
    }

    /// The daemon's look at the devices.
    pub fn follow(&mut self, router: &Router) -> Vec<String> {
        router.run(|| self.instance.follow()).unwrap_or_else(|e| panic!("{}", causes(&e)))
    }
}

/// An error with what caused it, as people see it.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
