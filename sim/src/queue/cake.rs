//! CAKE with one tin (`besteffort`): shaper, set-associative flow queues, host isolation and COBALT, after
//! `net/sched/sch_cake.c` (v6.18) and Høiland-Jørgensen, Täht, Morton: "Piece of CAKE" (LANMAN 2018).

use weir_aqm::{Nanos, Rate};
use weir_shared_maps::{CounterId, PortCounter};

use super::{
    Queue, Tally,
    cake_rate::CakeRate,
    chains::Chains,
    cobalt::{CobaltVars, CobaltVerdict},
    fifo::{FULL_FRAME, Fifo, mark},
    flow_hash::FlowHash,
};
use crate::{Packet, Random};

/// Queues.
const QUEUES: u32 = 1024;
/// Queues of a set: where a flow may stand.
const WAYS: u32 = 8;
/// Hosts that are told apart: all. The kernel hashes them into 1,024 places, eight ways each.
const HOSTS: usize = 1 << 16;

/// Flows with a quantum left since they appeared.
const NEW: u32 = 0;
/// Flows in the round.
const OLD: u32 = 1;
/// Flows without packets whose controller has something to forget.
const DECAYING: u32 = 2;

/// What a flow counts as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Set {
    /// Nobody's.
    #[default]
    Free,
    /// Served first.
    Sparse,
    /// Sparse, ran empty, waits for its turn in the round.
    SparseWait,
    /// Takes turns.
    Bulk,
    /// Without packets.
    Decaying,
}

#[derive(Debug, Default)]
struct Flow {
    fifo: Fifo,
    cobalt: CobaltVars,
    deficit: i64,
    set: Set,
    tag: u32,
    host: u16,
}

/// CAKE in front of a link.
pub struct Cake {
    rate: CakeRate,
    slots: u32,
    hash: FlowHash,
    random: Random,
    flows: Vec<Flow>,
    chains: Chains,
    /// Bulk flows of each host.
    bulk: Vec<u32>,
    packets: u32,
    bytes: u64,
    /// When the shaper lets the next packet go.
    next: Nanos,
}

impl Cake {
    /// An empty queue with `slots` of room that shapes to `rate` of frames.
    pub fn new(slots: u32, rate: Rate, mut random: Random) -> Self {
        Self {
            rate: CakeRate::new(rate, FULL_FRAME as u32),
            slots,
            hash: FlowHash::new(&mut random),
            random,
            flows: std::iter::repeat_with(Flow::default).take(QUEUES as usize).collect(),
            chains: Chains::new(QUEUES, 3),
            bulk: vec![0; HOSTS],
            packets: 0,
            bytes: 0,
            next: Nanos::ZERO,
        }
    }

    /// `cake_hash`: the flow's queue if it has one in its set, else a free one, else the one its hash says, shared.
    fn find(&mut self, packet: &Packet) -> u32 {
        let tag = self.hash.of(packet.flow);
        let home = tag % QUEUES;
        let set = home - home % WAYS;
        let ways = (0..WAYS).map(|way| set + (home + way) % WAYS);
        let flow = |queue: u32| self.flows.get(queue as usize);
        let own =
            ways.clone().find(|q| flow(*q).is_some_and(|flow| flow.tag == tag && flow.set != Set::Free));
        let free = || ways.clone().find(|q| flow(*q).is_some_and(|flow| flow.set == Set::Free));
        let queue = own.or_else(free).unwrap_or(home);
        if let Some(flow) = self.flows.get_mut(queue as usize) {
            if flow.set == Set::Bulk && flow.host != packet.host {
                count(&mut self.bulk, flow.host, false);
                count(&mut self.bulk, packet.host, true);
            }
            (flow.tag, flow.host) = (tag, packet.host);
        }
        queue
    }

    fn enqueue(&mut self, now: Nanos, packet: Packet) {
        if self.packets == 0 {
            // An idle link saves nothing up.
            self.next = self.next.max(now);
        }
        let queue = self.find(&packet);
        let Some(flow) = self.flows.get_mut(queue as usize) else { return };
        flow.fifo.push(now, packet);
        self.packets = self.packets.saturating_add(1);
        self.bytes = self.bytes.saturating_add(u64::from(packet.bytes));
        match flow.set {
            Set::Free | Set::Decaying => {
                flow.set = Set::Sparse;
                flow.deficit = turn(&self.rate, &self.bulk, flow.host, &mut self.random);
                self.chains.move_to_end(NEW, queue);
            }
            Set::SparseWait => {
                flow.set = Set::Bulk;
                count(&mut self.bulk, flow.host, true);
            }
            Set::Sparse | Set::Bulk => {}
        }
    }

    /// `cake_drop`: one packet of the longest queue, from its head. Looks at all queues, once for each packet too many.
    fn drop_from_longest(&mut self, now: Nanos, tally: &mut Tally) {
        let Some(flow) = self.flows.iter_mut().max_by_key(|flow| flow.fifo.bytes()) else { return };
        let Some((packet, _)) = flow.fifo.pop(now) else { return };
        flow.cobalt.on_full(&self.rate.cobalt, now);
        self.packets = self.packets.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(u64::from(packet.bytes));
        tally.lost("cake_overflow");
    }

    fn is_over(&self) -> bool {
        self.packets > self.slots || self.bytes > self.rate.memory
    }

    /// A flow that is out of its turn gets the next one at the end of the round. With `n` bulk flows of its host a turn is the
    /// `n`th part of a quantum, so that a full packet may take `n` of these: the kernel's cost too.
    fn requeue(&mut self, queue: u32) {
        if let Some(flow) = self.flows.get_mut(queue as usize) {
            if flow.set == Set::Sparse {
                flow.set = if flow.fifo.is_empty() { Set::SparseWait } else { Set::Bulk };
                if flow.set == Set::Bulk {
                    count(&mut self.bulk, flow.host, true);
                }
            }
            let turn = turn(&self.rate, &self.bulk, flow.host, &mut self.random);
            flow.deficit = flow.deficit.saturating_add(turn);
        }
        self.chains.move_to_end(OLD, queue);
    }

    /// The queue of this flow was empty on its turn.
    fn retire(&mut self, now: Nanos, queue: u32) {
        let Some(flow) = self.flows.get_mut(queue as usize) else { return };
        flow.cobalt.on_empty(&self.rate.cobalt, now);
        if flow.set == Set::Bulk {
            count(&mut self.bulk, flow.host, false);
        }
        if flow.cobalt.is_at_rest(now) {
            flow.set = Set::Free;
            self.chains.remove(queue);
        } else {
            flow.set = Set::Decaying;
            self.chains.move_to_end(DECAYING, queue);
        }
    }

    /// The next packet of this flow that its controller does not drop. The last one in the queue is never dropped.
    fn serve(&mut self, now: Nanos, queue: u32, tally: &mut Tally) -> Option<Packet> {
        let flow = self.flows.get_mut(queue as usize)?;
        loop {
            let (mut packet, sojourn) = flow.fifo.pop(now)?;
            self.packets = self.packets.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(u64::from(packet.bytes));
            let (capable, roll) = (packet.ecn.is_capable(), self.random.bits() as u32);
            let lost = match flow.cobalt.on_dequeue(&self.rate.cobalt, now, sojourn, capable, roll) {
                CobaltVerdict::Pass => None,
                CobaltVerdict::Mark => {
                    mark(&mut packet, tally);
                    None
                }
                CobaltVerdict::Drop => Some(PortCounter::DropAqm.name()),
                CobaltVerdict::Flood => Some("cake_blue"),
            };
            match lost {
                Some(cause) if !flow.fifo.is_empty() => tally.lost(cause),
                Some(_) | None => {
                    flow.deficit = flow.deficit.saturating_sub(i64::from(packet.bytes));
                    return Some(packet);
                }
            }
        }
    }
}

/// One bulk flow more or less.
fn count(bulk: &mut [u32], host: u16, more: bool) {
    if let Some(flows) = bulk.get_mut(usize::from(host)) {
        *flows = if more { flows.saturating_add(1) } else { flows.saturating_sub(1) };
    }
}

/// `cake_get_flow_quantum`: a turn is shared among the bulk flows of the host; the fraction is a matter of chance.
fn turn(rate: &CakeRate, bulk: &[u32], host: u16, random: &mut Random) -> i64 {
    let load = bulk.get(usize::from(host)).copied().unwrap_or(0).max(1);
    let share = u64::from(rate.quantum) * (u64::from(u16::MAX) / u64::from(load));
    ((share + (random.bits() >> 48)) >> 16).cast_signed()
}

impl Queue for Cake {
    fn offer(&mut self, now: Nanos, _cpu: u32, batch: &mut Vec<Packet>, tally: &mut Tally) {
        for packet in batch.drain(..) {
            self.enqueue(now, packet);
            while self.is_over() {
                self.drop_from_longest(now, tally);
            }
        }
    }

    fn take(&mut self, now: Nanos, tally: &mut Tally) -> Option<Packet> {
        if now < self.next {
            return None;
        }
        // At most one flow that only decays is looked at for each packet, and it goes first.
        let mut decays = self.chains.first(DECAYING);
        while self.packets > 0 {
            let first = || self.chains.first(NEW).or_else(|| self.chains.first(OLD));
            let queue = decays.take().or_else(first)?;
            if self.flows.get(queue as usize).is_some_and(|flow| flow.deficit <= 0) {
                self.requeue(queue);
                continue;
            }
            match self.serve(now, queue, tally) {
                Some(packet) => {
                    self.next = self.next.saturating_add(self.rate.time_of(packet.bytes));
                    return Some(packet);
                }
                None => self.retire(now, queue),
            }
        }
        None
    }

    fn ready_at(&self, now: Nanos) -> Option<Nanos> {
        (self.packets > 0 && self.next > now).then_some(self.next)
    }

    fn occupancy(&self) -> u32 {
        self.packets
    }

    fn slots(&self) -> u32 {
        self.slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ecn, FlowId};

    fn packet(flow: u32) -> Packet {
        let (flow, sent) = (FlowId(flow), Nanos::ZERO);
        Packet {
            flow,
            bytes: 1514,
            number: 0,
            segment: 0,
            sent,
            host: 0,
            dscp: 0,
            service: crate::Service::default(),
            ecn: Ecn::NotEct,
        }
    }

    /// RFC 8290 section 5.3 has 100 flows alone in their buckets with 90.8 % for one way and nearly always for eight.
    #[test]
    fn eight_ways_keep_a_hundred_flows_apart() {
        let (mut alone, runs) = (0, 50);
        for seed in 0..runs {
            let mut cake = Cake::new(1000, Rate::from_bits_per_second(10_000_000), Random::new(seed));
            for flow in 0..100 {
                cake.enqueue(Nanos::ZERO, packet(flow));
            }
            alone += cake.flows.iter().filter(|flow| flow.fifo.len() == 1).count();
        }
        assert!(alone as u64 >= 100 * runs - 2, "{alone}");
    }

    #[test]
    fn more_flows_than_queues_share_them() {
        let mut cake = Cake::new(10_000, Rate::from_bits_per_second(10_000_000), Random::new(1));
        for flow in 0..3 * QUEUES {
            cake.enqueue(Nanos::ZERO, packet(flow));
        }
        assert!(cake.flows.iter().all(|flow| !flow.fifo.is_empty()));
    }

    #[test]
    fn what_is_counted_as_bulk_is_what_is_bulk() {
        let mut cake = Cake::new(300, Rate::from_bits_per_second(1_000_000_000), Random::new(1));
        let (mut random, mut tally) = (Random::new(2), Tally::default());
        let mut now = Nanos::ZERO;
        for _ in 0..10_000 {
            now = now.saturating_add(random.below(Nanos::from_micros(20)));
            // Many more flows than queues, over idle times and overflow: all states, and shared queues.
            let flow = random.bits() as u32 % 3000;
            let burst = random.bits() % 8;
            let mut batch = vec![Packet { host: flow as u16 % 5, ..packet(flow) }; burst as usize / 3];
            cake.offer(now, 0, &mut batch, &mut tally);
            cake.take(now, &mut tally);
            if random.bits() % 500 == 0 {
                while let Some(at) = cake.ready_at(now) {
                    now = at;
                    cake.take(now, &mut tally);
                }
                now = now.saturating_add(random.below(Nanos::from_millis(300)));
            }
        }
        for host in 0..5u16 {
            let bulk = cake.flows.iter().filter(|flow| flow.set == Set::Bulk && flow.host == host).count();
            assert_eq!(cake.bulk[usize::from(host)] as usize, bulk);
        }
        for (queue, flow) in (0..).zip(&cake.flows) {
            assert_eq!(cake.chains.holds(queue), flow.set != Set::Free);
        }
        assert!(tally.dropped() > 0);
    }
}
