//! What a configuration means, after every check.

use std::net::SocketAddr;

use weir_aqm::overhead::Framing;
use weir_aqm::{Bytes, Nanos, Rate};

use super::back_off::BackOff;
use super::names::{DeviceName, InstanceName, VlanId};
use super::policy::{Class, Policy, Side};

/// A checked configuration. Made by [`Config::load`] or [`Config::from_toml_str`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Names the directory of the pins; two instances with different names and devices can run side by side.
    pub instance: InstanceName,
    /// The metrics exporter, off where absent.
    pub metrics: Option<Metrics>,
    /// Devices whose arriving frames are forwarded, at least one, at most [`weir_shared_maps::MAX_INGRESS`].
    pub ingress: Vec<Ingress>,
    /// Managed egress devices, at least one, at most [`weir_shared_maps::MAX_PORTS`].
    pub ports: Vec<Port>,
    /// Rules, plans and subscribers.
    pub policy: Policy,
    /// What it was read from: a later reload compares with it.
    pub source: ConfigSource,
}

/// A configuration as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigSource {
    /// The file's path, or what stands for it.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// The metrics exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Where the HTTP listener binds.
    pub listen: SocketAddr,
}

/// A device whose arriving frames are forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// The device.
    pub device: DeviceName,
    /// Tagged frames of these VLANs are routed as if they had arrived untagged.
    pub vlans: Vec<VlanId>,
}

/// A managed egress device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The device.
    pub device: DeviceName,
    /// What the queue is.
    pub mode: Mode,
    /// 64 kbit/s to 400 Gbit/s. Always present for a policer; for a bottleneck it seeds the drain rate and stands in for
    /// a ring that cannot be read.
    pub rate: Option<Rate>,
    /// Bytes added to each frame's length, -64 to 256.
    pub overhead: i32,
    /// Smallest size of a frame after the overhead, 0 to 256 bytes.
    pub mpu: u32,
    /// How the link cuts frames up.
    pub framing: Framing,
    /// Policer: burst tolerance. Absent: the larger of 50 ms at the rate and ten full frames.
    pub burst: Option<Bytes>,
    /// Slots of the ring kept free, 0 to 1,024. Absent: 64, or a quarter of a ring below 256 slots.
    pub reserve: Option<u32>,
    /// The AQM.
    pub aqm: Aqm,
    /// Its classes, at most [`weir_shared_maps::MAX_CLASSES`]; empty where the whole port is one.
    pub classes: Vec<Class>,
    /// Index of the class of what no rule and no plan assigns; 0 where there are none.
    pub default_class: usize,
    /// Which address names the subscriber of a packet that leaves here.
    pub subscribers: Option<Side>,
    /// How whoever feeds the port is asked to stop while its signal stands; off for a policer.
    pub pause: PauseKind,
    /// What becomes of frames that the kernel's stack sends through the device.
    pub stack: Stack,
    /// What ingress does while the port's signal stands, where the port has no classes; each class has its own.
    pub back_off: BackOff,
    /// Rate up to which diverted packets may enter the stack. Absent: the port's rate, or twice what its ring drains.
    pub divert_rate: Option<Rate>,
}

/// How whoever feeds a port is asked to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PauseKind {
    /// Not at all.
    #[default]
    Off,
    /// By PAUSE frames, which stop all of a link (IEEE 802.3 annex 31B).
    Link,
    /// By priority-based flow control, which stops the priorities of the classes that are congested (IEEE 802.1Q clause 36).
    Priority,
}

/// What becomes of frames that the kernel's stack sends through a port: the router's own, and those that ingress passes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    /// They are decided on like redirected ones, before the device's qdisc.
    Decide,
    /// None is dropped; what leaves the qdisc is charged to the port's rate.
    Charge,
    /// They go by, and are seen in the ring alone.
    Ignore,
}

/// What a port's queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The port's own TX ring.
    Bottleneck,
    /// A virtual queue of the configured rate, below what the ring can do.
    Policer,
    /// The same, and the kernel forwards: nothing is redirected to the device, its TC programs decide.
    Tc,
    /// A policer that is redirected to where the device can be a redirect target, and by TC elsewhere.
    Auto,
}

/// The AQM of a port. Absent times depend on the rate and MTU and are resolved by [`super::encode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aqm {
    /// The controller; `None` leaves it to [`Aqm::algorithm_in`].
    pub algorithm: Option<Algorithm>,
    /// Sojourn aimed at; above 0 and below the interval.
    pub target: Option<Nanos>,
    /// CoDel's interval, PI2's largest round-trip time; at most 2^32 - 1 ns.
    pub interval: Option<Nanos>,
    /// Hard limit on the arriving packet's sojourn; at least the target.
    pub limit: Option<Nanos>,
    /// Which sojourn drives the controller.
    pub sojourn: Sojourn,
    /// PIE's time between updates of its probability; at most 2^32 - 1 ns.
    pub t_update: Option<Nanos>,
    /// Bursts up to this long are not signalled by PIE; at most 2^32 - 1 ns.
    pub max_burst: Option<Nanos>,
    /// Mark ECN-capable packets instead of dropping them.
    pub ecn: bool,
}

impl Aqm {
    /// The controller on a port of this mode. Behind a policer nothing waits, so a signal shortens no queue and costs rate
    /// (docs/rate-accuracy.md): unless a time of one is given, there is none.
    #[must_use]
    pub const fn algorithm_in(&self, mode: Mode) -> Algorithm {
        let timed = self.target.is_some() || self.interval.is_some() || self.limit.is_some();
        match (self.algorithm, mode) {
            (Some(algorithm), _) => algorithm,
            (None, Mode::Policer | Mode::Tc | Mode::Auto) if !timed => Algorithm::None,
            (None, Mode::Policer | Mode::Tc | Mode::Auto | Mode::Bottleneck) => Algorithm::Codel,
        }
    }
}

/// The controller of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// CoDel in its enqueue form (RFC 8289).
    Codel,
    /// PI2, the classic half of RFC 9332, at enqueue.
    Pi2,
    /// PIE (RFC 8033).
    Pie,
    /// The L4S pair: a step mark for ECT(1), PI2 coupled to it for the rest (RFC 9332). Classes only.
    L4s,
    /// None: ring admission and the policer only.
    None,
}

/// Which sojourn drives the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sojourn {
    /// The arriving packet's, predicted from backlog and drain rate.
    Predicted,
    /// The oldest frame's, as observed.
    Head,
}

impl Mode {
    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bottleneck => "bottleneck",
            Self::Policer => "policer",
            Self::Tc => "tc",
            Self::Auto => "auto",
        }
    }

    /// Whether a meter of the configured rate is the queue.
    pub fn has_meter(self) -> bool {
        match self {
            Self::Bottleneck => false,
            Self::Policer | Self::Tc | Self::Auto => true,
        }
    }
}

impl Stack {
    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decide => "decide",
            Self::Charge => "charge",
            Self::Ignore => "ignore",
        }
    }
}

impl PauseKind {
    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Link => "802.3x",
            Self::Priority => "pfc",
        }
    }
}

impl Algorithm {
    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Codel => "codel",
            Self::Pi2 => "pi2",
            Self::Pie => "pie",
            Self::L4s => "l4s",
            Self::None => "none",
        }
    }
}
