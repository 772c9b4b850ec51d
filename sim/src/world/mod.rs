//! The event loop: senders → fast links → polls → queue → slow link → receivers → acknowledgements → senders.

mod cpu;
mod exit;
mod flows;
mod line;
mod meter;
mod receiver;
mod series;
mod slow;
mod stream;
#[cfg(test)]
mod tests;
mod way_back;

use weir_aqm::Nanos;

use crate::{
    Contender, FlowId, LinkChange, Outcome, Packet, Random, Scenario,
    events::{Agenda, Due},
    sender::{Ack, Outbox},
};

use cpu::Cpu;
use exit::Exit;
use flows::{Flows, place_of};
use line::Line;
use meter::Window;
use receiver::DELAY_MAX;
use series::Sampler;
use way_back::{Distance, WayBack};

/// What can be due. Numbers are places in the tables of flows, CPUs, delay lines, groups and exits.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A flow's start or timer.
    Wake(u32),
    /// A flow sends nothing new from now on.
    Stop(u32),
    /// A connection of a short group begins.
    Arrive(u32),
    /// A frame is at the fast link, having crossed the line between.
    Access(u32),
    /// A CPU takes what waits.
    Poll(u32),
    /// The kernel's stack has something to do.
    Stack,
    /// A slow link is free, or has an opportunity.
    Link(u32),
    /// A receiver has a frame.
    Deliver(u32),
    /// An acknowledgement has waited long enough.
    DelayedAck(u32),
    /// A sender has an acknowledgement.
    Acked(u32),
    /// Something happens to a slow link.
    Change(u32),
    /// A point of the series.
    Sample,
}

pub(crate) fn run(scenario: &Scenario) -> Outcome {
    let mut world = World::new(scenario);
    loop {
        while let Some((now, event)) = world.agenda.pop() {
            world.happen(now, event);
        }
        // A link that was paused for good would keep what stands in front of it: nothing stays under way.
        let now = world.agenda.now();
        let Some(paused) = world.exits.iter_mut().find(|exit| exit.link.is_paused()) else { break };
        paused.change(now, LinkChange::Resume, &mut world.agenda);
    }
    world.outcome()
}

struct World<'a> {
    scenario: &'a Scenario,
    window: Window,
    agenda: Agenda<Event>,
    flows: Flows,
    out: Outbox,
    distances: Vec<Distance>,
    cpus: Vec<Cpu>,
    batch: Vec<Packet>,
    /// The slow link, and the one that flows spill to.
    exits: Vec<Exit>,
    /// The first exit's queue may want to be woken.
    stack: Option<Due>,
    way_back: WayBack,
    sampler: Option<Sampler>,
    offered: u64,
    /// Frames and acknowledgements that came to a station, and timers.
    steps: u64,
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let Scenario { path, duration, .. } = scenario;
        let window = (scenario.measure_from, *duration);
        let mut random = Random::new(scenario.seed);
        let mut agenda = Agenda::new();
        let cpus =
            (0..path.cpus.max(1)).map(|cpu| Cpu::new(path, agenda.register(Event::Poll(cpu)))).collect();
        let (queue, spill) = scenario.contender.queues(path, random.split());
        let slow = (path, scenario.events.as_slice());
        let mut exits = vec![Exit::new(0, slow, queue, window, random.split(), &mut agenda)];
        if let (Some(queue), Some(link)) = (spill, &path.spill) {
            let (path, random) = (link.path(path), random.split());
            exits.push(Exit::new(1, (&path, &link.events), queue, window, random, &mut agenda));
        }
        let stack =
            matches!(scenario.contender, Contender::WeirRouter(_)).then(|| agenda.register(Event::Stack));
        let sampler = scenario.sample.map(|step| Sampler::new(step, &scenario.flows, &mut agenda));
        let way_back = WayBack::new(path.reverse, path.delay, random.split());
        let mut world = Self {
            scenario,
            window,
            agenda,
            flows: Flows::new(random),
            out: Outbox::default(),
            distances: Vec::new(),
            cpus,
            batch: Vec::new(),
            exits,
            stack,
            way_back,
            sampler,
            offered: 0,
            steps: 0,
        };
        for flow in &scenario.flows {
            let line = world.distance(flow.extra_delay);
            world.flows.add(flow, line, *duration, &mut world.agenda);
        }
        world
    }

    /// The delay line of all flows this far away.
    fn distance(&mut self, extra: Nanos) -> u32 {
        if let Some(known) = self.distances.iter().position(|distance| distance.extra == extra) {
            return known as u32;
        }
        let index = self.distances.len() as u32;
        let frames = Line::new(self.agenda.register(Event::Access(index)));
        let acks = Line::new(self.agenda.register(Event::Acked(index)));
        self.distances.push(Distance { extra, frames, acks });
        index
    }

    fn happen(&mut self, now: Nanos, event: Event) {
        self.steps += 1;
        match event {
            Event::Wake(place) => self.act(now, place, None),
            Event::Stop(place) => self.stop(now, place),
            Event::Arrive(group) => self.flows.arrive(now, group, &mut self.agenda),
            Event::Access(line) => {
                if let Some(distance) = self.distances.get_mut(line as usize)
                    && let Some(packet) = distance.frames.pop(&mut self.agenda)
                {
                    self.enter(now, packet);
                }
            }
            Event::Poll(cpu) => self.poll(now, cpu),
            Event::Stack => {
                if let Some(exit) = self.exits.first_mut() {
                    exit.wake(now, &mut self.agenda);
                }
                self.expect_stack(now);
            }
            Event::Link(exit) => {
                if let Some(exit) = self.exits.get_mut(exit as usize) {
                    exit.on_due(now, &mut self.agenda);
                }
            }
            Event::Deliver(exit) => {
                if let Some(exit) = self.exits.get_mut(exit as usize)
                    && let Some(packet) = exit.arrivals.pop(&mut self.agenda)
                {
                    self.deliver(now, packet);
                }
            }
            Event::DelayedAck(place) => {
                if let Some((flow, group)) = self.flows.at(place)
                    && let Some(ack) = flow.receiver.as_mut().and_then(|receiver| receiver.acknowledge())
                {
                    let (line, id) = (group.line, flow.id);
                    self.acknowledge(now, line, id, ack);
                }
            }
            Event::Acked(line) => {
                if let Some(distance) = self.distances.get_mut(line as usize)
                    && let Some((flow, ack)) = distance.acks.pop(&mut self.agenda)
                    && self.flows.of(flow).is_some_and(|(running, _)| running.id == flow)
                {
                    self.act(now, place_of(flow), Some(&ack));
                }
            }
            Event::Change(exit) => {
                if let Some(exit) = self.exits.get_mut(exit as usize) {
                    exit.happen(now, &mut self.agenda);
                }
            }
            Event::Sample => self.sample(now),
        }
    }

    /// Lets a sender act. Past the end nobody sends, and what is under way drains.
    fn act(&mut self, now: Nanos, place: u32, ack: Option<&Ack>) {
        if now >= self.scenario.duration {
            return;
        }
        let Some((flow, group)) = self.flows.at(place) else { return };
        if flow.over {
            return;
        }
        match ack {
            None => flow.sender.wake(now, &mut self.out),
            Some(ack) => flow.sender.on_ack(now, ack, &mut self.out),
        }
        let (packets, wake_at) = self.out.take();
        let cpu = place as usize % self.cpus.len().max(1);
        for outgoing in packets {
            group.sent += 1;
            let packet = flow.packet(now, &outgoing, group);
            match self.distances.get_mut(group.line as usize) {
                Some(distance) if distance.extra > Nanos::ZERO => {
                    let at = now.saturating_add(distance.extra);
                    distance.frames.push(&mut self.agenda, at, packet);
                }
                Some(_) | None => {
                    if let Some(cpu) = self.cpus.get_mut(cpu) {
                        cpu.send(now, packet, &mut self.agenda);
                    }
                }
            }
        }
        if let Some(at) = wake_at {
            self.agenda.set(flow.wake, at);
        }
        if flow.can_finish() && flow.sender.is_finished() {
            let measured = flow.started >= self.window.0;
            group.finish(now, flow, measured, &mut self.agenda);
        }
    }

    fn stop(&mut self, now: Nanos, place: u32) {
        let Some((flow, group)) = self.flows.at(place) else { return };
        if flow.over || now >= self.scenario.duration {
            return;
        }
        flow.sender.stop(now);
        flow.stopped = true;
        if flow.receiver.is_none() {
            flow.over = true;
            self.agenda.clear(flow.wake);
        } else if flow.sender.is_finished() {
            let measured = flow.started >= self.window.0;
            group.finish(now, flow, measured, &mut self.agenda);
        }
    }

    /// A frame comes to the fast link of its CPU.
    fn enter(&mut self, now: Nanos, packet: Packet) {
        let cpu = place_of(packet.flow) as usize % self.cpus.len().max(1);
        if let Some(cpu) = self.cpus.get_mut(cpu) {
            cpu.send(now, packet, &mut self.agenda);
        }
    }

    /// One NAPI poll, in batches.
    fn poll(&mut self, now: Nanos, index: u32) {
        let Some(cpu) = self.cpus.get_mut(index as usize) else { return };
        loop {
            cpu.next_batch(now, &mut self.batch);
            if self.batch.is_empty() {
                break;
            }
            self.offered += self.batch.len() as u64;
            self.steps += self.batch.len() as u64;
            let Some((first, second)) = self.exits.split_first_mut() else { return };
            first.offer(now, index, &mut self.batch, &mut self.agenda);
            for exit in second {
                exit.refresh(now, &mut self.agenda);
            }
        }
        cpu.end_poll(now, &mut self.agenda);
        self.expect_stack(now);
    }

    /// Sets when the queue is to be woken, where one may ask for it.
    fn expect_stack(&mut self, now: Nanos) {
        if let Some(due) = self.stack
            && let Some(at) = self.exits.first().and_then(|exit| exit.station.queue.wakes_at(now))
        {
            self.agenda.set(due, at);
        }
    }

    fn deliver(&mut self, now: Nanos, packet: Packet) {
        let (from, to) = self.window;
        let Some((flow, group)) = self.flows.of(packet.flow) else { return };
        group.delivered += 1;
        let delay = now.saturating_sub(packet.sent);
        if packet.sent >= from && packet.sent < to {
            group.delay.record(delay);
        }
        if let Some(sampler) = &mut self.sampler {
            sampler.arrived(delay, group.is_probe);
        }
        if packet.flow != flow.id {
            // Of a connection that is over: sent again without need.
            return;
        }
        let payload = flow.read(&packet);
        group.payload_since = group.payload_since.saturating_add(payload);
        if now >= from
            && now < to
            && let Some(counter) = group.payload.get_mut(flow.member as usize)
        {
            *counter = counter.saturating_add(payload);
        }
        let Some(receiver) = flow.receiver.as_mut().filter(|_| now < to && !flow.over) else { return };
        let last = flow.size.is_some_and(|size| flow.received >= size);
        let answer = receiver.on_packet(&packet, last);
        let (line, timer) = (group.line, flow.delayed_ack);
        if answer.now.is_some() {
            self.agenda.clear(timer);
        } else if !self.agenda.is_set(timer) {
            self.agenda.set(timer, now.saturating_add(DELAY_MAX));
        }
        for ack in [answer.earlier, answer.now].into_iter().flatten() {
            self.acknowledge(now, line, packet.flow, ack);
        }
    }

    fn acknowledge(&mut self, now: Nanos, line: u32, flow: FlowId, ack: Ack) {
        if let Some(through) = self.way_back.send(now)
            && let Some(distance) = self.distances.get_mut(line as usize)
        {
            let at = through.saturating_add(distance.extra);
            distance.acks.push(&mut self.agenda, at, (flow, ack));
        }
    }

    fn sample(&mut self, now: Nanos) {
        if let Some(sampler) = &mut self.sampler {
            let payload = self.flows.groups.iter_mut().map(|group| std::mem::take(&mut group.payload_since));
            let standing = self.exits.first().map_or(0, |exit| exit.station.occupancy.current());
            sampler.sample(now, standing, payload.collect());
            if now.saturating_add(sampler.step) <= self.scenario.duration {
                self.agenda.set(sampler.due, now.saturating_add(sampler.step));
            }
        }
    }

    fn outcome(self) -> Outcome {
        let now = self.agenda.now();
        let flows = self.flows.groups.into_iter().map(flows::Group::outcome).collect();
        let series = self.sampler.map(Sampler::into_points).unwrap_or_default();
        let mut outcome =
            Outcome { offered: self.offered, events: self.steps, flows, series, ..Outcome::default() };
        let mut exits = self.exits.into_iter();
        if let Some(first) = exits.next() {
            first.tell(now, &mut outcome);
        }
        if let Some(second) = exits.next() {
            second.tell_of_spill(now, &mut outcome);
        }
        outcome
    }
}
