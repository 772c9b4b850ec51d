//! One contender's run: what is read while traffic crosses it, and what comes of that.

use std::time::Duration;

use weir_shared_maps::{ClassCounter, CounterId as _};

use super::clock::now_ns;
use super::contender::{Attached, ClassCounters, Counters};
use super::device;
use super::error::{Error, Result};
use super::ring::RingMeter;
use super::slow_link::{LinkCounters, SlowLink};
use super::stop::Stop;
use super::topology::{Host, Topology};
use super::traffic::{Traffic, TrafficReport};
use crate::experiment::units::{BitRate, nanos};
use crate::experiment::{Action, Event, Experiment, FAST_DEVICE};
use crate::report::{
    ClassResult, DelaySummary, GoodputPoint, Group, LabFacts, RingPoint, RingSummary, Run, Samples,
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

/// Everything that stands while one contender is measured.
pub(super) struct Bench<'a> {
    pub(super) experiment: &'a Experiment,
    pub(super) topology: &'a Topology,
    pub(super) link: &'a SlowLink,
    pub(super) attached: &'a dyn Attached,
    pub(super) stop: &'a Stop,
}

/// All counters of one moment.
struct Moment {
    offered: u64,
    link: LinkCounters,
    contender: Counters,
}

/// One end of the measured time.
struct Edge {
    at_ns: u64,
    /// Of each flow.
    payload: Vec<u64>,
    /// That the slow link took from the router.
    link_bytes: u64,
    contender: Counters,
}

/// What is collected while the traffic runs.
struct Collected {
    /// How long was measured.
    over_ns: u64,
    /// Payload of each flow in that time.
    payload: Vec<u64>,
    /// What of it is goodput.
    goodput_bytes: u64,
    /// What the slow link took from the router in that time.
    link_bytes: u64,
    /// Of the contender, in that time.
    classes: Vec<ClassCounters>,
    goodput: Vec<GoodputPoint>,
    ring: Vec<RingPoint>,
    ring_drops: Option<u64>,
}

impl Collected {
    /// The rate of what was counted in the measured time.
    fn bps(&self, bytes: u64) -> u64 {
        bits_per_second(bytes, self.over_ns)
    }

    /// Rates of the measured time, counters of the whole run.
    fn classes(&self, whole: &[ClassCounters]) -> Vec<ClassResult> {
        let accepted = |class: &ClassCounters| {
            class.counters.get(ClassCounter::AcceptedBytes.name()).copied().unwrap_or(0)
        };
        let both = whole.iter().zip(&self.classes);
        let results = both.map(|(whole, measured)| ClassResult {
            class: whole.class.clone(),
            accepted_bps: self.bps(accepted(measured)),
            counters: whole.counters.clone(),
        });
        results.collect()
    }
}

impl Bench<'_> {
    /// Runs the traffic and reads everything.
    pub(super) fn measure(
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
        let measure_from_ns = start_ns + nanos(self.experiment.warmup);
        let mut from = None;
        let (mut goodput, mut ring, mut ring_drops) = (Vec::new(), Vec::new(), None);
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
                ring.push(RingPoint { at_ns, occupancy: reading.occupancy });
                ring_drops = Some(reading.ring_drops);
            }
            if from.is_none() && now >= measure_from_ns {
                from = Some(self.edge(traffic)?);
            }
            if now - last_goodput.0 >= GOODPUT_EVERY_NS {
                let bytes = traffic.goodput_of(&traffic.payload_of_each());
                let bps = bits_per_second(bytes - last_goodput.1, now - last_goodput.0);
                goodput.push(GoodputPoint { at_ns, bps });
                last_goodput = (now, bytes);
                watch(Duration::from_nanos(at_ns), bytes);
            }
            // A tick that was missed is not made up for.
            tick = (tick + TICK_NS).max(now);
        }
        self.stop.sleep_until(end_ns)?;
        let to = self.edge(traffic)?;
        // A warm-up that ended in the last tick leaves nothing to measure.
        let from = from.map_or_else(|| self.edge(traffic), Ok)?;
        let payload: Vec<u64> = to.payload.iter().zip(&from.payload).map(|(to, from)| to - from).collect();
        Ok(Collected {
            over_ns: to.at_ns.saturating_sub(from.at_ns),
            goodput_bytes: traffic.goodput_of(&payload),
            payload,
            link_bytes: to.link_bytes - from.link_bytes,
            classes: to.contender.since(&from.contender).classes,
            goodput,
            ring,
            ring_drops,
        })
    }

    fn edge(&self, traffic: &Traffic) -> Result<Edge> {
        let contender = self.attached.snapshot(self.topology)?;
        let (at_ns, payload) = (now_ns(), traffic.payload_of_each());
        Ok(Edge { at_ns, payload, link_bytes: self.link.counters().bytes_in, contender })
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
        mut traffic: TrafficReport,
    ) -> Run {
        let offered = after.offered - before.offered;
        let delivered = after.link.delivered - before.link.delivered;
        let counters = after.contender.since(&before.contender);
        let known = counters.dropped();
        // The tracepoint behind the meter counts what a devmap program dropped among what the driver did not take
        // (`bq_xmit_all` in kernel/bpf/devmap.c at v6.18). A contender with such a program has those among its causes.
        let refused = collected.ring_drops.map(|drops| drops.saturating_sub(known));
        for (flow, bytes) in traffic.flows.iter_mut().zip(&collected.payload) {
            flow.goodput_bps = collected.bps(*bytes);
        }
        let warmup_ns = nanos(self.experiment.warmup);
        let measured = traffic.delays.iter().filter(|sample| sample.at_ns >= warmup_ns);
        Run {
            contender: name.to_owned(),
            goodput_bps: collected.bps(collected.goodput_bytes),
            delay_ns: DelaySummary::of(measured),
            probes: traffic.probes,
            offered_pkts: offered,
            delivered_pkts: delivered,
            silent_drops: offered.saturating_sub(delivered).saturating_sub(known),
            classes: collected.classes(&counters.classes),
            drops: counters.drops,
            marks: counters.marks,
            ring_drops: counters.ring_drops.or(refused),
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
                delivered_bps: collected.bps(collected.link_bytes),
            }),
            groups: Group::all(&traffic.flows),
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
