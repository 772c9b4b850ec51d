//! What is simulated.

use std::sync::Arc;

use weir_aqm::{Nanos, Rate};

use crate::{Contender, Outcome, sender::Sizes, trace::Trace, world};

/// Path, flows, the queue and the seed of one run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Seed of everything random.
    pub seed: u64,
    /// How long flows send. The run goes on until nothing is under way.
    pub duration: Nanos,
    /// Measurements begin here: delays, bytes and utilisation of the time before are left out; counts are not.
    pub measure_from: Nanos,
    /// The way from senders to receivers and back.
    pub path: Path,
    /// Who decides.
    pub contender: Contender,
    /// Who sends.
    pub flows: Vec<Flow>,
    /// What happens to the slow link, by time.
    pub events: Vec<LinkEvent>,
    /// Points of [`Outcome::series`] are this far apart; `None` records no series.
    pub sample: Option<Nanos>,
}

/// The path: one fast link per CPU of the router into one slow link, and a way back.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    /// The slow link's rate, 1 bit/s at least. Unused where [`Path::trace`] says when packets leave.
    pub rate: Rate,
    /// Delivery opportunities instead of a rate.
    pub trace: Option<Arc<Trace>>,
    /// One way, in each direction.
    pub delay: Nanos,
    /// The slow link delays each frame by up to this much more, uniformly; frames do not overtake each other.
    pub jitter: Nanos,
    /// Frames that the slow link loses, in millionths.
    pub loss_ppm: u32,
    /// Bytes that a frame takes on the slow link besides its own.
    pub overhead: u32,
    /// The slow device's transmit rings.
    pub ring: Rings,
    /// The fast links' rate; `None`: frames arrive when they are sent.
    pub fast: Option<Rate>,
    /// CPUs of the router, one fast link each, 1 at least. A flow arrives at CPU `flow % cpus`.
    pub cpus: u32,
    /// A CPU looks this long after the first frame that waits: interrupt coalescing. All that came until then is one
    /// poll, at most 64 frames.
    pub poll: Nanos,
    /// The way back.
    pub reverse: Reverse,
    /// A second link that flows may spill to ([`Contender::WeirRouter`]).
    pub spill: Option<Box<SpillLink>>,
}

/// A second slow link of the router. Acknowledgements come back by the way back of the first.
#[derive(Clone, Debug, PartialEq)]
pub struct SpillLink {
    /// Its rate, 1 bit/s at least.
    pub rate: Rate,
    /// One way.
    pub delay: Nanos,
    /// Its device's transmit rings.
    pub ring: Rings,
    /// What happens to it, by time.
    pub events: Vec<LinkEvent>,
}

/// The slow device's transmit rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rings {
    /// Frames in each, at least one.
    pub slots: u32,
    /// One ring for each CPU instead of one that all share.
    pub per_cpu: bool,
    /// Slots are given back in groups of this many frames, as drivers that reclaim late do; 1 is at once.
    pub reclaim: u32,
}

/// The way of acknowledgements: frames of 66 bytes (Ethernet, IPv4, TCP with timestamps) without further overhead, in a
/// queue of their own that has no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reverse {
    /// `None` is no limit.
    pub rate: Option<Rate>,
    /// Acknowledgements lost, in millionths.
    pub loss_ppm: u32,
}

/// Something that happens to the slow link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkEvent {
    /// When.
    pub at: Nanos,
    /// What.
    pub change: LinkChange,
}

/// What can happen to the slow link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkChange {
    /// It takes no more frames. A link that is still paused when nothing else can happen is resumed, so that a run leaves
    /// no frame behind.
    Pause,
    /// It takes frames again.
    Resume,
    /// It has another rate, from the next frame on. Nothing, where a trace says when frames leave.
    Rate(Rate),
}

/// A flow, or a group of flows alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    /// What it sends.
    pub traffic: Traffic,
    /// How many alike, 1 at least. Of short flows: how many processes of arrivals.
    pub count: u32,
    /// When they start.
    pub start: Nanos,
    /// When they stop sending new data, or no more short flows come; `None`: at the end.
    pub stop: Option<Nanos>,
    /// Each starts later than `start` by a random time below this.
    pub jitter: Nanos,
    /// How much farther away this flow's sender is, one way: its frames cross this before the fast link, acknowledgements
    /// after the path's way back. The base round-trip time is twice the sum of [`Path::delay`] and this.
    pub extra_delay: Nanos,
    /// Which host sends.
    pub host: u16,
    /// Differentiated services code point.
    pub dscp: u8,
    /// Destination port; flows alike take this one and those after it, short flows this one.
    pub port: u16,
}

/// What a flow sends.
#[derive(Clone, Debug, PartialEq)]
pub enum Traffic {
    /// A TCP connection.
    Tcp {
        /// Its congestion control.
        congestion: Congestion,
        /// Whether it offers ECN. Prague sends ECT(1), DCTCP ECT(0) and BBR neither, whatever this says.
        ecn: bool,
        /// Payload bytes to send; `None` is endless.
        bytes: Option<u64>,
    },
    /// TCP connections that come and go: Poisson arrivals, sizes from a distribution, completion times measured.
    Short {
        /// Their congestion control.
        congestion: Congestion,
        /// Whether they offer ECN.
        ecn: bool,
        /// Mean time between two arrivals.
        mean: Nanos,
        /// How large they are.
        sizes: FlowSizes,
    },
    /// Frames at a constant rate.
    Constant {
        /// Of Ethernet frames.
        rate: Rate,
        /// Length of a frame.
        bytes: u32,
        /// What they bear; ECN-capable ones heed no mark.
        ecn: crate::Ecn,
    },
    /// A small frame each interval, whose delay is measured.
    Probe {
        /// Between two.
        interval: Nanos,
        /// Length of a frame.
        bytes: u32,
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
    /// A constant rate for an exponentially distributed time, then silence for another.
    OnOff {
        /// While it sends.
        rate: Rate,
        /// Length of a frame.
        bytes: u32,
        /// Mean time of sending.
        on: Nanos,
        /// Mean time of silence.
        off: Nanos,
    },
    /// One direction of a call: G.711, 160 bytes of speech each 20 ms, 214-byte frames, talk spurts and silences.
    Voip,
    /// A game server's updates to one player: small frames of varying size, about 17 a second.
    Gaming,
}

/// How large short flows are.
#[derive(Clone, Debug, PartialEq)]
pub enum FlowSizes {
    /// All alike, payload bytes.
    Fixed(u64),
    /// Web search (Alizadeh et al., DCTCP, SIGCOMM 2010, figure 4).
    WebSearch,
    /// Data mining (Greenberg et al., VL2, SIGCOMM 2009, figure 2).
    DataMining,
    /// Points of a cumulative distribution: payload bytes, and the share of flows that are no larger (rising to 1).
    Empirical(Arc<[(u64, f64)]>),
}

/// A congestion control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Congestion {
    /// RFC 6582 and RFC 5681.
    Reno,
    /// RFC 9438.
    Cubic,
    /// BBR version 1 (draft-cardwell-iccrg-bbr-congestion-control-00).
    Bbr1,
    /// BBR version 3 (draft-ietf-ccwg-bbr).
    Bbr3,
    /// RFC 8257.
    Dctcp,
    /// draft-briscoe-iccrg-prague-congestion-control.
    Prague,
}

impl Congestion {
    /// Every one.
    pub const ALL: [Self; 6] = [Self::Reno, Self::Cubic, Self::Bbr1, Self::Bbr3, Self::Dctcp, Self::Prague];
}

impl Path {
    /// A path of one CPU with one ring, without jitter or loss.
    pub const fn new(rate: Rate, delay: Nanos, slots: u32) -> Self {
        Self {
            rate,
            trace: None,
            delay,
            jitter: Nanos::ZERO,
            loss_ppm: 0,
            overhead: 0,
            ring: Rings { slots, per_cpu: false, reclaim: 1 },
            fast: Some(Rate::from_bits_per_second(10_000_000_000)),
            cpus: 1,
            poll: Nanos::from_micros(20),
            reverse: Reverse { rate: None, loss_ppm: 0 },
            spill: None,
        }
    }
}

impl SpillLink {
    /// A link with one ring, which nothing happens to.
    pub const fn new(rate: Rate, delay: Nanos, slots: u32) -> Self {
        let ring = Rings { slots, per_cpu: false, reclaim: 1 };
        Self { rate, delay, ring, events: Vec::new() }
    }

    /// The path over this link instead of `first`'s, without its jitter and losses.
    pub(crate) fn path(&self, first: &Path) -> Path {
        let Self { rate, delay, ring, events: _ } = *self;
        Path {
            rate,
            delay,
            ring,
            trace: None,
            jitter: Nanos::ZERO,
            loss_ppm: 0,
            spill: None,
            ..first.clone()
        }
    }
}

impl Flow {
    /// One flow that starts at zero and sends to the end.
    pub const fn new(traffic: Traffic) -> Self {
        Self {
            traffic,
            count: 1,
            start: Nanos::ZERO,
            stop: None,
            jitter: Nanos::ZERO,
            extra_delay: Nanos::ZERO,
            host: 0,
            dscp: 0,
            port: 0,
        }
    }

    /// An endless TCP flow.
    pub const fn bulk(congestion: Congestion, ecn: bool) -> Self {
        Self::new(Traffic::Tcp { congestion, ecn, bytes: None })
    }

    /// A probe of 64 bytes of payload (106-byte frames, as the lab's).
    pub const fn probe(interval: Nanos) -> Self {
        Self::new(Traffic::Probe { interval, bytes: 106 })
    }

    /// Starts up to `jitter` late.
    #[must_use]
    pub fn jittered(self, jitter: Nanos) -> Self {
        Self { jitter, ..self }
    }

    /// So many alike.
    #[must_use]
    pub fn times(self, count: u32) -> Self {
        Self { count, ..self }
    }
}

impl Scenario {
    /// A run of `contender` on `path` without flows: seed 1, measured from the start, no series.
    pub const fn new(path: Path, contender: Contender, duration: Nanos) -> Self {
        Self {
            seed: 1,
            duration,
            measure_from: Nanos::ZERO,
            path,
            contender,
            flows: Vec::new(),
            events: Vec::new(),
            sample: None,
        }
    }

    /// Runs to the end.
    pub fn run(&self) -> Outcome {
        world::run(self)
    }
}
