//! A path of one bottleneck, small enough to be right at sight: what senders are tested on.

use std::collections::VecDeque;

use weir_aqm::Nanos;

use super::super::{Ack, Outbox, Outgoing, Sender};
use crate::{Ecn, EventQueue, Random};

/// A first-in-first-out link with a way back that takes no time to serialise.
#[derive(Clone, Debug)]
pub struct MiniPath {
    pub mbit_per_second: u64,
    pub rtt: Nanos,
    /// Frames that may wait.
    pub buffer: u64,
    pub loss: Chance,
    /// Of ECN-capable frames.
    pub mark: Chance,
    /// Frames that one acknowledgement waits for; a loss, a mark or 40 ms end the waiting.
    pub ack_every: u64,
    pub ack_loss: f64,
    /// From when to when the link takes nothing.
    pub pause: Option<(Nanos, Nanos)>,
}

/// When something happens to a frame.
#[derive(Clone, Debug)]
pub enum Chance {
    Never,
    /// Independently with this probability.
    Random(f64),
    /// To one in so many.
    Each(u64),
    /// To the frames of these numbers.
    Of(Vec<u64>),
    /// If at least so many frames wait.
    Queue(u64),
}

#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Frames sent, received, lost and marked in the measured time.
    pub sent: u64,
    pub received: u64,
    pub dropped: u64,
    pub marked: u64,
    /// Payload received in all; repeated payload counts again.
    pub payload: u64,
    /// Most frames that waited in the measured time.
    pub most_waiting: u64,
    /// Of every frame, number and time.
    pub log: Vec<(u64, Nanos)>,
    /// When the sender was finished.
    pub finished: Option<Nanos>,
    measured: Nanos,
}

impl Outcome {
    /// Frames under way on average.
    pub fn mean_window(&self, rtt: Nanos) -> f64 {
        self.sent as f64 * rtt.as_nanos() as f64 / self.measured.as_nanos() as f64
    }

    /// Share of the link's capacity.
    pub fn utilisation(&self, mbit_per_second: u64) -> f64 {
        self.received as f64 * 1514.0 * 8.0 * 1e3 / (self.measured.as_nanos() as f64 * mbit_per_second as f64)
    }
}

#[derive(Clone, Copy)]
enum Event {
    Wake(Nanos),
    Arrive { packet: Outgoing, sent: Nanos },
    Ack(Ack),
    DelayedAck(u64),
}

impl MiniPath {
    pub fn new(mbit_per_second: u64, rtt: Nanos, buffer: u64) -> Self {
        Self {
            mbit_per_second,
            rtt,
            buffer,
            loss: Chance::Never,
            mark: Chance::Never,
            ack_every: 1,
            ack_loss: 0.0,
            pause: None,
        }
    }

    /// So fast that only the sender's window counts.
    pub fn wide(rtt: Nanos) -> Self {
        Self::new(40_000, rtt, u64::MAX)
    }

    /// Runs `sender` for `duration`, of which the time before `warm` is not measured, or until it is finished.
    pub fn run(&self, sender: &mut dyn Sender, warm: Nanos, duration: Nanos) -> Outcome {
        let mut flows = [Flow::new(sender, Nanos::ZERO, self.rtt)];
        self.run_all(&mut flows, warm, duration);
        let [flow] = flows;
        flow.outcome
    }

    /// Runs several, each from its own start with its own round-trip time, until the first is finished.
    pub fn run_all(&self, flows: &mut [Flow<'_>], warm: Nanos, duration: Nanos) {
        let mut link = Link {
            path: self,
            events: EventQueue::new(),
            random: Random::new(1),
            busy_until: Nanos::ZERO,
            warm,
        };
        for (index, flow) in flows.iter_mut().enumerate() {
            flow.outcome.measured = duration.saturating_sub(warm);
            let start = flow.asked.unwrap();
            link.events.at(start, (index, Event::Wake(start)));
        }
        let mut out = Outbox::default();
        while let Some((now, (index, event))) = link.events.pop() {
            if now > duration {
                break;
            }
            let flow = &mut flows[index];
            link.handle(now, index, event, flow, &mut out);
            if flow.sender.is_finished() {
                flow.outcome.finished = Some(now);
                break;
            }
        }
    }
}

/// A sender, its receiver, and what was seen of them.
pub struct Flow<'a> {
    sender: &'a mut dyn Sender,
    rtt: Nanos,
    asked: Option<Nanos>,
    receiver: Receiver,
    pub outcome: Outcome,
}

impl<'a> Flow<'a> {
    pub fn new(sender: &'a mut dyn Sender, start: Nanos, rtt: Nanos) -> Self {
        Self { sender, rtt, asked: Some(start), receiver: Receiver::default(), outcome: Outcome::default() }
    }

    fn half(&self) -> Nanos {
        Nanos::from_nanos(self.rtt.as_nanos() / 2)
    }
}

struct Link<'a> {
    path: &'a MiniPath,
    events: EventQueue<(usize, Event)>,
    random: Random,
    busy_until: Nanos,
    warm: Nanos,
}

#[derive(Default)]
struct Receiver {
    ranges: VecDeque<(u64, u64)>,
    packets: u64,
    marked: u64,
    pending: u64,
    oldest: Option<Nanos>,
}

impl Link<'_> {
    fn handle(&mut self, now: Nanos, index: usize, event: Event, flow: &mut Flow<'_>, out: &mut Outbox) {
        match event {
            Event::Wake(at) if flow.asked == Some(at) => {
                flow.asked = None;
                flow.sender.wake(now, out);
            }
            Event::Wake(_) => {}
            Event::Arrive { packet, sent } => self.arrive(now, index, packet, sent, flow),
            Event::DelayedAck(packets) if packets == flow.receiver.packets => self.acknowledge(index, flow),
            Event::DelayedAck(_) => {}
            Event::Ack(ack) => flow.sender.on_ack(now, &ack, out),
        }
        let (packets, wake_at) = out.take();
        for packet in packets {
            self.send(now, index, packet, flow);
        }
        if let Some(at) = wake_at {
            flow.asked = Some(at);
            self.events.at(at, (index, Event::Wake(at)));
        }
    }

    fn happens(random: &mut Random, chance: &Chance, number: u64, waiting: u64) -> bool {
        match chance {
            Chance::Never => false,
            Chance::Random(p) => random.unit() < *p,
            Chance::Each(n) => number % n == n - 1,
            Chance::Of(numbers) => numbers.contains(&number),
            Chance::Queue(frames) => waiting >= *frames,
        }
    }

    fn send(&mut self, now: Nanos, index: usize, mut packet: Outgoing, flow: &mut Flow<'_>) {
        let measured = u64::from(now >= self.warm);
        flow.outcome.sent += measured;
        if flow.outcome.log.len() < 10_000 {
            flow.outcome.log.push((packet.number, now));
        }
        let service = u64::from(packet.bytes) * 8_000 / self.path.mbit_per_second;
        let mut start = self.busy_until.max(now);
        if let Some((from, until)) = self.path.pause
            && start >= from
        {
            start = start.max(until);
        }
        let waiting = start.saturating_sub(now).as_nanos() / service.max(1);
        if measured == 1 {
            flow.outcome.most_waiting = flow.outcome.most_waiting.max(waiting);
        }
        let lost = Self::happens(&mut self.random, &self.path.loss, packet.number, waiting);
        if waiting > self.path.buffer || lost {
            flow.outcome.dropped += measured;
            return;
        }
        if packet.ecn.is_capable() && Self::happens(&mut self.random, &self.path.mark, packet.number, waiting)
        {
            packet.ecn = Ecn::Ce;
            flow.outcome.marked += measured;
        }
        self.busy_until = start.saturating_add(Nanos::from_nanos(service));
        let arrives = self.busy_until.saturating_add(flow.half());
        self.events.at(arrives, (index, Event::Arrive { packet, sent: now }));
    }

    fn arrive(&mut self, now: Nanos, index: usize, packet: Outgoing, sent: Nanos, flow: &mut Flow<'_>) {
        flow.outcome.received += u64::from(now >= self.warm);
        flow.outcome.payload += u64::from(packet.payload);
        let receiver = &mut flow.receiver;
        receiver.packets += 1;
        receiver.marked += u64::from(packet.ecn == Ecn::Ce);
        receiver.pending += 1;
        receiver.oldest.get_or_insert(sent);
        let mut gap = false;
        match receiver.ranges.front_mut() {
            Some((_, last)) if *last + 1 == packet.number => *last = packet.number,
            _ => {
                gap = true;
                receiver.ranges.push_front((packet.number, packet.number));
                receiver.ranges.truncate(Ack::RANGES);
            }
        }
        if gap || packet.ecn == Ecn::Ce || receiver.pending >= self.path.ack_every {
            self.acknowledge(index, flow);
        } else {
            let at = now.saturating_add(Nanos::from_millis(40));
            self.events.at(at, (index, Event::DelayedAck(receiver.packets)));
        }
    }

    fn acknowledge(&mut self, index: usize, flow: &mut Flow<'_>) {
        let receiver = &mut flow.receiver;
        receiver.pending = 0;
        let Some(sent) = receiver.oldest.take() else { return };
        let mut received = [None; Ack::RANGES];
        for (to, range) in received.iter_mut().zip(&receiver.ranges) {
            *to = Some(*range);
        }
        let ack = Ack { received, packets: receiver.packets, marked: receiver.marked, sent };
        if self.random.unit() < self.path.ack_loss {
            return;
        }
        self.events.at(self.events.now().saturating_add(flow.half()), (index, Event::Ack(ack)));
    }
}
