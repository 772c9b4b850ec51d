//! What a run found, and how it is shown: a table, JSON, CSV, flent's data format, and a page with pictures.

mod csv;
mod error;
mod flent;
mod grid;
mod heat;
mod html;
mod plot;
mod result;
mod simulated;
mod table;

pub use csv::csv;
pub use error::Error;
pub use flent::flent;
pub use html::html;
pub use plot::{Picture, svg};
pub use result::{
    DelaySample, DelaySummary, Distribution, FlowResult, FlowSeries, GoodputPoint, LabFacts, Place,
    ProbeCount, Report, RingPoint, RingSummary, Run, Samples, Setup, Simulated, SimulatedFlow, Skipped,
    SweptKey,
};
pub use table::table;
