//! The router's CPUs: fast links, and the polls that take what has come.

use std::collections::VecDeque;

use weir_aqm::{Bytes, Nanos};

use super::{Event, line::Serialiser};
use crate::{
    Packet, Path,
    events::{Agenda, Due},
    queue::BATCH_MAX,
};

/// Frames of one poll at most (`NAPI_POLL_WEIGHT`, `include/linux/netdevice.h` at v6.18).
const POLL_MAX: usize = 64;

/// One CPU with the fast link that feeds it.
pub struct Cpu {
    fast: Option<Serialiser>,
    /// When a poll takes what waits; due exactly while something is on the link or waits.
    poll: Due,
    coalescing: Nanos,
    /// Frames on the link or through it, with the time of arrival.
    frames: VecDeque<(Nanos, Packet)>,
    /// Frames that the running poll may still take.
    budget: usize,
}

impl Cpu {
    /// Idle.
    pub fn new(path: &Path, poll: Due) -> Self {
        Self {
            fast: path.fast.map(Serialiser::new),
            poll,
            coalescing: path.poll,
            frames: VecDeque::new(),
            budget: POLL_MAX,
        }
    }

    /// A frame for the fast link.
    pub fn send(&mut self, now: Nanos, packet: Packet, agenda: &mut Agenda<Event>) {
        let at = match &mut self.fast {
            None => now,
            Some(fast) => fast.send(now, Bytes::new(u64::from(packet.bytes))),
        };
        if self.frames.is_empty() {
            agenda.set(self.poll, at.saturating_add(self.coalescing));
        }
        self.frames.push_back((at, packet));
    }

    /// The next batch of a poll at `now`, which is empty when the poll is over.
    pub fn next_batch(&mut self, now: Nanos, batch: &mut Vec<Packet>) {
        let most = self.budget.min(BATCH_MAX);
        while batch.len() < most
            && let Some((at, packet)) = self.frames.front().copied()
            && at <= now
        {
            self.frames.pop_front();
            batch.push(packet);
        }
        self.budget -= batch.len();
    }

    /// The poll is over: when the next one is.
    pub fn end_poll(&mut self, now: Nanos, agenda: &mut Agenda<Event>) {
        self.budget = POLL_MAX;
        if let Some((at, _)) = self.frames.front() {
            // A poll that used up its budget is followed by another at once.
            let next = if *at <= now { now } else { at.saturating_add(self.coalescing) };
            agenda.set(self.poll, next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ecn, FlowId};
    use weir_aqm::Rate;

    #[test]
    fn a_poll_takes_sixty_four_frames_in_batches_of_sixteen_and_the_next_one_the_rest() {
        let mut agenda = Agenda::new();
        let due = agenda.register(Event::Poll(0));
        let rate = Rate::from_bits_per_second(1_000_000_000);
        let path = Path { fast: None, poll: Nanos::from_micros(20), ..Path::new(rate, Nanos::ZERO, 1) };
        let mut cpu = Cpu::new(&path, due);
        let (flow, sent) = (FlowId(0), Nanos::ZERO);
        for number in 0..100 {
            let frame = Packet {
                flow,
                bytes: 100,
                number,
                segment: 0,
                sent,
                host: 0,
                dscp: 0,
                service: crate::Service::default(),
                ecn: Ecn::NotEct,
            };
            cpu.send(Nanos::from_nanos(number), frame, &mut agenda);
        }
        let mut polls = Vec::new();
        while let Some((now, _)) = agenda.pop() {
            let mut batches = Vec::new();
            loop {
                let mut batch = Vec::new();
                cpu.next_batch(now, &mut batch);
                if batch.is_empty() {
                    break;
                }
                batches.push(batch.len());
            }
            cpu.end_poll(now, &mut agenda);
            polls.push((now.as_nanos(), batches));
        }
        assert_eq!(polls, [(20_000, vec![16; 4]), (20_000, vec![16, 16, 4])]);
    }
}
