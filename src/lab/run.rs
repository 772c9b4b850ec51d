//! Runs an experiment: one contender after the other, each on a topology of its own.

use std::time::Duration;

use super::clock::kernel;
use super::contender::{Prepared, by_name};
use super::error::{Error, Result};
use super::measure::Bench;
use super::netns;
use super::ring;
use super::slow_link::{ExtraDelay, LinkSettings, Service, SlowLink};
use super::stop::Stop;
use super::topology::{Topology, TopologySettings};
use crate::experiment::units::nanos;
use crate::experiment::{Experiment, contender};
use crate::report::{Place, Report, Run, Setup, Skipped};

/// How far a run is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Who runs.
    pub contender: &'a str,
    /// The how-manieth it is, from 0.
    pub index: usize,
    /// How many run.
    pub count: usize,
    /// The time the traffic has run.
    pub elapsed: Duration,
    /// Payload bytes that have arrived.
    pub payload_bytes: u64,
}

/// Somebody who watches the runs: a progress bar, or nobody.
pub trait Observer {
    /// Traffic is running; called about ten times a second.
    fn progress(&mut self, progress: Progress<'_>);
    /// A contender is done.
    fn ran(&mut self, run: &Run);
    /// A contender was left out.
    fn skipped(&mut self, skipped: &Skipped);
}

/// Nobody watches.
impl Observer for () {
    fn progress(&mut self, _: Progress<'_>) {}
    fn ran(&mut self, _: &Run) {}
    fn skipped(&mut self, _: &Skipped) {}
}

/// Runs every contender of `experiment` and reports.
///
/// # Errors
/// The first failure, or [`Error::Interrupted`]; whatever was made has been removed by then.
pub fn run(experiment: &Experiment, stop: &Stop, observer: &mut dyn Observer) -> Result<Report> {
    experiment.check_for_lab().map_err(Error::Experiment)?;
    netns::remove_leftovers();
    let mut report = Report {
        experiment: experiment.name.clone(),
        place: Place::Lab { kernel: kernel(), warmup_ns: nanos(experiment.warmup) },
        setup: Setup::of(experiment),
        runs: Vec::new(),
        skipped: Vec::new(),
        failed: Vec::new(),
    };
    let count = experiment.contenders.len();
    for (index, name) in experiment.contenders.iter().enumerate() {
        let mut watch = |elapsed, payload_bytes| {
            observer.progress(Progress { contender: name, index, count, elapsed, payload_bytes });
        };
        let outcome = match run_one(name, experiment, stop, &mut watch) {
            // One that cannot start does not take the others' results away; the caller sees that it failed.
            Err(Error::Contender { name, reason }) => {
                report.failed.push(Skipped { contender: name, reason });
                continue;
            }
            outcome => outcome?,
        };
        match outcome {
            Outcome::Ran(run) => {
                observer.ran(&run);
                report.runs.push(*run);
            }
            Outcome::Skipped(reason) => {
                let skipped = Skipped { contender: name.clone(), reason };
                observer.skipped(&skipped);
                report.skipped.push(skipped);
            }
        }
    }
    Ok(report)
}

enum Outcome {
    Ran(Box<Run>),
    Skipped(String),
}

/// Builds the topology that an experiment asks for.
pub(super) fn topology_of(experiment: &Experiment) -> Result<Topology> {
    Topology::build(TopologySettings {
        family: experiment.family,
        ring_slots: experiment.link.ring,
        ecn: experiment.ecn(),
    })
}

/// Starts the slow link that an experiment asks for.
pub(super) fn link_of(experiment: &Experiment, topology: &Topology) -> Result<SlowLink> {
    SlowLink::start(
        &topology.slow_tap(),
        &topology.receiver_tap(),
        &LinkSettings {
            rate: experiment.link.rate,
            delay: experiment.link.delay,
            overhead: experiment.link.overhead,
            reverse_rate: experiment.link.reverse_rate,
            family: experiment.family,
            extra: extra_delays(experiment),
        },
    )
}

/// The delays that flows have of their own.
fn extra_delays(experiment: &Experiment) -> Vec<ExtraDelay> {
    let tcp = experiment.tcp.iter().map(|flow| (libc::IPPROTO_TCP, &flow.identity));
    let udp = experiment.udp.iter().map(|flow| (libc::IPPROTO_UDP, &flow.identity));
    tcp.chain(udp)
        .map(|(protocol, identity)| ExtraDelay {
            flow: Service { protocol: protocol as u8, port: identity.port },
            delay: identity.extra_delay,
        })
        .collect()
}

fn run_one(
    name: &str,
    experiment: &Experiment,
    stop: &Stop,
    watch: &mut dyn FnMut(Duration, u64),
) -> Result<Outcome> {
    if contender::SIMULATOR.contains(&name) {
        return Ok(Outcome::Skipped("only the simulator has it (`weir sim`)".to_owned()));
    }
    // Dropped in reverse: the meter and the contender let go of the devices before the devices go.
    let topology = topology_of(experiment)?;
    let link = link_of(experiment, &topology)?;
    let attached = match by_name(name)?.prepare(&topology, experiment)? {
        Prepared::Ready(attached) => attached,
        Prepared::Skip(reason) => return Ok(Outcome::Skipped(reason)),
    };
    let meter = ring::attach(&topology)?;
    let bench = Bench { experiment, topology: &topology, link: &link, attached: attached.as_ref(), stop };
    let run = bench.measure(name, meter, watch)?;
    Ok(Outcome::Ran(Box::new(run)))
}
