//! A discrete-event simulator with a virtual clock, in which weir's own decisions run unchanged.
//!
//! One fast link feeds one slow link through a queue: [`Scenario`] says which links, senders and [`Contender`],
//! [`Scenario::run`] gives an [`Outcome`]. The `weir` contender calls [`weir_ingress::back_off`],
//! [`weir_egress::bottleneck::decide`] and [`weir_egress::observe::observe`] in the order the eBPF programs do, on the same
//! state layouts; the simulator brings the clock, the ring and the traffic.
//!
//! The same scenario and seed give the same outcome, event for event: time is integer nanoseconds, events of one instant
//! happen in the order they were scheduled, and the only source of chance is [`Random`]. Congestion windows are `f64`, so
//! outcomes may differ in the last digits between machines whose `cbrt` differs.
//!
//! `README.md` beside this crate says what is simplified.
#![forbid(unsafe_code)]

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
pub use outcome::{DelayRecorder, Delays, FlowOutcome, Outcome, RingOutcome, SeriesPoint};
pub use packet::{Ecn, FlowId, Packet};
pub use random::Random;
pub use scenario::{
    Congestion, Flow, FlowSizes, LinkChange, LinkEvent, Path, Reverse, Rings, Scenario, Traffic,
};
