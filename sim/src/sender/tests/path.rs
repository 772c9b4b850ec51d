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
        let mut run = Run {
            path: self,
            events: EventQueue::new(),
            outcome: Outcome { measured: duration.saturating_sub(warm), ..Outcome::default() },
            random: Random::new(1),
            busy_until: Nanos::ZERO,
            asked: Some(Nanos::ZERO),
            receiver: Receiver::default(),
            warm,
        };
        run.events.at(Nanos::ZERO, Event::Wake(Nanos::ZERO));
        let mut out = Outbox::default();
        while let Some((now, event)) = run.events.pop() {
            if now > duration {
                break;
            }
            run.handle(now, event, sender, &mut out);
            if sender.is_finished() {
                run.outcome.finished = Some(now);
                break;
            }
        }
        run.outcome
    }
}

struct Run<'a> {
    path: &'a MiniPath,
    events: EventQueue<Event>,
    outcome: Outcome,
    random: Random,
    busy_until: Nanos,
    asked: Option<Nanos>,
    receiver: Receiver,
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

impl Run<'_> {
    fn handle(&mut self, now: Nanos, event: Event, sender: &mut dyn Sender, out: &mut Outbox) {
        match event {
            Event::Wake(at) if self.asked == Some(at) => {
                self.asked = None;
                sender.wake(now, out);
            }
            Event::Wake(_) => {}
            Event::Arrive { packet, sent } => self.arrive(now, packet, sent),
            Event::DelayedAck(packets) if packets == self.receiver.packets => self.acknowledge(),
            Event::DelayedAck(_) => {}
            Event::Ack(ack) => sender.on_ack(now, &ack, out),
        }
        let (packets, wake_at) = out.take();
        for packet in packets {
            self.send(now, packet);
        }
        if let Some(at) = wake_at {
            self.asked = Some(at);
            self.events.at(at, Event::Wake(at));
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

    fn send(&mut self, now: Nanos, mut packet: Outgoing) {
        let measured = u64::from(now >= self.warm);
        self.outcome.sent += measured;
        if self.outcome.log.len() < 10_000 {
            self.outcome.log.push((packet.number, now));
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
            self.outcome.most_waiting = self.outcome.most_waiting.max(waiting);
        }
        let lost = Self::happens(&mut self.random, &self.path.loss, packet.number, waiting);
        if waiting > self.path.buffer || lost {
            self.outcome.dropped += measured;
            return;
        }
        if packet.ecn.is_capable() && Self::happens(&mut self.random, &self.path.mark, packet.number, waiting)
        {
            packet.ecn = Ecn::Ce;
            self.outcome.marked += measured;
        }
        self.busy_until = start.saturating_add(Nanos::from_nanos(service));
        let half = Nanos::from_nanos(self.path.rtt.as_nanos() / 2);
        self.events.at(self.busy_until.saturating_add(half), Event::Arrive { packet, sent: now });
    }

    fn arrive(&mut self, now: Nanos, packet: Outgoing, sent: Nanos) {
        self.outcome.received += u64::from(now >= self.warm);
        self.outcome.payload += u64::from(packet.payload);
        let receiver = &mut self.receiver;
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
            self.acknowledge();
        } else {
            let at = now.saturating_add(Nanos::from_millis(40));
            self.events.at(at, Event::DelayedAck(receiver.packets));
        }
    }

    fn acknowledge(&mut self) {
        let receiver = &mut self.receiver;
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
        let half = Nanos::from_nanos(self.path.rtt.as_nanos() / 2);
        self.events.at(self.events.now().saturating_add(half), Event::Ack(ack));
    }
}
