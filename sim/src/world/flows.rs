//! The flows: who runs, and what is counted of each group.

use std::collections::VecDeque;

use weir_aqm::Nanos;

use super::{Event, receiver::Receiver, stream::Stream};
use crate::{
    Congestion, DelayRecorder, Delays, Flow, FlowId, FlowOutcome, FlowSizes, Packet, Protocol, Random,
    Service, Traffic,
    events::{Agenda, Due},
    sender::{Outgoing, Sender},
};

/// Of a [`FlowId`] the lower bits are a place in the table, the upper ones tell apart those who had it one after the other,
/// so that a late frame of a connection that is over is not taken for its successor's.
const PLACE_BITS: u32 = 22;

/// One flow, or one connection of a group of short ones.
pub struct Running {
    pub id: FlowId,
    pub group: u32,
    /// Which of the group's counters.
    pub member: u32,
    pub sender: Box<dyn Sender>,
    /// Of flows that are acknowledged.
    pub receiver: Option<Receiver>,
    pub wake: Due,
    pub delayed_ack: Due,
    /// Payload bytes to send, where they are bounded.
    pub size: Option<u64>,
    /// Payload bytes that the receiving application has read, whenever.
    pub received: u64,
    /// Of flows that are acknowledged.
    stream: Stream,
    /// Bytes of a frame that are no payload.
    headers: u32,
    pub started: Nanos,
    pub stopped: bool,
    pub over: bool,
}

impl Running {
    /// The frame that carries this.
    pub fn packet(&mut self, now: Nanos, outgoing: &Outgoing, group: &Group) -> Packet {
        self.headers = self.headers.max(outgoing.bytes.saturating_sub(outgoing.payload));
        Packet {
            flow: self.id,
            bytes: outgoing.bytes,
            number: outgoing.number,
            segment: outgoing.segment,
            sent: now,
            host: group.host,
            dscp: group.dscp,
            service: Service {
                protocol: group.service.protocol,
                // Of short flows there is one member.
                port: group.service.port.wrapping_add(self.member as u16),
            },
            ecn: outgoing.ecn,
        }
    }

    /// A frame of this flow has arrived: payload that the application reads now. Of a stream it is what is in order, each
    /// byte once; without one it is the frame's.
    pub fn read(&mut self, packet: &Packet) -> u64 {
        // All frames of a flow have the same headers.
        let payload = u64::from(packet.bytes.saturating_sub(self.headers));
        let read = match self.receiver {
            Some(_) => self.stream.arrive(packet.segment, payload),
            None => payload,
        };
        self.received = self.received.saturating_add(read);
        read
    }

    /// Whether there is an end that may have come.
    pub const fn can_finish(&self) -> bool {
        self.size.is_some() || self.stopped
    }
}

/// One entry of [`crate::Scenario::flows`].
pub struct Group {
    pub host: u16,
    pub dscp: u8,
    /// Of the first member.
    pub service: Service,
    /// Which delay line the flows are behind.
    pub line: u32,
    pub is_probe: bool,
    pub sent: u64,
    pub delivered: u64,
    pub payload: Vec<u64>,
    /// Since the last point of the series.
    pub payload_since: u64,
    pub delay: DelayRecorder,
    pub completion: Option<DelayRecorder>,
    pub completed: u64,
    /// Connections that come by themselves.
    pub arrivals: Option<Arrivals>,
    /// Places of connections that are over.
    free: VecDeque<u32>,
}

const fn protocol(traffic: &Traffic) -> Protocol {
    match traffic {
        Traffic::Tcp { .. } | Traffic::Short { .. } => Protocol::Tcp,
        Traffic::Constant { .. }
        | Traffic::Probe { .. }
        | Traffic::Poisson { .. }
        | Traffic::OnOff { .. }
        | Traffic::Voip
        | Traffic::Gaming => Protocol::Udp,
    }
}

/// A Poisson process of connections.
pub struct Arrivals {
    pub due: Due,
    mean_ns: f64,
    /// Summed up in floating point, so that rounding to nanoseconds does not bias the rate.
    next_ns: f64,
    until: Nanos,
    sizes: FlowSizes,
    congestion: Congestion,
    ecn: bool,
    random: Random,
}

impl Arrivals {
    /// One arrival: what comes, and when the next one does.
    fn next(&mut self) -> (Traffic, u64, Option<Nanos>) {
        let size = self.sizes.draw(&mut self.random);
        let traffic = Traffic::Tcp { congestion: self.congestion, ecn: self.ecn, bytes: Some(size) };
        self.next_ns += self.random.exponential(self.mean_ns);
        let at = Nanos::from_nanos(self.next_ns.round() as u64);
        (traffic, size, (at < self.until).then_some(at))
    }
}

/// All flows.
pub struct Flows {
    running: Vec<Running>,
    pub groups: Vec<Group>,
    random: Random,
}

impl Flows {
    /// None yet.
    pub const fn new(random: Random) -> Self {
        Self { running: Vec::new(), groups: Vec::new(), random }
    }

    /// Adds an entry of the scenario, behind this delay line, and schedules its starts and stops.
    pub fn add(&mut self, flow: &Flow, line: u32, duration: Nanos, agenda: &mut Agenda<Event>) {
        let group = self.groups.len() as u32;
        let is_short = matches!(flow.traffic, Traffic::Short { .. });
        self.groups.push(Group {
            host: flow.host,
            dscp: flow.dscp,
            service: Service { protocol: protocol(&flow.traffic), port: flow.port },
            line,
            is_probe: matches!(flow.traffic, Traffic::Probe { .. }),
            sent: 0,
            delivered: 0,
            payload: vec![0; if is_short { 1 } else { flow.count.max(1) as usize }],
            payload_since: 0,
            delay: DelayRecorder::new(),
            completion: None,
            completed: 0,
            arrivals: None,
            free: VecDeque::new(),
        });
        if let Traffic::Short { congestion, ecn, mean, sizes } = &flow.traffic {
            let mut random = self.random.split();
            let start = flow.start.saturating_add(random.below(flow.jitter));
            // As many independent processes as asked for are one that is as much faster.
            let mean_ns = mean.as_nanos().max(1) as f64 / f64::from(flow.count.max(1));
            let next_ns = start.as_nanos() as f64 + random.exponential(mean_ns);
            let due = agenda.register(Event::Arrive(group));
            agenda.set(due, Nanos::from_nanos(next_ns.round() as u64));
            let until = flow.stop.unwrap_or(duration).min(duration);
            let arrivals = Arrivals {
                due,
                mean_ns,
                next_ns,
                until,
                sizes: sizes.clone(),
                congestion: *congestion,
                ecn: *ecn,
                random,
            };
            if let Some(group) = self.groups.last_mut() {
                group.arrivals = Some(arrivals);
            }
            return;
        }
        let size = match &flow.traffic {
            Traffic::Tcp { bytes, .. } => *bytes,
            Traffic::Short { .. }
            | Traffic::Constant { .. }
            | Traffic::Probe { .. }
            | Traffic::Poisson { .. }
            | Traffic::OnOff { .. }
            | Traffic::Voip
            | Traffic::Gaming => None,
        };
        for member in 0..flow.count.max(1) {
            let start = flow.start.saturating_add(self.random.below(flow.jitter));
            let place = self.start(start, group, member, &flow.traffic, size, agenda);
            if let Some(stop) = flow.stop {
                let due = agenda.register(Event::Stop(place));
                agenda.set(due, stop);
            }
        }
    }

    /// A connection of a short group begins.
    pub fn arrive(&mut self, now: Nanos, group: u32, agenda: &mut Agenda<Event>) {
        let arrivals = self.groups.get_mut(group as usize).and_then(|group| group.arrivals.as_mut());
        let Some(arrivals) = arrivals.filter(|arrivals| now < arrivals.until) else { return };
        let (traffic, size, next) = arrivals.next();
        if let Some(at) = next {
            agenda.set(arrivals.due, at);
        }
        self.start(now, group, 0, &traffic, Some(size), agenda);
    }

    fn start(
        &mut self,
        start: Nanos,
        group: u32,
        member: u32,
        traffic: &Traffic,
        size: Option<u64>,
        agenda: &mut Agenda<Event>,
    ) -> u32 {
        let sender = crate::sender::sender(traffic, self.random.split());
        let receiver = sender.wants_acks().then(Receiver::new);
        let free = self.groups.get_mut(group as usize).and_then(|group| group.free.pop_front());
        let former = free.and_then(|place| self.running.get(place as usize));
        let (id, wake, delayed_ack) = match former {
            Some(former) => {
                (FlowId(former.id.0.wrapping_add(1 << PLACE_BITS)), former.wake, former.delayed_ack)
            }
            None => {
                let place = self.running.len() as u32;
                let wake = agenda.register(Event::Wake(place));
                (FlowId(place), wake, agenda.register(Event::DelayedAck(place)))
            }
        };
        let running = Running {
            id,
            group,
            member,
            sender,
            receiver,
            wake,
            delayed_ack,
            size,
            received: 0,
            stream: Stream::default(),
            headers: 0,
            started: start,
            stopped: false,
            over: false,
        };
        agenda.set(wake, start);
        let place = place_of(id);
        match self.running.get_mut(place as usize) {
            Some(former) => *former = running,
            None => self.running.push(running),
        }
        place
    }

    /// The flow at this place, with its group.
    pub fn at(&mut self, place: u32) -> Option<(&mut Running, &mut Group)> {
        let running = self.running.get_mut(place as usize)?;
        let group = self.groups.get_mut(running.group as usize)?;
        Some((running, group))
    }

    /// The flow whose frame this is; it may be the successor of the frame's own.
    pub fn of(&mut self, id: FlowId) -> Option<(&mut Running, &mut Group)> {
        self.at(place_of(id))
    }
}

impl Group {
    /// A flow of the group has all its data acknowledged.
    pub fn finish(&mut self, now: Nanos, flow: &mut Running, measured: bool, agenda: &mut Agenda<Event>) {
        flow.over = true;
        agenda.clear(flow.wake);
        agenda.clear(flow.delayed_ack);
        self.completed += 1;
        if measured {
            let completion = self.completion.get_or_insert_default();
            completion.record(now.saturating_sub(flow.started));
        }
        if self.arrivals.is_some() {
            self.free.push_back(place_of(flow.id));
        }
    }

    /// What the group showed.
    pub fn outcome(self) -> FlowOutcome {
        FlowOutcome {
            sent: self.sent,
            delivered: self.delivered,
            payload: self.payload,
            delay: self.delay.summary(),
            completion: self.completion.map_or_else(Delays::default, |recorder| recorder.summary()),
            completed: self.completed,
        }
    }
}

/// Where a flow stands in the table.
pub const fn place_of(id: FlowId) -> u32 {
    id.0 & ((1 << PLACE_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_gets_the_place_but_not_the_name_of_one_that_is_over() {
        let (congestion, ecn, mean) = (Congestion::Cubic, false, Nanos::from_millis(1));
        let traffic = Traffic::Short { congestion, ecn, mean, sizes: FlowSizes::Fixed(1) };
        let (mut flows, mut agenda) = (Flows::new(Random::new(1)), Agenda::new());
        flows.add(&Flow::new(traffic), 0, Nanos::from_secs(1), &mut agenda);
        flows.arrive(Nanos::ZERO, 0, &mut agenda);
        flows.arrive(Nanos::ZERO, 0, &mut agenda);
        let (first, group) = flows.at(0).unwrap();
        let former = first.id;
        group.finish(Nanos::ZERO, first, true, &mut agenda);
        flows.arrive(Nanos::ZERO, 0, &mut agenda);
        let (now, _) = flows.of(former).unwrap();
        assert_eq!((place_of(now.id), now.over), (0, false));
        assert_ne!(now.id, former);
        assert!(flows.at(1).is_some() && flows.at(2).is_none());
    }
}
