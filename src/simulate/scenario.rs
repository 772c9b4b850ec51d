//! From an experiment to the simulator's scenario.

use std::sync::Arc;
use std::time::Duration;

use weir_aqm::{Nanos, Rate};
use weir_sim::sender::{Sizes as FrameSizes, UDP_HEADERS};
use weir_sim::{
    Congestion, Contender, Ecn, Flow, FlowSizes, LinkChange, LinkEvent, Path, Reverse, Rings, Scenario,
    SpillLink, Traffic,
};

use crate::experiment::units::{self, BitRate};
use crate::experiment::{
    Action, Application, CONGESTIONS, Experiment, Identity, Pattern, Probe, Sizes, Span, TcpFlow, UdpEcn,
    UdpFlow,
};

/// What a flow of the scenario is, for its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) name: String,
    /// The name of its table.
    pub(super) group: Option<Arc<str>>,
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
///
/// # Errors
/// A congestion control that the simulator does not have.
pub(super) fn scenario(
    experiment: &Experiment,
    contender: Contender,
    seed: u64,
) -> Result<(Scenario, Vec<Label>), String> {
    let (flows, labels) = flows(experiment)?.into_iter().unzip();
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
    Ok((scenario, labels))
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
        spill: simulated.spill.map(|spill| {
            let rings =
                Rings { slots: spill.ring, per_cpu: simulated.ring_per_cpu, reclaim: simulated.reclaim };
            Box::new(SpillLink { ring: rings, ..SpillLink::new(rate(spill.rate), nanos(spill.delay), 0) })
        }),
    }
}

/// All flows in the order of their results: TCP, UDP, applications, short flows, probes.
fn flows(experiment: &Experiment) -> Result<Vec<(Flow, Label)>, String> {
    let mut flows = Vec::new();
    // Flows with an end are one group if they are alike, so that their completion times are one distribution.
    let mut first = 0;
    for alike in experiment.tcp.chunk_by(|a, b| a.bytes.is_some() && is_next(a, b)) {
        let Some(tcp) = alike.first() else { continue };
        let traffic =
            Traffic::Tcp { congestion: congestion(&tcp.congestion)?, ecn: tcp.ecn, bytes: tcp.bytes };
        let kind = if tcp.bytes.is_some() { Kind::Sized } else { Kind::Bulk };
        let name = format!("tcp {} ({})", numbers(first, alike.len()), tcp.congestion);
        let flow = flow(traffic, &tcp.span, &tcp.identity, experiment).times(alike.len() as u32);
        let group = tcp.identity.name.clone();
        flows.push((flow, Label { name, kind, group }));
        first += alike.len();
    }
    for (index, udp) in experiment.udp.iter().enumerate() {
        let label = Label { name: format!("udp {index}"), kind: Kind::Udp, group: udp.identity.name.clone() };
        flows.push((flow(datagrams(udp), &udp.span, &udp.identity, experiment), label));
    }
    for (index, scripted) in experiment.scripted.iter().enumerate() {
        let traffic = match scripted.application {
            Application::Voip => Traffic::Voip,
            Application::Gaming => Traffic::Gaming,
        };
        let name = format!("{} {index}", scripted.application.name());
        let label = Label { name, kind: Kind::Udp, group: scripted.identity.name.clone() };
        flows.push((flow(traffic, &scripted.span, &scripted.identity, experiment), label));
    }
    first = 0;
    for alike in experiment.short.chunk_by(|a, b| a == b) {
        let Some(short) = alike.first() else { continue };
        let traffic = Traffic::Short {
            congestion: congestion(&short.congestion)?,
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
        let flow = flow(traffic, &short.span, &short.identity, experiment).times(alike.len() as u32);
        let group = short.identity.name.clone();
        flows.push((flow, Label { name, kind: Kind::Sized, group }));
        first += alike.len();
    }
    for (index, probe) in experiment.probes.iter().enumerate() {
        let (name, group) = (format!("probe {index}"), probe.identity.name.clone());
        flows.push((probe_flow(probe), Label { name, kind: Kind::Probe, group }));
    }
    Ok(flows)
}

/// Whether `b` is `a` once more, at the next port.
fn is_next(a: &TcpFlow, b: &TcpFlow) -> bool {
    let identity = Identity { port: a.identity.port.wrapping_add(1), ..a.identity.clone() };
    TcpFlow { identity, ..a.clone() } == *b
}

/// "3", or "3-6".
fn numbers(first: usize, count: usize) -> String {
    if count <= 1 { first.to_string() } else { format!("{first}-{}", first + count - 1) }
}

fn flow(traffic: Traffic, span: &Span, identity: &Identity, experiment: &Experiment) -> Flow {
    Flow {
        traffic,
        count: 1,
        start: nanos(span.start),
        stop: (span.stop < experiment.duration).then(|| nanos(span.stop)),
        jitter: nanos(span.jitter),
        extra_delay: nanos(identity.extra_delay),
        host: identity.host,
        dscp: identity.dscp,
        port: identity.port,
    }
}

fn probe_flow(probe: &Probe) -> Flow {
    let bytes = u32::from(probe.size) + UDP_HEADERS;
    let traffic = Traffic::Probe { interval: nanos(probe.interval), bytes };
    let Identity { host, dscp, port, .. } = probe.identity;
    Flow { host, dscp, port, ..Flow::new(traffic) }
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

/// The names are those that [`Experiment::check_for_simulator`] lets pass.
fn congestion(name: &str) -> Result<Congestion, String> {
    let known = CONGESTIONS.into_iter().find(|(known, _)| *known == name);
    known
        .map(|(_, control)| control)
        .ok_or_else(|| format!("the simulator has no congestion control `{name}`"))
}

fn nanos(duration: Duration) -> Nanos {
    Nanos::from_nanos(units::nanos(duration))
}

fn rate(rate: BitRate) -> Rate {
    Rate::from_bits_per_second(rate.bps())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
name = "t"
duration = "10s"
warmup = "2s"
contenders = ["redirect"]
[link]
rate = "10mbit"
delay = "5ms"
jitter = "1ms"
loss = 0.25
ring = 100
cpus = 2
ring_per_cpu = true
reclaim = 4
spill = { rate = "2mbit", delay = "3ms", ring = 50 }
reverse_rate = "1mbit"
[[tcp]]
congestion = "bbr"
rtt = "30ms"
stop = "9s"
[[tcp]]
congestion = "reno"
bytes = 5000
count = 3
[[udp]]
rate = "8mbit"
size = 958
pattern = "poisson"
[[udp]]
pattern = "gaming"
[[short]]
congestion = "dctcp"
interval = "20ms"
sizes = "data-mining"
[[probe]]
interval = "10ms"
[[event]]
at = "4s"
do = "rate"
value = "1mbit"
"#;

    #[test]
    fn every_part_of_an_experiment_is_in_its_scenario() {
        let experiment = Experiment::parse("t.toml", TEXT).unwrap();
        let (scenario, labels) = scenario(&experiment, Contender::Redirect, 3).unwrap();
        let names: Vec<&str> = labels.iter().map(|label| label.name.as_str()).collect();
        let wanted = ["tcp 0 (bbr)", "tcp 1-3 (reno)", "udp 0", "gaming 0", "short 0 (dctcp)", "probe 0"];
        assert_eq!(names, wanted);
        assert_eq!((scenario.seed, scenario.measure_from), (3, Nanos::from_secs(2)));
        let path = &scenario.path;
        assert_eq!(path.ring, Rings { slots: 100, per_cpu: true, reclaim: 4 });
        let spill = path.spill.as_ref().unwrap();
        assert_eq!((spill.rate.bits_per_second(), spill.delay), (2_000_000, Nanos::from_millis(3)));
        assert_eq!(spill.ring, Rings { slots: 50, ..path.ring });
        assert_eq!((path.cpus, path.loss_ppm, path.jitter), (2, 250_000, Nanos::from_millis(1)));
        assert_eq!(path.reverse.rate, Some(Rate::from_bits_per_second(1_000_000)));
        let change = LinkChange::Rate(Rate::from_bits_per_second(1_000_000));
        assert_eq!(scenario.events, [LinkEvent { at: Nanos::from_secs(4), change }]);

        let bbr = &scenario.flows[0];
        assert_eq!(bbr.traffic, Traffic::Tcp { congestion: Congestion::Bbr1, ecn: false, bytes: None });
        assert_eq!((bbr.extra_delay, bbr.stop), (Nanos::from_millis(10), Some(Nanos::from_secs(9))));
        assert_eq!((scenario.flows[1].count, scenario.flows[1].stop), (3, None));
        // 1,000 bytes at 8 Mbit/s.
        let (mean, sizes) = (Nanos::from_millis(1), FrameSizes::Equal);
        assert_eq!(scenario.flows[2].traffic, Traffic::Poisson { mean, bytes: 1_000, sizes });
        assert_eq!(
            scenario.flows[5].traffic,
            Traffic::Probe { interval: Nanos::from_millis(10), bytes: 106 }
        );
    }

    #[test]
    fn every_congestion_control_that_the_file_may_name_is_there() {
        assert!(Congestion::ALL.iter().all(|control| CONGESTIONS.iter().any(|(_, named)| named == control)));
        for (name, _) in CONGESTIONS {
            let text = TEXT.replace("\"bbr\"", &format!("\"{name}\""));
            let experiment = Experiment::parse("t.toml", &text).unwrap();
            experiment.check_for_simulator().unwrap();
            assert!(scenario(&experiment, Contender::Redirect, 1).is_ok(), "{name}");
        }
        let experiment = Experiment::parse("t.toml", &TEXT.replace("\"bbr\"", "\"vegas\"")).unwrap();
        assert!(experiment.check_for_simulator().is_err());
        assert!(scenario(&experiment, Contender::Redirect, 1).is_err());
    }
}
