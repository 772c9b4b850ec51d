//! What a run showed.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use weir_aqm::Nanos;

/// Everything that was measured. Two runs of one scenario give equal outcomes. The default is of nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Frames that reached the router.
    pub offered: u64,
    /// Frames that left the router, by whichever link.
    pub delivered: u64,
    /// Of these, frames that the slow link lost ([`crate::Path::loss_ppm`]).
    pub lost_on_link: u64,
    /// Losses at the router by cause.
    pub drops: BTreeMap<&'static str, u64>,
    /// Frames marked.
    pub marks: u64,
    /// Frames that ingress gave to the kernel's stack.
    pub diverted: u64,
    /// Frames that ingress sent out of the second port.
    pub spilled: u64,
    /// The second port and its link, where there is one.
    pub spill: Option<SpillOutcome>,
    /// Share of the measured time that the slow link was sending; with a trace, share of the measured time's delivery
    /// opportunities that was used, in bytes.
    pub utilisation: f64,
    /// Events that the run took: frames that came to the fast link from afar, to the router, through the slow link, to the
    /// receiver; acknowledgements that came to the sender; polls and timers.
    pub events: u64,
    /// The queue.
    pub ring: RingOutcome,
    /// One for each entry of [`crate::Scenario::flows`].
    pub flows: Vec<FlowOutcome>,
    /// Over time.
    pub series: Vec<SeriesPoint>,
}

impl Outcome {
    /// Frames that are neither delivered nor lost with a cause: zero, or the simulator is wrong.
    pub fn unaccounted(&self) -> i64 {
        let drops: u64 = self.drops.values().sum();
        self.offered.wrapping_sub(self.delivered).wrapping_sub(drops).cast_signed()
    }
}

/// The link that flows spilled to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SpillOutcome {
    /// Frames that left the router by it.
    pub delivered: u64,
    /// As [`Outcome::utilisation`].
    pub utilisation: f64,
    /// Its queue.
    pub ring: RingOutcome,
}

/// The queue's length: of all rings together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RingOutcome {
    /// Slots.
    pub slots: u32,
    /// Most frames in it, ever.
    pub max: u32,
    /// Mean over the measured time.
    pub mean: f64,
    /// Median over the measured time.
    pub p50: u32,
    /// 99th percentile over the measured time.
    pub p99: u32,
}

/// A flow, or a group of flows alike.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowOutcome {
    /// Frames sent.
    pub sent: u64,
    /// Frames that arrived.
    pub delivered: u64,
    /// Payload bytes that the receiving application read in the measured time, of each flow of the group in turn. Of TCP it is
    /// what is in order, each byte once: behind a hole it waits for the repair. For a group of short flows one number.
    pub payload: Vec<u64>,
    /// One-way delay of the frames that were sent in the measured time and arrived.
    pub delay: Delays,
    /// Times from a flow's start to its last acknowledgement, of those that started in the measured time and finished.
    pub completion: Delays,
    /// Flows that finished, whenever they started.
    pub completed: u64,
}

/// What stood at one moment, and what happened since the one before.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesPoint {
    /// When.
    pub at: Nanos,
    /// Frames in the queue.
    pub occupancy: u32,
    /// Longest one-way delay of a probe's frame that arrived since; of any frame where there are no probes.
    pub delay: Option<Nanos>,
    /// Payload bytes read since, as in [`FlowOutcome::payload`], for each entry of [`crate::Scenario::flows`].
    pub payload: Vec<u64>,
}

/// A distribution of delays, to three digits from a microsecond up. Zeroes if there were none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Delays {
    /// How many.
    pub count: u64,
    /// Mean in nanoseconds, exact.
    pub mean_ns: f64,
    /// Least, exact.
    pub min: Nanos,
    /// Median.
    pub p50: Nanos,
    /// 95th percentile.
    pub p95: Nanos,
    /// 99th percentile.
    pub p99: Nanos,
    /// Most, exact.
    pub max: Nanos,
}

/// Collects delays in constant memory.
#[derive(Clone, Debug)]
pub struct DelayRecorder {
    histogram: Histogram<u64>,
    sum: u128,
    min: u64,
    max: u64,
}

/// The longest delay that is told apart: ten minutes.
const LONGEST_NS: u64 = 600_000_000_000;

impl DelayRecorder {
    /// Of nothing.
    #[expect(
        clippy::missing_panics_doc,
        clippy::expect_used,
        reason = "the bounds are constants that the library accepts"
    )]
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1_000, LONGEST_NS, 3).expect("constant bounds");
        Self { histogram, sum: 0, min: u64::MAX, max: 0 }
    }

    /// One more.
    pub fn record(&mut self, delay: Nanos) {
        let ns = delay.as_nanos();
        self.histogram.saturating_record(ns);
        self.sum += u128::from(ns);
        self.min = self.min.min(ns);
        self.max = self.max.max(ns);
    }

    /// What was collected.
    pub fn summary(&self) -> Delays {
        let count = self.histogram.len();
        if count == 0 {
            return Delays::default();
        }
        let at = |quantile| {
            Nanos::from_nanos(self.histogram.value_at_quantile(quantile).clamp(self.min, self.max))
        };
        Delays {
            count,
            mean_ns: self.sum as f64 / count as f64,
            min: Nanos::from_nanos(self.min),
            p50: at(0.50),
            p95: at(0.95),
            p99: at(0.99),
            max: Nanos::from_nanos(self.max),
        }
    }

    /// The complementary distribution: rising delays with the share of delays that were longer.
    pub fn exceedance(&self) -> Vec<(Nanos, f64)> {
        let total = self.histogram.len().max(1) as f64;
        let mut seen = 0_u64;
        let mut points = Vec::new();
        for value in self.histogram.iter_recorded() {
            seen += value.count_at_value();
            points.push((Nanos::from_nanos(value.value_iterated_to()), 1.0 - seen as f64 / total));
        }
        points
    }
}

impl Default for DelayRecorder {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_and_mean_are_exact_and_percentiles_good_to_three_digits() {
        let mut recorder = DelayRecorder::new();
        for us in 1..=200_u64 {
            recorder.record(Nanos::from_micros(us * 100));
        }
        let delays = recorder.summary();
        assert_eq!((delays.count, delays.mean_ns), (200, 10_050_000.0));
        assert_eq!((delays.min, delays.max), (Nanos::from_micros(100), Nanos::from_micros(20_000)));
        for (found, exact) in
            [(delays.p50, 10_000_000.0), (delays.p95, 19_000_000.0), (delays.p99, 19_800_000.0)]
        {
            assert!((found.as_nanos() as f64 / exact - 1.0).abs() < 1e-3, "{found:?}");
        }
        assert_eq!(DelayRecorder::new().summary(), Delays::default());
    }
}
