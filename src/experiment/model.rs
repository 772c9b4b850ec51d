//! What an experiment means, checked.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_sim::trace::Trace;

use super::error::{Context, ExperimentError};
use super::file::RawExperiment;
use super::flow::{Probe, ScriptedFlow, ShortFlows, TcpFlow, UdpFlow};
use super::sweep::Axis;
use super::units::BitRate;
use crate::config::Config;

/// A checked experiment.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// Its name, for the report.
    pub name: String,
    /// How long the traffic runs.
    pub duration: Duration,
    /// What is left out of the measurements at the start.
    pub warmup: Duration,
    /// The seeds it runs with.
    pub seeds: Seeds,
    /// The contenders in the order they run.
    pub contenders: Vec<String>,
    /// The family of all traffic.
    pub family: Family,
    /// The slow link.
    pub link: Link,
    /// TCP flows, one entry per flow.
    pub tcp: Vec<TcpFlow>,
    /// UDP flows, one entry per flow.
    pub udp: Vec<UdpFlow>,
    /// Flows whose packets follow an application, one entry per flow.
    pub scripted: Vec<ScriptedFlow>,
    /// Groups of short TCP flows.
    pub short: Vec<ShortFlows>,
    /// Delay probes.
    pub probes: Vec<Probe>,
    /// What happens to the link while it runs, by time.
    pub events: Vec<Event>,
    /// The rate of shapers and policers.
    pub shaper_rate: BitRate,
    /// The queues of the kernel's shapers.
    pub shaper_queues: ShaperQueues,
    /// The configuration that the `weir` contender runs: the fast device, and the slow one with the file's `[weir]`.
    pub weir: Config,
    /// What is varied.
    pub sweep: Vec<Axis>,
    /// The file's text, for the report.
    pub source: String,
    /// What errors call the file.
    pub(super) file: String,
    pub(super) claims: Claims,
}

/// The seeds of the simulator's chance: `count` of them, from `first` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seeds {
    /// The first.
    pub first: u64,
    /// How many, 1 at least.
    pub count: u32,
}

impl Seeds {
    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = u64> {
        (0..self.count).map(move |n| self.first.wrapping_add(u64::from(n)))
    }
}

/// The slow link of an experiment, and the router's side of it.
#[derive(Debug, Clone)]
pub struct Link {
    /// What it carries; the mean rate of the trace, where there is one and no rate.
    pub rate: BitRate,
    /// Delivery opportunities instead of the rate.
    pub trace: Option<Arc<Trace>>,
    /// One way, in each direction.
    pub delay: Duration,
    /// Slots of the TX ring in front of it.
    pub ring: u32,
    /// Bytes added to each frame's length.
    pub overhead: u32,
    /// A limit of the way back.
    pub reverse_rate: Option<BitRate>,
    /// What only the simulator's link has.
    pub simulated: SimulatedLink,
}

/// Properties that only the simulator's link has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimulatedLink {
    /// Each frame is delayed by up to this much more.
    pub jitter: Duration,
    /// Frames lost, in millionths.
    pub loss_ppm: u32,
    /// Acknowledgements lost on the way back, in millionths.
    pub reverse_loss_ppm: u32,
    /// The rate at which frames come in at each CPU.
    pub fast_rate: BitRate,
    /// CPUs of the router.
    pub cpus: u32,
    /// How long interrupts are coalesced.
    pub poll: Duration,
    /// One TX ring for each CPU.
    pub ring_per_cpu: bool,
    /// Slots are given back in groups of this many frames.
    pub reclaim: u32,
    /// A second slow link, behind the port that flows spill to.
    pub spill: Option<SpillLink>,
}

/// The second slow link. Its rings are as many as the first one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpillLink {
    /// What it carries.
    pub rate: BitRate,
    /// One way.
    pub delay: Duration,
    /// Slots of the TX ring in front of it.
    pub ring: u32,
}

/// The queues behind the kernel's shapers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShaperQueues {
    /// Full frames that a plain queue takes.
    pub limit: u32,
    /// The code point that HTB has a class of its own for, which it serves first.
    pub priority_dscp: Option<u8>,
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

/// Values that one of the two cannot do, with the rule that says so.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims {
    pub(super) refused_by_lab: Vec<Claim>,
    pub(super) refused_by_simulator: Vec<Claim>,
}

pub(super) type Claim = (Range<usize>, String);

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

    /// Checks `text`; `file` is what errors call it. Files it names are looked for beside `file`.
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

    /// Refuses what only the simulator can do.
    ///
    /// # Errors
    /// [`ExperimentError`] at the first such key.
    pub fn check_for_lab(&self) -> Result<(), Box<ExperimentError>> {
        self.refuse(&self.claims.refused_by_lab)
    }

    /// Refuses what only the lab can do.
    ///
    /// # Errors
    /// [`ExperimentError`] at the first such key.
    pub fn check_for_simulator(&self) -> Result<(), Box<ExperimentError>> {
        self.refuse(&self.claims.refused_by_simulator)
    }

    fn refuse(&self, claims: &[Claim]) -> Result<(), Box<ExperimentError>> {
        let context = Context { file: &self.file, text: &self.source };
        match claims.first() {
            None => Ok(()),
            Some((span, rule)) => Err(context.error(span.clone(), rule)),
        }
    }

    /// Whether any flow asks for ECN.
    #[must_use]
    pub fn ecn(&self) -> bool {
        self.tcp.iter().any(|flow| flow.ecn)
    }

    /// Cuts (or extends) the run to `duration`: what would start later does not run, what would stop later stops then,
    /// and flows that ran to the end still do. A warm-up longer than half of it becomes half of it.
    pub fn set_duration(&mut self, duration: Duration) {
        let was = self.duration;
        let spans = self
            .tcp
            .iter_mut()
            .map(|flow| &mut flow.span)
            .chain(self.udp.iter_mut().map(|flow| &mut flow.span))
            .chain(self.scripted.iter_mut().map(|flow| &mut flow.span))
            .chain(self.short.iter_mut().map(|flow| &mut flow.span));
        for span in spans {
            span.stop = if span.stop >= was { duration } else { span.stop.min(duration) };
        }
        self.tcp.retain(|flow| flow.span.start < duration);
        self.udp.retain(|flow| flow.span.start < duration);
        self.scripted.retain(|flow| flow.span.start < duration);
        self.short.retain(|flow| flow.span.start < duration);
        self.events.retain(|event| event.at < duration);
        self.warmup = self.warmup.min(duration / 2);
        self.duration = duration;
    }
}
