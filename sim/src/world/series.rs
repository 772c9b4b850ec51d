//! Points over time.

use weir_aqm::Nanos;

use super::Event;
use crate::{
    Flow, SeriesPoint, Traffic,
    events::{Agenda, Due},
};

/// Takes a point each `step`.
pub struct Sampler {
    pub due: Due,
    pub step: Nanos,
    of_probes: bool,
    longest: Option<Nanos>,
    points: Vec<SeriesPoint>,
}

impl Sampler {
    /// The first point is due a step from the start. Delays are those of probes, where a flow is one.
    pub fn new(step: Nanos, flows: &[Flow], agenda: &mut Agenda<Event>) -> Self {
        let (due, step) = (agenda.register(Event::Sample), step.max(Nanos::from_nanos(1)));
        agenda.set(due, step);
        let of_probes = flows.iter().any(|flow| matches!(flow.traffic, Traffic::Probe { .. }));
        Self { due, step, of_probes, longest: None, points: Vec::new() }
    }

    /// A frame has arrived, so long after it was sent.
    pub fn arrived(&mut self, delay: Nanos, is_probe: bool) {
        if is_probe || !self.of_probes {
            self.longest = self.longest.max(Some(delay));
        }
    }

    /// A point.
    pub fn sample(&mut self, at: Nanos, occupancy: u32, payload: Vec<u64>) {
        self.points.push(SeriesPoint { at, occupancy, delay: self.longest.take(), payload });
    }

    /// All points.
    pub fn into_points(self) -> Vec<SeriesPoint> {
        self.points
    }
}
