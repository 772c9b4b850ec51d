//! What was measured over time.

use weir_sim::{Scenario, SeriesPoint};

use super::outcome::bits_per_second;
use super::scenario::{Kind, Label};
use crate::report::{DelaySample, FlowSeries, GoodputPoint, RingPoint, Samples};

/// Between two points of goodput, as in the lab.
const GOODPUT_EVERY_NS: u64 = 100_000_000;

/// The samples of the report; nothing where the scenario kept none.
pub(super) fn samples(scenario: &Scenario, labels: &[Label], series: &[SeriesPoint]) -> Samples {
    // What drains after the end of the experiment is in no series of the lab either.
    let within: Vec<&SeriesPoint> = series.iter().filter(|point| point.at <= scenario.duration).collect();
    let counted: Vec<usize> = if labels.iter().any(Label::is_tcp) {
        positions(labels, Label::is_tcp)
    } else {
        positions(labels, |label| label.kind == Kind::Udp)
    };
    let senders = positions(labels, |label| label.kind != Kind::Probe);
    let mut goodput = Vec::new();
    let mut flows: Vec<FlowSeries> = senders
        .iter()
        .filter_map(|at| labels.get(*at))
        .map(|label| FlowSeries { flow: label.name.clone(), points: Vec::new() })
        .collect();
    let mut bytes = vec![0_u64; labels.len()];
    let mut since = 0;
    for point in &within {
        for (sum, more) in bytes.iter_mut().zip(&point.payload) {
            *sum = sum.saturating_add(*more);
        }
        let at_ns = point.at.as_nanos();
        let over = at_ns.saturating_sub(since);
        if over < GOODPUT_EVERY_NS {
            continue;
        }
        let of = |at: &usize| bytes.get(*at).copied().unwrap_or(0);
        goodput.push(GoodputPoint { at_ns, bps: bits_per_second(counted.iter().map(of).sum(), over) });
        for (flow, at) in flows.iter_mut().zip(&senders) {
            flow.points.push(GoodputPoint { at_ns, bps: bits_per_second(of(at), over) });
        }
        bytes.fill(0);
        since = at_ns;
    }
    if goodput.is_empty() {
        flows.clear();
    }
    Samples {
        delay: within
            .iter()
            .filter_map(|point| {
                Some(DelaySample { at_ns: point.at.as_nanos(), delay_ns: point.delay?.as_nanos() })
            })
            .collect(),
        ring: within
            .iter()
            .map(|point| RingPoint { at_ns: point.at.as_nanos(), occupancy: point.occupancy })
            .collect(),
        goodput,
        flows,
    }
}

fn positions(labels: &[Label], wanted: impl Fn(&Label) -> bool) -> Vec<usize> {
    labels.iter().enumerate().filter(|(_, label)| wanted(label)).map(|(at, _)| at).collect()
}

#[cfg(test)]
mod tests {
    use weir_aqm::{Nanos, Rate};
    use weir_sim::{Contender, Path};

    use super::*;

    #[test]
    fn goodput_is_that_of_tcp_over_each_tenth_of_a_second_and_of_each_flow() {
        let path = Path::new(Rate::from_bits_per_second(10_000_000), Nanos::from_millis(1), 100);
        let scenario = Scenario::new(path, Contender::Redirect, Nanos::from_millis(200));
        let labels = [("tcp 0", Kind::Bulk), ("udp 0", Kind::Udp), ("probe 0", Kind::Probe)]
            .map(|(name, kind)| Label { name: name.to_owned(), kind, group: None });
        let series: Vec<SeriesPoint> = (1..=5)
            .map(|n| SeriesPoint {
                at: Nanos::from_millis(n * 50),
                occupancy: n as u32,
                delay: (n != 2).then_some(Nanos::from_millis(n)),
                payload: vec![1_000, 500, 64],
            })
            .collect();
        let samples = samples(&scenario, &labels, &series);
        assert_eq!(samples.goodput.len(), 2, "the point after the end is left out");
        assert_eq!(samples.goodput[0], GoodputPoint { at_ns: 100_000_000, bps: 160_000 });
        assert_eq!(samples.flows[1].flow, "udp 0");
        assert_eq!(samples.flows[1].points[1], GoodputPoint { at_ns: 200_000_000, bps: 80_000 });
        assert_eq!((samples.flows.len(), samples.ring.len(), samples.delay.len()), (2, 4, 3));
    }
}
