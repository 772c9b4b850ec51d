//! What a run found.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::groups::{ClassResult, Group};
use super::measures::{DelaySummary, RingSummary, Samples, decimated};
use crate::experiment::Experiment;
use crate::experiment::units::nanos;

/// Everything one `weir lab` or `weir sim` found.
///
/// As JSON it is what `--json` writes. Times are nanoseconds, rates are bits per second; a value that this
/// run could not know is `null`, and what only the other of the two has is left out.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The experiment's name.
    pub experiment: String,
    /// What it ran on.
    #[serde(flatten)]
    pub place: Place,
    /// What was set up.
    pub setup: Setup,
    /// The contenders that ran, in order.
    pub runs: Vec<Run>,
    /// The contenders that are missing here.
    pub skipped: Vec<Skipped>,
    /// The contenders that should have run and could not.
    pub failed: Vec<Skipped>,
}

impl Report {
    /// What was varied; nothing in the lab.
    pub(super) fn sweep(&self) -> &[SweptKey] {
        match &self.place {
            Place::Lab { .. } => &[],
            Place::Simulator { sweep, .. } => sweep,
        }
    }

    /// The runs whose samples a picture shows.
    pub(super) fn sampled(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| run.lab.is_some() || !run.samples.ring.is_empty())
    }

    /// The runs whose drops are told by cause: those with drops, of the first seed, unless there is a sweep.
    pub(super) fn with_causes(&self) -> impl Iterator<Item = &Run> {
        let first = match &self.place {
            Place::Lab { .. } => None,
            Place::Simulator { seeds, .. } => seeds.first().copied(),
        };
        self.runs.iter().filter(move |run| {
            let told = run.simulated.as_ref().is_none_or(|s| s.point.is_empty() && Some(s.seed) == first);
            told && run.dropped() > 0
        })
    }
}

/// What an experiment ran on.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Place {
    /// The lab.
    Lab {
        /// The kernel.
        kernel: String,
        /// What the measurements leave out at the start.
        warmup_ns: u64,
    },
    /// The simulator.
    Simulator {
        /// Its name and version.
        simulator: String,
        /// The seeds of all runs, in order.
        seeds: Vec<u64>,
        /// What the measurements leave out at the start.
        warmup_ns: u64,
        /// What was varied.
        sweep: Vec<SweptKey>,
    },
}

impl Place {
    /// For a headline.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Lab { kernel, .. } => kernel,
            Self::Simulator { simulator, .. } => simulator,
        }
    }

    /// The command that measured it.
    #[must_use]
    pub const fn command(&self) -> &'static str {
        match self {
            Self::Lab { .. } => "weir lab",
            Self::Simulator { .. } => "weir sim",
        }
    }
}

/// One key of a sweep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SweptKey {
    /// Its path in the file.
    pub key: String,
    /// What it took, in order.
    pub values: Vec<String>,
}

/// What an experiment set up, for a reader of the report.
#[derive(Debug, Clone, Serialize)]
pub struct Setup {
    /// How long the traffic ran.
    pub duration_ns: u64,
    /// The slow link's rate.
    pub link_rate_bps: u64,
    /// The slow link's one-way delay.
    pub link_delay_ns: u64,
    /// The slots of the TX ring in front of it.
    pub ring_slots: u32,
    /// The rate that the kernel's shapers were given.
    pub shaper_rate_bps: u64,
    /// The experiment file.
    pub source: String,
}

impl Setup {
    /// Of `experiment`.
    #[must_use]
    pub fn of(experiment: &Experiment) -> Self {
        Self {
            duration_ns: nanos(experiment.duration),
            link_rate_bps: experiment.link.rate.bps(),
            link_delay_ns: nanos(experiment.link.delay),
            ring_slots: experiment.link.ring,
            shaper_rate_bps: experiment.shaper_rate.bps(),
            source: experiment.source.clone(),
        }
    }
}

/// One contender's run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// Who ran.
    pub contender: String,
    /// What only the simulator knows.
    #[serde(flatten)]
    pub simulated: Option<Simulated>,
    /// Payload that arrived over the measured time: of TCP, or of UDP where there is no TCP.
    pub goodput_bps: u64,
    /// One-way delay of the probes that arrived.
    pub delay_ns: Option<DelaySummary>,
    /// Probes sent and arrived; the delay above is of those that arrived.
    pub probes: ProbeCount,
    /// Frames of the sender that reached the router.
    pub offered_pkts: u64,
    /// Frames of the sender that the slow link took from the router.
    pub delivered_pkts: u64,
    /// Drops by cause, from the contender's own counters.
    pub drops: BTreeMap<String, u64>,
    /// Congestion Experienced marks, from the contender's own counters.
    pub marks: u64,
    /// Packets that were offered, not delivered, and are in no counter of the contender.
    pub silent_drops: u64,
    /// Frames that the full TX ring refused.
    pub ring_drops: Option<u64>,
    /// The contender's own packets in, less out, less all its causes, after everything drained.
    pub unaccounted: Option<i64>,
    /// The TX ring.
    pub ring: RingSummary,
    /// What only the lab knows.
    #[serde(flatten)]
    pub lab: Option<LabFacts>,
    /// Per flow.
    pub flows: Vec<FlowResult>,
    /// The flows whose tables have a name, together for each name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
    /// weir's classes, in the lab.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassResult>,
    /// Everything measured over time.
    #[serde(serialize_with = "decimated", default)]
    pub samples: Samples,
}

impl Run {
    /// Drops that the contender counted, of all causes.
    pub(super) fn dropped(&self) -> u64 {
        self.drops.values().sum()
    }

    /// The value of a swept key, without the quotes of a string.
    pub(super) fn setting(&self, key: &str) -> &str {
        let typed = self.simulated.as_ref().and_then(|simulated| simulated.point.get(key));
        typed.map_or("", |typed| bare(typed))
    }
}

/// A typed value without the quotes of a string.
pub(super) fn bare(typed: &str) -> &str {
    typed.trim_matches(['"', '\''])
}

/// What only the lab knows of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabFacts {
    /// Frames of the router itself that crossed the slow link; in no other number here.
    pub router_pkts: u64,
    /// Frames of the sender that crossed the slow link with a Congestion Experienced mark.
    pub ce_delivered_pkts: u64,
    /// Frames that the link emulator could not read or write; 0, or the run says nothing.
    pub link_errors: u64,
    /// The latest wake-up of the link emulator: a disturbance by the machine, part of the longest delays.
    pub link_late_max_ns: u64,
    /// Link time that such disturbances cost and that was not made up for.
    pub link_lost_ns: u64,
    /// Whether the link emulator ran in the real-time class.
    pub realtime: bool,
    /// Ethernet frames without their check sequence that the slow link took from the router, over the measured time.
    pub delivered_bps: u64,
    /// Packets that the contender gave to the kernel's stack to wait in a queueing discipline; `null` where it never does so.
    #[serde(default)]
    pub diverted_pkts: Option<u64>,
}

/// What only the simulator knows of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Simulated {
    /// The seed.
    pub seed: u64,
    /// Swept keys and their values, as typed.
    pub point: BTreeMap<String, String>,
    /// Share of the measured time that the slow link was sending.
    pub utilisation: f64,
    /// Jain's index of fairness over the goodputs of TCP flows without a size that send for three quarters of the measured
    /// time at least; `null` for less than two of them.
    pub jain: Option<f64>,
    /// Times from the start of a TCP flow to its last acknowledgement, of those that have an end and finished.
    pub completion_ns: Option<Distribution>,
    /// Frames that the slow link lost.
    pub lost_on_link_pkts: u64,
    /// Frames that weir gave to the kernel's stack to wait in a queueing discipline; `null` where it never does so.
    #[serde(default)]
    pub diverted_pkts: Option<u64>,
    /// The second slow link, where flows may spill to one.
    #[serde(default)]
    pub spill: Option<Spill>,
    /// Events that the run took.
    pub events: u64,
}

/// What a second slow link was used for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spill {
    /// Frames that weir sent its way.
    pub spilled_pkts: u64,
    /// Frames that left the router by it.
    pub delivered_pkts: u64,
    /// Share of the measured time that it was sending.
    pub utilisation: f64,
    /// Its device's TX ring.
    pub ring: RingSummary,
}

/// How many there were, and how they are distributed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// How many.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Minimum and percentiles.
    #[serde(flatten)]
    pub summary: DelaySummary,
}

/// What one flow brought through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FlowResult {
    /// Which flow ("tcp 0 (cubic)").
    pub flow: String,
    /// The name of its table in the experiment file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Payload bytes that arrived: in the lab in the whole run, in the simulator in the measured time.
    pub bytes: u64,
    /// Payload over the measured time.
    pub goodput_bps: u64,
    /// One-way delay of its frames; in the lab of UDP and probes.
    pub delay_ns: Option<DelaySummary>,
    /// Packets sent (in the lab of UDP and probes).
    pub sent: Option<u64>,
    /// Packets that arrived (in the lab of UDP and probes).
    pub received: Option<u64>,
    /// Packets that arrived after one that was sent later (UDP and probes).
    pub reordered: Option<u64>,
    /// What only the simulator knows.
    #[serde(flatten)]
    pub simulated: Option<SimulatedFlow>,
}

/// What only the simulator knows of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SimulatedFlow {
    /// Times from the start to the last acknowledgement, of a group of short flows or a flow with an end.
    pub completion_ns: Option<Distribution>,
}

/// How many probes there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeCount {
    /// Sent.
    pub sent: u64,
    /// Arrived.
    pub received: u64,
}

impl ProbeCount {
    /// Probes that did not arrive.
    pub(super) const fn lost(self) -> u64 {
        self.sent.saturating_sub(self.received)
    }
}

/// A contender that did not run.
#[derive(Debug, Clone, Serialize)]
pub struct Skipped {
    /// Who.
    pub contender: String,
    /// Why, in the words of the kernel or its tool.
    pub reason: String,
}
