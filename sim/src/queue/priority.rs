//! Two queues of which one is served first.

use weir_aqm::Nanos;

use super::{Queue, Tally};
use crate::Packet;

/// Packets of one code point before all others: two classes of HTB behind one rate, as long as those packets stay within what their
/// class is guaranteed.
pub struct Priority {
    dscp: u8,
    first: Box<dyn Queue>,
    rest: Box<dyn Queue>,
    batch: Vec<Packet>,
}

impl Priority {
    /// `first` is for packets of the code point `dscp`.
    pub fn new(dscp: u8, first: Box<dyn Queue>, rest: Box<dyn Queue>) -> Self {
        Self { dscp, first, rest, batch: Vec::new() }
    }
}

impl Queue for Priority {
    fn offer(&mut self, now: Nanos, cpu: u32, batch: &mut Vec<Packet>, tally: &mut Tally) {
        self.batch.extend(batch.extract_if(.., |packet| packet.dscp == self.dscp));
        if !self.batch.is_empty() {
            self.first.offer(now, cpu, &mut self.batch, tally);
        }
        if !batch.is_empty() {
            self.rest.offer(now, cpu, batch, tally);
        }
    }

    fn take(&mut self, now: Nanos, tally: &mut Tally) -> Option<Packet> {
        self.first.take(now, tally).or_else(|| self.rest.take(now, tally))
    }

    fn ready_at(&self, now: Nanos) -> Option<Nanos> {
        self.first.ready_at(now).into_iter().chain(self.rest.ready_at(now)).min()
    }

    fn occupancy(&self) -> u32 {
        self.first.occupancy() + self.rest.occupancy()
    }

    fn slots(&self) -> u32 {
        self.first.slots() + self.rest.slots()
    }
}
