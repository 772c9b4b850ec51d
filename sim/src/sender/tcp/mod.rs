//! A TCP sender: what to send again, when, and round-trip times, around a congestion control.

mod flight;
mod pacer;
mod recovery;
mod rtt;

use weir_aqm::Nanos;

use super::{
    Ack, Outbox, Outgoing, Sender,
    congestion::{AckSample, Control, Reaction, Signal},
};
use crate::Ecn;
use flight::{Arrived, Flight, Losses, Piece};
use pacer::Pacer;
use recovery::Gliding;
use rtt::RoundTrip;

/// Payload of a full packet: 1,500 bytes without the headers of IPv4 and TCP with timestamps.
const PAYLOAD: u32 = 1448;
/// Those headers and Ethernet's.
const HEADERS: u32 = 66;

/// A sender of endless or finite data that is always ready, so that it is never idle and never limited by its application.
/// Each transmission has a number of its own, which is acknowledged: what TCP learns from SACK and timestamps together.
pub struct Tcp<C> {
    control: C,
    /// Payload not sent yet; `None` is endless.
    unsent: Option<u64>,
    next_segment: u32,
    /// Payload sent and not acknowledged yet, lost or not.
    outstanding: u64,
    flight: Flight,
    rtt: RoundTrip,
    pacer: Pacer,
    timers: Timers,
    repair: Option<Repair>,
    /// A loss below this number is that of the last reduction.
    reduced_at: u64,
    /// The running round ends when this number is acknowledged.
    round_ends: u64,
    seen: Seen,
    timeout: Option<Timeout<C>>,
    window_limited: bool,
}

/// What makes the sender act without an acknowledgement.
#[derive(Debug, Default)]
struct Timers {
    /// When [`Outbox::wake_at`] was asked for.
    asked: Option<Nanos>,
    /// Since when nothing has arrived.
    restarted: Nanos,
    /// Timeouts in a row.
    backoff: u32,
    /// When RACK finds the next loss.
    loss_at: Option<Nanos>,
    /// When the pacer lets the next packet go.
    paced_until: Option<Nanos>,
    /// A probe for the loss of a tail is under way.
    probing: bool,
}

/// From a reduction until an acknowledgement of something sent after it, and all that was lost is sent again.
#[derive(Clone, Copy, Debug)]
enum Repair {
    Gliding(Gliding),
    /// The control sets the window itself.
    Own,
}

/// Counters of the last acknowledgement.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    packets: u64,
    marked: u64,
}

/// A timeout that may prove needless (RFC 3522, RFC 4015).
struct Timeout<C> {
    control: C,
    /// Transmissions from this number on came after it.
    from: u64,
}

impl<C: Control> Tcp<C> {
    /// `bytes` of payload; `None` is endless.
    pub fn new(control: C, bytes: Option<u64>) -> Self {
        Self {
            control,
            unsent: bytes,
            next_segment: 0,
            outstanding: 0,
            flight: Flight::default(),
            rtt: RoundTrip::default(),
            pacer: Pacer::default(),
            timers: Timers::default(),
            repair: None,
            reduced_at: 0,
            round_ends: 0,
            seen: Seen::default(),
            timeout: None,
            window_limited: false,
        }
    }

    #[cfg(test)]
    pub(super) const fn control(&self) -> &C {
        &self.control
    }

    fn limit(&self) -> f64 {
        match &self.repair {
            Some(Repair::Gliding(gliding)) => gliding.limit(),
            Some(Repair::Own) | None => self.control.window(),
        }
    }

    /// Sends what may leave, lost packets first, and asks to be woken for the next thing to do.
    fn fill(&mut self, now: Nanos, out: &mut Outbox) {
        self.timers.paced_until = None;
        loop {
            self.window_limited = f64::from(self.flight.in_flight()) + 1.0 > self.limit().max(1.0);
            if self.window_limited || (self.flight.waiting() == 0 && self.unsent == Some(0)) {
                break;
            }
            let pacing = self.control.pacing();
            self.timers.paced_until = pacing.and_then(|pacing| self.pacer.wait(now, pacing));
            if self.timers.paced_until.is_some() {
                break;
            }
            if let Some(piece) = self.flight.take_lost() {
                self.transmit(now, piece, self.control.ecn_again(), out);
            } else if let Some(piece) = self.take_new() {
                self.transmit(now, piece, self.control.ecn(), out);
            } else {
                break;
            }
            if let Some(pacing) = pacing {
                self.pacer.on_sent(pacing);
            }
        }
        self.ask(out);
    }

    fn take_new(&mut self) -> Option<Piece> {
        let payload = match self.unsent.as_mut() {
            None => PAYLOAD,
            Some(left) => {
                let payload = (*left).min(u64::from(PAYLOAD)) as u32;
                *left = left.saturating_sub(u64::from(payload));
                payload
            }
        };
        if payload == 0 {
            return None;
        }
        self.outstanding = self.outstanding.saturating_add(u64::from(payload));
        let segment = self.next_segment;
        self.next_segment = segment.wrapping_add(1);
        Some(Piece { segment, payload })
    }

    fn transmit(&mut self, now: Nanos, piece: Piece, ecn: Ecn, out: &mut Outbox) {
        if self.flight.in_flight() == 0 {
            self.timers.restarted = now;
        }
        let number = self.flight.send(now, piece);
        if let Some(Repair::Gliding(gliding)) = self.repair.as_mut() {
            gliding.on_sent();
        }
        let Piece { segment, payload } = piece;
        out.send(Outgoing { number, bytes: payload.saturating_add(HEADERS), payload, segment, ecn });
    }

    fn times_out_at(&self) -> Nanos {
        self.timers.restarted.saturating_add(self.rtt.timeout(self.timers.backoff))
    }

    /// RFC 8985 section 7.2: one probe, before the timer could fire, unless losses are known.
    fn probes_at(&self) -> Option<Nanos> {
        if self.timers.probing || self.timers.backoff > 0 || self.repair.is_some() {
            return None;
        }
        let after = self.rtt.probe_timeout(self.flight.in_flight())?;
        Some(self.timers.restarted.saturating_add(after).min(self.times_out_at()))
    }

    /// Asks only for what comes before what was asked for, so that a moving timer costs one waking a period.
    fn ask(&mut self, out: &mut Outbox) {
        let mut next = self.timers.paced_until;
        if self.flight.in_flight() > 0 {
            let timers = [Some(self.times_out_at()), self.probes_at(), self.timers.loss_at];
            next = timers.into_iter().chain([next]).flatten().min();
        }
        if let Some(next) = next
            && self.timers.asked.is_none_or(|asked| next < asked)
        {
            self.timers.asked = Some(next);
            out.wake_at(next);
        }
    }

    fn find_losses(&mut self, now: Nanos) -> Losses {
        let Self { flight, control, rtt, .. } = self;
        let losses = flight.find_losses(now, rtt.reordering_deadline(), |lost| control.on_lost(&lost));
        self.timers.loss_at = losses.next_at;
        losses
    }

    /// One reduction a round: what was sent before the last one says nothing new.
    fn react(&mut self, losses: &Losses, sample: &mut AckSample) {
        let signal = if losses.newest.is_some_and(|number| number >= self.reduced_at) {
            Signal::Loss
        } else if sample.marked > 0.0
            && self.repair.is_none()
            && self.flight.newest().is_some_and(|newest| newest >= self.reduced_at)
        {
            Signal::Mark
        } else {
            return;
        };
        self.repair = match self.control.on_congestion(sample, signal) {
            Reaction::Ignored => return,
            Reaction::Own => Some(Repair::Own),
            Reaction::Gradual => {
                Some(Repair::Gliding(Gliding::new(self.control.window(), sample.prior_in_flight)))
            }
        };
        self.reduced_at = self.flight.next();
        sample.recovering = true;
    }

    /// An original arrived after the timer had given it up: nothing was lost, the path was slow.
    fn check_timeout(&mut self) {
        let (Some(timeout), Some(newest)) = (self.timeout.as_ref(), self.flight.newest()) else { return };
        if newest >= timeout.from {
            self.timeout = None;
        } else if let Some(timeout) = self.timeout.take() {
            self.control = timeout.control;
            self.repair = None;
            self.flight.revive();
        }
    }

    fn sample(&self, now: Nanos, arrived: &Arrived, prior_in_flight: u32, ack: Seen) -> AckSample {
        let newest = arrived.newest.as_ref();
        AckSample {
            now,
            rtt: newest.map_or(Nanos::ZERO, |newest| newest.rtt),
            smoothed_rtt: self.rtt.smoothed(),
            delivered: f64::from(arrived.packets),
            received: ack.packets as f64,
            marked: ack.marked as f64,
            lost: 0.0,
            prior_in_flight: f64::from(prior_in_flight),
            in_flight: f64::from(self.flight.in_flight()),
            round_start: false,
            recovering: self.repair.is_some(),
            window_limited: self.window_limited,
            total_delivered: self.flight.delivered(),
            prior_delivered: newest.map_or(0, |newest| newest.delivered),
            rate: newest.map_or(0.0, |newest| newest.rate),
            sent_in_flight: newest.map_or(0.0, |newest| f64::from(newest.in_flight)),
            lost_since: newest.map_or(0.0, |newest| newest.lost_since as f64),
        }
    }

    fn time_out(&mut self, now: Nanos) {
        if self.timeout.is_none() {
            self.timeout = Some(Timeout { control: self.control.clone(), from: self.flight.next() });
        }
        self.repair = match self.control.on_timeout() {
            Reaction::Own => Some(Repair::Own),
            Reaction::Ignored | Reaction::Gradual => None,
        };
        self.flight.lose_all();
        self.reduced_at = self.flight.next();
        self.timers.backoff = self.timers.backoff.saturating_add(1);
        self.timers.restarted = now;
        self.timers.loss_at = None;
        self.timers.probing = false;
        self.pacer = Pacer::default();
    }

    /// A new packet if there is one, else the newest again.
    fn probe(&mut self, now: Nanos, out: &mut Outbox) {
        self.timers.probing = true;
        self.timers.restarted = now;
        if let Some(piece) = self.take_new() {
            self.transmit(now, piece, self.control.ecn(), out);
        } else if let Some(piece) = self.flight.take_last() {
            self.transmit(now, piece, self.control.ecn_again(), out);
        }
    }
}

impl<C: Control> Sender for Tcp<C> {
    fn wake(&mut self, now: Nanos, out: &mut Outbox) {
        self.timers.asked = None;
        if self.flight.in_flight() > 0 {
            if self.timers.loss_at.is_some_and(|at| now >= at) {
                let (prior_in_flight, none) = (self.flight.in_flight(), Arrived::default());
                let losses = self.find_losses(now);
                let mut sample = self.sample(now, &none, prior_in_flight, Seen::default());
                sample.lost = f64::from(losses.packets);
                self.react(&losses, &mut sample);
                if let Some(Repair::Gliding(gliding)) = self.repair.as_mut() {
                    gliding.on_ack(0.0, sample.in_flight);
                }
            } else if self.probes_at().is_some_and(|at| now >= at) {
                self.probe(now, out);
            } else if now >= self.times_out_at() {
                self.time_out(now);
            }
        }
        self.fill(now, out);
    }

    fn on_ack(&mut self, now: Nanos, ack: &Ack, out: &mut Outbox) {
        let news = Seen {
            packets: ack.packets.saturating_sub(self.seen.packets),
            marked: ack.marked.saturating_sub(self.seen.marked),
        };
        self.seen =
            Seen { packets: ack.packets.max(self.seen.packets), marked: ack.marked.max(self.seen.marked) };
        let prior_in_flight = self.flight.in_flight();
        let arrived = self.flight.acknowledge(now, ack);
        if arrived.packets == 0 && news.packets == 0 {
            return;
        }
        if let Some(newest) = arrived.newest {
            self.rtt.sample(now.saturating_sub(ack.sent), newest.rtt);
            self.outstanding = self.outstanding.saturating_sub(arrived.payload);
            self.timers.restarted = now;
            self.timers.backoff = 0;
            self.timers.probing = false;
            self.check_timeout();
        }
        let losses = self.find_losses(now);
        let newest = self.flight.newest();
        if newest.is_some_and(|newest| newest >= self.reduced_at) && self.flight.waiting() == 0 {
            self.repair = None;
        }
        let mut sample = self.sample(now, &arrived, prior_in_flight, news);
        sample.lost = f64::from(losses.packets);
        if arrived.newest.is_some() && newest.is_some_and(|newest| newest >= self.round_ends) {
            sample.round_start = true;
            self.round_ends = self.flight.next();
        }
        self.react(&losses, &mut sample);
        self.control.on_ack(&sample);
        if let Some(Repair::Gliding(gliding)) = self.repair.as_mut() {
            gliding.on_ack(sample.delivered, sample.in_flight);
        }
        self.fill(now, out);
    }

    fn stop(&mut self, _now: Nanos) {
        self.unsent = Some(0);
    }

    fn wants_acks(&self) -> bool {
        true
    }

    fn is_finished(&self) -> bool {
        self.unsent == Some(0) && self.outstanding == 0
    }
}
