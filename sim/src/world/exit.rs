//! A way out of the router.

use weir_aqm::Nanos;

use super::{
    Event,
    line::Line,
    meter::{Occupancy, Window},
    slow::{SlowLink, Station},
};
use crate::{
    LinkChange, LinkEvent, Outcome, Packet, Path, Random, SpillOutcome,
    events::{Agenda, Due},
    queue::{Queue, Tally},
};

/// A queue, the link behind it, what is on its way, and what happens to the link.
pub struct Exit {
    pub station: Station,
    pub link: SlowLink,
    pub arrivals: Line<Packet>,
    /// The next of the link's events, latest first.
    changes: Vec<LinkEvent>,
    change: Due,
}

impl Exit {
    /// Idle; `index` is its place among the router's exits.
    pub fn new(
        index: u32,
        (path, events): (&Path, &[LinkEvent]),
        queue: Box<dyn Queue>,
        window: Window,
        random: Random,
        agenda: &mut Agenda<Event>,
    ) -> Self {
        let station = Station { queue, tally: Tally::default(), occupancy: Occupancy::new(window) };
        let link = SlowLink::new(path, agenda.register(Event::Link(index)), window, random);
        let mut changes = events.to_vec();
        changes.sort_by_key(|event| event.at);
        changes.reverse();
        let change = agenda.register(Event::Change(index));
        if let Some(first) = changes.last() {
            agenda.set(change, first.at);
        }
        let arrivals = Line::new(agenda.register(Event::Deliver(index)));
        Self { station, link, arrivals, changes, change }
    }

    /// A batch of one CPU; empties it.
    pub fn offer(&mut self, now: Nanos, cpu: u32, batch: &mut Vec<Packet>, agenda: &mut Agenda<Event>) {
        self.station.offer(now, cpu, batch);
        self.nudge(now, agenda);
    }

    /// The time has come that the queue asked for.
    pub fn wake(&mut self, now: Nanos, agenda: &mut Agenda<Event>) {
        self.station.wake(now);
        self.nudge(now, agenda);
    }

    /// Frames may have come into the queue by another exit's ingress.
    pub fn refresh(&mut self, now: Nanos, agenda: &mut Agenda<Event>) {
        self.station.refresh(now);
        self.nudge(now, agenda);
    }

    fn nudge(&mut self, now: Nanos, agenda: &mut Agenda<Event>) {
        self.link.nudge(now, agenda, &mut self.station, &mut self.arrivals);
    }

    /// The link's event.
    pub fn on_due(&mut self, now: Nanos, agenda: &mut Agenda<Event>) {
        self.link.on_due(now, agenda, &mut self.station, &mut self.arrivals);
    }

    /// The next of the link's events happens.
    pub fn happen(&mut self, now: Nanos, agenda: &mut Agenda<Event>) {
        if let Some(event) = self.changes.pop() {
            self.change(now, event.change, agenda);
        }
        if let Some(next) = self.changes.last() {
            agenda.set(self.change, next.at);
        }
    }

    /// Something happens to the link.
    pub fn change(&mut self, now: Nanos, change: LinkChange, agenda: &mut Agenda<Event>) {
        self.link.change(now, change, agenda, &mut self.station, &mut self.arrivals);
    }

    /// What is to be told of the first one.
    pub fn tell(self, now: Nanos, outcome: &mut Outcome) {
        let Self { station: Station { queue, tally, occupancy }, link, .. } = self;
        (outcome.delivered, outcome.lost_on_link) = (link.delivered, link.lost);
        (outcome.drops, outcome.marks) = (tally.drops, tally.marks);
        (outcome.diverted, outcome.spilled) = (tally.diverted, tally.spilled);
        outcome.utilisation = link.utilisation();
        outcome.ring = occupancy.outcome(now, queue.slots());
    }

    /// What is to be told of the one that flows spill to. Its losses are told with the first one's.
    pub fn tell_of_spill(self, now: Nanos, outcome: &mut Outcome) {
        let Self { station: Station { queue, tally: _, occupancy }, link, .. } = self;
        outcome.delivered += link.delivered;
        outcome.spill = Some(SpillOutcome {
            delivered: link.delivered,
            utilisation: link.utilisation(),
            ring: occupancy.outcome(now, queue.slots()),
        });
    }
}
