//! What a run found, and how it is shown: a table, JSON, CSV, flent's data format, and a page with pictures.

mod csv;
mod error;
mod flent;
mod grid;
mod groups;
mod heat;
mod html;
mod measures;
mod plot;
mod result;
mod simulated;
mod table;

pub use csv::csv;
pub use error::Error;
pub use flent::flent;
pub use groups::{ClassResult, Group};
pub use html::html;
pub(crate) use measures::jain;
pub use measures::{DelaySample, DelaySummary, FlowSeries, GoodputPoint, RingPoint, RingSummary, Samples};
pub use plot::{Picture, svg};
pub use result::{
    Distribution, FlowResult, LabFacts, Place, ProbeCount, Report, Run, Setup, Simulated, SimulatedFlow,
    Skipped, Spill, SweptKey,
};
pub use table::table;
