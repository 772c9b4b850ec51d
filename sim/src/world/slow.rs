//! The slow link: the bottleneck.

use std::sync::Arc;

use weir_aqm::{Bytes, Nanos};

use super::{
    Event,
    line::{Line, Serialiser},
    meter::{Occupancy, Window, overlap},
};
use crate::{
    LinkChange, Packet, Path, Random,
    events::{Agenda, Due},
    queue::{Queue, Tally},
    trace::{Cursor, Trace},
};

/// The router's queue and what is counted of it.
pub struct Station {
    pub queue: Box<dyn Queue>,
    pub tally: Tally,
    pub occupancy: Occupancy,
}

impl Station {
    /// A batch of one CPU; empties it.
    pub fn offer(&mut self, now: Nanos, cpu: u32, batch: &mut Vec<Packet>) {
        self.queue.offer(now, cpu, batch, &mut self.tally);
        self.refresh(now);
    }

    /// The time has come that the queue asked for.
    pub fn wake(&mut self, now: Nanos) {
        self.queue.wake(now, &mut self.tally);
        self.refresh(now);
    }

    /// Frames may have come into the queue by another way.
    pub fn refresh(&mut self, now: Nanos) {
        self.occupancy.change(now, self.queue.occupancy());
    }

    fn take(&mut self, now: Nanos) -> Option<Packet> {
        let packet = self.queue.take(now, &mut self.tally);
        self.refresh(now);
        packet
    }
}

/// A link behind a [`Station`], in front of a [`Line`] of propagation.
pub struct SlowLink {
    due: Due,
    service: Service,
    /// Sends a frame, or waits for an opportunity.
    busy: bool,
    paused: bool,
    overhead: u32,
    delay: Nanos,
    jitter: Nanos,
    loss_ppm: u32,
    random: Random,
    window: Window,
    /// Of the measured time: nanoseconds of sending, or bytes of opportunities.
    used: u64,
    /// Frames that left, lost ones among them.
    pub delivered: u64,
    /// Of these, frames lost on the way.
    pub lost: u64,
}

enum Service {
    Rate(Serialiser),
    Trace {
        trace: Arc<Trace>,
        next: Cursor,
        /// A frame that needs more than one opportunity, and its bytes still to send.
        partial: Option<(Packet, u32)>,
    },
}

/// Bytes that an opportunity is charged for a frame: its IP packet behind the 4 bytes of a tun device instead of the 14 of
/// Ethernet, so that a full frame takes one opportunity as in mahimahi.
const fn charged(bytes: u32) -> u32 {
    bytes.saturating_sub(10)
}

impl SlowLink {
    /// An idle link.
    pub fn new(path: &Path, due: Due, window: Window, random: Random) -> Self {
        let service = match &path.trace {
            None => Service::Rate(Serialiser::new(path.rate)),
            Some(trace) => {
                Service::Trace { trace: Arc::clone(trace), next: trace.after(Nanos::ZERO), partial: None }
            }
        };
        Self {
            due,
            service,
            busy: false,
            paused: false,
            overhead: path.overhead,
            delay: path.delay,
            jitter: path.jitter,
            loss_ppm: path.loss_ppm,
            random,
            window,
            used: 0,
            delivered: 0,
            lost: 0,
        }
    }

    /// Frames may wait: sends one if the link is free.
    pub fn nudge(
        &mut self,
        now: Nanos,
        agenda: &mut Agenda<Event>,
        station: &mut Station,
        out: &mut Line<Packet>,
    ) {
        if self.busy || self.paused {
            return;
        }
        match &mut self.service {
            Service::Rate(link) => {
                let Some(packet) = station.take(now) else {
                    if let Some(at) = station.queue.ready_at(now) {
                        agenda.set(self.due, at.max(now.saturating_add(Nanos::from_nanos(1))));
                    }
                    return;
                };
                let bytes = packet.bytes.saturating_add(self.overhead);
                let left = link.send(now, Bytes::new(u64::from(bytes)));
                self.used += overlap((now, left), self.window).as_nanos();
                self.busy = true;
                agenda.set(self.due, left);
                self.leave(left, packet, agenda, out);
            }
            Service::Trace { trace, next, partial } => {
                if partial.is_some() || station.occupancy.current() > 0 {
                    *next = trace.after(now);
                    self.busy = true;
                    agenda.set(self.due, trace.time(*next));
                }
            }
        }
    }

    /// The link's event: a frame has left, an opportunity is there, or the queue wants to be asked again.
    pub fn on_due(
        &mut self,
        now: Nanos,
        agenda: &mut Agenda<Event>,
        station: &mut Station,
        out: &mut Line<Packet>,
    ) {
        self.busy = false;
        if !self.paused && matches!(self.service, Service::Trace { .. }) {
            self.use_opportunity(now, agenda, station, out);
        }
        // With a trace: the opportunity after this one, which may be at the same instant.
        match &mut self.service {
            Service::Trace { trace, next, partial } if !self.paused => {
                if partial.is_some() || station.occupancy.current() > 0 {
                    *next = trace.next(*next);
                    self.busy = true;
                    agenda.set(self.due, trace.time(*next));
                }
            }
            Service::Trace { .. } | Service::Rate(_) => self.nudge(now, agenda, station, out),
        }
    }

    fn use_opportunity(
        &mut self,
        now: Nanos,
        agenda: &mut Agenda<Event>,
        station: &mut Station,
        out: &mut Line<Packet>,
    ) {
        let mut room = Trace::OPPORTUNITY_BYTES;
        while room > 0 {
            let Service::Trace { partial, .. } = &mut self.service else { return };
            let overhead = self.overhead;
            let waiting = partial.take().or_else(|| {
                station.take(now).map(|packet| (packet, charged(packet.bytes).saturating_add(overhead)))
            });
            let Some((packet, bytes)) = waiting else { break };
            if bytes > room {
                *partial = Some((packet, bytes - room));
                room = 0;
            } else {
                room -= bytes;
                self.leave(now, packet, agenda, out);
            }
        }
        if now >= self.window.0 && now < self.window.1 {
            self.used += u64::from(Trace::OPPORTUNITY_BYTES - room);
        }
    }

    /// The frame's last bit leaves at `left`.
    fn leave(&mut self, left: Nanos, packet: Packet, agenda: &mut Agenda<Event>, out: &mut Line<Packet>) {
        self.delivered += 1;
        if self.random.happens(self.loss_ppm) {
            self.lost += 1;
            return;
        }
        let jitter = if self.jitter == Nanos::ZERO { Nanos::ZERO } else { self.random.below(self.jitter) };
        out.push(agenda, left.saturating_add(self.delay).saturating_add(jitter), packet);
    }

    /// Something happens to the link. A frame that is being sent is sent to the end.
    pub fn change(
        &mut self,
        now: Nanos,
        change: LinkChange,
        agenda: &mut Agenda<Event>,
        station: &mut Station,
        out: &mut Line<Packet>,
    ) {
        match change {
            LinkChange::Pause => self.paused = true,
            LinkChange::Resume => {
                self.paused = false;
                self.nudge(now, agenda, station, out);
            }
            LinkChange::Rate(rate) => match &mut self.service {
                Service::Rate(link) => link.set_rate(rate),
                Service::Trace { .. } => {}
            },
        }
    }

    /// Share of the measured time that the link was sending, or of the opportunities that were used.
    pub fn utilisation(&self) -> f64 {
        let (from, to) = self.window;
        let all = match &self.service {
            Service::Rate(_) => overlap(self.window, self.window).as_nanos(),
            Service::Trace { trace, .. } => {
                let count = trace.count_before(to).saturating_sub(trace.count_before(from));
                count.saturating_mul(u64::from(Trace::OPPORTUNITY_BYTES))
            }
        };
        self.used as f64 / all.max(1) as f64
    }

    /// Whether it takes no frames.
    pub const fn is_paused(&self) -> bool {
        self.paused
    }
}
