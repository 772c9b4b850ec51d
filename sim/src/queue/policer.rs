//! A token bucket that drops (as `tc police` does), in front of a ring.

use std::{cell::Cell, rc::Rc};

use weir_aqm::{Bytes, Conformance, GcraParams, Nanos, Pace, Rate, gcra};
use weir_egress::Decision;
use weir_shared_maps::PortCounter;

use super::{Controller, View};
use crate::Packet;

/// One meter. Clones share it: one for each ring of a port.
#[derive(Clone, Debug)]
pub struct Policer {
    /// `None` only where no pace represents the rate; then everything is dropped.
    params: Option<GcraParams>,
    tat: Rc<Cell<Nanos>>,
    now: Nanos,
}

impl Policer {
    /// A full bucket of `burst` bytes, at least a full frame, or none conforms. A `rate` outside 64 kbit/s to 400 Gbit/s is
    /// taken for the nearest in it.
    pub fn new(rate: Rate, burst: u64) -> Self {
        let bits = rate.bits_per_second().clamp(Pace::MIN_BITS_PER_SECOND, Pace::MAX_BITS_PER_SECOND);
        let pace = Pace::from_bits_per_second(bits);
        let params = pace.map(|pace| GcraParams::with_burst(pace, Bytes::new(burst)));
        Self { params, tat: Rc::default(), now: Nanos::ZERO }
    }
}

impl Controller for Policer {
    fn begin_batch(&mut self, now: Nanos, _ring: View) {
        self.now = now;
    }

    fn judge(&mut self, packet: &Packet) -> Decision {
        let Some(params) = &self.params else { return Decision::Drop(PortCounter::DropPolicer) };
        match gcra::conform(params, self.tat.get(), self.now, Bytes::new(u64::from(packet.bytes))) {
            Conformance::Conform { tat } => {
                self.tat.set(tat);
                Decision::Accept
            }
            Conformance::Exceed { .. } => Decision::Drop(PortCounter::DropPolicer),
        }
    }
}
