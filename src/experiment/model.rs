//! What an experiment means, checked.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::{Context, ExperimentError};
use super::file::RawExperiment;
use super::units::BitRate;
use crate::config::Config;

/// A checked experiment.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// Its name, for the report.
    pub name: String,
    /// How long the traffic runs.
    pub duration: Duration,
    /// The contenders in the order they run.
    pub contenders: Vec<String>,
    /// The family of all traffic.
    pub family: Family,
    /// The slow link.
    pub link: Link,
    /// TCP flows, one entry per flow.
    pub tcp: Vec<TcpFlow>,
    /// UDP flows of a constant rate.
    pub udp: Vec<UdpFlow>,
    /// Delay probes.
    pub probes: Vec<Probe>,
    /// What happens to the link while it runs, by time.
    pub events: Vec<Event>,
    /// The rate the kernel's shapers (`kernel+htb`, `+tbf`, `+fq_codel`, `+cake`) are given.
    pub shaper_rate: BitRate,
    /// The configuration that the `weir` contender runs: the fast device, and the slow one with the file's `[weir]`.
    pub weir: Config,
    /// The file's text, for the report.
    pub source: String,
}

/// The slow link of an experiment.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// What the emulator drains.
    pub rate: BitRate,
    /// One way, in each direction.
    pub delay: Duration,
    /// Slots of the TX ring in front of it.
    pub ring: u32,
    /// Bytes added to each frame's length.
    pub overhead: u32,
    /// A limit of the way back.
    pub reverse_rate: Option<BitRate>,
}

/// One TCP bulk flow.
#[derive(Debug, Clone)]
pub struct TcpFlow {
    /// The kernel's name of its congestion control.
    pub congestion: String,
    /// When it starts.
    pub start: Duration,
    /// When it stops.
    pub stop: Duration,
    /// Whether it offers ECN (a setting of both hosts, so the same for every flow).
    pub ecn: bool,
}

/// One UDP flow.
#[derive(Debug, Clone, Copy)]
pub struct UdpFlow {
    /// Of the payload's IP packets plus Ethernet headers: the rate the link would see.
    pub rate: BitRate,
    /// Payload bytes per packet.
    pub size: u16,
    /// When it starts.
    pub start: Duration,
    /// When it stops.
    pub stop: Duration,
}

/// One stream of delay probes.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// Between two probes.
    pub interval: Duration,
    /// Payload bytes per probe.
    pub size: u16,
}

/// Something that happens to the link.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// When, from the start of the run.
    pub at: Duration,
    /// What.
    pub action: Action,
}

/// What can happen to the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It stops draining the ring.
    Pause,
    /// It drains again.
    Resume,
    /// It drains at another rate.
    Rate(BitRate),
}

/// The address family of an experiment's traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4; IPv6 is disabled on every device.
    #[default]
    Ipv4,
    /// IPv6; IPv4 is there as well.
    Ipv6,
}

impl Experiment {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// [`ExperimentError`] that names the file, the line, the key and the rule.
    pub fn load(path: &Path) -> Result<Self, Box<ExperimentError>> {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&name, &text),
            Err(source) => Err(Box::new(ExperimentError::Read { path: name, source })),
        }
    }

    /// Checks `text`; `file` is what errors call it.
    ///
    /// # Errors
    /// [`ExperimentError`] that names the file, the line, the key and the rule.
    pub fn parse(file: &str, text: &str) -> Result<Self, Box<ExperimentError>> {
        let context = Context { file, text };
        let raw: RawExperiment = toml::from_str(text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            context.error(span, error.message())
        })?;
        raw.check(&context)
    }

    /// Whether any flow asks for ECN.
    #[must_use]
    pub fn ecn(&self) -> bool {
        self.tcp.iter().any(|flow| flow.ecn)
    }

    /// Cuts (or extends) the run to `duration`: what would start later does not run, what would stop later stops then,
    /// and flows that ran to the end still do.
    pub fn set_duration(&mut self, duration: Duration) {
        let was = self.duration;
        let adjust = |stop: Duration| if stop >= was { duration } else { stop.min(duration) };
        for flow in &mut self.tcp {
            flow.stop = adjust(flow.stop);
        }
        for flow in &mut self.udp {
            flow.stop = adjust(flow.stop);
        }
        self.tcp.retain(|flow| flow.start < duration);
        self.udp.retain(|flow| flow.start < duration);
        self.events.retain(|event| event.at < duration);
        self.duration = duration;
    }
}
