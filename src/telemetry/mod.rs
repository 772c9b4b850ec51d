//! What the daemon tells the world: metrics, and a log of what changed.
//!
//! Everything starts from one [`crate::datapath::Snapshot`], read back from the maps.

mod events;
mod exporter;
mod publish;
#[cfg(test)]
pub(crate) mod testing;

pub use events::{Event, EventKind, EventLog, changes};
pub use exporter::{ExporterError, serve};
pub use publish::publish;
