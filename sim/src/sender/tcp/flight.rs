//! What is under way, by the number of its transmission.

use std::collections::VecDeque;

use weir_aqm::Nanos;

use crate::sender::{
    Ack,
    congestion::{LostSample, seconds},
};

/// RFC 9002 section 6.1.1, RFC 5681's three duplicates: a packet is lost once the third after it has arrived.
const REORDERING: u64 = 3;

/// Transmissions from the oldest that still matters on.
#[derive(Debug, Default)]
pub struct Flight {
    sent: VecDeque<Sent>,
    /// Number of the front of `sent`.
    first: u64,
    /// Below this number nothing waits to be found lost, or to be sent again.
    searched: u64,
    repaired: u64,
    in_flight: u32,
    waiting: u32,
    newest: Option<u64>,
    /// What the last acknowledgement said, which need not be looked at again.
    known: [Option<(u64, u64)>; Ack::RANGES],
    delivered: u64,
    delivered_at: Nanos,
    first_sent: Nanos,
    lost: u64,
}

/// A piece of the stream, which one frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Which one; the same each time it is sent.
    pub segment: u32,
    /// Bytes.
    pub payload: u32,
}

/// One transmission, with what the path had done when it began (draft-ietf-ccwg-bbr, delivery rate samples).
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Nanos,
    delivered_at: Nanos,
    first_sent: Nanos,
    delivered: u64,
    lost: u64,
    in_flight: u32,
    piece: Piece,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    UnderWay,
    /// Lost, and its payload not sent again yet.
    Waiting,
    /// Arrived, or its payload travels with a later number.
    Settled,
}

/// What an acknowledgement newly covers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrived {
    /// Packets.
    pub packets: u32,
    /// Payload bytes.
    pub payload: u64,
    /// Of the newest of them.
    pub newest: Option<Newest>,
}

/// The newest packet that an acknowledgement covers.
#[derive(Clone, Copy, Debug)]
pub struct Newest {
    /// Since it was sent.
    pub rtt: Nanos,
    /// Packets acknowledged when it was sent.
    pub delivered: u64,
    /// Packets under way when it was sent, itself included.
    pub in_flight: u32,
    /// Packets found lost since.
    pub lost_since: u64,
    /// Packets a second, over its flight; zero if that took no time.
    pub rate: f64,
}

/// What a search for losses found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Losses {
    /// Packets.
    pub packets: u32,
    /// The highest of their numbers.
    pub newest: Option<u64>,
    /// When the next one is lost, should nothing arrive until then.
    pub next_at: Option<Nanos>,
}

impl Flight {
    /// Packets under way.
    pub const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Lost packets that wait to be sent again.
    pub const fn waiting(&self) -> u32 {
        self.waiting
    }

    /// Packets acknowledged in all.
    pub const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// The highest number acknowledged.
    pub const fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// Number of the next transmission.
    pub fn next(&self) -> u64 {
        self.first.saturating_add(self.sent.len() as u64)
    }

    /// A packet leaves; returns its number.
    pub fn send(&mut self, now: Nanos, piece: Piece) -> u64 {
        let number = self.next();
        if self.in_flight == 0 {
            (self.first_sent, self.delivered_at) = (now, now);
        }
        self.in_flight = self.in_flight.saturating_add(1);
        self.sent.push_back(Sent {
            at: now,
            delivered_at: self.delivered_at,
            first_sent: self.first_sent,
            delivered: self.delivered,
            lost: self.lost,
            in_flight: self.in_flight,
            piece,
            state: State::UnderWay,
        });
        number
    }

    /// Takes what has arrived off the flight. What was found lost and has arrived all the same is not sent again.
    pub fn acknowledge(&mut self, now: Nanos, ack: &Ack) -> Arrived {
        let mut arrived = Arrived::default();
        let mut newest: Option<(u64, Sent)> = None;
        for (from, to) in ack.received.into_iter().flatten() {
            let mut known = self.known.iter().flatten().filter(|known| known.0 == from);
            let news = known.next().map_or(from, |known| known.1.saturating_add(1));
            let (from, end) = (news.max(self.first), to.saturating_add(1).min(self.next()));
            let Some(range) = self.indices(from, end) else { continue };
            for (number, sent) in (from..end).zip(self.sent.range_mut(range)) {
                match sent.state {
                    State::Settled => continue,
                    State::UnderWay => self.in_flight = self.in_flight.saturating_sub(1),
                    State::Waiting => self.waiting = self.waiting.saturating_sub(1),
                }
                sent.state = State::Settled;
                arrived.packets += 1;
                arrived.payload += u64::from(sent.piece.payload);
                if newest.is_none_or(|(highest, _)| highest < number) {
                    newest = Some((number, *sent));
                }
            }
        }
        self.known = ack.received;
        self.delivered = self.delivered.saturating_add(u64::from(arrived.packets));
        if let Some((number, sent)) = newest {
            arrived.newest = Some(self.sample(now, &sent));
            self.newest = self.newest.max(Some(number));
        }
        self.trim();
        arrived
    }

    /// The rate is that of the slower of sending and acknowledging (draft-ietf-ccwg-bbr, delivery rate samples).
    fn sample(&mut self, now: Nanos, sent: &Sent) -> Newest {
        let sending = sent.at.saturating_sub(sent.first_sent);
        let acknowledging = now.saturating_sub(sent.delivered_at);
        self.first_sent = sent.at;
        self.delivered_at = now;
        let interval = seconds(sending.max(acknowledging));
        let delivered = self.delivered.saturating_sub(sent.delivered) as f64;
        Newest {
            rtt: now.saturating_sub(sent.at),
            delivered: sent.delivered,
            in_flight: sent.in_flight,
            lost_since: self.lost.saturating_sub(sent.lost),
            rate: if interval > 0.0 { delivered / interval } else { 0.0 },
        }
    }

    /// Finds lost what is below the newest arrival by three numbers, or was sent more than `deadline` ago.
    pub fn find_losses(&mut self, now: Nanos, deadline: Nanos, mut tell: impl FnMut(LostSample)) -> Losses {
        let mut losses = Losses::default();
        let Some(newest) = self.newest else { return losses };
        self.searched = self.searched.max(self.first);
        let Some(range) = self.indices(self.searched, newest) else { return losses };
        for (number, sent) in (self.searched..newest).zip(self.sent.range_mut(range)) {
            if sent.state == State::UnderWay {
                let late_at = sent.at.saturating_add(deadline);
                if number.saturating_add(REORDERING) > newest && now < late_at {
                    losses.next_at = Some(late_at);
                    break;
                }
                self.lost = self.lost.saturating_add(1);
                self.in_flight = self.in_flight.saturating_sub(1);
                self.waiting = self.waiting.saturating_add(sent.lose());
                losses.packets += 1;
                losses.newest = Some(number);
                tell(LostSample {
                    total_delivered: self.delivered,
                    sent_in_flight: f64::from(sent.in_flight),
                    lost_since: self.lost.saturating_sub(sent.lost) as f64,
                });
            }
            self.searched = number.saturating_add(1);
        }
        self.trim();
        losses
    }

    /// The timer fired: all that is under way is lost.
    pub fn lose_all(&mut self) {
        for sent in self.sent.iter_mut().filter(|sent| sent.state == State::UnderWay) {
            self.lost = self.lost.saturating_add(1);
            self.waiting = self.waiting.saturating_add(sent.lose());
        }
        self.in_flight = 0;
        self.searched = self.next();
        self.trim();
    }

    /// The timer fired too early: what was not sent again is still under way.
    pub fn revive(&mut self) {
        for sent in self.sent.iter_mut().filter(|sent| sent.state == State::Waiting) {
            sent.state = State::UnderWay;
            self.in_flight = self.in_flight.saturating_add(1);
            self.lost = self.lost.saturating_sub(1);
        }
        self.waiting = 0;
        (self.searched, self.repaired) = (self.first, self.first);
    }

    /// What the oldest lost packet carried, which the caller sends again.
    pub fn take_lost(&mut self) -> Option<Piece> {
        if self.waiting == 0 {
            return None;
        }
        self.repaired = self.repaired.max(self.first);
        let range = self.indices(self.repaired, self.next())?;
        for sent in self.sent.range_mut(range) {
            self.repaired = self.repaired.saturating_add(1);
            if sent.state == State::Waiting {
                sent.state = State::Settled;
                self.waiting = self.waiting.saturating_sub(1);
                let piece = sent.piece;
                self.trim();
                return Some(piece);
            }
        }
        None
    }

    /// What the newest packet under way carries, which the caller sends again to probe for its loss; the packet stays
    /// under way without it, and is passed over by the next probe.
    pub fn take_last(&mut self) -> Option<Piece> {
        let carries = |sent: &&mut Sent| sent.state == State::UnderWay && sent.piece.payload > 0;
        let last = self.sent.iter_mut().rev().find(carries)?;
        let piece = last.piece;
        last.piece.payload = 0;
        Some(piece)
    }

    fn indices(&self, from: u64, end: u64) -> Option<std::ops::Range<usize>> {
        let (from, end) = (from.checked_sub(self.first)?, end.checked_sub(self.first)?);
        (from < end).then_some(from as usize..end as usize)
    }

    fn trim(&mut self) {
        while self.sent.front().is_some_and(|sent| sent.state == State::Settled) {
            self.sent.pop_front();
            self.first = self.first.saturating_add(1);
        }
    }
}

impl Sent {
    /// How many packets this adds to those that wait: none if its payload went with a probe.
    const fn lose(&mut self) -> u32 {
        if self.piece.payload == 0 {
            self.state = State::Settled;
            0
        } else {
            self.state = State::Waiting;
            1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(ranges: [Option<(u64, u64)>; Ack::RANGES]) -> Ack {
        Ack { received: ranges, packets: 0, marked: 0, sent: Nanos::ZERO }
    }

    const PIECE: Piece = Piece { segment: 0, payload: 1 };

    fn flight(packets: u64) -> Flight {
        let mut flight = Flight::default();
        for _ in 0..packets {
            flight.send(Nanos::ZERO, PIECE);
        }
        flight
    }

    #[test]
    fn a_packet_is_lost_when_the_third_after_it_arrives_or_when_it_is_late() {
        let mut flight = flight(5);
        flight.acknowledge(Nanos::from_millis(10), &ack([Some((2, 2)), None, None, None]));
        let deadline = Nanos::from_millis(12);
        let losses = flight.find_losses(Nanos::from_millis(10), deadline, |_| {});
        assert_eq!((losses.packets, losses.next_at), (0, Some(deadline)));
        flight.acknowledge(Nanos::from_millis(11), &ack([Some((2, 3)), None, None, None]));
        assert_eq!(flight.find_losses(Nanos::from_millis(11), deadline, |_| {}).packets, 1);
        assert_eq!(flight.find_losses(deadline, deadline, |_| {}).packets, 1);
        assert_eq!((flight.in_flight(), flight.waiting()), (1, 2));
    }

    #[test]
    fn a_packet_that_arrives_after_all_is_not_sent_again() {
        let mut flight = flight(5);
        flight.acknowledge(Nanos::ZERO, &ack([Some((3, 4)), None, None, None]));
        assert_eq!(flight.find_losses(Nanos::ZERO, Nanos::MAX, |_| {}).packets, 2);
        assert_eq!(flight.acknowledge(Nanos::ZERO, &ack([Some((0, 4)), None, None, None])).packets, 3);
        assert_eq!((flight.waiting(), flight.take_lost()), (0, None));
    }

    #[test]
    fn what_is_settled_is_forgotten_however_long_a_flow_lasts() {
        let mut flight = flight(10);
        for newest in 0..100_000 {
            let now = Nanos::from_nanos(newest);
            // The last of each hundred is lost.
            if newest % 100 != 99 {
                flight.acknowledge(now, &ack([Some((newest / 100 * 100, newest)), None, None, None]));
            }
            flight.find_losses(now, Nanos::MAX, |_| {});
            flight.take_lost();
            flight.send(now, PIECE);
            assert!(flight.sent.len() < 20, "{}", flight.sent.len());
        }
        assert_eq!(flight.lost, 999);
    }
}
