//! What losses say about the path.

use super::{AckSample, Bbr3, LEAST_WINDOW, LOSS_THRESHOLD, LostSample, Phase, State};

/// `Beta`, `Headroom`.
const BETA: f64 = 0.7;
const HEADROOM: f64 = 0.15;

/// Bounds of the model, and the last round's signals that set them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// `inflight_longterm`.
    pub long_term: f64,
    /// `inflight_shortterm`.
    pub short_inflight: f64,
    /// `bw_shortterm`.
    pub short_bandwidth: f64,
    /// `inflight_latest`, `bw_latest`.
    pub latest_inflight: f64,
    latest_bandwidth: f64,
    /// `loss_round_delivered`, `loss_round_start`, `is_loss_in_round`.
    loss_round_delivered: u64,
    pub loss_round_start: bool,
    loss_in_round: bool,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            long_term: f64::INFINITY,
            short_inflight: f64::INFINITY,
            short_bandwidth: f64::INFINITY,
            latest_inflight: 0.0,
            latest_bandwidth: 0.0,
            loss_round_delivered: 0,
            loss_round_start: false,
            loss_in_round: false,
        }
    }
}

impl Bounds {
    /// `InflightWithHeadroom`.
    pub fn with_headroom(&self) -> f64 {
        if self.long_term.is_infinite() {
            return self.long_term;
        }
        (self.long_term - (HEADROOM * self.long_term).max(1.0)).max(LEAST_WINDOW)
    }

    /// `ResetShortTermModel`.
    pub const fn reset_short_term(&mut self) {
        (self.short_inflight, self.short_bandwidth) = (f64::INFINITY, f64::INFINITY);
    }

    /// `ResetCongestionSignals`.
    pub const fn reset_signals(&mut self) {
        (self.loss_in_round, self.latest_bandwidth, self.latest_inflight) = (false, 0.0, 0.0);
    }

    /// `UpdateLatestDeliverySignals`.
    pub fn update_latest(&mut self, ack: &AckSample) {
        self.latest_bandwidth = self.latest_bandwidth.max(ack.rate);
        self.latest_inflight = self.latest_inflight.max(sample_delivered(ack));
        self.loss_round_start = ack.prior_delivered >= self.loss_round_delivered;
        if self.loss_round_start {
            self.loss_round_delivered = ack.total_delivered;
        }
    }

    /// `AdvanceLatestDeliverySignals`.
    pub fn advance_latest(&mut self, ack: &AckSample) {
        if self.loss_round_start {
            self.latest_bandwidth = ack.rate;
            self.latest_inflight = sample_delivered(ack);
        }
    }

    /// `NoteLoss`.
    const fn note_loss(&mut self, total_delivered: u64) {
        if !self.loss_in_round {
            self.loss_round_delivered = total_delivered;
        }
        self.loss_in_round = true;
    }
}

/// `RS.delivered`: over the flight of the newest packet covered.
fn sample_delivered(ack: &AckSample) -> f64 {
    ack.total_delivered.saturating_sub(ack.prior_delivered) as f64
}

impl Bbr3 {
    /// `UpdateCongestionSignals`, `AdaptLowerBoundsFromCongestion`: once a round.
    pub(super) fn adapt_to_losses(&mut self) {
        if !self.bounds.loss_round_start {
            return;
        }
        let probing = match self.state {
            State::Startup | State::ProbeBandwidth(Phase::Refill | Phase::Up) => true,
            State::Drain { .. } | State::ProbeBandwidth(Phase::Down | Phase::Cruise) | State::ProbeRtt => {
                false
            }
        };
        let bounds = &mut self.bounds;
        if bounds.loss_in_round && !probing {
            if bounds.short_bandwidth.is_infinite() {
                bounds.short_bandwidth = self.max_bandwidth.get();
            }
            if bounds.short_inflight.is_infinite() {
                bounds.short_inflight = self.window;
            }
            bounds.short_bandwidth = bounds.latest_bandwidth.max(BETA * bounds.short_bandwidth);
            bounds.short_inflight = bounds.latest_inflight.max(BETA * bounds.short_inflight);
        }
        bounds.loss_in_round = false;
    }

    /// `HandleLostPacket`.
    pub(super) fn handle_lost(&mut self, lost: &LostSample) {
        self.bounds.note_loss(lost.total_delivered);
        if !self.cycle.is_probe_sample || lost.lost_since <= lost.sent_in_flight * LOSS_THRESHOLD {
            return;
        }
        // `InflightAtLoss`: where the losses crossed the threshold.
        let (flight_before, lost_before) = (lost.sent_in_flight - 1.0, lost.lost_since - 1.0);
        let prefix = (LOSS_THRESHOLD * flight_before - lost_before) / (1.0 - LOSS_THRESHOLD);
        // `HandleInflightTooHigh`.
        self.cycle.previous_too_high = true;
        self.cycle.is_probe_sample = false;
        let target = self.path_holds(self.bandwidth, 1.0).min(self.window);
        self.bounds.long_term = (flight_before + prefix).max(target * BETA);
        if self.state == State::ProbeBandwidth(Phase::Up) {
            self.cycle.leave_up = true;
        }
    }

    /// `IsInflightTooHigh`, of an acknowledged packet.
    pub(super) fn is_inflight_too_high(ack: &AckSample) -> bool {
        ack.lost_since > ack.sent_in_flight * LOSS_THRESHOLD
    }
}
