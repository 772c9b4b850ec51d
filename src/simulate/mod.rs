//! Experiments in the simulator: the same files as the lab's, without a kernel.
//!
//! A file gives [`Job`]s: one for each combination of swept values, contender and seed. They run on all cores; each is a
//! function of its [`weir_sim::Scenario`] alone, and results are put together in the order of the jobs, so that output does
//! not depend on scheduling.
//!
//! | file | what |
//! |---|---|
//! | `contender.rs` | a name → the simulator's contender |
//! | `scenario.rs` | an experiment → a scenario |
//! | `job.rs` | an experiment → its jobs |
//! | `run.rs` | jobs → a report, in parallel |
//! | `journal.rs` | what is done survives an interrupt |
//! | `outcome.rs`, `series.rs` | an outcome → a run of the report |

mod contender;
mod job;
mod journal;
mod outcome;
mod run;
mod scenario;
mod series;

pub use job::{Job, Jobs};
pub use journal::{Journal, JournalError};
pub use run::{Interrupted, Observer, Options, run};
