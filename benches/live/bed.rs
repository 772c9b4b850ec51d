//! A router in a network namespace of its own: `lan0`, where frames seem to arrive, and `wan0`, whose peer drops
//! everything natively so that its ring is always drained.

use std::{
    net::Ipv4Addr,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use aya::{
    Ebpf, EbpfLoader,
    programs::{Xdp, XdpMode},
};
use miette::{IntoDiagnostic, Result, WrapErr, bail, miette};
use weir::{
    datapath::{netdev, objects::BASELINE},
    lab::Netns,
};
use weir_shared_maps::names;

/// Where frames seem to arrive.
pub const LAN: &str = "lan0";
/// Where they leave.
pub const WAN: &str = "wan0";
/// The other end of [`WAN`].
const SINK: &str = "wan1";
/// `lan0`'s address and the next hop's alike: a frame whose MAC addresses were rewritten in one round is still
/// addressed to `lan0` in the next, since live frames recycle their pages.
const LAN_MAC: [u8; 6] = [0x02, 0, 0, 0, 0x77, 0x01];
const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 2);
/// Where frames go.
pub const DESTINATION: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 2);

/// The first subscriber's address; the others follow. All of them are behind [`DESTINATION`].
pub const FIRST_SUBSCRIBER: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 0);

/// Length of the frame, without a check sequence.
pub const FRAME_LEN: usize = 64;

/// The namespace with its devices; gone when dropped.
pub struct Bed {
    netns: Netns,
}

/// A program attached to one of the bed's devices, until dropped.
pub struct Attached {
    _ebpf: Ebpf,
}

/// What a bed counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Frames that reached the sink's program.
    pub sunk: u64,
    /// IPv4 datagrams that the kernel forwarded.
    pub forwarded: u64,
}

impl Bed {
    /// Builds the namespace.
    ///
    /// # Errors
    ///
    /// Not root, or what `ip` or the kernel refused.
    pub fn build() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("weir-{}-{}-bench", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let netns = Netns::create(&name)?;
        let bed = Self { netns };
        bed.inside(|| {
            let mac = LAN_MAC.map(|b| format!("{b:02x}")).join(":");
            for (key, value) in [
                ("net/ipv6/conf/all/disable_ipv6", "1"),
                ("net/ipv6/conf/default/disable_ipv6", "1"),
                ("net/ipv4/ip_forward", "1"),
                ("net/ipv4/conf/all/rp_filter", "0"),
                ("net/ipv4/conf/default/rp_filter", "0"),
            ] {
                set(key, value)?;
            }
            for line in [
                "link set lo up".to_owned(),
                format!("link add {LAN} address {mac} numtxqueues 1 numrxqueues 1 type veth peer name lan1 numtxqueues 1 numrxqueues 1"),
                format!("link add {WAN} numtxqueues 1 numrxqueues 1 type veth peer name {SINK} numtxqueues 1 numrxqueues 1"),
                format!("link set {LAN} up"),
                "link set lan1 up".to_owned(),
                format!("link set {WAN} up"),
                format!("link set {SINK} up"),
                format!("address add 10.77.1.1/24 dev {LAN}"),
                format!("address add 10.77.2.1/24 dev {WAN}"),
                format!("neighbour replace {DESTINATION} lladdr {mac} nud permanent dev {WAN}"),
                format!("route add {FIRST_SUBSCRIBER}/9 via {DESTINATION}"),
            ] {
                run("ip", &line)?;
            }
            Ok(())
        })?;
        Ok(bed)
    }

    /// Runs `f` on a thread of its own inside the namespace.
    ///
    /// # Errors
    ///
    /// The namespace cannot be entered, or what `f` returns.
    pub fn inside<T: Send>(&self, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.netns.enter()?;
                f()
            });
            thread.join().unwrap_or_else(|_| Err(miette!("a benchmark thread died")))
        })
    }
}

/// Attaches the program that drains the ring; inside the namespace.
///
/// # Errors
///
/// The kernel refuses.
pub fn attach_sink() -> Result<Attached> {
    attach(names::PROG_BASE_DROP, SINK)
}

/// Attaches a program that passes to `lan0`: a veth's receive queue is one only while a program is attached, and a
/// test run that names the device needs its queue.
///
/// # Errors
///
/// The kernel refuses.
pub fn attach_pass() -> Result<Attached> {
    attach(names::PROG_BASE_PASS, LAN)
}

fn attach(name: &'static str, device: &str) -> Result<Attached> {
    let ifindex = netdev::by_name(device)?.ifindex;
    let mut ebpf = open(&[])?;
    let program: &mut Xdp = BASELINE.xdp(&mut ebpf, name)?;
    program.load().into_diagnostic()?;
    program
        .attach_to_if_index(ifindex, XdpMode::Driver)
        .into_diagnostic()
        .wrap_err_with(|| format!("attaching {name} to {device}"))?;
    Ok(Attached { _ebpf: ebpf })
}

/// The baseline object with constants, without the kernel's BTF: its programs trace nothing, and parsing takes longer than
/// a turn.
///
/// # Errors
///
/// aya cannot make the maps.
pub fn open(constants: &[(&'static str, u32)]) -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    for (name, value) in constants {
        loader.override_global(name, value, true);
    }
    loader.load(BASELINE.bytes).into_diagnostic()
}

/// Sets a kernel setting of the calling thread's namespace.
///
/// # Errors
///
/// The kernel refuses.
pub fn set(key: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/{key}");
    std::fs::write(&path, value).into_diagnostic().wrap_err_with(|| format!("writing {value} to {path}"))
}

/// Runs a command in the calling thread's namespace.
///
/// # Errors
///
/// It cannot be started or fails; the error has what it said.
pub fn run(program: &str, line: &str) -> Result<String> {
    let output = Command::new(program)
        .args(line.split(' '))
        .output()
        .into_diagnostic()
        .wrap_err_with(|| format!("starting {program}"))?;
    if !output.status.success() {
        bail!("{program} {line}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What the calling thread's namespace has counted.
///
/// # Errors
///
/// `ethtool` is missing, or `/proc` is.
pub fn counts() -> Result<Counts> {
    let statistics = run("ethtool", &format!("-S {SINK}"))?;
    let sunk = statistics
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.trim().starts_with("rx_queue_") && name.trim().ends_with("_xdp_drops"))
        .filter_map(|(_, value)| value.trim().parse::<u64>().ok())
        .sum();
    let snmp = std::fs::read_to_string("/proc/thread-self/net/snmp").into_diagnostic()?;
    let mut ip = snmp.lines().filter(|line| line.starts_with("Ip:"));
    let (header, values) = (ip.next().unwrap_or_default(), ip.next().unwrap_or_default());
    let forwarded = header
        .split(' ')
        .zip(values.split(' '))
        .find(|(name, _)| *name == "ForwDatagrams")
        .and_then(|(_, value)| value.parse().ok())
        .ok_or_else(|| miette!("/proc/net/snmp has no ForwDatagrams"))?;
    Ok(Counts { sunk, forwarded })
}

/// A UDP datagram from the fast side to the slow side, with the largest TTL: a recycled page loses one each round.
pub fn frame() -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME_LEN);
    frame.extend(LAN_MAC);
    frame.extend([0x02, 0, 0, 0, 0x77, 0x02, 0x08, 0x00]);
    let total = (FRAME_LEN - 14) as u16;
    let mut ip = vec![0x45, 0];
    ip.extend(total.to_be_bytes());
    ip.extend([0, 1, 0x40, 0, 255, 17, 0, 0]);
    ip.extend(SOURCE.octets());
    ip.extend(DESTINATION.octets());
    let sum = checksum(&ip).to_be_bytes();
    ip.splice(10..12, sum);
    frame.extend(ip);
    frame.extend(4000_u16.to_be_bytes());
    frame.extend(4001_u16.to_be_bytes());
    frame.extend((total - 20).to_be_bytes());
    frame.extend([0, 0]);
    frame.resize(FRAME_LEN, 0);
    frame
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| pair.iter().fold(0, |word, byte| word << 8 | u32::from(*byte))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
