//! What queues that own their packets have in common: a first-in first-out with arrival times, and marking.

use std::collections::VecDeque;

use weir_aqm::Nanos;

use super::Tally;
use crate::{Ecn, Packet};

/// Bytes of a full Ethernet frame without its check sequence: the "MTU" of Linux's qdiscs (`psched_mtu`).
pub(super) const FULL_FRAME: u64 = 1514;

/// Packets in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Fifo {
    packets: VecDeque<(Nanos, Packet)>,
    bytes: u64,
}

impl Fifo {
    pub(super) fn push(&mut self, now: Nanos, packet: Packet) {
        self.bytes = self.bytes.saturating_add(u64::from(packet.bytes));
        self.packets.push_back((now, packet));
    }

    /// The head, and how long it waited.
    pub(super) fn pop(&mut self, now: Nanos) -> Option<(Packet, Nanos)> {
        let (entered, packet) = self.packets.pop_front()?;
        self.bytes = self.bytes.saturating_sub(u64::from(packet.bytes));
        Some((packet, now.saturating_sub(entered)))
    }

    /// How long the head has waited; zero if there is none.
    pub(super) fn head_age(&self, now: Nanos) -> Nanos {
        self.packets.front().map_or(Nanos::ZERO, |(entered, _)| now.saturating_sub(*entered))
    }

    pub(super) fn len(&self) -> u32 {
        self.packets.len() as u32
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Marks a packet if it is ECN-capable; whether it bears the mark now. One that came with it is not counted again.
pub(super) fn mark(packet: &mut Packet, tally: &mut Tally) -> bool {
    let fresh = packet.ecn != Ecn::Ce;
    let marked = packet.mark();
    tally.marks = tally.marks.saturating_add(u64::from(marked && fresh));
    marked
}
