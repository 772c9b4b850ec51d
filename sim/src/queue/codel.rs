//! CoDel as published, deciding at the head of a queue it owns: what a qdisc can do and an XDP program cannot.

use weir_aqm::{
    Bytes, CodelParams, Nanos,
    codel::dequeue::{self, DequeueVars, Head},
};
use weir_shared_maps::PortCounter;

use super::{
    Queue, Tally,
    fifo::{Fifo, mark},
};
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
    fifo: Fifo,
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
        let (packet, sojourn) = self.fifo.pop(now)?;
        Some(Head { packet, sojourn, backlog: Bytes::new(self.fifo.bytes()) })
    }

    fn mark(&mut self, packet: &mut Packet) -> bool {
        mark(packet, &mut self.tally)
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
            self.waiting.fifo.push(now, packet);
        }
    }

    fn take(&mut self, now: Nanos, tally: &mut Tally) -> Option<Packet> {
        std::mem::swap(&mut self.waiting.tally, tally);
        let packet = self.vars.on_dequeue(&self.params, now, &mut self.waiting);
        std::mem::swap(&mut self.waiting.tally, tally);
        packet
    }

    fn occupancy(&self) -> u32 {
        self.waiting.fifo.len()
    }

    fn slots(&self) -> u32 {
        self.slots
    }
}
