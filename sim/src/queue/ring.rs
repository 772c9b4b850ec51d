//! Transmit rings with a controller in front of each.

use ringbuf::{
    HeapCons, HeapProd, HeapRb,
    traits::{Consumer, Observer, Producer, Split},
};
use weir_aqm::Nanos;
use weir_egress::{Decision, policy::Rings as Sum};
use weir_shared_maps::{PortCounter, RINGS_SUMMED};

use super::{Controller, Entry, Queue, Tally, View};
use crate::{Packet, Rings};

/// A device with one ring that all CPUs share, or with several: CPU `c` sends into ring `c % rings`, and the device takes
/// a frame from each in turn.
pub struct RingQueue<C> {
    rings: Vec<Ring<C>>,
    survivors: Vec<Packet>,
    standing: u32,
    /// The ring that is asked first.
    turn: usize,
}

/// A driver's ring: one producer, one consumer, first in first out, fixed size.
struct Ring<C> {
    controller: C,
    producer: HeapProd<Packet>,
    consumer: HeapCons<Packet>,
    slots: u32,
    /// Frames that leave before their slots are given back, all at once.
    reclaim: u32,
    /// Slots whose frames have left and that are not given back yet.
    spent: u32,
}

impl<C: Controller> RingQueue<C> {
    /// One empty ring of `slots` frames, at least one, whose slots are free as soon as a frame has left.
    pub fn new(slots: u32, controller: C) -> Self {
        Self::with_rings(Rings { slots, per_cpu: false, reclaim: 1 }, [controller])
    }

    /// An empty ring for each controller.
    pub fn with_rings(rings: Rings, controllers: impl IntoIterator<Item = C>) -> Self {
        let slots = rings.slots.max(1);
        let rings = controllers.into_iter().map(|controller| {
            let (producer, consumer) = HeapRb::new(slots as usize).split();
            Ring { controller, producer, consumer, slots, reclaim: rings.reclaim.clamp(1, slots), spent: 0 }
        });
        Self { rings: rings.collect(), survivors: Vec::new(), standing: 0, turn: 0 }
    }

    /// What decides, in the order of the rings.
    pub fn controllers(&self) -> impl Iterator<Item = &C> {
        self.rings.iter().map(|ring| &ring.controller)
    }

    /// Rings.
    pub(super) fn count(&self) -> u32 {
        self.rings.len() as u32
    }

    /// What decides in front of the ring that a CPU's frames enter, and the ring.
    pub(super) fn of_cpu(&self, cpu: u32) -> Option<(&C, View)> {
        let ring = self.rings.get(self.index(cpu))?;
        Some((&ring.controller, ring.view()))
    }

    const fn index(&self, cpu: u32) -> usize {
        cpu as usize % if self.rings.is_empty() { 1 } else { self.rings.len() }
    }

    /// The first frame of a batch looks at its ring, and at the others where they are one queue.
    fn begin_batch(&mut self, now: Nanos, index: usize) {
        let Some(ring) = self.rings.get_mut(index) else { return };
        let view = ring.view();
        ring.controller.begin_batch(now, view);
        if !C::SHARES_RINGS || self.rings.len() < 2 || self.rings.len() > RINGS_SUMMED as usize {
            return;
        }
        let mut all = Sum::default();
        for ring in &self.rings {
            let (entered, bytes) = ring.controller.holds(now, ring.view());
            all.add(entered, bytes);
        }
        if let Some(ring) = self.rings.get_mut(index) {
            ring.controller.add_rings(&all);
        }
    }

    /// A frame of the kernel's stack before its queueing discipline: what the decision says that redirected frames meet.
    pub(super) fn judge_alone(&mut self, now: Nanos, ring: u32, packet: &Packet) -> Decision {
        let index = self.index(ring);
        self.begin_batch(now, index);
        self.rings.get_mut(index).map_or(Decision::Accept, |ring| ring.controller.judge(packet))
    }

    /// The kernel's stack hands a frame to the driver: it is behind what is in the ring, or lost where the ring is full. It keeps
    /// to no reserve.
    pub(super) fn enter_from_stack(&mut self, now: Nanos, ring: u32, packet: Packet, tally: &mut Tally) {
        let index = self.index(ring);
        let Some(ring) = self.rings.get_mut(index) else { return };
        if ring.free() == 0 || ring.producer.try_push(packet).is_err() {
            tally.drop(PortCounter::StackDrops);
            return;
        }
        self.standing += 1;
        let view = ring.view();
        ring.controller.stack_sent(now, view, &packet);
    }
}

impl<C> Ring<C> {
    /// Frames in the ring are read from the driver's indices, which move at once; slots it gives back late.
    fn view(&self) -> View {
        View { occupancy: self.producer.occupied_len() as u32, slots: self.slots }
    }

    fn free(&self) -> usize {
        self.producer.vacant_len().saturating_sub(self.spent as usize)
    }

    fn pop(&mut self) -> Option<Packet> {
        let packet = self.consumer.try_pop()?;
        self.spent += 1;
        if self.spent >= self.reclaim {
            self.spent = 0;
        }
        Some(packet)
    }
}

impl<C: Controller> Queue for RingQueue<C> {
    fn offer(&mut self, now: Nanos, cpu: u32, batch: &mut Vec<Packet>, tally: &mut Tally) {
        let index = self.index(cpu);
        let Some(ring) = self.rings.get_mut(index) else { return };
        let controller = &mut ring.controller;
        self.survivors.clear();
        for mut packet in batch.drain(..) {
            match controller.admits(now, &packet) {
                Entry::Refused => {
                    tally.drop(PortCounter::DropBackpressure);
                    continue;
                }
                Entry::Marked if packet.mark() => tally.marks = tally.marks.saturating_add(1),
                Entry::Marked | Entry::Free => {}
            }
            self.survivors.push(packet);
        }
        if self.survivors.is_empty() {
            // No frame reaches the device map: neither egress nor the observer runs.
            return;
        }
        self.begin_batch(now, index);
        let Some(ring) = self.rings.get_mut(index) else { return };
        let controller = &mut ring.controller;
        self.survivors.retain_mut(|packet| {
            let lost = match controller.judge(packet) {
                Decision::Accept | Decision::Undecided => None,
                Decision::Signal { may_mark } if may_mark && packet.mark() => {
                    tally.marks = tally.marks.saturating_add(1);
                    None
                }
                Decision::Signal { .. } => Some(PortCounter::DropAqm),
                Decision::Drop(cause) => Some(cause),
            };
            match lost {
                None => controller.accepted(packet),
                Some(cause) => tally.drop(cause),
            }
            lost.is_none()
        });
        // `ndo_xdp_xmit` stops at the first frame that does not fit: the batch's tail is lost, whatever it carries.
        let free = ring.free();
        let taken = ring.producer.push_iter(self.survivors.iter().copied().take(free));
        for _ in taken..self.survivors.len() {
            tally.drop(PortCounter::RingDrops);
        }
        self.standing += taken as u32;
        let view = ring.view();
        ring.controller.end_batch(now, view, taken as u32);
    }

    fn take(&mut self, _now: Nanos, _tally: &mut Tally) -> Option<Packet> {
        let (before, from) = self.rings.split_at_mut_checked(self.turn)?;
        let (skipped, packet) =
            from.iter_mut().chain(before).enumerate().find_map(|(i, ring)| Some((i, ring.pop()?)))?;
        self.turn = (self.turn + skipped + 1) % self.rings.len().max(1);
        self.standing -= 1;
        Some(packet)
    }

    fn occupancy(&self) -> u32 {
        self.standing
    }

    fn slots(&self) -> u32 {
        self.rings.iter().map(|ring| ring.slots).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ecn, FlowId, queue::DropTail};

    fn frame(number: u64) -> Packet {
        Packet {
            flow: FlowId(0),
            bytes: 1514,
            number,
            segment: 0,
            sent: Nanos::ZERO,
            host: 0,
            dscp: 0,
            service: crate::Service::default(),
            ecn: Ecn::NotEct,
        }
    }

    fn offer(queue: &mut RingQueue<DropTail>, cpu: u32, numbers: std::ops::Range<u64>) -> u64 {
        let mut tally = Tally::default();
        queue.offer(Nanos::ZERO, cpu, &mut numbers.map(frame).collect(), &mut tally);
        tally.dropped()
    }

    fn take(queue: &mut RingQueue<DropTail>) -> Option<u64> {
        queue.take(Nanos::ZERO, &mut Tally::default()).map(|packet| packet.number)
    }

    #[test]
    fn a_full_ring_loses_the_tail_of_the_batch() {
        let mut queue = RingQueue::new(3, DropTail);
        assert_eq!(offer(&mut queue, 5, 0..5), 2);
        assert_eq!(queue.occupancy(), 3);
        assert_eq!(std::iter::from_fn(|| take(&mut queue)).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn the_link_takes_from_the_rings_in_turn_and_passes_over_empty_ones() {
        let rings = Rings { slots: 4, per_cpu: true, reclaim: 1 };
        let mut queue = RingQueue::with_rings(rings, [DropTail; 3]);
        assert_eq!(
            (offer(&mut queue, 0, 0..3), offer(&mut queue, 1, 10..11), offer(&mut queue, 5, 20..26)),
            (0, 0, 2)
        );
        assert_eq!(queue.occupancy(), 8);
        assert_eq!(
            std::iter::from_fn(|| take(&mut queue)).collect::<Vec<_>>(),
            [0, 10, 20, 1, 21, 2, 22, 23]
        );
        assert_eq!((queue.occupancy(), queue.slots()), (0, 12));
    }

    #[test]
    fn slots_that_are_given_back_late_are_not_free() {
        let rings = Rings { slots: 8, per_cpu: false, reclaim: 4 };
        let mut queue = RingQueue::with_rings(rings, [DropTail]);
        assert_eq!(offer(&mut queue, 0, 0..8), 0);
        for _ in 0..3 {
            take(&mut queue);
        }
        assert_eq!((queue.occupancy(), offer(&mut queue, 0, 8..9)), (5, 1));
        take(&mut queue);
        assert_eq!((queue.occupancy(), offer(&mut queue, 0, 9..14)), (4, 1));
        assert_eq!(queue.occupancy(), 8);
    }
}
