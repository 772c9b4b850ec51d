//! From an experiment to the simulator's scenario.

use std::time::Duration;

use weir_aqm::{Nanos, Rate};
use weir_sim::sender::Sizes as FrameSizes;
use weir_sim::{
    Congestion, Contender, Ecn, Flow, FlowSizes, LinkChange, LinkEvent, Path, Reverse, Rings, Scenario,
    Traffic,
};

use crate::experiment::units::{self, BitRate};
use crate::experiment::{
    Action, Application, Experiment, Origin, Pattern, Probe, Sizes, Span, UdpEcn, UdpFlow,
};

/// Headers before a UDP payload: Ethernet, IPv4, UDP.
const UDP_HEADERS: u32 = 14 + 20 + 8;

/// What a flow of the scenario is, for its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// What is measured of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A TCP flow without an end.
    Bulk,
    /// TCP flows with an end.
    Sized,
    /// Packets of anything else.
    Udp,
    /// Delay.
    Probe,
}

/// The scenario of `experiment`, and what its flows are.
pub(super) fn scenario(experiment: &Experiment, contender: Contender, seed: u64) -> (Scenario, Vec<Label>) {
    let (flows, labels) = flows(experiment).into_iter().unzip();
    let scenario = Scenario {
        seed,
        duration: nanos(experiment.duration),
        measure_from: nanos(experiment.warmup),
        path: path(experiment),
        contender,
        flows,
        events: experiment
            .events
            .iter()
            .map(|event| LinkEvent {
                at: nanos(event.at),
                change: match event.action {
                    Action::Pause => LinkChange::Pause,
                    Action::Resume => LinkChange::Resume,
                    Action::Rate(bps) => LinkChange::Rate(rate(bps)),
                },
            })
            .collect(),
        sample: None,
    };
    (scenario, labels)
}

fn path(experiment: &Experiment) -> Path {
    let (link, simulated) = (&experiment.link, &experiment.link.simulated);
    Path {
        rate: rate(link.rate),
        trace: link.trace.clone(),
        delay: nanos(link.delay),
        jitter: nanos(simulated.jitter),
        loss_ppm: simulated.loss_ppm,
        overhead: link.overhead,
        ring: Rings { slots: link.ring, per_cpu: simulated.ring_per_cpu, reclaim: simulated.reclaim },
        fast: Some(rate(simulated.fast_rate)),
        cpus: simulated.cpus,
        poll: nanos(simulated.poll),
        reverse: Reverse { rate: link.reverse_rate.map(rate), loss_ppm: simulated.reverse_loss_ppm },
    }
}

/// All flows in the order of their results: TCP, UDP, applications, short flows, probes.
fn flows(experiment: &Experiment) -> Vec<(Flow, Label)> {
    let mut flows = Vec::new();
    // Flows with an end are one group if they are alike, so that their completion times are one distribution.
    let mut first = 0;
    for alike in experiment.tcp.chunk_by(|a, b| a == b && a.bytes.is_some()) {
        let Some(tcp) = alike.first() else { continue };
        let traffic =
            Traffic::Tcp { congestion: congestion(&tcp.congestion), ecn: tcp.ecn, bytes: tcp.bytes };
        let kind = if tcp.bytes.is_some() { Kind::Sized } else { Kind::Bulk };
        let name = format!("tcp {} ({})", numbers(first, alike.len()), tcp.congestion);
        let flow = flow(traffic, &tcp.span, &tcp.origin, experiment).times(alike.len() as u32);
        flows.push((flow, Label { name, kind }));
        first += alike.len();
    }
    for (index, udp) in experiment.udp.iter().enumerate() {
        let label = Label { name: format!("udp {index}"), kind: Kind::Udp };
        flows.push((flow(datagrams(udp), &udp.span, &udp.origin, experiment), label));
    }
    for (index, scripted) in experiment.scripted.iter().enumerate() {
        let traffic = match scripted.application {
            Application::Voip => Traffic::Voip,
            Application::Gaming => Traffic::Gaming,
        };
        let label = Label { name: format!("{} {index}", scripted.application.name()), kind: Kind::Udp };
        flows.push((flow(traffic, &scripted.span, &scripted.origin, experiment), label));
    }
    first = 0;
    for alike in experiment.short.chunk_by(|a, b| a == b) {
        let Some(short) = alike.first() else { continue };
        let traffic = Traffic::Short {
            congestion: congestion(&short.congestion),
            ecn: short.ecn,
            mean: nanos(short.interval),
            sizes: match &short.sizes {
                Sizes::Fixed(bytes) => FlowSizes::Fixed(*bytes),
                Sizes::WebSearch => FlowSizes::WebSearch,
                Sizes::DataMining => FlowSizes::DataMining,
                Sizes::Points(points) => FlowSizes::Empirical(points.clone()),
            },
        };
        let name = format!("short {} ({})", numbers(first, alike.len()), short.congestion);
        let flow = flow(traffic, &short.span, &short.origin, experiment).times(alike.len() as u32);
        flows.push((flow, Label { name, kind: Kind::Sized }));
        first += alike.len();
    }
    for (index, probe) in experiment.probes.iter().enumerate() {
        flows.push((probe_flow(probe), Label { name: format!("probe {index}"), kind: Kind::Probe }));
    }
    flows
}

/// "3", or "3-6".
fn numbers(first: usize, count: usize) -> String {
    if count <= 1 { first.to_string() } else { format!("{first}-{}", first + count - 1) }
}

fn flow(traffic: Traffic, span: &Span, origin: &Origin, experiment: &Experiment) -> Flow {
    Flow {
        traffic,
        count: 1,
        start: nanos(span.start),
        stop: (span.stop < experiment.duration).then(|| nanos(span.stop)),
        jitter: nanos(span.jitter),
        extra_delay: nanos(origin.extra_delay),
        host: origin.host,
        dscp: origin.dscp,
    }
}

fn probe_flow(probe: &Probe) -> Flow {
    let bytes = u32::from(probe.size) + UDP_HEADERS;
    let traffic = Traffic::Probe { interval: nanos(probe.interval), bytes };
    Flow { host: probe.origin.host, dscp: probe.origin.dscp, ..Flow::new(traffic) }
}

fn datagrams(udp: &UdpFlow) -> Traffic {
    let bytes = u32::from(udp.size) + UDP_HEADERS;
    match udp.pattern {
        Pattern::Constant { ecn } => Traffic::Constant {
            rate: rate(udp.rate),
            bytes,
            ecn: match ecn {
                UdpEcn::None => Ecn::NotEct,
                UdpEcn::Ect0 => Ecn::Ect0,
                UdpEcn::Ect1 => Ecn::Ect1,
            },
        },
        Pattern::Poisson => Traffic::Poisson {
            mean: Nanos::from_nanos(udp.rate.time_of(u64::from(bytes))),
            bytes,
            sizes: FrameSizes::Equal,
        },
        Pattern::OnOff { on, off } => {
            Traffic::OnOff { rate: rate(udp.rate), bytes, on: nanos(on), off: nanos(off) }
        }
    }
}

/// [`Experiment::check_for_simulator`] has refused every other name.
fn congestion(name: &str) -> Congestion {
    match name {
        "reno" => Congestion::Reno,
        "bbr" => Congestion::Bbr1,
        "bbr3" => Congestion::Bbr3,
        "dctcp" => Congestion::Dctcp,
        "prague" => Congestion::Prague,
        _ => Congestion::Cubic,
    }
}

fn nanos(duration: Duration) -> Nanos {
    Nanos::from_nanos(units::nanos(duration))
}

fn rate(rate: BitRate) -> Rate {
    Rate::from_bits_per_second(rate.bps())
}
