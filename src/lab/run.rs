//! Runs an experiment: one contender after the other, each on a topology of its own.

use std::time::Duration;

use super::clock::{kernel, now_ns};
use super::contender::{Attached, Counters, Prepared, by_name};
use super::device;
use super::error::{Error, Result};
use super::netns;
use super::ring::{self, RingMeter};
use super::slow_link::{LinkCounters, LinkSettings, SlowLink};
use super::stop::Stop;
use super::topology::{Host, Topology, TopologySettings};
use super::traffic::{Traffic, TrafficReport};
use crate::experiment::units::{BitRate, nanos};
use crate::experiment::{Action, Event, Experiment, FAST_DEVICE, contender};
use crate::report::{
    DelaySummary, GoodputPoint, LabFacts, Place, Report, RingPoint, RingSummary, Run, Samples, Setup, Skipped,
};

/// Between two readings of the ring, and the longest an event may be late.
const TICK_NS: u64 = 5_000_000;
/// Between two points of the goodput series.
const GOODPUT_EVERY_NS: u64 = 100_000_000;
/// The time the topology has to settle, and every thread to start, before the clock of a run starts.
const LEAD_IN_NS: u64 = 50_000_000;
/// A link that still carries frames this long after the senders stopped will not fall idle.
const DRAIN_LIMIT: Duration = Duration::from_secs(120);
/// A frame still unaccounted for this long after the link fell idle is not on its way any more.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);

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
        place: Place::Lab { kernel: kernel() },
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
        topology.slow_tap(),
        topology.receiver_tap(),
        LinkSettings {
            rate: experiment.link.rate,
            delay: experiment.link.delay,
            overhead: experiment.link.overhead,
            reverse_rate: experiment.link.reverse_rate,
            sender: experiment.family.sender(),
        },
    )
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

/// Everything that stands while one contender is measured.
struct Bench<'a> {
    experiment: &'a Experiment,
    topology: &'a Topology,
    link: &'a SlowLink,
    attached: &'a dyn Attached,
    stop: &'a Stop,
}

/// All counters of one moment.
struct Moment {
    offered: u64,
    link: LinkCounters,
    contender: Counters,
}

/// What is collected while the traffic runs.
#[derive(Default)]
struct Collected {
    payload_bytes: u64,
    goodput: Vec<GoodputPoint>,
    ring: Vec<RingPoint>,
    ring_drops: Option<u64>,
}

impl Bench<'_> {
    fn measure(
        &self,
        name: &str,
        mut meter: Option<Box<dyn RingMeter>>,
        watch: &mut dyn FnMut(Duration, u64),
    ) -> Result<Run> {
        let before = self.moment()?;
        let start_ns = now_ns() + LEAD_IN_NS;
        let mut traffic = Traffic::start(self.topology, self.experiment, start_ns)?;
        self.stop.sleep_until(start_ns)?;
        let mut collected = self.collect(&traffic, start_ns, meter.as_deref_mut(), watch)?;
        traffic.stop_senders()?;
        self.link.resume();
        self.drain()?;
        if let Some(last) = meter.as_deref_mut().and_then(RingMeter::read) {
            collected.ring_drops = Some(last.ring_drops);
        }
        let after = self.moment()?;
        Ok(self.summarise(name, &before, &after, collected, traffic.finish()?))
    }

    fn moment(&self) -> Result<Moment> {
        let router = self.topology.host(Host::Router);
        Ok(Moment {
            offered: router.run(|| device::counters(FAST_DEVICE))?.rx_packets,
            link: self.link.counters(),
            contender: self.attached.snapshot(self.topology)?,
        })
    }

    fn collect(
        &self,
        traffic: &Traffic,
        start_ns: u64,
        mut meter: Option<&mut (dyn RingMeter + 'static)>,
        watch: &mut dyn FnMut(Duration, u64),
    ) -> Result<Collected> {
        let mut collected = Collected::default();
        let mut events = self.experiment.events.iter().peekable();
        let end_ns = start_ns + nanos(self.experiment.duration);
        let mut last_goodput = (start_ns, 0);
        let mut tick = start_ns;
        while tick < end_ns {
            self.stop.sleep_until(tick)?;
            let now = now_ns();
            let at_ns = now.saturating_sub(start_ns);
            while let Some(event) = events.next_if(|event| nanos(event.at) <= at_ns) {
                self.apply(*event);
            }
            if let Some(reading) = meter.as_deref_mut().and_then(RingMeter::read) {
                collected.ring.push(RingPoint { at_ns, occupancy: reading.occupancy });
                collected.ring_drops = Some(reading.ring_drops);
            }
            if now - last_goodput.0 >= GOODPUT_EVERY_NS {
                let bytes = traffic.payload_bytes();
                let bps = bits_per_second(bytes - last_goodput.1, now - last_goodput.0);
                collected.goodput.push(GoodputPoint { at_ns, bps });
                last_goodput = (now, bytes);
                watch(Duration::from_nanos(at_ns), bytes);
            }
            // A tick that was missed is not made up for.
            tick = (tick + TICK_NS).max(now);
        }
        self.stop.sleep_until(end_ns)?;
        collected.payload_bytes = traffic.payload_bytes();
        Ok(collected)
    }

    fn apply(&self, event: Event) {
        match event.action {
            Action::Pause => self.link.pause(),
            Action::Resume => self.link.resume(),
            Action::Rate(rate) => self.link.set_rate(rate),
        }
    }

    /// Waits until nothing has moved for longer than anything that is still under way could take.
    fn drain(&self) -> Result<()> {
        let slowest = self.experiment.events.iter().fold(self.experiment.link.rate, |slowest, event| {
            if let Action::Rate(rate) = event.action { slowest.min(rate) } else { slowest }
        });
        let shaper = BitRate::min(slowest, self.experiment.shaper_rate);
        let quiet_ns = 3 * nanos(self.experiment.link.delay) + 10 * shaper.time_of(1_514) + 100_000_000;
        let give_up_ns = now_ns() + nanos(DRAIN_LIMIT);
        let mut seen = (self.offered()?, self.link.counters());
        let mut since_ns = now_ns();
        loop {
            self.stop.sleep_until(now_ns() + TICK_NS)?;
            let now = now_ns();
            let current = (self.offered()?, self.link.counters());
            if current != seen {
                seen = current;
                since_ns = now;
            }
            let quiet_for = now - since_ns;
            let idle = quiet_for >= quiet_ns && seen.1.in_flight() == 0;
            if idle && (quiet_for >= nanos(SETTLE_LIMIT) || self.settled()?) {
                return Ok(());
            }
            if now > give_up_ns {
                return Err(Error::NotDrained { seconds: DRAIN_LIMIT.as_secs() });
            }
        }
    }

    /// Whether the contender accounts for every frame. One that does not may still hold some: a virtual CPU that was
    /// taken away in the middle of a poll has frames between ingress and egress, however quiet the link is. What is
    /// unaccounted when the time is up goes into the report.
    fn settled(&self) -> Result<bool> {
        Ok(self.attached.snapshot(self.topology)?.unaccounted.is_none_or(|frames| frames == 0))
    }

    fn offered(&self) -> Result<u64> {
        Ok(self.topology.host(Host::Router).run(|| device::counters(FAST_DEVICE))?.rx_packets)
    }

    fn summarise(
        &self,
        name: &str,
        before: &Moment,
        after: &Moment,
        collected: Collected,
        traffic: TrafficReport,
    ) -> Run {
        let offered = after.offered - before.offered;
        let delivered = after.link.delivered - before.link.delivered;
        let counters = after.contender.since(&before.contender);
        let known = counters.dropped();
        Run {
            contender: name.to_owned(),
            goodput_bps: bits_per_second(collected.payload_bytes, nanos(self.experiment.duration)),
            delay_ns: DelaySummary::of(&traffic.delays),
            probes: traffic.probes,
            offered_pkts: offered,
            delivered_pkts: delivered,
            silent_drops: offered.saturating_sub(delivered).saturating_sub(known),
            drops: counters.drops,
            marks: counters.marks,
            ring_drops: counters.ring_drops.or(collected.ring_drops),
            unaccounted: counters.unaccounted,
            ring: RingSummary::of(self.experiment.link.ring, &collected.ring),
            simulated: None,
            lab: Some(LabFacts {
                router_pkts: after.link.foreign - before.link.foreign,
                ce_delivered_pkts: after.link.ce_marked - before.link.ce_marked,
                link_errors: after.link.errors - before.link.errors,
                link_late_max_ns: after.link.late_max_ns,
                link_lost_ns: after.link.lost_ns,
                realtime: self.link.is_realtime(),
            }),
            flows: traffic.flows,
            samples: Samples {
                delay: traffic.delays,
                ring: collected.ring,
                goodput: collected.goodput,
                flows: Vec::new(),
            },
        }
    }
}

/// Bits per second of `bytes` in `over_ns`, rounded down.
fn bits_per_second(bytes: u64, over_ns: u64) -> u64 {
    let bits = u128::from(bytes) * 8 * 1_000_000_000;
    u64::try_from(bits / u128::from(over_ns.max(1))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goodput_is_bits_over_seconds() {
        assert_eq!(bits_per_second(1_250_000, 1_000_000_000), 10_000_000);
        assert_eq!(bits_per_second(0, 0), 0);
    }
}
