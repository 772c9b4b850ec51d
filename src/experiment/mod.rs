//! Experiments: what is run, over what link, with what traffic. One file format for the lab and the simulator.
//!
//! | file | what |
//! |---|---|
//! | `file.rs` | what was typed, with its place |
//! | `check.rs` | the rules |
//! | `model.rs` | what is meant |
//! | `error.rs` | a broken rule: file, line, key |

mod check;
pub mod contender;
mod error;
mod file;
mod model;
pub mod units;
mod weir_settings;

#[cfg(test)]
mod tests;

pub use error::ExperimentError;
pub use model::{Action, Event, Experiment, Family, Link, Probe, TcpFlow, UdpFlow};
pub use weir_settings::{FAST_DEVICE, SLOW_DEVICE};
