//! What a configuration means, after every check.

use std::fmt;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;

use thiserror::Error;
use weir_aqm::overhead::Framing;
use weir_aqm::{Bytes, Nanos, Rate};

use super::back_off::BackOff;
use super::error::{ConfigError, MAX_FILE_BYTES, Source};
use super::policy::{Class, Policy, Side};
use super::{file, validate};

/// The instance of a file that names none.
pub const DEFAULT_INSTANCE: &str = "default";

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

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    ///
    /// The file is missing, a directory, unreadable, above 1 MiB or not UTF-8; or all [`super::Problem`]s of its contents.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        Self::from_toml_str(&name, &read_config(path)?)
    }

    /// Checks TOML text. `name` stands for the file in errors, and in the path of the list of subscribers.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] with all problems of the text.
    pub fn from_toml_str(name: &str, text: &str) -> Result<Self, ConfigError> {
        Self::from_toml_str_with(name, text, &|path| read_list(path))
    }

    /// As [`Config::from_toml_str`], with another way to the list of subscribers than the file system.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn from_toml_str_with(name: &str, text: &str, list: &ReadList<'_>) -> Result<Self, ConfigError> {
        let source = Source::new(name, text);
        let (file, problems) = file::read(&source);
        validate::validate(&source, &file, problems, list)
    }
}

/// Reads the list of subscribers.
pub type ReadList<'a> = dyn Fn(&Path) -> std::io::Result<String> + 'a;

/// The text of a configuration file.
///
/// # Errors
///
/// As [`Config::load`], but for the contents.
pub fn read_config(path: &Path) -> Result<String, ConfigError> {
    let name = path.display().to_string();
    let unreadable = |source| ConfigError::Unreadable { path: name.clone(), source };
    let opened = std::fs::File::open(path).map_err(unreadable)?;
    if opened.metadata().map_err(unreadable)?.is_dir() {
        return Err(ConfigError::Directory { path: name });
    }
    let mut bytes = Vec::new();
    opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(ConfigError::TooLarge { path: name });
    }
    String::from_utf8(bytes).map_err(|error| ConfigError::not_utf8(&name, &error))
}

/// Bytes of a list of subscribers: a million lines of 256 bytes.
const MAX_LIST_BYTES: u64 = 256 << 20;

fn read_list(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_LIST_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_LIST_BYTES {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "larger than 256 MiB"));
    }
    Ok(text)
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
    /// Policer: burst tolerance. Absent: the larger of 10 ms at the rate and ten full frames.
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
    /// Rate up to which diverted packets may enter the stack. Absent: twice the port's rate, or twice what its ring drains.
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

/// An 802.1Q VLAN identifier, 1 to 4094.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VlanId(u16);

impl VlanId {
    /// `None` for 0 (priority tag), 4095 (reserved) and anything beyond 12 bits (IEEE 802.1Q table 9-2).
    pub fn new(id: i64) -> Option<Self> {
        u16::try_from(id).ok().filter(|id| (1..=4094).contains(id)).map(Self)
    }

    /// The identifier.
    pub fn get(self) -> u16 {
        self.0
    }
}

/// Why a name was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// A name of no characters.
    #[error("must not be empty")]
    Empty,
    /// Longer than the kernel or weir allows.
    #[error("must have at most {most} bytes, has {has}")]
    TooLong {
        /// The bound.
        most: usize,
        /// The name's length.
        has: usize,
    },
    /// `.` or `..`.
    #[error("must not be `.` or `..`")]
    Dots,
    /// A character that the name may not have.
    #[error("must not contain {found:?}")]
    Character {
        /// The first such character.
        found: char,
    },
}

/// A network device's name: 1 to 15 bytes, no `/`, `:` or white space (`dev_valid_name`, `net/core/dev.c` at v6.18).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceName(String);

impl DeviceName {
    /// Checks a name. Whether such a device exists is not asked.
    ///
    /// # Errors
    ///
    /// The first rule the name breaks.
    pub fn new(name: &str) -> Result<Self, NameError> {
        /// `IFNAMSIZ` less the terminating zero.
        const MOST: usize = 15;
        let refused = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        match name {
            "" => Err(NameError::Empty),
            "." | ".." => Err(NameError::Dots),
            _ if name.len() > MOST => Err(NameError::TooLong { most: MOST, has: name.len() }),
            _ => match name.chars().find(|&c| refused(c)) {
                Some(found) => Err(NameError::Character { found }),
                None => Ok(Self(name.to_owned())),
            },
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An instance's name: 1 to 32 of `a-z`, `0-9`, `_` and `-`, because it becomes a directory of the BPF file system.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceName(String);

impl InstanceName {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// The first rule the name breaks.
    pub fn new(name: &str) -> Result<Self, NameError> {
        const MOST: usize = 32;
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        match name {
            "" => Err(NameError::Empty),
            _ if name.len() > MOST => Err(NameError::TooLong { most: MOST, has: name.len() }),
            _ => match name.chars().find(|&c| !allowed(c)) {
                Some(found) => Err(NameError::Character { found }),
                None => Ok(Self(name.to_owned())),
            },
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for InstanceName {
    fn default() -> Self {
        Self(DEFAULT_INSTANCE.to_owned())
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_obey_the_kernel() {
        assert!(DeviceName::new("lan0").is_ok());
        assert!(DeviceName::new("enp0s31f6.100").is_ok());
        assert_eq!(DeviceName::new(""), Err(NameError::Empty));
        assert_eq!(DeviceName::new(".."), Err(NameError::Dots));
        assert_eq!(DeviceName::new("a234567890123456"), Err(NameError::TooLong { most: 15, has: 16 }));
        for found in ['/', ':', ' ', '\n'] {
            assert_eq!(DeviceName::new(&format!("a{found}b")), Err(NameError::Character { found }));
        }
    }

    #[test]
    fn instance_names_cannot_leave_their_directory() {
        assert!(InstanceName::new("home-1_a").is_ok());
        for bad in ["", "..", "a/b", "Home", "a.b", &"x".repeat(33)] {
            assert!(InstanceName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn vlan_identifiers_exclude_the_two_reserved_ones() {
        for bad in [-1, 0, 4095, 4096, 65_537] {
            assert_eq!(VlanId::new(bad), None);
        }
        assert_eq!(VlanId::new(4094).map(VlanId::get), Some(4094));
    }
}
