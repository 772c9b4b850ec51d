//! The kernel's way out of a port: the stack, and the device's queueing discipline in front of the driver.

use std::collections::VecDeque;

use weir_aqm::Nanos;

use super::{Queue, Tally};
use crate::{Contender, Packet, Random, Rings};

/// What stands between ingress and the driver for packets that XDP passes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackConfig {
    /// The device's queueing discipline: one of those that own their packets. [`Contender::Redirect`] is a plain `pfifo`.
    pub qdisc: Contender,
    /// Packets that fit into it.
    pub limit: u32,
    /// How long a packet takes through the stack. Order holds below the millisecond that `weir_aqm::sticky::SETTLE` allows.
    pub delay: Nanos,
}

/// Packets of the stack on their way to the driver.
pub(super) struct Stack {
    delay: Nanos,
    /// With the time when each is at the discipline.
    under_way: VecDeque<(Nanos, Packet)>,
    qdisc: Box<dyn Queue>,
}

impl Stack {
    /// Nothing is under way.
    pub fn new(config: &StackConfig, random: Random) -> Self {
        let room = Rings { slots: config.limit, per_cpu: false, reclaim: 1 };
        Self { delay: config.delay, under_way: VecDeque::new(), qdisc: config.qdisc.queue(room, 1, random) }
    }

    /// A packet enters the stack.
    pub fn pass(&mut self, now: Nanos, packet: Packet) {
        self.under_way.push_back((now.saturating_add(self.delay), packet));
    }

    /// The next packet that has come through to the hook before the discipline.
    pub fn next(&mut self, now: Nanos) -> Option<Packet> {
        self.under_way.front().filter(|(at, _)| *at <= now)?;
        self.under_way.pop_front().map(|(_, packet)| packet)
    }

    /// Gives one to the discipline.
    pub fn enqueue(&mut self, now: Nanos, packet: Packet, tally: &mut Tally) {
        self.qdisc.offer(now, 0, &mut vec![packet], tally);
    }

    /// The next packet for the driver.
    pub fn dequeue(&mut self, now: Nanos, tally: &mut Tally) -> Option<Packet> {
        self.qdisc.take(now, tally)
    }

    /// Nothing waits in the discipline: `weir_qdisc_is_empty` of `ingress/src/bin/ingress/queues.rs`.
    pub fn qdisc_is_empty(&self) -> bool {
        self.qdisc.occupancy() == 0
    }

    /// When the next packet is through, or the discipline's timer runs out.
    pub fn wakes_at(&self, now: Nanos) -> Option<Nanos> {
        let through = self.under_way.front().map(|(at, _)| *at);
        let timer = self.qdisc.ready_at(now).filter(|_| !self.qdisc_is_empty());
        through.into_iter().chain(timer).min()
    }
}
