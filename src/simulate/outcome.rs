//! From the simulator's outcome to a run of the report.

use std::collections::BTreeMap;

use weir_shared_maps::{CounterId as _, PortCounter};
use weir_sim::{Delays, FlowOutcome, Outcome, Scenario};

use super::scenario::{Kind, Label};
use super::series;
use crate::report::{
    DelaySummary, Distribution, FlowResult, ProbeCount, RingSummary, Run, Simulated, SimulatedFlow,
};

/// What was run.
pub(super) struct Measured<'a> {
    pub(super) contender: &'a str,
    pub(super) scenario: &'a Scenario,
    pub(super) labels: &'a [Label],
    pub(super) point: &'a BTreeMap<String, String>,
}

/// The run of the report.
pub(super) fn run_of(measured: &Measured<'_>, outcome: &Outcome) -> Run {
    let Measured { contender, scenario, labels, point } = *measured;
    let flows: Vec<(&Label, &FlowOutcome)> = labels.iter().zip(&outcome.flows).collect();
    let probes = || flows.iter().filter(|(label, _)| label.kind == Kind::Probe).map(|(_, flow)| *flow);
    let drops: BTreeMap<String, u64> =
        outcome.drops.iter().map(|(cause, n)| ((*cause).to_owned(), *n)).collect();
    let ring_drops = drops.get(PortCounter::RingDrops.name()).copied().unwrap_or(0);
    // A plain redirect counts nothing, so what its ring refuses is in no counter of its own; as in the lab.
    let silent = contender == "redirect";
    Run {
        contender: contender.to_owned(),
        simulated: Some(Simulated {
            seed: scenario.seed,
            point: point.clone(),
            utilisation: rounded(outcome.utilisation),
            jain: jain(&flows).map(rounded),
            completion_ns: completion(&flows),
            lost_on_link_pkts: outcome.lost_on_link,
            events: outcome.events,
        }),
        goodput_bps: bits_per_second(goodput_bytes(&flows), measured_ns(scenario)),
        delay_ns: probes().next().and_then(|probe| summary(&probe.delay)),
        probes: ProbeCount {
            sent: probes().map(|probe| probe.sent).sum(),
            received: probes().map(|probe| probe.delivered).sum(),
        },
        offered_pkts: outcome.offered,
        delivered_pkts: outcome.delivered,
        silent_drops: if silent { drops.values().sum() } else { 0 },
        drops: if silent { BTreeMap::new() } else { drops },
        marks: outcome.marks,
        ring_drops: Some(ring_drops),
        unaccounted: Some(outcome.unaccounted()),
        ring: RingSummary {
            slots: outcome.ring.slots,
            occupancy_p50: Some(outcome.ring.p50),
            occupancy_p99: Some(outcome.ring.p99),
        },
        lab: None,
        flows: flows.iter().map(|(label, flow)| flow_result(label, flow, scenario)).collect(),
        samples: series::samples(scenario, labels, &outcome.series),
    }
}

/// Six digits: what a table can use, and the same text wherever it is written.
fn rounded(share: f64) -> f64 {
    (share * 1e6).round() / 1e6
}

fn measured_ns(scenario: &Scenario) -> u64 {
    scenario.duration.saturating_sub(scenario.measure_from).as_nanos()
}

/// Payload of TCP, or of UDP where there is no TCP.
fn goodput_bytes(flows: &[(&Label, &FlowOutcome)]) -> u64 {
    let of = |wanted: fn(&Label) -> bool| {
        let chosen = flows.iter().filter(|(label, _)| wanted(label));
        chosen.flat_map(|(_, flow)| &flow.payload).sum::<u64>()
    };
    if flows.iter().any(|(label, _)| label.is_tcp()) {
        of(Label::is_tcp)
    } else {
        of(|label| label.kind == Kind::Udp)
    }
}

/// Jain, Chiu, Hawe: "A quantitative measure of fairness and discrimination for resource allocation in shared computer
/// systems", DEC TR-301, 1984.
fn jain(flows: &[(&Label, &FlowOutcome)]) -> Option<f64> {
    let bulk = flows.iter().filter(|(label, _)| label.kind == Kind::Bulk);
    let goodputs: Vec<f64> = bulk.flat_map(|(_, flow)| &flow.payload).map(|bytes| *bytes as f64).collect();
    let (sum, squares) = goodputs.iter().fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
    (goodputs.len() >= 2 && squares > 0.0).then(|| sum * sum / (goodputs.len() as f64 * squares))
}

/// Of the first table of flows with an end in which some finished: distributions cannot be added up.
fn completion(flows: &[(&Label, &FlowOutcome)]) -> Option<Distribution> {
    flows.iter().find_map(|(_, flow)| distribution(&flow.completion))
}

fn flow_result(label: &Label, flow: &FlowOutcome, scenario: &Scenario) -> FlowResult {
    let bytes = flow.payload.iter().sum();
    FlowResult {
        flow: label.name.clone(),
        bytes,
        sent: Some(flow.sent),
        received: Some(flow.delivered),
        reordered: None,
        simulated: Some(SimulatedFlow {
            goodput_bps: bits_per_second(bytes, measured_ns(scenario)),
            delay_ns: summary(&flow.delay),
            completion_ns: distribution(&flow.completion),
        }),
    }
}

fn summary(delays: &Delays) -> Option<DelaySummary> {
    (delays.count > 0).then(|| DelaySummary {
        min: delays.min.as_nanos(),
        p50: delays.p50.as_nanos(),
        p95: delays.p95.as_nanos(),
        p99: delays.p99.as_nanos(),
        max: delays.max.as_nanos(),
    })
}

fn distribution(delays: &Delays) -> Option<Distribution> {
    let summary = summary(delays)?;
    Some(Distribution { count: delays.count, mean: delays.mean_ns.round(), summary })
}

/// Bits per second of `bytes` in `over_ns`, rounded down.
pub(super) fn bits_per_second(bytes: u64, over_ns: u64) -> u64 {
    let bits = u128::from(bytes) * 8 * 1_000_000_000;
    u64::try_from(bits / u128::from(over_ns.max(1))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(payload: u64) -> FlowOutcome {
        FlowOutcome {
            sent: 0,
            delivered: 0,
            payload: vec![payload],
            delay: Delays::default(),
            completion: Delays::default(),
            completed: 0,
        }
    }

    fn label(kind: Kind) -> Label {
        Label { name: String::new(), kind }
    }

    #[test]
    fn jains_index_is_one_for_equal_shares_and_one_over_n_for_one_taker() {
        let bulk = label(Kind::Bulk);
        let (some, none) = (flow(7), flow(0));
        assert_eq!(jain(&[(&bulk, &some), (&bulk, &some)]), Some(1.0));
        assert_eq!(jain(&[(&bulk, &some), (&bulk, &none), (&bulk, &none), (&bulk, &none)]), Some(0.25));
        assert_eq!(jain(&[(&bulk, &some), (&label(Kind::Udp), &some)]), None);
    }

    #[test]
    fn goodput_is_tcps_and_udps_only_without_tcp() {
        let (tcp, udp, probe) = (label(Kind::Sized), label(Kind::Udp), label(Kind::Probe));
        let (three, five, nine) = (flow(3), flow(5), flow(9));
        assert_eq!(goodput_bytes(&[(&tcp, &three), (&udp, &five), (&probe, &nine)]), 3);
        assert_eq!(goodput_bytes(&[(&udp, &five), (&probe, &nine)]), 5);
    }

    #[test]
    fn a_rate_is_bits_over_seconds() {
        assert_eq!(bits_per_second(1_250_000, 1_000_000_000), 10_000_000);
        assert_eq!(bits_per_second(1, 0), 8_000_000_000);
    }
}
