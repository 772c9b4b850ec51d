//! Experiments: what is run, over what link, with what traffic. One file format for the lab and the simulator.
//!
//! | file | what |
//! |---|---|
//! | `file.rs` | what was typed, with its place |
//! | `check/` | the rules |
//! | `claims.rs` | what only the lab or only the simulator can do |
//! | `model.rs`, `flow.rs` | what is meant |
//! | `sweep.rs` | one file, many experiments |
//! | `error.rs` | a broken rule: file, line, key |

mod check;
mod claims;
pub mod contender;
mod error;
mod file;
mod flow;
mod model;
mod sweep;
pub mod units;
mod weir_settings;

#[cfg(test)]
mod simulator_tests;
#[cfg(test)]
mod tests;

pub use claims::CONGESTIONS;
pub use error::ExperimentError;
pub use flow::{
    Application, Identity, Pattern, Probe, ScriptedFlow, ShortFlows, Sizes, Span, TcpFlow, UdpEcn, UdpFlow,
};
pub use model::{Action, Event, Experiment, Family, Link, Seeds, ShaperQueues, SimulatedLink, SpillLink};
pub use sweep::{Axis, Point};
pub use weir_settings::{FAST_DEVICE, SLOW_DEVICE, SPILL_DEVICE};
