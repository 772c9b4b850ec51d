//! The egress decision and the ring observation, as pure code.
//!
//! The eBPF programs in `src/bin/egress/` bring the clock, the maps and the driver's ring; the simulator and the
//! tests bring their own. A packet's way through a port in bottleneck mode: [`Queue`] (what stands in front of it) →
//! [`bottleneck::decide`] → [`Decision`]. In policer and virtual mode: the meter's theoretical arrival time →
//! [`policer::decide`]. After each batch: [`observe::observe`] renews drain rate and signal.
#![no_std]
#![forbid(unsafe_code)]

pub mod batch;
pub mod bottleneck;
mod controller;
mod convert;
mod decision;
pub mod frames;
mod limits;
pub mod observe;
pub mod policer;
pub mod policy;
mod queue;
mod transition;

pub use controller::AqmCell;
pub use convert::{
    codel_from_map, codel_to_map, drain_from_map, drain_to_map, pace_from_map, pace_of_word, pace_word,
    signal_from_map, signal_to_map,
};
pub use decision::Decision;
pub use limits::{Limits, framing_of, limits, slots_admitted, stands, wire_bytes};
pub use queue::Queue;
pub use transition::{level, transition};
