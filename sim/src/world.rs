//! The event loop: senders, fast link, router, queue, slow link, receivers.

use weir_aqm::{Bytes, Nanos, Rate};

use crate::{
    Delays, EventQueue, Flow, FlowId, FlowOutcome, Outcome, Packet, Random, RingOutcome, Scenario, Traffic,
    queue::{BATCH_MAX, Queue, Tally},
    sender::{Ack, Constant, Cubic, Outbox, Poisson, Reno, Sender, Tcp},
};

/// Frames of one poll at most (`NAPI_POLL_WEIGHT`, `include/linux/netdevice.h` at v6.18).
const POLL_MAX: usize = 64;
const FULL_FRAME: u32 = 1514;
/// 64 bytes of payload with UDP, IPv4 and Ethernet headers, as the lab's probes.
const PROBE_FRAME: u32 = 106;

#[derive(Clone, Copy)]
enum Event {
    /// A flow's start or timer.
    Wake(FlowId),
    /// A frame is through the fast link.
    Arrive(Packet),
    /// The router takes what waits.
    Poll,
    /// The slow link can take a frame.
    LinkFree,
    /// The receiver has a frame.
    Deliver(Packet),
    /// The sender has an acknowledgement.
    Acked(FlowId, Ack),
}

pub(crate) fn run(scenario: &Scenario) -> Outcome {
    let mut world = World::new(scenario);
    while let Some((now, event)) = world.events.pop() {
        world.happen(now, event);
    }
    world.outcome()
}

struct World<'a> {
    scenario: &'a Scenario,
    events: EventQueue<Event>,
    flows: Vec<Running>,
    out: Outbox,
    fast: Serialiser,
    arrived: Vec<Packet>,
    poll_pending: bool,
    queue: Box<dyn Queue>,
    tally: Tally,
    slow: Serialiser,
    slow_busy: bool,
    offered: u64,
    delivered: u64,
    busy: Nanos,
    length: Length,
}

struct Running {
    sender: Box<dyn Sender>,
    sent: u64,
    delivered: u64,
    bytes: u64,
    delays: Vec<u64>,
}

/// A link that sends one frame after the other. Fractions of a nanosecond are carried on, so that the rate is exact.
struct Serialiser {
    rate: u64,
    free_at: Nanos,
    carry: u64,
}

impl Serialiser {
    const fn new(rate: Rate) -> Self {
        let rate = rate.bits_per_second();
        Self { rate: if rate == 0 { 1 } else { rate }, free_at: Nanos::ZERO, carry: 0 }
    }

    /// Sends `bytes` from `now`, or from when the link is free; returns when the last bit has left.
    fn send(&mut self, now: Nanos, bytes: Bytes) -> Nanos {
        const BIT_NS: u64 = 8_000_000_000;
        if now >= self.free_at {
            self.carry = 0;
        }
        let work = bytes.get().saturating_mul(BIT_NS).saturating_add(self.carry);
        self.carry = work % self.rate;
        self.free_at = now.max(self.free_at).saturating_add(Nanos::from_nanos(work / self.rate));
        self.free_at
    }
}

/// Time integral of the queue's length.
#[derive(Default)]
struct Length {
    since: Nanos,
    current: u32,
    max: u32,
    integral: u128,
}

impl Length {
    /// The queue now has `current` frames. `window` is the measured time.
    fn change(&mut self, now: Nanos, current: u32, window: (Nanos, Nanos)) {
        let span = overlap((self.since, now), window);
        self.integral += u128::from(span.as_nanos()) * u128::from(self.current);
        self.since = now;
        self.current = current;
        self.max = self.max.max(current);
    }
}

fn overlap(a: (Nanos, Nanos), b: (Nanos, Nanos)) -> Nanos {
    a.1.min(b.1).saturating_sub(a.0.max(b.0))
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let mut random = Random::new(scenario.seed);
        let mut events = EventQueue::new();
        let mut flows = Vec::with_capacity(scenario.flows.len());
        for (index, flow) in scenario.flows.iter().enumerate() {
            events.at(flow.start.saturating_add(random.below(flow.jitter)), Event::Wake(FlowId(index)));
            let sender = sender(flow, Random::new(random.bits()));
            flows.push(Running { sender, sent: 0, delivered: 0, bytes: 0, delays: Vec::new() });
        }
        Self {
            scenario,
            events,
            flows,
            out: Outbox::default(),
            fast: Serialiser::new(scenario.links.fast.unwrap_or_default()),
            arrived: Vec::new(),
            poll_pending: false,
            queue: scenario.contender.queue(scenario.links.ring),
            tally: Tally::default(),
            slow: Serialiser::new(scenario.links.rate),
            slow_busy: false,
            offered: 0,
            delivered: 0,
            busy: Nanos::ZERO,
            length: Length::default(),
        }
    }

    fn window(&self) -> (Nanos, Nanos) {
        (self.scenario.measure_from, self.scenario.duration)
    }

    fn happen(&mut self, now: Nanos, event: Event) {
        match event {
            Event::Wake(flow) => self.sender(now, flow, None),
            Event::Acked(flow, ack) => self.sender(now, flow, Some(ack)),
            Event::Arrive(packet) => {
                self.offered = self.offered.wrapping_add(1);
                self.arrived.push(packet);
                if !self.poll_pending {
                    self.poll_pending = true;
                    self.events.at(now.saturating_add(self.scenario.links.poll), Event::Poll);
                }
            }
            Event::Poll => self.poll(now),
            Event::LinkFree => self.send_slow(now),
            Event::Deliver(packet) => self.deliver(now, packet),
        }
    }

    /// Lets a sender act. Past the end nobody sends, and what is under way drains.
    fn sender(&mut self, now: Nanos, flow: FlowId, ack: Option<Ack>) {
        if now >= self.scenario.duration {
            return;
        }
        let Some(running) = self.flows.get_mut(flow.0) else { return };
        match ack {
            None => running.sender.wake(now, &mut self.out),
            Some(ack) => running.sender.on_ack(now, ack, &mut self.out),
        }
        let (packets, wake_at) = self.out.take();
        for outgoing in packets {
            running.sent = running.sent.wrapping_add(1);
            let packet = Packet {
                flow,
                number: outgoing.number,
                bytes: outgoing.bytes,
                sent: now,
                capable: outgoing.capable,
                marked: false,
            };
            let at = match self.scenario.links.fast {
                None => now,
                Some(_) => self.fast.send(now, Bytes::new(u64::from(packet.bytes))),
            };
            self.events.at(at, Event::Arrive(packet));
        }
        if let Some(at) = wake_at {
            self.events.at(at, Event::Wake(flow));
        }
    }

    /// One NAPI poll, in batches.
    fn poll(&mut self, now: Nanos) {
        let taken = self.arrived.len().min(POLL_MAX);
        let rest = self.arrived.split_off(taken);
        let polled = std::mem::replace(&mut self.arrived, rest);
        let mut batch = Vec::with_capacity(BATCH_MAX);
        for frames in polled.chunks(BATCH_MAX) {
            batch.extend_from_slice(frames);
            self.queue.offer(now, &mut batch, &mut self.tally);
            self.length.change(now, self.queue.occupancy(), self.window());
        }
        self.poll_pending = !self.arrived.is_empty();
        if self.poll_pending {
            self.events.at(now, Event::Poll);
        }
        if !self.slow_busy {
            self.send_slow(now);
        }
    }

    fn send_slow(&mut self, now: Nanos) {
        let packet = self.queue.take(now, &mut self.tally);
        self.length.change(now, self.queue.occupancy(), self.window());
        self.slow_busy = packet.is_some();
        let Some(packet) = packet else { return };
        let left = self.slow.send(now, Bytes::new(u64::from(packet.bytes)));
        self.busy = self.busy.saturating_add(overlap((now, left), self.window()));
        self.events.at(left, Event::LinkFree);
        self.events.at(left.saturating_add(self.scenario.links.delay), Event::Deliver(packet));
    }

    fn deliver(&mut self, now: Nanos, packet: Packet) {
        let (from, to) = self.window();
        self.delivered = self.delivered.wrapping_add(1);
        let Some(running) = self.flows.get_mut(packet.flow.0) else { return };
        running.delivered = running.delivered.wrapping_add(1);
        if now >= from && now < to {
            running.bytes = running.bytes.saturating_add(u64::from(packet.bytes));
        }
        if packet.sent >= from {
            running.delays.push(now.saturating_sub(packet.sent).as_nanos());
        }
        if running.sender.wants_acks() {
            let ack = Ack { number: packet.number, sent: packet.sent, marked: packet.marked };
            self.events.at(now.saturating_add(self.scenario.links.delay), Event::Acked(packet.flow, ack));
        }
    }

    fn outcome(mut self) -> Outcome {
        let window = self.window();
        self.length.change(self.events.now(), self.queue.occupancy(), window);
        let measured = overlap(window, window).as_nanos().max(1) as f64;
        Outcome {
            offered: self.offered,
            delivered: self.delivered,
            drops: self.tally.drops,
            marks: self.tally.marks,
            utilisation: self.busy.as_nanos() as f64 / measured,
            ring: RingOutcome {
                slots: self.queue.slots(),
                max: self.length.max,
                mean: self.length.integral as f64 / measured,
            },
            flows: self
                .flows
                .into_iter()
                .map(|flow| FlowOutcome {
                    sent: flow.sent,
                    delivered: flow.delivered,
                    bytes: flow.bytes,
                    delay: Delays::of(flow.delays),
                })
                .collect(),
        }
    }
}

fn sender(flow: &Flow, random: Random) -> Box<dyn Sender> {
    match flow.traffic {
        Traffic::Reno { ecn } => Box::new(Tcp::new(Reno::default(), FULL_FRAME, ecn, false)),
        Traffic::Cubic { ecn } => Box::new(Tcp::new(Cubic::default(), FULL_FRAME, ecn, true)),
        Traffic::Constant { rate, bytes, ecn } => {
            let interval = u64::from(bytes).saturating_mul(8_000_000_000) / rate.bits_per_second().max(1);
            Box::new(Constant::new(Nanos::from_nanos(interval), bytes, ecn))
        }
        Traffic::Probe { interval } => Box::new(Constant::new(interval, PROBE_FRAME, false)),
        Traffic::Poisson { mean, bytes, sizes } => Box::new(Poisson::new(mean, bytes, sizes, random)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_carries_its_rate_to_the_bit() {
        // A full frame takes 1,211,200 / 3 ns at 30 Mbit/s: three of them take a whole number.
        let mut link = Serialiser::new(Rate::from_bits_per_second(30_000_000));
        let frame = Bytes::new(1514);
        let ends = [0; 3].map(|_: u64| link.send(Nanos::ZERO, frame).as_nanos());
        assert_eq!(ends, [403_733, 807_466, 1_211_200]);
    }

    #[test]
    fn only_the_time_within_the_window_counts() {
        let n = Nanos::from_nanos;
        assert_eq!(overlap((n(0), n(10)), (n(5), n(20))), n(5));
        assert_eq!(overlap((n(0), n(4)), (n(5), n(20))), Nanos::ZERO);
    }
}
