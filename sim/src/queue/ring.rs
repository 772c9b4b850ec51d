//! A transmit ring with a controller in front of it.

use ringbuf::{
    HeapCons, HeapProd, HeapRb,
    traits::{Consumer, Observer, Producer, Split},
};
use weir_aqm::Nanos;
use weir_egress::Decision;
use weir_shared_maps::PortCounter;

use super::{Controller, Queue, Tally, View};
use crate::Packet;

/// A driver's ring: one producer, one consumer, first in first out, fixed size.
pub struct RingQueue<C> {
    controller: C,
    producer: HeapProd<Packet>,
    consumer: HeapCons<Packet>,
    survivors: Vec<Packet>,
    slots: u32,
}

impl<C: Controller> RingQueue<C> {
    /// An empty ring of `slots` frames, at least one.
    pub fn new(slots: u32, controller: C) -> Self {
        let slots = slots.max(1);
        let (producer, consumer) = HeapRb::new(slots as usize).split();
        Self { controller, producer, consumer, survivors: Vec::new(), slots }
    }

    /// What decides.
    pub const fn controller(&self) -> &C {
        &self.controller
    }

    fn view(&self) -> View {
        View { occupancy: self.occupancy(), slots: self.slots }
    }
}

impl<C: Controller> Queue for RingQueue<C> {
    fn offer(&mut self, now: Nanos, _cpu: u32, batch: &mut Vec<Packet>, tally: &mut Tally) {
        self.survivors.clear();
        for packet in batch.drain(..) {
            if self.controller.admits(now) {
                self.survivors.push(packet);
            } else {
                tally.drop(PortCounter::DropBackpressure);
            }
        }
        if self.survivors.is_empty() {
            // No frame reaches the device map: neither egress nor the observer runs.
            return;
        }
        let view = self.view();
        let controller = &mut self.controller;
        controller.begin_batch(now, view);
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
        let taken = self.producer.push_iter(self.survivors.iter().copied());
        for _ in taken..self.survivors.len() {
            tally.drop(PortCounter::RingDrops);
        }
        let view = self.view();
        self.controller.end_batch(now, view, taken as u32);
    }

    fn take(&mut self, _now: Nanos, _tally: &mut Tally) -> Option<Packet> {
        self.consumer.try_pop()
    }

    fn occupancy(&self) -> u32 {
        self.producer.occupied_len() as u32
    }

    fn slots(&self) -> u32 {
        self.slots
    }
}
