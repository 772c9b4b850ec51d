//! Active queue management, policing and signalling as pure integer code: state in, verdict out.
//!
//! Nothing here reads a clock, a random number, a map or a file. The caller brings `now` (nanoseconds of one
//! monotonic clock) and random bits, so the same code runs in the eBPF programs, the simulator and the tests.
//! An algorithm is `XParams` (configuration), `XVars` (state of one queue) and one verb.
//!
//! Rules that the eBPF verifier and several CPUs sharing one state impose on every function:
//!
//! * integers only, no `u128`, no signed division, no panic, loops with a constant bound;
//! * time differences saturate: CPUs' clocks may differ by microseconds, and a clock that steps back must neither
//!   freeze a state nor release a burst;
//! * catching up after a silence is bounded and then resynchronised.
//!
//! `README.md` beside this crate lists file, algorithm and source.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod borrow;
pub mod codel;
pub mod csfq;
pub mod drain;
pub mod fairness;
pub mod gcra;
pub mod history;
pub mod inv_sqrt;
pub mod l4s;
pub mod overhead;
pub mod pi2;
pub mod share;
pub mod signal;
pub mod sticky;
pub mod trtcm;
pub mod units;
pub mod verdict;

pub use codel::{CodelParams, CodelVars};
pub use drain::{DrainParams, DrainVars};
pub use fairness::{FairnessParams, FairnessVerdict, FlowVars};
pub use gcra::{Conformance, GcraParams, SharedTat};
pub use l4s::{L4sParams, L4sVerdict, Service};
pub use overhead::LinkLayer;
pub use pi2::{Pi2Params, Pi2Vars};
pub use share::{ShareParams, ShareVars, TagVars};
pub use signal::{Held, Level, SignalParams, SignalVars};
pub use sticky::{StickyVars, Way};
pub use trtcm::{Colour, SharedColour, TrtcmParams, TrtcmVars};
pub use units::{Bytes, Nanos, Pace, Rate};
pub use verdict::Verdict;
