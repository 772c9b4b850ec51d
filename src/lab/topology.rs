//! Three hosts in namespaces of their own: a sender, a router, and a receiver behind a slow link.
//!
//! ```text
//!  sender            router                               receiver
//!  fast0 ===veth=== fast0   slow0 --tap--[ slow link ]--tap-- slow0
//! ```
//!
//! Forwarding from `fast0` to `slow0` is what contenders do; the way back, the acknowledgements, is always the
//! kernel's own forwarding, the same for everyone. Neighbours are permanent, IPv6 is off unless the experiment
//! runs over it, and duplicate address detection is off: no frame is on the wire that no experiment sent.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

use super::addresses::{
    RECEIVER_V4, RECEIVER_V6, ROUTER_FAST_V4, ROUTER_FAST_V6, ROUTER_SLOW_V4, ROUTER_SLOW_V6, SENDER_V4,
    SENDER_V6,
};
use super::device;
use super::error::Result;
use super::netlink::{self, Mac, Wiring};
use super::netns::{Netns, PREFIX};
use crate::experiment::{FAST_DEVICE, Family, SLOW_DEVICE};

const SENDER_MAC: Mac = [0x02, 0x77, 0, 0, 1, 1];
const ROUTER_FAST_MAC: Mac = [0x02, 0x77, 0, 0, 1, 0xfe];
const ROUTER_SLOW_MAC: Mac = [0x02, 0x77, 0, 0, 2, 0xfe];
const RECEIVER_MAC: Mac = [0x02, 0x77, 0, 0, 2, 1];

/// One of the three hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Host {
    /// Sends everything.
    Sender,
    /// Forwards; here the contenders run.
    Router,
    /// Receives, behind the slow link.
    Receiver,
}

impl Host {
    /// All of them, in the order a packet meets them.
    pub const ALL: [Self; 3] = [Self::Sender, Self::Router, Self::Receiver];

    const fn suffix(self) -> &'static str {
        match self {
            Self::Sender => "snd",
            Self::Router => "rtr",
            Self::Receiver => "rcv",
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Sender => "sender",
            Self::Router => "router",
            Self::Receiver => "receiver",
        })
    }
}

/// What a topology is built for.
#[derive(Debug, Clone, Copy)]
pub struct TopologySettings {
    /// The family of the traffic.
    pub family: Family,
    /// The slots of the slow device's TX ring, 1 to 65,535.
    pub ring_slots: u32,
    /// Whether TCP offers and accepts ECN.
    pub ecn: bool,
}

/// The three hosts, wired; dropping it removes every namespace and device.
///
/// The taps' far side, the slow link, is not part of it: [`crate::lab::SlowLink`] is started on
/// [`Topology::slow_tap`] and [`Topology::receiver_tap`].
#[derive(Debug)]
pub struct Topology {
    settings: TopologySettings,
    slow_tap: Arc<OwnedFd>,
    receiver_tap: Arc<OwnedFd>,
    sender: Netns,
    router: Netns,
    receiver: Netns,
}

impl Topology {
    /// Builds the three hosts.
    ///
    /// # Errors
    /// [`crate::lab::Error::NotRoot`], or the object that the kernel refused. What was built until then is removed.
    pub fn build(settings: TopologySettings) -> Result<Self> {
        static BUILT: AtomicU32 = AtomicU32::new(0);
        let stem = format!("{PREFIX}{}-{}", std::process::id(), BUILT.fetch_add(1, Ordering::Relaxed));
        let make = |host: Host| {
            let namespace = Netns::create(&format!("{stem}-{}", host.suffix()))?;
            namespace.run(|| {
                set_kernel_knobs(host, settings)?;
                netlink::with_handle(async |handle| netlink::loopback_up(&handle).await)
            })?;
            Ok(namespace)
        };
        let sender = make(Host::Sender)?;
        let router = make(Host::Router)?;
        let receiver = make(Host::Receiver)?;

        let slow_tap = router.run(|| {
            let tap = device::create_tap(SLOW_DEVICE)?;
            let far_namespace = sender.raw_fd();
            netlink::with_handle(async |handle| {
                netlink::add_veth(&handle, FAST_DEVICE, FAST_DEVICE, far_namespace).await?;
                netlink::wire(&handle, &router_fast(settings)).await?;
                netlink::wire(&handle, &router_slow(settings)).await
            })?;
            Ok(tap)
        })?;
        sender.run(|| {
            netlink::with_handle(async |handle| netlink::rename_far_end(&handle, FAST_DEVICE).await)?;
            device::disable_offloads(FAST_DEVICE)?;
            netlink::with_handle(async |handle| {
                netlink::wire(&handle, &sender_wiring(settings)).await?;
                let (hosts, prefix) = settings.family.hosts();
                netlink::take_for_own(&handle, hosts, prefix).await
            })
        })?;
        let receiver_tap = receiver.run(|| {
            let tap = device::create_tap(SLOW_DEVICE)?;
            device::disable_offloads(SLOW_DEVICE)?;
            netlink::with_handle(async |handle| netlink::wire(&handle, &receiver_wiring(settings)).await)?;
            Ok(tap)
        })?;
        Ok(Self {
            settings,
            slow_tap: Arc::new(slow_tap),
            receiver_tap: Arc::new(receiver_tap),
            sender,
            router,
            receiver,
        })
    }

    /// The namespace of `host`.
    #[must_use]
    pub const fn host(&self, host: Host) -> &Netns {
        match host {
            Host::Sender => &self.sender,
            Host::Router => &self.router,
            Host::Receiver => &self.receiver,
        }
    }

    /// What it was built for.
    #[must_use]
    pub const fn settings(&self) -> TopologySettings {
        self.settings
    }

    /// The router's side of the slow link.
    #[must_use]
    pub fn slow_tap(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.slow_tap)
    }

    /// The receiver's side of the slow link.
    #[must_use]
    pub fn receiver_tap(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.receiver_tap)
    }

    /// The addresses of `host` on its own devices, for people.
    #[must_use]
    pub fn addresses(&self, host: Host) -> Vec<String> {
        let wirings = match host {
            Host::Sender => vec![sender_wiring(self.settings)],
            Host::Router => vec![router_fast(self.settings), router_slow(self.settings)],
            Host::Receiver => vec![receiver_wiring(self.settings)],
        };
        wirings
            .iter()
            .flat_map(|w| w.addresses.iter().map(|(ip, len)| format!("{} {ip}/{len}", w.device)))
            .collect()
    }
}

fn set_kernel_knobs(host: Host, settings: TopologySettings) -> Result<()> {
    let ipv6 = settings.family == Family::Ipv6;
    for scope in ["all", "default"] {
        let ipv6_scope = format!("net/ipv6/conf/{scope}");
        if !ipv6 {
            // A kernel without IPv6 has no such setting and needs none.
            if std::path::Path::new("/proc/sys/net/ipv6").exists() {
                device::set_sysctl(&format!("{ipv6_scope}/disable_ipv6"), "1")?;
            }
            continue;
        }
        device::set_sysctl(&format!("{ipv6_scope}/disable_ipv6"), "0")?;
        device::set_sysctl(&format!("{ipv6_scope}/accept_dad"), "0")?;
        device::set_sysctl(&format!("{ipv6_scope}/accept_ra"), "0")?;
        device::set_sysctl(&format!("{ipv6_scope}/router_solicitations"), "0")?;
        // 1: no link-local address is generated (`IN6_ADDR_GEN_MODE_NONE`).
        device::set_sysctl(&format!("{ipv6_scope}/addr_gen_mode"), "1")?;
    }
    for scope in ["all", "default"] {
        device::set_sysctl(&format!("net/ipv4/conf/{scope}/rp_filter"), "0")?;
    }
    match host {
        Host::Router => {
            device::set_sysctl("net/ipv4/ip_forward", "1")?;
            if ipv6 {
                device::set_sysctl("net/ipv6/conf/all/forwarding", "1")?;
            }
        }
        Host::Sender | Host::Receiver => {
            device::set_sysctl("net/ipv4/tcp_ecn", if settings.ecn { "1" } else { "0" })?;
            device::set_sysctl("net/ipv4/tcp_no_metrics_save", "1")?;
        }
    }
    Ok(())
}

const V4_PREFIX: u8 = 24;
const V6_PREFIX: u8 = 64;

fn dual(settings: TopologySettings, v4: Ipv4Addr, v6: Ipv6Addr) -> Vec<IpAddr> {
    match settings.family {
        Family::Ipv4 => vec![IpAddr::V4(v4)],
        Family::Ipv6 => vec![IpAddr::V4(v4), IpAddr::V6(v6)],
    }
}

const fn prefix(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => V4_PREFIX,
        IpAddr::V6(_) => V6_PREFIX,
    }
}

fn wiring(device: &'static str, mac: Mac, own: Vec<IpAddr>, peer_mac: Mac, peer: Vec<IpAddr>) -> Wiring {
    Wiring {
        device,
        mac,
        queue_len: None,
        addresses: own.into_iter().map(|a| (a, prefix(a))).collect(),
        neighbours: peer.into_iter().map(|a| (a, peer_mac)).collect(),
        routes: Vec::new(),
    }
}

fn routed_through(mut wiring: Wiring, gateways: Vec<IpAddr>) -> Wiring {
    wiring.routes = gateways
        .into_iter()
        .map(|gateway| match gateway {
            IpAddr::V4(_) => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0, gateway),
            IpAddr::V6(_) => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0, gateway),
        })
        .collect();
    wiring
}

fn sender_wiring(settings: TopologySettings) -> Wiring {
    let own = dual(settings, SENDER_V4, SENDER_V6);
    let gateway = dual(settings, ROUTER_FAST_V4, ROUTER_FAST_V6);
    routed_through(wiring(FAST_DEVICE, SENDER_MAC, own, ROUTER_FAST_MAC, gateway.clone()), gateway)
}

fn router_fast(settings: TopologySettings) -> Wiring {
    let own = dual(settings, ROUTER_FAST_V4, ROUTER_FAST_V6);
    let sender = dual(settings, SENDER_V4, SENDER_V6);
    let (hosts, prefix) = settings.family.hosts();
    Wiring {
        routes: vec![(hosts, prefix, settings.family.sender())],
        ..wiring(FAST_DEVICE, ROUTER_FAST_MAC, own, SENDER_MAC, sender)
    }
}

fn router_slow(settings: TopologySettings) -> Wiring {
    let own = dual(settings, ROUTER_SLOW_V4, ROUTER_SLOW_V6);
    let peer = dual(settings, RECEIVER_V4, RECEIVER_V6);
    // tun resizes the queue of a tap that is attached already when this changes (`tun_queue_resize`).
    Wiring {
        queue_len: Some(settings.ring_slots),
        ..wiring(SLOW_DEVICE, ROUTER_SLOW_MAC, own, RECEIVER_MAC, peer)
    }
}

fn receiver_wiring(settings: TopologySettings) -> Wiring {
    let own = dual(settings, RECEIVER_V4, RECEIVER_V6);
    let gateway = dual(settings, ROUTER_SLOW_V4, ROUTER_SLOW_V6);
    let plain = wiring(SLOW_DEVICE, RECEIVER_MAC, own, ROUTER_SLOW_MAC, gateway.clone());
    // The way back is not what is measured; its queue is large enough never to matter.
    Wiring { queue_len: Some(REVERSE_RING_SLOTS), ..routed_through(plain, gateway) }
}

const REVERSE_RING_SLOTS: u32 = 8_192;
