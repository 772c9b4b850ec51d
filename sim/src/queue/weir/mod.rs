//! weir: the programs' steps, on the programs' layouts, with a virtual clock.
//!
//! Batches happen one after the other, so that no compare-and-swap fails and no try-lock is found taken.

mod outside;

use std::{cell::RefCell, rc::Rc};

use weir_aqm::{Bytes, Nanos, gcra};
use weir_egress::{
    Decision, Queue as Front, bottleneck, drain_from_map, drain_to_map, observe, pace_from_map, pace_of_word,
    policer, slots_admitted, stands, wire_bytes,
};
use weir_ingress::{Backing, Pressure};
use weir_shared_maps::{
    BATCH_MAX, BackOff, BatchScratch, HISTORY_LEN, HistoryEntry, LOCATE_INTERVAL_NS, MODE_BOTTLENECK,
    MODE_METER, MODE_POLICER, MODE_VIRTUAL, PortConfig, PortCounter, PortState, RingState,
};
use zerocopy::FromZeros;

pub(super) use outside::clock;

use super::{Controller, Entry, View, classify::ecn_bits};
use crate::{Packet, Random, Rings};

/// What the programs' clock shows when a run begins: layouts use zero for "never".
const BOOT: Nanos = Nanos::from_secs(1);

/// Ingress's back-off, egress's decision and the observer, in front of one ring.
pub struct Weir {
    pub(super) config: PortConfig,
    /// What the port's rings share: meter and AQM of policer and virtual mode.
    port: Rc<RefCell<PortState>>,
    state: RingState,
    history: Vec<HistoryEntry>,
    scratch: BatchScratch,
    /// What ingress does at which level.
    back_off: BackOff,
    /// What it draws early signals from.
    random: Random,
}

impl Weir {
    /// One for each of a port's `count` rings, as user space leaves the maps before it attaches a program (`write` of
    /// `src/datapath/ports.rs`). The AQM's generators are seeded by `random`, as by the clock they would be.
    pub fn of_port(config: &PortConfig, rings: Rings, count: u32, mut random: Random) -> Vec<Self> {
        let ring_slots = if config.mode == MODE_VIRTUAL { 0 } else { rings.slots };
        let config = PortConfig { rings: count, ring_slots, ..*config };
        let mut seed = || random.bits() as u32 | 1;
        let mut port = PortState::new_zeroed();
        port.aqm.pi2.random = seed();
        let port = Rc::new(RefCell::new(port));
        let ring = |_| {
            let mut state = RingState::new_zeroed();
            state.slots = ring_slots;
            state.aqm.pi2.random = seed();
            if let Some(pace) = pace_from_map(&config) {
                let mut drain = drain_from_map(&state.drain);
                drain.seed(pace);
                state.drain = drain_to_map(&drain);
                state.all = state.drain;
            }
            Self {
                config,
                port: Rc::clone(&port),
                state,
                history: vec![HistoryEntry::new_zeroed(); HISTORY_LEN],
                scratch: BatchScratch::new_zeroed(),
                back_off: if config.classes == 0 { BackOff::DROP_AT_FULL } else { BackOff::NONE },
                random: Random::new(u64::from(state.aqm.pi2.random)),
            }
        };
        (0..count).map(ring).collect()
    }

    /// With another entry in the back-off map than a port's default.
    pub fn with_back_off(self, back_off: BackOff) -> Self {
        Self { back_off, ..self }
    }

    /// The ring's state as the map would show it.
    pub const fn state(&self) -> &RingState {
        &self.state
    }

    /// Virtual mode is for rings that no recipe can read (`DRIVER_NONE`).
    const fn is_readable(&self) -> bool {
        self.config.mode != MODE_VIRTUAL
    }

    /// What stands in front of the next frame: `situation` of `egress/src/bin/egress/program.rs`.
    pub(super) fn front(&self) -> Front {
        Front {
            now: Nanos::from_nanos(self.scratch.now_ns),
            backlog: Bytes::new(self.scratch.backlog_bytes),
            occupancy: self.scratch.occupancy_pkts,
            slots: self.state.slots,
            head_sojourn: Nanos::from_nanos(self.scratch.head_sojourn_ns),
            pace: pace_of_word(self.state.drain.pace),
            ..Front::NONE
        }
    }

    fn head(&self, occupancy: u32) -> Option<HistoryEntry> {
        if occupancy == 0 {
            return None;
        }
        self.history.get(observe::head_slot(self.state.sent, occupancy)).copied()
    }

    /// Bytes in the ring.
    fn backlog(&self, occupancy: u32) -> u64 {
        self.head(occupancy).map_or(0, |head| self.state.sent_bytes.saturating_sub(head.bytes_before))
    }

    /// `look` of the same file.
    fn look(&mut self, ring: View) {
        if !self.is_readable() {
            return;
        }
        self.scratch.occupancy_pkts = ring.occupancy;
        if let Some(head) = self.head(ring.occupancy) {
            self.scratch.backlog_bytes = self.state.sent_bytes.saturating_sub(head.bytes_before);
            self.scratch.head_sojourn_ns = self.scratch.now_ns.saturating_sub(head.enqueued_ns);
        }
    }

    /// `begin_batch` of the same file.
    pub(super) fn first_of_batch(&mut self, now: Nanos, ring: View) {
        self.scratch = BatchScratch::new_zeroed();
        self.scratch.now_ns = now.saturating_add(BOOT).as_nanos();
        self.look(ring);
        if self.config.mode == MODE_BOTTLENECK {
            let (aqm, frames) = (self.config.aqm, BATCH_MAX as u32);
            let passes = bottleneck::batch_passes(&self.config, aqm, &self.front(), frames, &self.state.aqm);
            self.scratch.free = u32::from(passes);
        }
    }

    /// Frames of the batch that were accepted so far.
    pub(super) const fn accepted_pkts(&self) -> u32 {
        self.scratch.accepted
    }

    /// `by_ring` of the same file.
    fn by_ring(&mut self) -> Decision {
        if self.scratch.free != 0 {
            return Decision::Accept;
        }
        bottleneck::decide(&self.config, self.config.aqm, &self.front(), &mut self.state.aqm)
    }

    /// `by_meter` of the same file.
    fn by_meter(&mut self, packet: &Packet) -> Decision {
        let config = &self.config;
        let now = Nanos::from_nanos(self.scratch.now_ns);
        let cost = wire_bytes(config, config.framing, packet.bytes);
        if let Some(full) = self.ring_full() {
            return Decision::Drop(full);
        }
        let mut port = self.port.borrow_mut();
        let tat = Nanos::from_nanos(port.tat_ns);
        let new = match policer::charge(config, tat, now, cost) {
            policer::Charge::Conform { tat } => tat,
            policer::Charge::Exceed(cause) => return Decision::Drop(cause),
            policer::Charge::NoRate => return Decision::Accept,
        };
        let verdict = policer::decide(config, config.aqm, tat, now, &mut port.aqm);
        match verdict {
            Decision::Signal { may_mark } if !(may_mark && packet.ecn.is_capable()) => {
                return Decision::Signal { may_mark: false };
            }
            Decision::Drop(_) => return verdict,
            Decision::Accept | Decision::Undecided | Decision::Signal { .. } => {}
        }
        port.tat_ns = new.as_nanos();
        verdict
    }

    /// `ring_full` of the same file.
    fn ring_full(&self) -> Option<PortCounter> {
        if !self.is_readable() {
            return None;
        }
        let slots = self.state.slots;
        let admitted = slots_admitted(slots, self.config.reserve_slots);
        (slots > 0 && self.scratch.occupancy_pkts >= admitted).then_some(PortCounter::DropAdmission)
    }

    /// Length of the batch's accepted frame `i`: `Lengths` of `egress/src/bin/egress/observer.rs`.
    fn length(&self, i: u32) -> u32 {
        if self.scratch.now_ns == 0 {
            return self.config.max_packet_bytes;
        }
        self.scratch.lengths.get(i as usize & (BATCH_MAX - 1)).copied().unwrap_or(0)
    }

    /// `enter` of the same file.
    fn enter(&mut self, now: Nanos, sent: u32) {
        for i in 0..sent {
            self.remember(now, self.length(i));
        }
    }

    /// `remember` of the same file.
    fn remember(&mut self, now: Nanos, bytes: u32) {
        let slot = self.state.sent as usize & (HISTORY_LEN - 1);
        if let Some(entry) = self.history.get_mut(slot) {
            *entry = HistoryEntry { enqueued_ns: now.as_nanos(), bytes_before: self.state.sent_bytes };
        }
        self.state.sent = self.state.sent.wrapping_add(1);
        self.state.sent_bytes = self.state.sent_bytes.wrapping_add(u64::from(bytes));
    }

    /// What of `ring_of` of the same file tells when somebody last sent here.
    const fn locate(&mut self, now: Nanos, trusted_ns: u64) {
        if now.as_nanos().wrapping_sub(self.state.located_ns) >= trusted_ns {
            self.state.located_ns = now.as_nanos();
        }
    }

    /// `give_back` of the same file.
    fn give_back(&mut self, now: Nanos, sent: u32) {
        let config = &self.config;
        // A port with classes gives back where it charged.
        if config.classes > 0 || (config.mode != MODE_POLICER && config.mode != MODE_VIRTUAL) {
            return;
        }
        let refused =
            (sent..self.scratch.accepted).map(|i| wire_bytes(config, config.framing, self.length(i)));
        let cost = refused.fold(Bytes::ZERO, Bytes::saturating_add);
        let mut port = self.port.borrow_mut();
        let mut tat = policer::refund(config, Nanos::from_nanos(port.tat_ns), cost);
        if config.mode == MODE_VIRTUAL {
            tat = policer::anchor_full(config, tat, now);
        }
        port.tat_ns = tat.as_nanos();
    }

    /// What an arriving frame would wait in the queue that stands for a ring which nobody can read: `virtual_wait` of
    /// `egress/src/bin/egress/renew.rs`, where the port has no classes.
    fn virtual_wait(&self, now: Nanos) -> Nanos {
        gcra::virtual_sojourn(Nanos::from_nanos(self.port.borrow().tat_ns), now)
    }

    /// `weir_renew` of the same file, and of `ring_of` what it tells of the ring. `wait` is that of the virtual queue, where the signal
    /// tells of it.
    fn renew(&mut self, now: Nanos, ring: View, refused: bool, wait: Nanos) {
        self.state.observed_ns = now.as_nanos();
        if !self.is_readable() {
            let blind = observe::Blind { now, wait: Some(wait), refused };
            observe::observe_blind(&self.config, &blind, &mut self.state.signal);
            return;
        }
        self.state.slots = ring.slots;
        let look = observe::Look {
            now,
            occupancy: ring.occupancy,
            slots: ring.slots,
            sent_bytes: self.state.sent_bytes,
            head: self.head(ring.occupancy),
            refused,
        };
        let (measured, predicted) = if observe::meter_speaks(&self.config) {
            let (measured, predicted) = observe::estimate(&look, &mut self.state.drain);
            let in_ring = if stands(&self.config, measured.backlog) { predicted } else { Nanos::ZERO };
            let blind = observe::Blind { now, wait: Some(in_ring.max(wait)), refused };
            observe::observe_blind(&self.config, &blind, &mut self.state.signal);
            (measured, predicted)
        } else {
            observe::observe(&self.config, &look, &mut self.state.drain, &mut self.state.signal)
        };
        self.state.head_sojourn_ns = measured.head_sojourn.as_nanos();
        self.state.predicted_ns = predicted.as_nanos();
        self.state.backlog_bytes = measured.backlog.get();
        self.state.occupancy_pkts = ring.occupancy;
        self.state.occupancy_max_pkts = self.state.occupancy_max_pkts.max(ring.occupancy);
    }
}

impl Controller for Weir {
    /// `by_packet` of `ingress/src/bin/ingress/back_off.rs`.
    fn admits(&mut self, now: Nanos, packet: &Packet) -> Entry {
        let pressure = Pressure::at(&self.state.signal, now.saturating_add(BOOT));
        let action = pressure.action(&self.back_off);
        match pressure.on_packet(action, weir_wire::Ecn::of(ecn_bits(packet)), self.random.bits() as u32) {
            Backing::Mark => Entry::Marked,
            Backing::Drop => Entry::Refused,
            // Classes that move flows have [`super::Router`]'s ingress in front; here a flow that would move goes straight.
            Backing::Go | Backing::Divert | Backing::Spill => Entry::Free,
        }
    }

    /// A port that is only measured has no batches.
    fn begin_batch(&mut self, now: Nanos, ring: View) {
        if self.config.mode == MODE_METER {
            self.scratch = BatchScratch::new_zeroed();
        } else {
            self.first_of_batch(now, ring);
        }
    }

    /// The choice by mode in `weir_egress` of the same file.
    fn judge(&mut self, packet: &Packet) -> Decision {
        match self.config.mode {
            MODE_BOTTLENECK => self.by_ring(),
            MODE_POLICER | MODE_VIRTUAL => self.by_meter(packet),
            _ => Decision::Accept,
        }
    }

    /// `accept` of the same file.
    fn accepted(&mut self, packet: &Packet) {
        let scratch = &mut self.scratch;
        if scratch.now_ns == 0 {
            return;
        }
        if let Some(slot) = scratch.lengths.get_mut(scratch.accepted as usize & (BATCH_MAX - 1)) {
            *slot = packet.bytes;
        }
        scratch.accepted = scratch.accepted.wrapping_add(1);
        scratch.accepted_bytes = scratch.accepted_bytes.wrapping_add(u64::from(packet.bytes));
        scratch.occupancy_pkts = scratch.occupancy_pkts.wrapping_add(1);
        scratch.backlog_bytes = scratch.backlog_bytes.wrapping_add(u64::from(packet.bytes));
    }

    /// `after_batch` of `egress/src/bin/egress/observer.rs`.
    fn end_batch(&mut self, now: Nanos, ring: View, taken: u32) {
        self.close_batch(now, ring, taken, |weir, now| weir.virtual_wait(now));
    }
}

impl Weir {
    /// The same; `wait` tells what an arriving frame would wait in front of a ring that nobody can read.
    pub(super) fn close_batch(
        &mut self,
        now: Nanos,
        ring: View,
        taken: u32,
        wait: impl FnOnce(&Self, Nanos) -> Nanos,
    ) {
        let now = now.saturating_add(BOOT);
        let refused = self.scratch.now_ns != 0 && self.scratch.accepted > taken;
        self.locate(now, if refused { 0 } else { LOCATE_INTERVAL_NS });
        self.enter(now, taken);
        if refused {
            self.give_back(now, taken);
        }
        let asked = !self.is_readable() || observe::meter_speaks(&self.config);
        let wait = if asked { wait(self, now) } else { Nanos::ZERO };
        self.renew(now, ring, refused, wait);
        self.scratch.now_ns = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        FlowId, port_config,
        queue::{Queue, RingQueue, Tally},
    };
    use weir_aqm::Pace;
    use weir_shared_maps::{AQM_NONE, SIGNAL_FULL};

    const RINGS: Rings = Rings { slots: 256, per_cpu: true, reclaim: 1 };

    fn frame(bytes: u32) -> Packet {
        Packet {
            flow: FlowId(0),
            bytes,
            number: 0,
            segment: 0,
            sent: Nanos::ZERO,
            host: 0,
            dscp: 0,
            service: crate::Service::default(),
            ecn: crate::Ecn::NotEct,
        }
    }

    fn port(mode: u32, mbit: u64, count: u32) -> RingQueue<Weir> {
        let mut config = PortConfig { mode, aqm: AQM_NONE, burst_ns: 10_000_000, ..port_config() };
        if let Some(pace) = Pace::from_bits_per_second(mbit * 1_000_000) {
            (config.pace_mult, config.pace_shift) = (pace.mult(), pace.shift());
        }
        RingQueue::with_rings(RINGS, Weir::of_port(&config, RINGS, count, Random::new(1)))
    }

    fn offer(queue: &mut RingQueue<Weir>, us: u64, cpu: u32, bytes: u32, frames: usize) -> Tally {
        let mut tally = Tally::default();
        queue.offer(Nanos::from_micros(us), cpu, &mut vec![frame(bytes); frames], &mut tally);
        tally
    }

    #[test]
    fn a_policers_rings_share_one_meter() {
        let mut queue = port(MODE_POLICER, 8, 2);
        // 10 ms of burst at 1,000 bytes a millisecond, and a frame that passes at its very end.
        assert_eq!(offer(&mut queue, 0, 0, 1000, 8).dropped(), 0);
        assert_eq!(offer(&mut queue, 0, 1, 1000, 8).drops.get("policer"), Some(&6));
        assert_eq!(offer(&mut queue, 1_000, 0, 1000, 2).drops.get("policer"), Some(&1));
    }

    #[test]
    fn a_policed_frame_that_the_ring_refuses_is_not_charged() {
        let rings = Rings { slots: 4, per_cpu: false, reclaim: 1 };
        let pace = Pace::from_bits_per_second(8_000_000).unwrap();
        let mode = MODE_VIRTUAL;
        let config = PortConfig { mode, aqm: AQM_NONE, limit_ns: 20_000_000, ..port_config() };
        let config = PortConfig { pace_mult: pace.mult(), pace_shift: pace.shift(), ..config };
        let mut queue = RingQueue::with_rings(rings, Weir::of_port(&config, rings, 1, Random::new(1)));
        let tally = offer(&mut queue, 0, 0, 1000, 6);
        assert_eq!(tally.drops.get("ring_drops"), Some(&2));
        // A refusal proves that the ring is full: the virtual queue stands at its limit.
        let weir = queue.controllers().next().unwrap();
        assert_eq!(weir.port.borrow().tat_ns, BOOT.as_nanos() + 20_000_000);
        assert_eq!((weir.state().sent, weir.state().slots, weir.state().signal.level), (4, 0, SIGNAL_FULL));
    }

    #[test]
    fn a_port_that_is_only_measured_keeps_a_history_of_full_frames() {
        let mut queue = port(MODE_METER, 0, 1);
        assert_eq!(offer(&mut queue, 0, 0, 100, 3).dropped(), 0);
        let state = *queue.controllers().next().unwrap().state();
        assert_eq!((state.sent, state.sent_bytes, state.occupancy_pkts), (3, 3 * 1514, 3));
    }

    #[test]
    fn a_configured_rate_is_the_first_estimate_of_the_drain() {
        let queue = port(MODE_BOTTLENECK, 8, 2);
        let pace = Pace::from_bits_per_second(8_000_000);
        assert!(queue.controllers().all(|weir| pace_of_word(weir.state().drain.pace) == pace));
    }

    #[test]
    fn each_ring_has_a_signal_of_its_own() {
        let mut queue = port(MODE_BOTTLENECK, 8, 2);
        // 16 frames of a millisecond each are over the limit of 15 ms.
        offer(&mut queue, 0, 0, 1000, 16);
        let levels: Vec<bool> =
            queue.controllers().map(|weir| weir.state().signal.level == SIGNAL_FULL).collect();
        assert_eq!(levels, [true, false]);
        assert_eq!(offer(&mut queue, 10, 0, 1000, 1).drops.get("backpressure"), Some(&1));
        assert_eq!(offer(&mut queue, 10, 1, 1000, 1).dropped(), 0);
    }
}
