//! From the simulator's outcome to a run of the report.

use std::collections::BTreeMap;

use weir_shared_maps::{ACTION_DIVERT, CounterId as _, PortCounter};
use weir_sim::{Contender, Delays, Flow, FlowOutcome, Outcome, RingOutcome, Scenario};

use super::scenario::{Kind, Label};
use super::series;
use crate::report::{
    self, DelaySummary, Distribution, FlowResult, Group, ProbeCount, RingSummary, Run, Simulated,
    SimulatedFlow, Spill,
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
    let results: Vec<FlowResult> =
        flows.iter().map(|(label, flow)| flow_result(label, flow, scenario)).collect();
    Run {
        contender: contender.to_owned(),
        simulated: Some(Simulated {
            seed: scenario.seed,
            point: point.clone(),
            utilisation: rounded(outcome.utilisation),
            jain: jain(&flows, scenario).map(rounded),
            completion_ns: completion(&flows),
            lost_on_link_pkts: outcome.lost_on_link,
            diverted_pkts: diverts(&scenario.contender).then_some(outcome.diverted),
            spill: outcome.spill.as_ref().map(|spill| Spill {
                spilled_pkts: outcome.spilled,
                delivered_pkts: spill.delivered,
                utilisation: rounded(spill.utilisation),
                ring: ring(&spill.ring),
            }),
            events: outcome.events,
        }),
        goodput_bps: bits_per_second(goodput_bytes(&flows), measured_ns(scenario)),
        delay_ns: probes().next().and_then(|probe| DelaySummary::of_delays(&probe.delay)),
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
        ring: ring(&outcome.ring),
        lab: None,
        groups: Group::all(&results),
        flows: results,
        classes: Vec::new(),
        samples: series::samples(scenario, labels, &outcome.series),
    }
}

/// Whether any class gives flows to the kernel's stack.
fn diverts(contender: &Contender) -> bool {
    let Contender::WeirRouter(router) = contender else { return false };
    router.back_off.iter().any(|level| [level.on_congested, level.on_full].contains(&ACTION_DIVERT))
}

const fn ring(ring: &RingOutcome) -> RingSummary {
    RingSummary { slots: ring.slots, occupancy_p50: Some(ring.p50), occupancy_p99: Some(ring.p99) }
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

/// Jain's index of the TCP flows without a size that send for three quarters of the measured time at least: who was there for less
/// of it brings less, however fair the link is.
fn jain(flows: &[(&Label, &FlowOutcome)], scenario: &Scenario) -> Option<f64> {
    let throughout = |sent: &Flow| {
        let until = sent.stop.unwrap_or(scenario.duration).min(scenario.duration);
        let there = until.saturating_sub(sent.start.max(scenario.measure_from)).as_nanos();
        there.saturating_mul(4) >= measured_ns(scenario).saturating_mul(3)
    };
    let bulk = flows
        .iter()
        .zip(&scenario.flows)
        .filter(|((label, _), sent)| label.kind == Kind::Bulk && throughout(sent));
    let goodputs: Vec<f64> =
        bulk.flat_map(|((_, flow), _)| &flow.payload).map(|bytes| *bytes as f64).collect();
    report::jain(&goodputs)
}

/// Of the first table of flows with an end in which some finished: distributions cannot be added up.
fn completion(flows: &[(&Label, &FlowOutcome)]) -> Option<Distribution> {
    flows.iter().find_map(|(label, flow)| completion_of(label, flow))
}

/// A flow that was told to stop has no size that it could complete.
fn completion_of(label: &Label, flow: &FlowOutcome) -> Option<Distribution> {
    if label.kind == Kind::Sized { distribution(&flow.completion) } else { None }
}

fn flow_result(label: &Label, flow: &FlowOutcome, scenario: &Scenario) -> FlowResult {
    let bytes = flow.payload.iter().sum();
    FlowResult {
        flow: label.name.clone(),
        group: label.group.as_deref().map(str::to_owned),
        bytes,
        goodput_bps: bits_per_second(bytes, measured_ns(scenario)),
        delay_ns: DelaySummary::of_delays(&flow.delay),
        sent: Some(flow.sent),
        received: Some(flow.delivered),
        reordered: None,
        simulated: Some(SimulatedFlow { completion_ns: completion_of(label, flow) }),
    }
}

fn distribution(delays: &Delays) -> Option<Distribution> {
    let summary = DelaySummary::of_delays(delays)?;
    Some(Distribution { count: delays.count, mean: delays.mean_ns.round(), summary })
}

/// Bits per second of `bytes` in `over_ns`, rounded down.
pub(super) fn bits_per_second(bytes: u64, over_ns: u64) -> u64 {
    let bits = u128::from(bytes) * 8 * 1_000_000_000;
    u64::try_from(bits / u128::from(over_ns.max(1))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use weir_aqm::{Nanos, Rate};
    use weir_sim::{Congestion, Contender, Path};

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
        Label { name: String::new(), kind, group: None }
    }

    #[test]
    fn fairness_is_that_of_tcp_flows_that_send_most_of_the_time() {
        let path = Path::new(Rate::from_bits_per_second(10_000_000), Nanos::from_millis(1), 100);
        let mut scenario = Scenario::new(path, Contender::Redirect, Nanos::from_secs(9));
        scenario.flows = vec![Flow::bulk(Congestion::Reno, false); 4];
        scenario.flows[1].start = Nanos::from_secs(2);
        scenario.flows[2].stop = Some(Nanos::from_secs(5));
        scenario.flows[3].start = Nanos::from_secs(5);
        let (bulk, sized, some, less) = (label(Kind::Bulk), label(Kind::Sized), flow(7), flow(1));
        let jain = |labels: [&Label; 4]| {
            let [a, b, c, d] = labels;
            jain(&[(a, &some), (b, &some), (c, &less), (d, &less)], &scenario)
        };
        assert_eq!(jain([&bulk; 4]), Some(1.0));
        assert_eq!(jain([&bulk, &sized, &bulk, &bulk]), None);
    }

    #[test]
    fn only_flows_with_a_size_complete() {
        let done = Delays { count: 3, ..Delays::default() };
        let (bulk, sized, ended) =
            (label(Kind::Bulk), label(Kind::Sized), FlowOutcome { completion: done, ..flow(7) });
        assert_eq!(completion(&[(&bulk, &ended)]), None);
        assert_eq!(completion(&[(&bulk, &ended), (&sized, &ended)]).map(|times| times.count), Some(3));
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
