//! Who sends.

use std::sync::Arc;
use std::time::Duration;

use super::units::BitRate;

/// When a flow sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// When it starts.
    pub start: Duration,
    /// When it stops.
    pub stop: Duration,
    /// It starts later by a random time below this, in the simulator; in the lab chance needs no help.
    pub jitter: Duration,
}

/// Who a flow is: what rules of classes can find it by, and what the report calls it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The name of its table, shared by all flows of the table; flows with a name are told apart in the report.
    pub name: Option<Arc<str>>,
    /// One-way delay besides the link's, in each direction.
    pub extra_delay: Duration,
    /// Which host sends.
    pub host: u16,
    /// Differentiated services code point.
    pub dscp: u8,
    /// Destination port.
    pub port: u16,
}

/// One TCP flow.
#[derive(Debug, Clone, PartialEq)]
pub struct TcpFlow {
    /// The kernel's name of its congestion control.
    pub congestion: String,
    /// When it sends.
    pub span: Span,
    /// Whether it offers ECN (in the lab a setting of both hosts, so the same for every flow).
    pub ecn: bool,
    /// Payload bytes to send; `None` is endless.
    pub bytes: Option<u64>,
    /// Who it is.
    pub identity: Identity,
}

/// One UDP flow.
#[derive(Debug, Clone)]
pub struct UdpFlow {
    /// Of the payload's IP packets plus Ethernet headers: the rate the link would see.
    pub rate: BitRate,
    /// Payload bytes per packet.
    pub size: u16,
    /// When it sends.
    pub span: Span,
    /// In which pattern; the lab's is constant.
    pub pattern: Pattern,
    /// Who it is.
    pub identity: Identity,
}

/// When a UDP flow's packets leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// At a fixed interval.
    Constant {
        /// What they bear; ECN-capable ones heed no mark.
        ecn: UdpEcn,
    },
    /// At exponentially distributed intervals.
    Poisson,
    /// At a fixed interval for an exponentially distributed time, then not for another.
    OnOff {
        /// Mean time of sending.
        on: Duration,
        /// Mean time of silence.
        off: Duration,
    },
}

/// The ECN field of UDP packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UdpEcn {
    /// Not ECN-capable.
    None,
    /// ECT(0).
    Ect0,
    /// ECT(1).
    Ect1,
}

/// A flow whose packets follow an application.
#[derive(Debug, Clone)]
pub struct ScriptedFlow {
    /// Which.
    pub application: Application,
    /// When it sends.
    pub span: Span,
    /// Who it is.
    pub identity: Identity,
}

/// Applications with packets of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Application {
    /// One direction of a call.
    Voip,
    /// A game server's updates.
    Gaming,
}

impl Application {
    /// Its name in an experiment file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Voip => "voip",
            Self::Gaming => "gaming",
        }
    }
}

/// TCP flows that come and go.
#[derive(Debug, Clone, PartialEq)]
pub struct ShortFlows {
    /// The kernel's name of their congestion control.
    pub congestion: String,
    /// Whether they offer ECN.
    pub ecn: bool,
    /// Mean time between two arrivals.
    pub interval: Duration,
    /// How large they are.
    pub sizes: Sizes,
    /// When they arrive.
    pub span: Span,
    /// Who they are.
    pub identity: Identity,
}

/// How large short flows are, in payload bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum Sizes {
    /// All alike.
    Fixed(u64),
    /// Web search.
    WebSearch,
    /// Data mining.
    DataMining,
    /// Points of a cumulative distribution.
    Points(Arc<[(u64, f64)]>),
}

/// One stream of delay probes.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Between two probes.
    pub interval: Duration,
    /// Payload bytes per probe.
    pub size: u16,
    /// Who they are.
    pub identity: Identity,
}
