//! CoDel as RFC 8289 section 5 has it, deciding when a packet leaves its queue: the reference for simulators, and
//! what the enqueue form is compared with. Never part of a datapath, so its loop is bounded by the queue alone.

use super::{COUNT_MAX, CodelParams, RESUME_INTERVALS};
use crate::inv_sqrt::interval_over_sqrt;
use crate::units::{Bytes, Nanos};

/// The queue that CoDel takes packets from.
pub trait Queue {
    /// A packet.
    type Packet;

    /// Takes the packet at the head; `None` from an empty queue.
    fn pop(&mut self, now: Nanos) -> Option<Head<Self::Packet>>;

    /// Marks the packet CE; false if it must be dropped instead.
    fn mark(&mut self, packet: &mut Self::Packet) -> bool;

    /// Drops the packet.
    fn drop(&mut self, packet: Self::Packet);
}

/// A packet taken from the head of a queue.
#[derive(Clone, Copy, Debug)]
pub struct Head<P> {
    /// The packet.
    pub packet: P,
    /// How long it was queued.
    pub sojourn: Nanos,
    /// What is queued behind it.
    pub backlog: Bytes,
}

/// State of a CoDel queue in its dequeue form, with an exact inverse square root for every count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DequeueVars {
    /// When the sojourn time will have stayed above target for an interval; zero while it is below.
    pub first_above: Nanos,
    /// When the next signal is due.
    pub drop_next: Nanos,
    /// Signals of this episode, on top of what it resumed from.
    pub count: u32,
    /// `count` at the start of this episode.
    pub last_count: u32,
    /// Whether an episode of signalling is on.
    pub dropping: bool,
}

impl DequeueVars {
    /// The next packet to send: marks or drops on the way what the schedule asks for (RFC 8289 section 5.5).
    pub fn on_dequeue<Q: Queue>(
        &mut self,
        params: &CodelParams,
        now: Nanos,
        queue: &mut Q,
    ) -> Option<Q::Packet> {
        let (mut head, mut above) = self.pop(params, now, queue);
        if self.dropping {
            if !above {
                self.dropping = false;
            }
            while self.dropping && now >= self.drop_next {
                let mut taken = head?;
                self.count = self.count.saturating_add(1).min(COUNT_MAX);
                if queue.mark(&mut taken) {
                    self.drop_next = self.law(params, self.drop_next);
                    return Some(taken);
                }
                queue.drop(taken);
                (head, above) = self.pop(params, now, queue);
                if above {
                    self.drop_next = self.law(params, self.drop_next);
                } else {
                    self.dropping = false;
                }
            }
        } else if above {
            let mut taken = head?;
            if queue.mark(&mut taken) {
                head = Some(taken);
            } else {
                queue.drop(taken);
                (head, _) = self.pop(params, now, queue);
            }
            self.dropping = true;
            let recent =
                now.saturating_sub(self.drop_next) < params.interval.saturating_mul(RESUME_INTERVALS);
            let delta = self.count.saturating_sub(self.last_count);
            self.count = if recent && delta > 1 { delta } else { 1 };
            self.last_count = self.count;
            self.drop_next = self.law(params, now);
        }
        head
    }

    fn law(&self, params: &CodelParams, from: Nanos) -> Nanos {
        from.saturating_add(interval_over_sqrt(params.interval, self.count))
    }

    /// RFC 8289 section 5.6: the head, and whether it has stayed above target for an interval.
    fn pop<Q: Queue>(
        &mut self,
        params: &CodelParams,
        now: Nanos,
        queue: &mut Q,
    ) -> (Option<Q::Packet>, bool) {
        let Some(head) = queue.pop(now) else {
            self.first_above = Nanos::ZERO;
            return (None, false);
        };
        let mut above = false;
        if head.sojourn < params.target || head.backlog <= params.max_packet {
            self.first_above = Nanos::ZERO;
        } else if self.first_above == Nanos::ZERO {
            self.first_above = now.saturating_add(params.interval);
        } else {
            above = now >= self.first_above;
        }
        (Some(head.packet), above)
    }
}
