//! weir in bottleneck mode: the programs' steps, on the programs' layouts, with a virtual clock.

use weir_aqm::{Bytes, Nanos};
use weir_egress::{Decision, Queue as Front, bottleneck, observe, pace_of_word};
use weir_ingress::{Backing, back_off};
use weir_shared_maps::{BatchScratch, HISTORY_LEN, HistoryEntry, PortConfig, RingState};
use zerocopy::FromZeros;

use super::{BATCH_MAX, Controller, View};
use crate::Packet;

/// Ingress's back-off, egress's decision and the observer of one ring.
pub struct Weir {
    config: PortConfig,
    state: RingState,
    history: Vec<HistoryEntry>,
    scratch: BatchScratch,
    lengths: Vec<u32>,
}

impl Weir {
    /// A port with this configuration, of which nothing is known yet.
    pub fn new(config: PortConfig) -> Self {
        Self {
            config,
            state: RingState::new_zeroed(),
            history: vec![HistoryEntry::new_zeroed(); HISTORY_LEN],
            scratch: BatchScratch::new_zeroed(),
            lengths: Vec::with_capacity(BATCH_MAX),
        }
    }

    /// The ring's state as the map would show it.
    pub const fn state(&self) -> &RingState {
        &self.state
    }

    /// What stands in front of the next frame: `situation` of `egress/src/bin/egress/program.rs`.
    fn front(&self) -> Front {
        Front {
            now: Nanos::from_nanos(self.scratch.now_ns),
            backlog: Bytes::new(self.scratch.backlog_bytes),
            occupancy: self.scratch.occupancy_pkts,
            slots: self.state.slots,
            head_sojourn: Nanos::from_nanos(self.scratch.head_sojourn_ns),
            pace: pace_of_word(self.state.drain.pace),
        }
    }

    fn head(&self, occupancy: u32) -> Option<HistoryEntry> {
        if occupancy == 0 {
            return None;
        }
        self.history.get(observe::head_slot(self.state.sent, occupancy)).copied()
    }
}

impl Controller for Weir {
    fn admits(&mut self, now: Nanos) -> bool {
        back_off(&self.state.signal, now) == Backing::Go
    }

    /// `begin_batch` of `egress/src/bin/egress/program.rs`.
    fn begin_batch(&mut self, now: Nanos, ring: View) {
        self.lengths.clear();
        self.scratch = BatchScratch::new_zeroed();
        self.scratch.now_ns = now.as_nanos();
        self.scratch.occupancy_pkts = ring.occupancy;
        if let Some(head) = self.head(ring.occupancy) {
            self.scratch.backlog_bytes = self.state.sent_bytes.saturating_sub(head.bytes_before);
            self.scratch.head_sojourn_ns = now.as_nanos().saturating_sub(head.enqueued_ns);
        }
        self.state.slots = ring.slots;
        let (aqm, frames) = (self.config.aqm, BATCH_MAX as u32);
        let passes = bottleneck::batch_passes(&self.config, aqm, &self.front(), frames, &self.state.aqm);
        self.scratch.free = u32::from(passes);
    }

    /// `by_ring` of the same file.
    fn judge(&mut self, _packet: &Packet) -> Decision {
        if self.scratch.free != 0 {
            return Decision::Accept;
        }
        bottleneck::decide(&self.config, self.config.aqm, &self.front(), &mut self.state.aqm)
    }

    fn accepted(&mut self, packet: &Packet) {
        self.lengths.push(packet.bytes);
        self.scratch.occupancy_pkts = self.scratch.occupancy_pkts.saturating_add(1);
        self.scratch.backlog_bytes = self.scratch.backlog_bytes.saturating_add(u64::from(packet.bytes));
    }

    /// `enter` and `renew_locked` of `egress/src/bin/egress/observer.rs`.
    fn end_batch(&mut self, now: Nanos, ring: View, taken: u32) {
        for bytes in self.lengths.iter().take(taken as usize) {
            let slot = self.state.sent as usize & (HISTORY_LEN - 1);
            if let Some(entry) = self.history.get_mut(slot) {
                *entry = HistoryEntry { enqueued_ns: now.as_nanos(), bytes_before: self.state.sent_bytes };
            }
            self.state.sent = self.state.sent.wrapping_add(1);
            self.state.sent_bytes = self.state.sent_bytes.wrapping_add(u64::from(*bytes));
        }
        let look = observe::Look {
            now,
            occupancy: ring.occupancy,
            slots: ring.slots,
            sent_bytes: self.state.sent_bytes,
            head: self.head(ring.occupancy),
        };
        let (measured, predicted) =
            observe::observe(&self.config, &look, &mut self.state.drain, &mut self.state.signal);
        self.state.observed_ns = now.as_nanos();
        self.state.head_sojourn_ns = measured.head_sojourn.as_nanos();
        self.state.predicted_ns = predicted.as_nanos();
        self.state.backlog_bytes = measured.backlog.get();
        self.state.occupancy_pkts = ring.occupancy;
        self.state.occupancy_max_pkts = self.state.occupancy_max_pkts.max(ring.occupancy);
    }
}
