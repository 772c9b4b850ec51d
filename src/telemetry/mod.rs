//! What the daemon tells the world: metrics, and a log of what changed.
//!
//! It starts from a [`crate::datapath::Snapshot`], read back from the maps, and from the events of their ring buffer
//! ([`crate::datapath::events`]).

mod events;
mod exporter;
mod publish;
#[cfg(test)]
pub(crate) mod testing;
mod told;

pub use events::{Event, EventKind, EventLog, changes};
pub use exporter::{ExporterError, serve};
pub use publish::publish;
pub use told::{asked, told};
