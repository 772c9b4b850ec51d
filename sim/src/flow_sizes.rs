//! How large short flows are.
//!
//! The points are those of the files `conf/DCTCP_CDF.txt` and `conf/VL2_CDF.txt` of HKUST-SING/TrafficGenerator, which many
//! papers after pFabric (Alizadeh et al., SIGCOMM 2013) take for the two published figures; between points sizes are
//! uniform, as there.

use crate::{FlowSizes, Random};

/// Payload bytes, and the share of flows that are no larger.
type Point = (u64, f64);

/// Alizadeh et al.: "Data Center TCP (DCTCP)", SIGCOMM 2010, figure 4.
const WEB_SEARCH: &[Point] = &[
    (0, 0.0),
    (10_000, 0.15),
    (20_000, 0.2),
    (30_000, 0.3),
    (50_000, 0.4),
    (80_000, 0.53),
    (200_000, 0.6),
    (1_000_000, 0.7),
    (2_000_000, 0.8),
    (5_000_000, 0.9),
    (10_000_000, 0.97),
    (30_000_000, 1.0),
];

/// Greenberg et al.: "VL2: a scalable and flexible data center network", SIGCOMM 2009, figure 2.
const DATA_MINING: &[Point] = &[
    (0, 0.0),
    (180, 0.1),
    (216, 0.2),
    (560, 0.3),
    (900, 0.4),
    (1_100, 0.5),
    (1_870, 0.6),
    (3_160, 0.7),
    (10_000, 0.8),
    (400_000, 0.9),
    (3_160_000, 0.95),
    (100_000_000, 0.98),
    (1_000_000_000, 1.0),
];

impl FlowSizes {
    /// One size, at least a byte.
    pub(crate) fn draw(&self, random: &mut Random) -> u64 {
        match self {
            Self::Fixed(bytes) => (*bytes).max(1),
            Self::WebSearch => quantile(WEB_SEARCH, random.unit()),
            Self::DataMining => quantile(DATA_MINING, random.unit()),
            Self::Empirical(points) => quantile(points, random.unit()),
        }
    }

    /// Mean size in bytes.
    pub fn mean(&self) -> f64 {
        match self {
            Self::Fixed(bytes) => *bytes as f64,
            Self::WebSearch => mean(WEB_SEARCH),
            Self::DataMining => mean(DATA_MINING),
            Self::Empirical(points) => mean(points),
        }
    }
}

/// The size that the share `u` of flows does not exceed. Below the first point all are as large as it; above the last too.
fn quantile(points: &[Point], u: f64) -> u64 {
    let mut below: Option<Point> = None;
    for &(size, share) in points {
        if u <= share {
            let (start, from) = below.unwrap_or((size, 0.0));
            let width = share - from;
            let part = if width > 0.0 { (u - from) / width } else { 1.0 };
            let ahead = size.saturating_sub(start) as f64 * part;
            return start.saturating_add(ahead.round() as u64).max(1);
        }
        below = Some((size, share));
    }
    below.map_or(1, |(size, _)| size.max(1))
}

fn mean(points: &[Point]) -> f64 {
    let (mut sum, mut below) = (0.0, None);
    for &(size, share) in points {
        let (start, from) = below.unwrap_or((size, 0.0));
        sum += (share - from) * (start as f64 + size as f64) / 2.0;
        below = Some((size, share));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_points_are_quantiles_and_sizes_between_them_are_uniform() {
        for points in [WEB_SEARCH, DATA_MINING] {
            assert!(points.iter().skip(1).all(|&(size, share)| quantile(points, share) == size));
            assert!(points.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1));
        }
        assert_eq!(quantile(WEB_SEARCH, 0.35), 40_000);
        assert_eq!(quantile(WEB_SEARCH, 1e-9), 1);
    }

    #[test]
    fn drawn_sizes_have_the_distributions_mean_and_median() {
        let random = &mut Random::new(3);
        for (sizes, median) in [(FlowSizes::WebSearch, 73_077.0), (FlowSizes::DataMining, 1_100.0)] {
            let mut drawn: Vec<u64> = (0..100_000).map(|_| sizes.draw(random)).collect();
            drawn.sort_unstable();
            let mean = drawn.iter().sum::<u64>() as f64 / drawn.len() as f64;
            assert!((mean / sizes.mean() - 1.0).abs() < 0.05, "{sizes:?}: {mean} against {}", sizes.mean());
            let middle = drawn[drawn.len() / 2] as f64;
            assert!((middle / median - 1.0).abs() < 0.05, "{sizes:?}: {middle}");
        }
    }

    #[test]
    fn a_table_that_does_not_begin_at_zero_has_a_smallest_size() {
        let random = &mut Random::new(4);
        let sizes = FlowSizes::Empirical([(100, 0.5), (300, 1.0)].into());
        assert_eq!(sizes.mean(), 150.0);
        let drawn: Vec<u64> = (0..2_000).map(|_| sizes.draw(random)).collect();
        let smallest = drawn.iter().filter(|size| **size == 100).count();
        assert!((900..1_100).contains(&smallest), "{smallest}");
        assert_eq!(FlowSizes::Fixed(7).draw(random), 7);
    }
}
