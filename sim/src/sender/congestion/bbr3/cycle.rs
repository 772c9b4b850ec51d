//! The cycle of ProbeBW: down, cruise, refill, up.

use weir_aqm::Nanos;

use super::{AckSample, Bbr3, State};

/// `min(T_reno_bound, ...)`: rounds between two probes at most.
const ROUNDS_BETWEEN_PROBES: f64 = 63.0;
const WAIT_LEAST: Nanos = Nanos::from_secs(2);
const WAIT_SPREAD: Nanos = Nanos::from_secs(1);
const MOST_DOUBLINGS: u32 = 30;

/// Where in the cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Down,
    Cruise,
    Refill,
    Up,
}

impl Phase {
    pub const fn pacing_gain(self) -> f64 {
        match self {
            Self::Down => 0.9,
            Self::Cruise | Self::Refill => 1.0,
            Self::Up => 1.25,
        }
    }

    pub const fn window_gain(self) -> f64 {
        match self {
            Self::Down | Self::Cruise | Self::Refill => super::WINDOW_GAIN,
            Self::Up => 2.25,
        }
    }
}

/// `ack_phase`: of which phase acknowledgements tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Acks {
    #[default]
    Init,
    Refilling,
    ProbeStarting,
    ProbeFeedback,
    ProbeStopping,
}

/// What the cycle remembers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cycle {
    /// `cycle_stamp`, `bw_probe_wait`.
    began: Nanos,
    wait: Nanos,
    /// `rounds_since_probe_up`.
    pub rounds_since_up: u64,
    pub acks: Acks,
    /// `is_bw_probe_sample`.
    pub is_probe_sample: bool,
    /// `prev_probe_too_high`.
    pub previous_too_high: bool,
    /// `prev_probe_precautionary`: the last probe ended where the one before had met losses.
    precautionary: bool,
    /// A loss said that up is over, since the last acknowledgement.
    pub leave_up: bool,
    /// `bw_probe_up_rounds`, `bw_probe_up_acked`, `probe_up_acked_per_inc`.
    up_rounds: u32,
    up_acked: f64,
    up_acked_per_packet: f64,
}

impl Bbr3 {
    /// `UpdateProbeBWCyclePhase`.
    pub(super) fn update_cycle(&mut self, ack: &AckSample) {
        if !self.full.ever {
            return;
        }
        if std::mem::take(&mut self.cycle.leave_up) && self.state == State::ProbeBandwidth(Phase::Up) {
            self.start_down(ack);
        }
        self.adapt_long_term(ack);
        let State::ProbeBandwidth(phase) = self.state else { return };
        match phase {
            Phase::Down | Phase::Cruise if self.is_time_to_probe(ack) => self.start_refill(ack),
            Phase::Down if self.is_time_to_cruise(ack) => self.start_cruise(),
            Phase::Down | Phase::Cruise => {}
            Phase::Refill if self.rounds.start => {
                self.cycle.is_probe_sample = true;
                self.start_up(ack);
            }
            Phase::Refill => {}
            Phase::Up if self.is_time_to_go_down(ack) => {
                self.cycle.previous_too_high = false;
                self.start_down(ack);
            }
            Phase::Up => {}
        }
    }

    pub(super) fn start_down(&mut self, ack: &AckSample) {
        self.bounds.reset_signals();
        self.cycle.up_acked_per_packet = f64::INFINITY;
        self.cycle.rounds_since_up = self.random.bits() & 1;
        self.cycle.wait = WAIT_LEAST.saturating_add(self.random.below(WAIT_SPREAD));
        self.cycle.began = ack.now;
        self.cycle.acks = Acks::ProbeStopping;
        self.rounds.restart(ack);
        self.state = State::ProbeBandwidth(Phase::Down);
    }

    pub(super) const fn start_cruise(&mut self) {
        self.state = State::ProbeBandwidth(Phase::Cruise);
    }

    fn start_refill(&mut self, ack: &AckSample) {
        self.bounds.reset_short_term();
        (self.cycle.up_rounds, self.cycle.up_acked) = (0, 0.0);
        self.cycle.precautionary = false;
        self.cycle.acks = Acks::Refilling;
        self.rounds.restart(ack);
        self.state = State::ProbeBandwidth(Phase::Refill);
    }

    fn start_up(&mut self, ack: &AckSample) {
        self.cycle.acks = Acks::ProbeStarting;
        self.rounds.restart(ack);
        self.full.reset(ack.rate);
        self.state = State::ProbeBandwidth(Phase::Up);
        self.raise_slope();
    }

    /// `IsTimeToProbeBW`: two to three seconds, or as many rounds as a Reno flow would need.
    fn is_time_to_probe(&self, ack: &AckSample) -> bool {
        let target = self.path_holds(self.bandwidth, 1.0).min(self.window);
        ack.now > self.cycle.began.saturating_add(self.cycle.wait)
            || self.cycle.rounds_since_up as f64 >= target.min(ROUNDS_BETWEEN_PROBES)
    }

    fn is_time_to_cruise(&self, ack: &AckSample) -> bool {
        ack.in_flight <= self.bounds.with_headroom()
            && ack.in_flight <= self.inflight(self.max_bandwidth.get(), 1.0)
    }

    fn is_time_to_go_down(&mut self, ack: &AckSample) -> bool {
        if self.cycle.previous_too_high && ack.in_flight >= self.bounds.long_term {
            self.cycle.precautionary = true;
            return true;
        }
        if ack.window_limited && self.window >= self.bounds.long_term {
            // The bound, not the path, kept the bandwidth from growing.
            self.full.reset(ack.rate);
            return false;
        }
        self.full.now
    }

    /// `RaiseInflightLongtermSlope`: twice as much each round.
    fn raise_slope(&mut self) {
        let growth = f64::from(1_u32 << self.cycle.up_rounds);
        self.cycle.up_rounds = self.cycle.up_rounds.saturating_add(1).min(MOST_DOUBLINGS);
        self.cycle.up_acked_per_packet = (self.window / growth).max(1.0);
    }

    /// `AdaptLongTermModel`.
    fn adapt_long_term(&mut self, ack: &AckSample) {
        if self.cycle.acks == Acks::ProbeStarting && self.rounds.start {
            self.cycle.acks = Acks::ProbeFeedback;
        }
        if self.cycle.acks == Acks::ProbeStopping && self.rounds.start {
            self.cycle.is_probe_sample = false;
            self.cycle.acks = Acks::Init;
            if matches!(self.state, State::ProbeBandwidth(_)) {
                self.cycles = self.cycles.saturating_add(1);
                if self.cycle.precautionary && !self.cycle.previous_too_high {
                    self.start_refill(ack);
                    return;
                }
            }
        }
        if Self::is_inflight_too_high(ack) || self.bounds.long_term.is_infinite() {
            return;
        }
        self.bounds.long_term = self.bounds.long_term.max(ack.sent_in_flight);
        if self.state == State::ProbeBandwidth(Phase::Up) {
            self.raise_long_term(ack);
        }
    }

    /// `ProbeInflightLongtermUpward`.
    fn raise_long_term(&mut self, ack: &AckSample) {
        if !ack.window_limited || self.window < self.bounds.long_term {
            return;
        }
        self.cycle.up_acked += ack.delivered;
        let packets = (self.cycle.up_acked / self.cycle.up_acked_per_packet).floor();
        if packets >= 1.0 {
            self.cycle.up_acked -= packets * self.cycle.up_acked_per_packet;
            self.bounds.long_term += packets;
        }
        if self.rounds.start {
            self.raise_slope();
        }
    }
}
