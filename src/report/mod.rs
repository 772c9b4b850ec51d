//! What a run found, and how it is shown: a table, JSON, CSV, flent's data format, and a page with pictures.

mod error;
mod html;
mod plot;
mod result;
mod table;

pub use error::Error;
pub use html::html;
pub use plot::{Picture, svg};
pub use result::{
    DelaySample, DelaySummary, Distribution, FlowResult, FlowSeries, GoodputPoint, LabFacts, Place,
    ProbeCount, Report, RingPoint, RingSummary, Run, Samples, Setup, Simulated, SimulatedFlow, Skipped,
    SweptKey,
};
pub use table::table;
