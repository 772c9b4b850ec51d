//! FQ-CoDel (RFC 8290): deficit round robin over hashed flows with CoDel at the head of each.

use weir_aqm::{
    Bytes, CodelParams, Nanos,
    codel::dequeue::{self, DequeueVars, Head},
};
use weir_shared_maps::PortCounter;

use super::{
    Queue, Tally,
    chains::Chains,
    fifo::{FULL_FRAME, Fifo, mark},
    flow_hash::FlowHash,
};
use crate::{Packet, Random};

/// Flows that have not yet used up a quantum since they appeared.
const NEW: u32 = 0;
/// All others that may have packets.
const OLD: u32 = 1;

/// Configuration of FQ-CoDel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FqCodelParams {
    /// Packets that fit, over all flows.
    pub limit: u32,
    /// Bytes that fit, over all flows.
    pub memory: u64,
    /// Buckets that flows hash into.
    pub buckets: u32,
    /// Bytes of a flow's turn; at least 1.
    pub quantum: u32,
    /// Most packets that one overflow drops.
    pub drop_batch: u32,
    /// Of each flow's CoDel.
    pub codel: CodelParams,
}

impl FqCodelParams {
    /// RFC 8290 section 5.2 (and `sch_fq_codel` for memory and batch, v6.18), with `limit` packets of room.
    pub const fn with_limit(limit: u32) -> Self {
        Self {
            limit,
            memory: 32 << 20,
            buckets: 1024,
            quantum: FULL_FRAME as u32,
            drop_batch: 64,
            codel: CodelParams::internet(Bytes::new(FULL_FRAME)),
        }
    }
}

#[derive(Debug, Default)]
struct Flow {
    fifo: Fifo,
    codel: DequeueVars,
    deficit: i64,
}

/// What all flows hold together.
#[derive(Clone, Copy, Debug, Default)]
struct Backlog {
    packets: u32,
    bytes: u64,
}

impl Backlog {
    fn left(&mut self, packet: &Packet) {
        self.packets = self.packets.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(u64::from(packet.bytes));
    }
}

/// Flow queues with CoDel, sharing one room.
pub struct FqCodel {
    params: FqCodelParams,
    hash: FlowHash,
    flows: Vec<Flow>,
    chains: Chains,
    backlog: Backlog,
}

impl FqCodel {
    /// Empty queues; `random` gives the hash its key.
    pub fn new(params: FqCodelParams, mut random: Random) -> Self {
        let buckets = params.buckets.max(1);
        let flows = std::iter::repeat_with(Flow::default).take(buckets as usize).collect();
        let chains = Chains::new(buckets, 2);
        Self { params, hash: FlowHash::new(&mut random), flows, chains, backlog: Backlog::default() }
    }

    /// The bucket of the packet's flow.
    pub fn bucket(&self, packet: &Packet) -> u32 {
        self.hash.bucket(packet.flow, self.params.buckets)
    }

    /// Bytes that the flows of this bucket may still send in their turn.
    pub fn deficit(&self, bucket: u32) -> i64 {
        self.flows.get(bucket as usize).map_or(0, |flow| flow.deficit)
    }

    fn enqueue(&mut self, now: Nanos, packet: Packet) {
        let bucket = self.bucket(&packet);
        let Some(flow) = self.flows.get_mut(bucket as usize) else { return };
        self.backlog.packets = self.backlog.packets.saturating_add(1);
        self.backlog.bytes = self.backlog.bytes.saturating_add(u64::from(packet.bytes));
        flow.fifo.push(now, packet);
        if !self.chains.holds(bucket) {
            flow.deficit = i64::from(self.params.quantum);
            self.chains.move_to_end(NEW, bucket);
        }
    }

    const fn is_over(&self) -> bool {
        self.backlog.packets > self.params.limit || self.backlog.bytes > self.params.memory
    }

    /// RFC 8290 section 4.1: from the head of the flow with the most bytes, up to half of them. The one place that looks
    /// at all flows; a batch of drops pays for it.
    fn drop_from_fattest(&mut self, now: Nanos, tally: &mut Tally) {
        let Some(flow) = self.flows.iter_mut().max_by_key(|flow| flow.fifo.bytes()) else { return };
        let goal = flow.fifo.bytes() / 2;
        for _ in 0..self.params.drop_batch.max(1) {
            let Some((packet, _)) = flow.fifo.pop(now) else { break };
            self.backlog.left(&packet);
            // fq_codel_drop (net/sched/sch_fq_codel.c, v6.18) lets CoDel know that the flow has been dropped from.
            flow.codel.count = flow.codel.count.saturating_add(1);
            tally.lost("fq_overflow");
            if flow.fifo.bytes() <= goal {
                break;
            }
        }
    }
}

/// One flow as CoDel sees it. The backlog that keeps CoDel quiet is that of all flows, as in `fq_codel_dequeue`: the link
/// does not idle as long as anyone has packets.
struct Turn<'a> {
    fifo: &'a mut Fifo,
    backlog: &'a mut Backlog,
    tally: &'a mut Tally,
}

impl dequeue::Queue for Turn<'_> {
    type Packet = Packet;

    fn pop(&mut self, now: Nanos) -> Option<Head<Packet>> {
        let (packet, sojourn) = self.fifo.pop(now)?;
        self.backlog.left(&packet);
        Some(Head { packet, sojourn, backlog: Bytes::new(self.backlog.bytes) })
    }

    fn mark(&mut self, packet: &mut Packet) -> bool {
        mark(packet, self.tally)
    }

    fn drop(&mut self, _packet: Packet) {
        self.tally.drop(PortCounter::DropAqm);
    }
}

impl Queue for FqCodel {
    fn offer(&mut self, now: Nanos, _cpu: u32, batch: &mut Vec<Packet>, tally: &mut Tally) {
        for packet in batch.drain(..) {
            self.enqueue(now, packet);
            while self.is_over() {
                self.drop_from_fattest(now, tally);
            }
        }
    }

    /// RFC 8290 section 4.2.
    fn take(&mut self, now: Nanos, tally: &mut Tally) -> Option<Packet> {
        loop {
            let (list, bucket) = match self.chains.first(NEW) {
                Some(bucket) => (NEW, bucket),
                None => (OLD, self.chains.first(OLD)?),
            };
            let flow = self.flows.get_mut(bucket as usize)?;
            if flow.deficit <= 0 {
                flow.deficit = flow.deficit.saturating_add(i64::from(self.params.quantum.max(1)));
                self.chains.move_to_end(OLD, bucket);
                continue;
            }
            let mut turn = Turn { fifo: &mut flow.fifo, backlog: &mut self.backlog, tally };
            if let Some(packet) = flow.codel.on_dequeue(&self.params.codel, now, &mut turn) {
                flow.deficit = flow.deficit.saturating_sub(i64::from(packet.bytes));
                return Some(packet);
            }
            // A new flow that ran empty waits a round among the old ones, or it could starve them by coming back at once.
            if list == NEW && self.chains.first(OLD).is_some() {
                self.chains.move_to_end(OLD, bucket);
            } else {
                self.chains.remove(bucket);
            }
        }
    }

    fn occupancy(&self) -> u32 {
        self.backlog.packets
    }

    fn slots(&self) -> u32 {
        self.params.limit
    }
}
