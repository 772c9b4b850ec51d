//! What is read and written of a ring besides its own batches: by ingress, by batches of the port's other rings, by the kernel's
//! stack.

use weir_aqm::{Bytes, Nanos, Pace, sticky::IDLE};
use weir_egress::{pace_of_word, policer, policy::Rings, wire_bytes};
use weir_ingress::Pressure;
use weir_shared_maps::{
    FORGOTTEN_NS, LOCATE_INTERVAL_NS, MODE_BOTTLENECK, MODE_METER, MODE_POLICER, MODE_VIRTUAL, SIGNAL_CLEAR,
    STACK_CHARGE, STACK_DECIDE,
};

use super::{BOOT, Weir};
use crate::{Packet, queue::View};

/// What the programs' clock shows.
pub(in crate::queue) const fn clock(now: Nanos) -> Nanos {
    now.saturating_add(BOOT)
}

impl Weir {
    /// The signal, as ingress reads it.
    pub(in crate::queue) fn pressure(&self, now: Nanos) -> Pressure {
        Pressure::at(&self.state.signal, clock(now))
    }

    /// No signal stands: `is_quiet` of `ingress/src/bin/ingress/back_off.rs`.
    pub(in crate::queue) const fn is_quiet(&self) -> bool {
        self.state.signal.level == SIGNAL_CLEAR && self.state.signal.paused_until_ns == 0
    }

    /// The word of the ring's drain rate.
    pub(in crate::queue) const fn drain_pace(&self) -> u64 {
        self.state.drain.pace
    }

    /// `weir_ring_passed` of `ingress/src/bin/ingress/queues.rs`, by the programs' clock.
    pub(in crate::queue) fn passed(&self, now: Nanos, ring: View) -> Nanos {
        if !self.is_readable() {
            let longest = Nanos::from_nanos(self.config.limit_ns).min(IDLE);
            return clock(now).saturating_sub(longest);
        }
        self.head(ring.occupancy).map_or(clock(now), |head| Nanos::from_nanos(head.enqueued_ns))
    }

    /// What entered the ring, and what of it is there: `weir_ring_bytes` of `egress/src/bin/egress/policy.rs`, and the word that
    /// `add_rings` reads beside it.
    pub(in crate::queue) fn holds(&self, now: Nanos, ring: View) -> (u64, Bytes) {
        let now_ns = clock(now).as_nanos();
        // The ring of the batch that asks is looked at in any case.
        let asks = self.scratch.now_ns == now_ns;
        let forgotten = !asks && now_ns.saturating_sub(self.state.located_ns) > FORGOTTEN_NS;
        let bytes = if forgotten { 0 } else { self.backlog(ring.occupancy) };
        (self.state.sent_bytes, Bytes::new(bytes))
    }

    /// The end of `add_rings`, in a batch that has begun.
    pub(in crate::queue) fn add_rings(&mut self, rings: &Rings) {
        if self.config.mode != MODE_BOTTLENECK {
            return;
        }
        self.scratch.others_bytes = rings.bytes().get().saturating_sub(self.scratch.backlog_bytes);
        rings.observe(&mut self.state.all, Nanos::from_nanos(self.scratch.now_ns));
        self.scratch.all_pace = self.state.all.pace;
    }

    /// What the batch's first frame found in the port's other rings, and the rate of all: `queue_of` of the same file.
    pub(in crate::queue) const fn others(&self) -> (Bytes, Option<Pace>) {
        (Bytes::new(self.scratch.others_bytes), pace_of_word(self.scratch.all_pace))
    }

    /// Whether frames of the stack are decided on before their queueing discipline (`src/datapath/stack.rs`).
    pub(in crate::queue) const fn decides_on_stack(&self) -> bool {
        self.config.stack == STACK_DECIDE && self.config.mode != MODE_METER
    }

    /// What a frame of the stack that has left is charged with, where the port charges it: `charge_sent` of
    /// `egress/src/bin/egress/charge.rs`.
    pub(in crate::queue) fn stack_cost(&self, packet: &Packet) -> Option<Bytes> {
        let metered = self.config.mode == MODE_POLICER || self.config.mode == MODE_VIRTUAL;
        let charged = self.config.stack == STACK_CHARGE && metered;
        charged.then(|| wire_bytes(&self.config, self.config.framing, packet.bytes))
    }

    /// The driver took a frame of the stack: `weir_stack_obs` of `egress/src/bin/egress/observer.rs` after the charge.
    pub(in crate::queue) fn remember_stack(&mut self, now: Nanos, ring: View, bytes: u32, wait: Nanos) {
        self.locate(clock(now), LOCATE_INTERVAL_NS);
        self.remember(clock(now), bytes);
        self.renew(clock(now), ring, false, wait);
    }

    /// The same on a port without classes, with the charge: `to_meter` of `egress/src/bin/egress/charge.rs`.
    pub(in crate::queue) fn stack_sent(&mut self, now: Nanos, ring: View, packet: &Packet) {
        if let Some(cost) = self.stack_cost(packet) {
            let mut port = self.port.borrow_mut();
            let tat = Nanos::from_nanos(port.tat_ns);
            port.tat_ns = policer::charge_sent(&self.config, tat, clock(now), cost).as_nanos();
        }
        self.remember_stack(now, ring, packet.bytes, self.virtual_wait(clock(now)));
    }
}
