//! What can go wrong between a checked configuration and a running datapath. Each error names the thing.

use std::{io, path::PathBuf};

use miette::Diagnostic;
use thiserror::Error;

use crate::config::encode::EncodeError;

/// A failure of the datapath. Whatever had been attached before it is detached again.
#[derive(Debug, Error, Diagnostic)]
pub enum Error {
    /// Missing privilege.
    #[error("weir needs {missing}, and this process (uid {uid}) has not got it")]
    #[diagnostic(help("run it as root, or give it the capabilities CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"))]
    NotPrivileged {
        /// The capabilities that are missing.
        missing: String,
        /// Effective user.
        uid: u32,
    },
    /// The kernel lacks what every mode needs.
    #[error(
        "kernel {found} is too old: weir needs 5.14 (devmap programs that run at flush and keep metadata)"
    )]
    KernelTooOld {
        /// The running kernel.
        found: String,
    },
    /// No BPF file system, and none could be mounted.
    #[error("there is no BPF file system at {path}, and mounting one failed")]
    #[diagnostic(help("mount it by hand: mount -t bpf bpf {path}"))]
    NoBpffs {
        /// Where it belongs.
        path: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A device of the configuration does not exist in this network namespace.
    #[error("device {device} does not exist in this network namespace")]
    #[diagnostic(help("the devices here: {known}"))]
    NoSuchDevice {
        /// The device.
        device: String,
        /// Devices that exist.
        known: String,
    },
    /// Somebody else's XDP program is on the device.
    #[error("device {device} already has an XDP program (id {program})")]
    #[diagnostic(help(
        "weir replaces no program it did not attach; remove it (ip link set dev {device} xdp off) or use another device"
    ))]
    DeviceHasXdp {
        /// The device.
        device: String,
        /// Id of the program there.
        program: u32,
    },
    /// The driver has no native XDP.
    #[error("device {device} (driver {driver}) cannot run XDP programs natively")]
    #[diagnostic(help(
        "weir needs native XDP: a generic one runs no devmap program on older kernels and copies every packet"
    ))]
    NoNativeXdp {
        /// The device.
        device: String,
        /// Its driver.
        driver: String,
        /// The kernel's answer, where it gave one.
        #[source]
        source: Option<io::Error>,
    },
    /// The device cannot take redirected frames.
    #[error("device {device} (driver {driver}) cannot be a redirect target")]
    #[diagnostic(help("{hint}"))]
    NotRedirectTarget {
        /// The device.
        device: String,
        /// Its driver.
        driver: String,
        /// What would make it one.
        hint: String,
    },
    /// Another process runs the instance.
    #[error("instance {instance} is already running (lock {lock} is held)")]
    #[diagnostic(help("stop it, or give this configuration another `instance` name"))]
    InstanceBusy {
        /// The instance.
        instance: String,
        /// The lock file.
        lock: PathBuf,
    },
    /// Nothing runs under this name.
    #[error("no instance {instance} runs here: {path} does not exist")]
    NoInstance {
        /// The instance.
        instance: String,
        /// Directory of its pins.
        path: PathBuf,
    },
    /// A pinned map is not what this build expects.
    #[error("pinned map {path} does not fit this build: {found}, expected {expected}")]
    #[diagnostic(help("it was made by another version of weir; stop that one first"))]
    Abi {
        /// The pin.
        path: PathBuf,
        /// Type and sizes there.
        found: String,
        /// Type and sizes expected.
        expected: String,
    },
    /// An object could not be parsed or its maps made.
    #[error("cannot load the {object} object")]
    Object {
        /// Which object.
        object: &'static str,
        /// aya's word.
        #[source]
        source: Box<aya::EbpfError>,
    },
    /// The kernel refused a program.
    #[error("cannot {action} program {program}{on}")]
    Program {
        /// `load` or `attach`.
        action: &'static str,
        /// The program.
        program: &'static str,
        /// The device, as ` on NAME`, or nothing.
        on: String,
        /// aya's word, with the verifier's log where there is one.
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    /// A map operation failed.
    #[error("cannot access map {map}")]
    Map {
        /// The map.
        map: &'static str,
        /// aya's word.
        #[source]
        source: Box<aya::maps::MapError>,
    },
    /// Entries of a map could not be written or removed.
    #[error("cannot {action} {of} entries of map {map}: {done} were done")]
    Entries {
        /// `write` or `remove`.
        action: &'static str,
        /// How many were asked for.
        of: usize,
        /// How many were done before the failure.
        done: usize,
        /// The map.
        map: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The list of names beside the maps is damaged.
    #[error("{path} is no list of plans and subscribers")]
    #[diagnostic(help("stop the instance and start it again: it is written anew"))]
    Roster {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The configuration that runs is not one for this build.
    #[error("the configuration that runs cannot be read by this build")]
    #[diagnostic(help("it was started by another version of weir; stop it and start it again"))]
    RunningConfig {
        /// What is wrong with it.
        #[source]
        source: Box<crate::config::ConfigError>,
    },
    /// A reload that would have to change more than subscribers.
    #[error(
        "only plans and subscribers can be changed while weir runs, and these changed as well: {changes}"
    )]
    #[diagnostic(help(
        "nothing was touched; undo those changes, or stop weir and start it with the new file"
    ))]
    ReloadRefused {
        /// Tables and keys.
        changes: String,
    },
    /// More subscribers than the maps have room for.
    #[error("{has} {what} do not fit: the running instance has room for {most}")]
    #[diagnostic(help(
        "nothing was touched; maps are made at start with room for an eighth more: stop weir and start it again"
    ))]
    NoRoom {
        /// What there are too many of.
        what: &'static str,
        /// How many.
        has: usize,
        /// How many fit.
        most: u32,
    },
    /// A pin could not be made or read.
    #[error("cannot pin or open {path}")]
    Pin {
        /// The path in the BPF file system.
        path: PathBuf,
        /// What happened.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The object lacks a part this build expects: the committed objects and the sources differ.
    #[error("the {object} object has no {part}")]
    MissingPart {
        /// Which object.
        object: &'static str,
        /// Map or program.
        part: &'static str,
    },
    /// The configuration does not fit the device.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Netlink said no.
    #[error("cannot {action}")]
    Netlink {
        /// What was tried.
        action: String,
        /// The kernel's answer.
        #[source]
        source: rtnetlink::Error,
    },
    /// A system call failed.
    #[error("cannot {action}")]
    Os {
        /// What was tried.
        action: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// For `map_err` on system calls.
    pub(crate) fn os(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Os { action, source }
    }

    pub(crate) fn program(
        action: &'static str,
        program: &'static str,
        device: Option<&str>,
    ) -> impl FnOnce(aya::programs::ProgramError) -> Self {
        let on = device.map(|d| format!(" on {d}")).unwrap_or_default();
        move |source| Self::Program { action, program, on, source: Box::new(source) }
    }

    pub(crate) fn map<E: Into<aya::maps::MapError>>(map: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Map { map, source: Box::new(source.into()) }
    }
}
