//! A discrete-event simulator with a virtual clock, in which weir's own decisions run unchanged.
//!
//! Fast links feed one slow link through a queue: [`Scenario`] says which path, flows and [`Contender`], [`Scenario::run`]
//! gives an [`Outcome`]. The `weir` contender calls [`weir_ingress::back_off`], [`weir_egress::bottleneck`],
//! [`weir_egress::policer`] and [`weir_egress::observe`] in the order the eBPF programs do, on the same state layouts; the
//! simulator brings the clock, the rings and the traffic.
//!
//! The same scenario and seed give the same outcome, event for event and on every machine: time is integer nanoseconds,
//! events of one instant happen in the order they were set, the only source of chance is [`Random`], and what is computed in
//! floating point is computed by IEEE's basic operations and `libm`.
//!
//! `README.md` beside this crate says what is simplified.
#![forbid(unsafe_code)]

pub mod address;
mod contender;
#[cfg(test)]
mod event_queue;
mod events;
mod flow_sizes;
mod outcome;
mod packet;
pub mod queue;
mod random;
mod scenario;
pub mod sender;
pub mod trace;
mod world;

#[cfg(test)]
pub use event_queue::EventQueue;

pub use contender::{Contender, port_config};
pub use events::{Agenda, Due};
pub use outcome::{DelayRecorder, Delays, FlowOutcome, Outcome, RingOutcome, SeriesPoint, SpillOutcome};
pub use packet::{Ecn, FlowId, Packet, Protocol, Service};
pub use random::Random;
pub use scenario::{
    Congestion, Flow, FlowSizes, LinkChange, LinkEvent, Path, Reverse, Rings, Scenario, SpillLink, Traffic,
};
