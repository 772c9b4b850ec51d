//! CoDel as published, deciding at the head of a queue it owns: what a qdisc can do and an XDP program cannot.

use std::collections::VecDeque;

use weir_aqm::{
    Bytes, CodelParams, Nanos,
    codel::dequeue::{self, DequeueVars, Head},
};
use weir_shared_maps::PortCounter;

use super::{Queue, Tally};
use crate::Packet;

/// RFC 8289 in front of a link, with `slots` of room.
pub struct CodelQueue {
    params: CodelParams,
    vars: DequeueVars,
    waiting: Waiting,
    slots: u32,
}

#[derive(Default)]
struct Waiting {
    packets: VecDeque<(Nanos, Packet)>,
    bytes: u64,
    tally: Tally,
}

impl CodelQueue {
    /// An empty queue.
    pub fn new(slots: u32, params: CodelParams) -> Self {
        Self { params, vars: DequeueVars::default(), waiting: Waiting::default(), slots }
    }
}

impl dequeue::Queue for Waiting {
    type Packet = Packet;

    fn pop(&mut self, now: Nanos) -> Option<Head<Packet>> {
        let (entered, packet) = self.packets.pop_front()?;
        self.bytes = self.bytes.saturating_sub(u64::from(packet.bytes));
        Some(Head { packet, sojourn: now.saturating_sub(entered), backlog: Bytes::new(self.bytes) })
    }

    fn mark(&mut self, packet: &mut Packet) -> bool {
        let marked = packet.mark();
        self.tally.marks = self.tally.marks.saturating_add(u64::from(marked));
        marked
    }

    fn drop(&mut self, _packet: Packet) {
        self.tally.drop(PortCounter::DropAqm);
    }
}

impl Queue for CodelQueue {
    fn offer(&mut self, now: Nanos, _cpu: u32, batch: &mut Vec<Packet>, tally: &mut Tally) {
        for packet in batch.drain(..) {
            if self.occupancy() >= self.slots {
                tally.drop(PortCounter::RingDrops);
                continue;
            }
            self.waiting.bytes = self.waiting.bytes.saturating_add(u64::from(packet.bytes));
            self.waiting.packets.push_back((now, packet));
        }
    }

    fn take(&mut self, now: Nanos, tally: &mut Tally) -> Option<Packet> {
        std::mem::swap(&mut self.waiting.tally, tally);
        let packet = self.vars.on_dequeue(&self.params, now, &mut self.waiting);
        std::mem::swap(&mut self.waiting.tally, tally);
        packet
    }

    fn occupancy(&self) -> u32 {
        self.waiting.packets.len() as u32
    }

    fn slots(&self) -> u32 {
        self.slots
    }
}
