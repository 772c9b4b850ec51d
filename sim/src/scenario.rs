//! What is simulated.

use weir_aqm::{Nanos, Rate};

use crate::{Contender, Outcome, sender::Sizes, world};

/// Links, flows, the queue and the seed of one run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Seed of everything random.
    pub seed: u64,
    /// How long flows send. The run goes on until nothing is under way.
    pub duration: Nanos,
    /// Measurements begin here: delays and utilisation of the time before are left out; counts are not.
    pub measure_from: Nanos,
    /// The path.
    pub links: Links,
    /// Who decides.
    pub contender: Contender,
    /// Who sends.
    pub flows: Vec<Flow>,
}

/// The path: one fast link into one slow link, and a way back without limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Links {
    /// The slow link's rate, 1 bit/s at least.
    pub rate: Rate,
    /// One way, in each direction.
    pub delay: Nanos,
    /// Frames in the slow device's transmit ring, at least one.
    pub ring: u32,
    /// The fast link's rate; `None`: frames arrive when they are sent.
    pub fast: Option<Rate>,
    /// The router looks this long after the first frame that waits: interrupt coalescing. All that came until then is one
    /// poll, at most 64 frames.
    pub poll: Nanos,
}

/// One flow, or several alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flow {
    /// What it sends.
    pub traffic: Traffic,
    /// When it starts.
    pub start: Nanos,
    /// It starts later than that by a random time below this.
    pub jitter: Nanos,
}

/// What a flow sends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Traffic {
    /// Bulk TCP with RFC 5681's window.
    Reno {
        /// Offer ECN.
        ecn: bool,
    },
    /// Bulk TCP with RFC 9438's window and a delay-based exit from slow start.
    Cubic {
        /// Offer ECN.
        ecn: bool,
    },
    /// Frames at a constant rate.
    Constant {
        /// Of Ethernet frames.
        rate: Rate,
        /// Length of a frame.
        bytes: u32,
        /// ECN-capable (and heeding no mark).
        ecn: bool,
    },
    /// A small frame each interval, whose delay is measured.
    Probe {
        /// Between two.
        interval: Nanos,
    },
    /// Poisson arrivals.
    Poisson {
        /// Mean time between two.
        mean: Nanos,
        /// Mean length of a frame.
        bytes: u32,
        /// How lengths vary.
        sizes: Sizes,
    },
}

impl Flow {
    /// A flow that starts at zero.
    pub const fn new(traffic: Traffic) -> Self {
        Self { traffic, start: Nanos::ZERO, jitter: Nanos::ZERO }
    }

    /// Starts up to `jitter` late.
    #[must_use]
    pub const fn jittered(self, jitter: Nanos) -> Self {
        Self { jitter, ..self }
    }
}

impl Scenario {
    /// Runs to the end.
    pub fn run(&self) -> Outcome {
        world::run(self)
    }
}
