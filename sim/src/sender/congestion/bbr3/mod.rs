//! BBR, version 3.

mod bounds;
mod cycle;
mod probe_rtt;

use weir_aqm::Nanos;

use super::{
    AckSample, Control, FRAME_BYTES, INITIAL_WINDOW, LostSample, Pacing, Reaction, Signal,
    round_max::RoundMax, seconds,
};
use crate::{Ecn, Random};
use bounds::Bounds;
use cycle::{Acks, Cycle, Phase};
use probe_rtt::ProbeRtt;

const STARTUP_PACING_GAIN: f64 = 2.77;
const DRAIN_PACING_GAIN: f64 = 0.5;
const WINDOW_GAIN: f64 = 2.0;
const PROBE_RTT_WINDOW_GAIN: f64 = 0.5;
/// Paced by one per cent less than the model's bandwidth.
const PACING_MARGIN: f64 = 0.99;
const PIPE_FULL_GROWTH: f64 = 1.25;
const PIPE_FULL_ROUNDS: u32 = 3;
const DRAIN_ROUNDS: u64 = 3;
/// `MinPipeCwnd`.
const LEAST_WINDOW: f64 = 4.0;
/// `LossThresh`, and `BBRStartupFullLossCnt`.
const LOSS_THRESHOLD: f64 = 0.02;
const STARTUP_LOSSES: f64 = 6.0;
const MIN_RTT_FILTER: Nanos = Nanos::from_secs(10);

/// draft-ietf-ccwg-bbr; names in code font below are the draft's. It gives no response to marks, and so ECN is not offered.
/// The round-trip time is probed every five seconds, as in the draft's revisions up to 04 and in Linux.
///
/// What the draft says about idle and application-limited flows is left out: the sender always has data.
#[derive(Clone, Debug)]
pub struct Bbr3 {
    random: Random,
    state: State,
    window: f64,
    /// `prior_cwnd`: before recovery or a probe of the round-trip time.
    prior_window: f64,
    pacing_rate: Option<f64>,
    /// `max_bw`, packets a second, by cycle.
    max_bandwidth: RoundMax<2>,
    cycles: u64,
    /// `bw`.
    bandwidth: f64,
    min_rtt: Option<(Nanos, Nanos)>,
    rounds: Rounds,
    full: PipeFull,
    aggregation: Aggregation,
    bounds: Bounds,
    cycle: Cycle,
    probe_rtt: ProbeRtt,
    repairing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Startup,
    Drain { since_round: u64 },
    ProbeBandwidth(Phase),
    ProbeRtt,
}

/// Rounds by deliveries, which state changes restart.
#[derive(Clone, Copy, Debug, Default)]
struct Rounds {
    count: u64,
    next_delivered: u64,
    start: bool,
}

impl Rounds {
    const fn restart(&mut self, ack: &AckSample) {
        self.next_delivered = ack.total_delivered;
    }
}

/// `full_bw` and the rounds without growth since.
#[derive(Clone, Copy, Debug, Default)]
struct PipeFull {
    bandwidth: f64,
    rounds: u32,
    /// `full_bw_now`.
    now: bool,
    /// `full_bw_reached`.
    ever: bool,
    /// Losses of the running round of startup.
    losses: f64,
}

impl PipeFull {
    const fn reset(&mut self, bandwidth: f64) {
        (self.bandwidth, self.rounds, self.now) = (bandwidth, 0, false);
    }
}

/// `extra_acked`: how much more than the bandwidth says arrives at once.
#[derive(Clone, Debug)]
struct Aggregation {
    since: Option<Nanos>,
    delivered: f64,
    most: RoundMax<10>,
}

impl Bbr3 {
    /// In startup; `random` chooses when to probe.
    pub fn new(random: Random) -> Self {
        Self {
            random,
            state: State::Startup,
            window: INITIAL_WINDOW,
            prior_window: 0.0,
            pacing_rate: None,
            max_bandwidth: RoundMax::new(),
            cycles: 0,
            bandwidth: 0.0,
            min_rtt: None,
            rounds: Rounds::default(),
            full: PipeFull::default(),
            aggregation: Aggregation { since: None, delivered: 0.0, most: RoundMax::new() },
            bounds: Bounds::default(),
            cycle: Cycle::default(),
            probe_rtt: ProbeRtt::default(),
            repairing: false,
        }
    }

    const fn pacing_gain(&self) -> f64 {
        match self.state {
            State::Startup => STARTUP_PACING_GAIN,
            State::Drain { .. } => DRAIN_PACING_GAIN,
            State::ProbeBandwidth(phase) => phase.pacing_gain(),
            State::ProbeRtt => 1.0,
        }
    }

    const fn window_gain(&self) -> f64 {
        match self.state {
            State::ProbeBandwidth(phase) => phase.window_gain(),
            State::Startup | State::Drain { .. } => WINDOW_GAIN,
            State::ProbeRtt => PROBE_RTT_WINDOW_GAIN,
        }
    }

    /// Bandwidth in packets a second, and round-trip time.
    #[cfg(test)]
    pub fn model(&self) -> (f64, Option<Nanos>) {
        (self.max_bandwidth.get(), self.min_rtt.map(|(rtt, _)| rtt))
    }

    /// Packets that the path was found to hold without loss.
    #[cfg(test)]
    pub const fn long_term(&self) -> f64 {
        self.bounds.long_term
    }

    fn quantum(&self) -> f64 {
        let bytes = self.pacing_rate.unwrap_or_default() * FRAME_BYTES / 1000.0;
        (bytes.min(65_536.0) / FRAME_BYTES).max(2.0)
    }

    /// `BDPMultiple`.
    fn path_holds(&self, bandwidth: f64, gain: f64) -> f64 {
        self.min_rtt.map_or(INITIAL_WINDOW, |(rtt, _)| gain * bandwidth * seconds(rtt))
    }

    /// `QuantizationBudget`.
    fn with_quanta(&self, packets: f64) -> f64 {
        let packets = packets.max(3.0 * self.quantum()).max(LEAST_WINDOW);
        if self.state == State::ProbeBandwidth(Phase::Up) { packets + 2.0 } else { packets }
    }

    /// `Inflight`.
    fn inflight(&self, bandwidth: f64, gain: f64) -> f64 {
        self.with_quanta(self.path_holds(bandwidth, gain))
    }

    /// `UpdateRound`, `UpdateMaxBw`.
    fn update_bandwidth(&mut self, ack: &AckSample) {
        self.rounds.start = ack.prior_delivered >= self.rounds.next_delivered;
        if self.rounds.start {
            self.rounds.restart(ack);
            self.rounds.count = self.rounds.count.saturating_add(1);
            self.cycle.rounds_since_up = self.cycle.rounds_since_up.saturating_add(1);
        }
        self.max_bandwidth.update(self.cycles, ack.rate);
    }

    /// `UpdateACKAggregation`.
    fn update_aggregation(&mut self, ack: &AckSample) {
        let aggregation = &mut self.aggregation;
        let since = aggregation.since.unwrap_or(ack.now);
        let mut expected = self.bandwidth * seconds(ack.now.saturating_sub(since));
        aggregation.since = Some(since);
        if aggregation.delivered <= expected {
            (aggregation.delivered, aggregation.since, expected) = (0.0, Some(ack.now), 0.0);
        }
        aggregation.delivered += ack.delivered;
        let extra = (aggregation.delivered - expected).min(self.window);
        if !self.full.ever && self.rounds.start {
            // In startup, one round is remembered.
            aggregation.most = RoundMax::new();
        }
        aggregation.most.update(self.rounds.count, extra);
    }

    /// `CheckFullBWReached`.
    fn check_pipe_full(&mut self, ack: &AckSample) {
        if self.full.now || !self.rounds.start {
            return;
        }
        if ack.rate >= self.full.bandwidth * PIPE_FULL_GROWTH {
            self.full.reset(ack.rate);
            return;
        }
        self.full.rounds = self.full.rounds.saturating_add(1);
        self.full.now = self.full.rounds >= PIPE_FULL_ROUNDS;
        self.full.ever |= self.full.now;
    }

    /// `CheckStartupDone`, `CheckDrainDone`.
    fn check_startup_and_drain(&mut self, ack: &AckSample) {
        if self.state == State::Startup {
            self.check_startup_losses(ack);
            if self.full.ever {
                self.state = State::Drain { since_round: self.rounds.count };
            }
        }
        if let State::Drain { since_round } = self.state {
            let drained = ack.in_flight <= self.inflight(self.bandwidth, 1.0);
            if drained || self.rounds.count > since_round.saturating_add(DRAIN_ROUNDS) {
                self.start_down(ack);
            }
        }
    }

    /// `CheckStartupHighLoss`; losses count as discontiguous, as those of an AQM mostly are.
    fn check_startup_losses(&mut self, ack: &AckSample) {
        self.full.losses += ack.lost;
        if !self.bounds.loss_round_start {
            return;
        }
        let high = ack.lost_since > ack.sent_in_flight * LOSS_THRESHOLD;
        if ack.recovering && high && self.full.losses >= STARTUP_LOSSES {
            self.full.ever = true;
            let holds = self.path_holds(self.max_bandwidth.get(), 1.0);
            self.bounds.long_term = holds.max(self.bounds.latest_inflight);
        }
        self.full.losses = 0.0;
    }

    /// `SetPacingRate`.
    fn set_pacing_rate(&mut self, ack: &AckSample) {
        let initial = STARTUP_PACING_GAIN * INITIAL_WINDOW / seconds(ack.smoothed_rtt).max(1e-6);
        let rate = self.pacing_gain() * self.bandwidth * PACING_MARGIN;
        let current = self.pacing_rate.unwrap_or(initial);
        self.pacing_rate = Some(if self.full.ever { rate } else { rate.max(current) });
    }

    /// `SetCwnd`.
    fn set_window(&mut self, ack: &AckSample) {
        if self.repairing && !ack.recovering {
            self.window = self.window.max(self.prior_window);
        }
        self.repairing = ack.recovering;
        let most = self
            .with_quanta(self.path_holds(self.bandwidth, self.window_gain()) + self.aggregation.most.get());
        if self.full.ever {
            self.window = (self.window + ack.delivered).min(most);
        } else if self.window < most || (ack.total_delivered as f64) < INITIAL_WINDOW {
            self.window += ack.delivered;
        }
        self.window = self.window.max(LEAST_WINDOW);
        if self.state == State::ProbeRtt {
            self.window = self.window.min(self.probe_rtt_window());
        }
        let cap = match self.state {
            State::Startup | State::Drain { .. } => f64::INFINITY,
            State::ProbeBandwidth(Phase::Cruise) | State::ProbeRtt => self.bounds.with_headroom(),
            State::ProbeBandwidth(Phase::Down | Phase::Refill | Phase::Up) => self.bounds.long_term,
        };
        self.window = self.window.min(cap.min(self.bounds.short_inflight).max(LEAST_WINDOW));
    }

    /// `SaveCwnd`.
    fn save_window(&mut self) {
        self.prior_window = if self.repairing || self.state == State::ProbeRtt {
            self.prior_window.max(self.window)
        } else {
            self.window
        };
    }
}

impl Control for Bbr3 {
    fn window(&self) -> f64 {
        self.window
    }

    fn pacing(&self) -> Option<Pacing> {
        Some(Pacing { rate: self.pacing_rate?, quantum: self.quantum() })
    }

    fn ecn(&self) -> Ecn {
        Ecn::NotEct
    }

    fn on_ack(&mut self, ack: &AckSample) {
        if ack.delivered > 0.0 {
            self.bounds.update_latest(ack);
            self.update_bandwidth(ack);
            self.adapt_to_losses();
            self.update_aggregation(ack);
            self.check_pipe_full(ack);
            self.check_startup_and_drain(ack);
            self.update_cycle(ack);
            self.update_min_rtt(ack);
            self.bounds.advance_latest(ack);
            self.bandwidth = self.max_bandwidth.get().min(self.bounds.short_bandwidth);
        }
        self.set_pacing_rate(ack);
        self.set_window(ack);
    }

    fn on_lost(&mut self, lost: &LostSample) {
        self.handle_lost(lost);
    }

    fn on_congestion(&mut self, _ack: &AckSample, signal: Signal) -> Reaction {
        match signal {
            Signal::Mark => Reaction::Ignored,
            Signal::Loss => {
                self.save_window();
                self.repairing = true;
                Reaction::Own
            }
        }
    }

    fn on_timeout(&mut self) -> Reaction {
        self.save_window();
        self.repairing = true;
        self.window = 1.0;
        Reaction::Own
    }
}
