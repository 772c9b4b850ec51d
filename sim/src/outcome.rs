//! What a run showed.

use std::collections::BTreeMap;

use weir_aqm::Nanos;

/// Everything that was measured. Two runs of one scenario give equal outcomes.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Frames that reached the router.
    pub offered: u64,
    /// Frames that crossed the slow link.
    pub delivered: u64,
    /// Losses by cause.
    pub drops: BTreeMap<&'static str, u64>,
    /// Frames marked.
    pub marks: u64,
    /// Share of the measured time that the slow link was sending.
    pub utilisation: f64,
    /// The queue.
    pub ring: RingOutcome,
    /// In the order of the scenario.
    pub flows: Vec<FlowOutcome>,
}

impl Outcome {
    /// Frames that are neither delivered nor lost with a cause: zero, or the simulator is wrong.
    pub fn unaccounted(&self) -> i64 {
        let drops: u64 = self.drops.values().sum();
        self.offered.wrapping_sub(self.delivered).wrapping_sub(drops).cast_signed()
    }
}

/// The queue's length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RingOutcome {
    /// Slots.
    pub slots: u32,
    /// Most frames in it, ever.
    pub max: u32,
    /// Mean over the measured time.
    pub mean: f64,
}

/// One flow.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowOutcome {
    /// Frames sent.
    pub sent: u64,
    /// Frames that arrived.
    pub delivered: u64,
    /// Bytes of the frames that arrived in the measured time.
    pub bytes: u64,
    /// One-way delay of the frames that were sent in the measured time and arrived.
    pub delay: Delays,
}

/// A distribution of delays; exact, nothing is binned. Zeroes if there were none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Delays {
    /// How many.
    pub count: usize,
    /// Mean in nanoseconds.
    pub mean_ns: f64,
    /// Least.
    pub min: Nanos,
    /// Median.
    pub p50: Nanos,
    /// 95th percentile.
    pub p95: Nanos,
    /// 99th percentile.
    pub p99: Nanos,
    /// Most.
    pub max: Nanos,
}

impl Delays {
    /// Of these delays in nanoseconds. Percentiles by nearest rank.
    pub fn of(mut delays: Vec<u64>) -> Self {
        delays.sort_unstable();
        let count = delays.len();
        let rank = |percent: usize| {
            let at = (count * percent).div_ceil(100).saturating_sub(1);
            Nanos::from_nanos(delays.get(at).copied().unwrap_or(0))
        };
        let sum: u128 = delays.iter().map(|delay| u128::from(*delay)).sum();
        Self {
            count,
            mean_ns: if count == 0 { 0.0 } else { sum as f64 / count as f64 },
            min: rank(0),
            p50: rank(50),
            p95: rank(95),
            p99: rank(99),
            max: rank(100),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let delays = Delays::of((1..=200).rev().collect());
        let found = [delays.min, delays.p50, delays.p95, delays.p99, delays.max].map(Nanos::as_nanos);
        assert_eq!(found, [1, 100, 190, 198, 200]);
        assert_eq!((delays.count, delays.mean_ns), (200, 100.5));
        assert_eq!(Delays::of(Vec::new()), Delays::default());
    }
}
