//! A bulk TCP flow: loss detection, round-trip times, the timer, around a [`Window`].

use std::collections::VecDeque;

use weir_aqm::Nanos;

use crate::Ecn;

use super::{
    Ack, Outbox, Outgoing, Sender,
    window::{Congestion, Window},
};

/// Packets that must arrive after one before it counts as lost (RFC 5681 section 3.2: three duplicates).
const REORDERING: u64 = 3;
/// Linux's least retransmission timeout.
const RTO_MIN: Nanos = Nanos::from_millis(200);
/// RFC 6298 section 2.
const RTO_INITIAL: Nanos = Nanos::from_secs(1);
const RTO_MAX: Nanos = Nanos::from_secs(60);
/// RFC 9406 section 4.3.
const HYSTART_SAMPLES: u32 = 8;
const HYSTART_WINDOW_MIN: f64 = 16.0;
const HYSTART_RISE_MIN: Nanos = Nanos::from_millis(4);
const HYSTART_RISE_MAX: Nanos = Nanos::from_millis(16);

/// A sender with endless data. Each transmission has a number of its own and is acknowledged by it, which on a path
/// that does not reorder is what SACK tells a real sender.
pub struct Tcp<W> {
    window: W,
    bytes: u32,
    capable: bool,
    next_number: u64,
    under_way: VecDeque<(u64, Nanos)>,
    /// Packets from this number on were sent after the last reduction.
    round_of_reduction: u64,
    timer: Timer,
    start: Option<SlowStart>,
    marked: u64,
    /// Payload packets still to be sent.
    left: Option<u64>,
}

struct Timer {
    smoothed: Option<(Nanos, Nanos)>,
    backoff: u32,
    restarted: Nanos,
    pending: bool,
}

/// The delay-based exit from slow start.
#[derive(Default)]
struct SlowStart {
    round_ends: u64,
    samples: u32,
    least: Option<Nanos>,
    least_before: Option<Nanos>,
}

impl<W: Window> Tcp<W> {
    /// `bytes` is the length of a full frame; `capable` offers ECN; `hystart` leaves slow start when the delay rises.
    pub fn new(window: W, bytes: u32, capable: bool, hystart: bool) -> Self {
        Self {
            window,
            bytes,
            capable,
            next_number: 0,
            under_way: VecDeque::new(),
            round_of_reduction: 0,
            timer: Timer { smoothed: None, backoff: 0, restarted: Nanos::ZERO, pending: false },
            start: hystart.then(SlowStart::default),
            marked: 0,
            left: None,
        }
    }

    /// Sends this many payload bytes instead of endlessly many, in full packets.
    pub fn limited(self, bytes: Option<u64>) -> Self {
        let left = bytes.map(|bytes| bytes.div_ceil(u64::from(self.bytes) - 66));
        Self { left, ..self }
    }

    fn fill(&mut self, now: Nanos, out: &mut Outbox) {
        while (self.under_way.len() as f64) < self.window.packets().floor().max(1.0) && self.left != Some(0) {
            self.left = self.left.map(|left| left - 1);
            out.send(Outgoing {
                number: self.next_number,
                bytes: self.bytes,
                payload: self.bytes.saturating_sub(66),
                ecn: if self.capable { Ecn::Ect0 } else { Ecn::NotEct },
            });
            self.under_way.push_back((self.next_number, now));
            self.next_number = self.next_number.wrapping_add(1);
        }
        if !self.timer.pending {
            self.timer.pending = true;
            out.wake_at(self.timer.due());
        }
    }

    /// One reduction a round: what was sent before the last one says nothing new.
    fn congested(&mut self, number: u64, congestion: Congestion) {
        if number >= self.round_of_reduction {
            self.window.on_congestion(congestion);
            self.round_of_reduction = self.next_number;
        }
    }

    fn watch_delay(&mut self, number: u64, rtt: Nanos) {
        let Some(start) = self.start.as_mut() else { return };
        if number >= start.round_ends {
            start.least_before = start.least.take();
            start.round_ends = self.next_number;
            start.samples = 0;
        }
        start.samples = start.samples.saturating_add(1);
        let least = start.least.map_or(rtt, |least| least.min(rtt));
        start.least = Some(least);
        let Some(before) = start.least_before else { return };
        let rise = Nanos::from_nanos(before.as_nanos() / 8).clamp(HYSTART_RISE_MIN, HYSTART_RISE_MAX);
        let enough = start.samples >= HYSTART_SAMPLES && self.window.packets() >= HYSTART_WINDOW_MIN;
        if enough && self.window.in_slow_start() && least >= before.saturating_add(rise) {
            self.window.leave_slow_start();
        }
    }
}

impl Timer {
    fn due(&self) -> Nanos {
        let base = match self.smoothed {
            None => RTO_INITIAL,
            Some((smoothed, variation)) => smoothed.saturating_add(variation.saturating_mul(4)).max(RTO_MIN),
        };
        let backed_off = base.saturating_mul(1 << self.backoff.min(16)).min(RTO_MAX);
        self.restarted.saturating_add(backed_off)
    }

    /// RFC 6298 section 2.
    fn sample(&mut self, rtt: Nanos) {
        let r = rtt.as_nanos();
        self.smoothed = Some(match self.smoothed {
            None => (rtt, Nanos::from_nanos(r / 2)),
            Some((smoothed, variation)) => {
                let (s, v) = (smoothed.as_nanos(), variation.as_nanos());
                let v = v - v / 4 + s.abs_diff(r) / 4;
                (Nanos::from_nanos(s - s / 8 + r / 8), Nanos::from_nanos(v))
            }
        });
        self.backoff = 0;
    }
}

impl<W: Window> Sender for Tcp<W> {
    fn wake(&mut self, now: Nanos, out: &mut Outbox) {
        if self.next_number == 0 {
            self.timer.restarted = now;
        } else {
            self.timer.pending = false;
            if now >= self.timer.due() && !self.under_way.is_empty() {
                self.window.on_timeout();
                self.left = self.left.map(|left| left + self.under_way.len() as u64);
                self.under_way.clear();
                self.round_of_reduction = self.next_number;
                self.timer.backoff = self.timer.backoff.saturating_add(1);
                self.timer.restarted = now;
            }
        }
        self.fill(now, out);
    }

    fn on_ack(&mut self, now: Nanos, ack: &Ack, out: &mut Outbox) {
        let number = ack.newest();
        let covers =
            |n: u64| ack.received.iter().flatten().any(|(first, last)| (*first..=*last).contains(&n));
        let before = self.under_way.len();
        self.under_way.retain(|(at, _)| !covers(*at));
        let newly = before - self.under_way.len();
        if newly == 0 {
            // Given up before: the timer was too early.
            return;
        }
        self.timer.restarted = now;
        let rtt = now.saturating_sub(ack.sent);
        self.timer.sample(rtt);
        if number >= self.round_of_reduction {
            (0..newly).for_each(|_| self.window.on_ack(now, rtt));
        }
        self.watch_delay(number, rtt);
        if ack.marked > self.marked {
            self.marked = ack.marked;
            self.congested(number, Congestion::Mark);
        }
        while let Some((lost, _)) = self.under_way.front().copied()
            && lost + REORDERING <= number
        {
            self.under_way.pop_front();
            self.left = self.left.map(|left| left + 1);
            self.congested(lost, Congestion::Loss);
        }
        self.fill(now, out);
    }

    fn wants_acks(&self) -> bool {
        true
    }

    fn stop(&mut self, _now: Nanos) {
        self.left = Some(0);
    }

    fn is_finished(&self) -> bool {
        self.left == Some(0) && self.under_way.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sender::Reno;

    fn numbers(out: &mut Outbox) -> Vec<u64> {
        out.take().0.map(|packet| packet.number).collect()
    }

    fn acked(number: u64) -> Ack {
        Ack { received: [Some((number, number)), None, None, None], packets: 1, marked: 0, sent: Nanos::ZERO }
    }

    fn started() -> (Tcp<Reno>, Outbox) {
        let (mut tcp, mut out) = (Tcp::new(Reno::default(), 1514, false, false), Outbox::default());
        tcp.wake(Nanos::ZERO, &mut out);
        assert_eq!(numbers(&mut out), (0..10).collect::<Vec<_>>());
        (tcp, out)
    }

    #[test]
    fn rfc_6928_the_first_window_is_ten_packets_and_slow_start_sends_two_for_one() {
        let (mut tcp, mut out) = started();
        tcp.on_ack(Nanos::from_millis(20), &acked(0), &mut out);
        assert_eq!(numbers(&mut out), [10, 11]);
    }

    #[test]
    fn several_losses_of_one_round_reduce_the_window_once() {
        let (mut tcp, mut out) = started();
        for number in [4, 5, 6, 7, 8, 9] {
            tcp.on_ack(Nanos::from_millis(20), &acked(number), &mut out);
        }
        // Numbers 0 to 3 are lost. The window grew by one with the first arrival, which found nothing lost before
        // it reduced.
        assert_eq!(tcp.window.packets(), 5.5);
        assert!(tcp.under_way.iter().all(|(number, _)| *number >= 10));
    }

    #[test]
    fn a_silent_path_times_out_after_a_second_and_then_after_two() {
        let (mut tcp, mut out) = started();
        tcp.wake(Nanos::from_millis(1000), &mut out);
        assert_eq!(numbers(&mut out), [10]);
        tcp.wake(Nanos::from_millis(2999), &mut out);
        assert!(numbers(&mut out).is_empty());
        tcp.wake(Nanos::from_millis(3000), &mut out);
        assert_eq!(numbers(&mut out), [11]);
    }
}
