//! Distributions and series: what was measured of a run.

use serde::{Deserialize, Serialize};
use weir_aqm::Nanos;
use weir_sim::{DelayRecorder, Delays};

/// One probe's way through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelaySample {
    /// When it was sent, from the start of the run.
    pub at_ns: u64,
    /// How long it took, one way.
    pub delay_ns: u64,
}

/// The distribution of a delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelaySummary {
    /// The least.
    pub min: u64,
    /// The median.
    pub p50: u64,
    /// 95 % were no longer.
    pub p95: u64,
    /// 99 % were no longer.
    pub p99: u64,
    /// The most.
    pub max: u64,
}

impl DelaySummary {
    /// Of `samples`; `None` where there are none. Quantiles are exact to three digits, the extremes to the nanosecond.
    #[must_use]
    pub fn of<'s>(samples: impl IntoIterator<Item = &'s DelaySample>) -> Option<Self> {
        let mut recorder = DelayRecorder::new();
        for sample in samples {
            recorder.record(Nanos::from_nanos(sample.delay_ns));
        }
        Self::of_delays(&recorder.summary())
    }

    /// Of what the simulator collected; `None` where there were none.
    #[must_use]
    pub fn of_delays(delays: &Delays) -> Option<Self> {
        (delays.count > 0).then(|| Self {
            min: delays.min.as_nanos(),
            p50: delays.p50.as_nanos(),
            p95: delays.p95.as_nanos(),
            p99: delays.p99.as_nanos(),
            max: delays.max.as_nanos(),
        })
    }
}

/// Jain's index of fairness: 1 for equal shares, `1 / n` where one of `n` has all; `None` for less than two, or where there is nothing
/// to share. Jain, Chiu, Hawe: "A quantitative measure of fairness and discrimination for resource allocation in shared
/// computer systems", DEC TR-301, 1984.
pub(crate) fn jain(shares: &[f64]) -> Option<f64> {
    let (sum, squares) = shares.iter().fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
    (shares.len() >= 2 && squares > 0.0).then(|| sum * sum / (shares.len() as f64 * squares))
}

/// The TX ring over a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingSummary {
    /// The frames it can hold.
    pub slots: u32,
    /// The median occupancy, in frames.
    pub occupancy_p50: Option<u32>,
    /// 99 % of the readings were no higher, in frames.
    pub occupancy_p99: Option<u32>,
}

impl RingSummary {
    /// Of a ring of `slots` and its readings.
    #[must_use]
    pub fn of(slots: u32, points: &[RingPoint]) -> Self {
        let mut sorted: Vec<u32> = points.iter().map(|point| point.occupancy).collect();
        sorted.sort_unstable();
        let at = |percent: usize| {
            let last = sorted.len().checked_sub(1)?;
            sorted.get(last * percent / 100).copied()
        };
        Self { slots, occupancy_p50: at(50), occupancy_p99: at(99) }
    }
}

/// The occupancy of the ring at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingPoint {
    /// From the start of the run.
    pub at_ns: u64,
    /// Frames in the ring.
    pub occupancy: u32,
}

/// Goodput over the last tenth of a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoodputPoint {
    /// From the start of the run.
    pub at_ns: u64,
    /// Payload bits per second.
    pub bps: u64,
}

/// What was measured over time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Samples {
    /// One-way delay, by the time of sending.
    pub delay: Vec<DelaySample>,
    /// Ring occupancy.
    pub ring: Vec<RingPoint>,
    /// Goodput.
    pub goodput: Vec<GoodputPoint>,
    /// Goodput of each flow, in the simulator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flows: Vec<FlowSeries>,
}

/// Goodput of one flow over time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowSeries {
    /// Which flow.
    pub flow: String,
    /// Its goodput.
    pub points: Vec<GoodputPoint>,
}

/// Points of a series in JSON and in a picture: more than a screen has columns.
const SERIES_POINTS: usize = 600;

impl Samples {
    /// At most [`SERIES_POINTS`] of each series; of each bucket the *worst* value is kept, so that a peak stays.
    pub(super) fn decimated(&self) -> Self {
        Self {
            delay: worst_of_buckets(&self.delay, |sample| sample.delay_ns),
            ring: worst_of_buckets(&self.ring, |point| u64::from(point.occupancy)),
            goodput: worst_of_buckets(&self.goodput, |point| u64::MAX - point.bps),
            flows: self
                .flows
                .iter()
                .map(|flow| FlowSeries {
                    flow: flow.flow.clone(),
                    points: worst_of_buckets(&flow.points, |point| u64::MAX - point.bps),
                })
                .collect(),
        }
    }
}

pub(super) fn decimated<S: serde::Serializer>(samples: &Samples, serializer: S) -> Result<S::Ok, S::Error> {
    samples.decimated().serialize(serializer)
}

fn worst_of_buckets<T: Copy>(series: &[T], badness: impl Fn(&T) -> u64) -> Vec<T> {
    let bucket = series.len().div_ceil(SERIES_POINTS).max(1);
    series
        .chunks(bucket)
        .filter_map(|chunk| chunk.iter().max_by_key(|value| badness(value)).copied())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(delay_ns: u64) -> DelaySample {
        DelaySample { at_ns: 0, delay_ns }
    }

    #[test]
    fn a_summary_has_the_exact_extremes_and_quantiles_to_three_digits() {
        let samples: Vec<_> = (1..=1_000).map(|ms| sample(ms * 1_000_000 + 7)).collect();
        let summary = DelaySummary::of(&samples).unwrap();
        assert_eq!((summary.min, summary.max), (1_000_007, 1_000_000_007));
        for (quantile, exact) in [(summary.p50, 500_000_007), (summary.p99, 990_000_007)] {
            assert!(u64::abs_diff(quantile, exact) * 1_000 <= exact, "{quantile} is not {exact}");
        }
        assert_eq!(DelaySummary::of(&[]), None);
    }

    #[test]
    fn jains_index_is_one_for_equal_shares_and_one_over_n_for_one_taker() {
        assert_eq!(jain(&[7.0, 7.0]), Some(1.0));
        assert_eq!(jain(&[7.0, 0.0, 0.0, 0.0]), Some(0.25));
        assert_eq!((jain(&[7.0]), jain(&[0.0, 0.0])), (None, None));
    }

    #[test]
    fn a_decimated_series_keeps_its_peak() {
        let mut series = vec![sample(1); 10_000];
        series[7_777] = sample(99);
        let kept = worst_of_buckets(&series, |s| s.delay_ns);
        assert!(kept.len() <= SERIES_POINTS);
        assert!(kept.contains(&sample(99)));
    }

    #[test]
    fn the_occupancy_of_a_ring_that_was_never_read_is_unknown() {
        assert_eq!(
            RingSummary::of(16, &[]),
            RingSummary { slots: 16, occupancy_p50: None, occupancy_p99: None }
        );
        let points: Vec<_> = (0..=100).map(|occupancy| RingPoint { at_ns: 0, occupancy }).collect();
        assert_eq!(RingSummary::of(1_000, &points).occupancy_p99, Some(99));
    }
}
