//! BBR, version 1.

use weir_aqm::Nanos;

use super::{
    AckSample, Control, FRAME_BYTES, INITIAL_WINDOW, Pacing, Reaction, Signal, round_max::RoundMax, seconds,
};
use crate::{Ecn, Random};

/// `2 / ln 2`: the least gain that doubles the rate each round.
const HIGH_GAIN: f64 = 2.885;
const DRAIN_GAIN: f64 = 1.0 / HIGH_GAIN;
const CYCLE: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
const CYCLE_WINDOW_GAIN: f64 = 2.0;
const PIPE_FULL_GROWTH: f64 = 1.25;
const PIPE_FULL_ROUNDS: u32 = 3;
const LEAST_WINDOW: f64 = 4.0;
const MIN_RTT_FILTER: Nanos = Nanos::from_secs(10);
const PROBE_RTT_TIME: Nanos = Nanos::from_millis(200);

/// draft-cardwell-iccrg-bbr-congestion-control-00. It heeds neither losses, but for one round of packet conservation, nor
/// marks, and so does not offer ECN.
#[derive(Clone, Debug)]
pub struct Bbr1 {
    random: Random,
    state: State,
    window: f64,
    /// The window before recovery or a probe of the round-trip time.
    prior_window: f64,
    pacing_rate: Option<f64>,
    /// `BtlBw`, packets a second.
    bandwidth: RoundMax<10>,
    round: u64,
    /// `RTprop`, and when it was measured.
    min_rtt: Option<(Nanos, Nanos)>,
    full: PipeFull,
    recovery: Recovery,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Startup,
    Drain,
    ProbeBandwidth {
        phase: usize,
        since: Nanos,
    },
    /// Until a time and a round, once few enough packets are under way.
    ProbeRtt {
        until: Option<(Nanos, u64)>,
    },
}

#[derive(Clone, Copy, Debug, Default)]
struct PipeFull {
    bandwidth: f64,
    rounds: u32,
}

impl PipeFull {
    const fn reached(self) -> bool {
        self.rounds >= PIPE_FULL_ROUNDS
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Recovery {
    None,
    /// The first round: as many packets leave as arrive.
    Conserving {
        until_round: u64,
    },
    Growing,
}

impl Bbr1 {
    /// In startup; `random` chooses where the cycle begins.
    pub const fn new(random: Random) -> Self {
        Self {
            random,
            state: State::Startup,
            window: INITIAL_WINDOW,
            prior_window: 0.0,
            pacing_rate: None,
            bandwidth: RoundMax::new(),
            round: 0,
            min_rtt: None,
            full: PipeFull { bandwidth: 0.0, rounds: 0 },
            recovery: Recovery::None,
        }
    }

    fn gains(&self) -> (f64, f64) {
        match self.state {
            State::Startup => (HIGH_GAIN, HIGH_GAIN),
            State::Drain => (DRAIN_GAIN, HIGH_GAIN),
            State::ProbeBandwidth { phase, .. } => {
                (CYCLE.get(phase).copied().unwrap_or(1.0), CYCLE_WINDOW_GAIN)
            }
            State::ProbeRtt { .. } => (1.0, 1.0),
        }
    }

    /// Bandwidth in packets a second, and round-trip time.
    #[cfg(test)]
    pub fn model(&self) -> (f64, Option<Nanos>) {
        (self.bandwidth.get(), self.min_rtt.map(|(rtt, _)| rtt))
    }

    fn quantum(&self) -> f64 {
        // Section 4.2.2: 1.2 and 24 Mbit/s are the bounds.
        let bytes_per_second = self.pacing_rate.unwrap_or_default() * FRAME_BYTES;
        if bytes_per_second < 150_000.0 {
            1.0
        } else if bytes_per_second < 3_000_000.0 {
            2.0
        } else {
            (bytes_per_second / 1000.0).min(65_536.0) / FRAME_BYTES
        }
    }

    /// Packets that `gain` times the path holds, and three quanta for hosts that send and receive in batches.
    fn inflight(&self, gain: f64) -> f64 {
        match self.min_rtt {
            None => INITIAL_WINDOW,
            Some((rtt, _)) => gain * self.bandwidth.get() * seconds(rtt) + 3.0 * self.quantum(),
        }
    }

    fn update_bandwidth(&mut self, ack: &AckSample) {
        if ack.round_start {
            self.round = self.round.saturating_add(1);
        }
        self.bandwidth.update(self.round, ack.rate);
        if ack.round_start && !self.full.reached() {
            if self.bandwidth.get() >= self.full.bandwidth * PIPE_FULL_GROWTH {
                self.full = PipeFull { bandwidth: self.bandwidth.get(), rounds: 0 };
            } else {
                self.full.rounds = self.full.rounds.saturating_add(1);
            }
        }
    }

    fn update_state(&mut self, ack: &AckSample) {
        match self.state {
            State::Startup if self.full.reached() => self.state = State::Drain,
            State::Startup | State::ProbeRtt { .. } => {}
            State::Drain if ack.in_flight <= self.inflight(1.0) => self.enter_probe_bandwidth(ack.now),
            State::Drain => {}
            State::ProbeBandwidth { phase, since } => {
                if self.is_next_phase(phase, since, ack) {
                    let phase = (phase + 1) % CYCLE.len();
                    self.state = State::ProbeBandwidth { phase, since: ack.now };
                }
            }
        }
    }

    /// Any phase but that of 0.75 comes first.
    fn enter_probe_bandwidth(&mut self, now: Nanos) {
        let pick = self.random.below(Nanos::from_nanos(CYCLE.len() as u64 - 1)).as_nanos() as usize;
        self.state = State::ProbeBandwidth { phase: (pick + 2) % CYCLE.len(), since: now };
    }

    fn is_next_phase(&self, phase: usize, since: Nanos, ack: &AckSample) -> bool {
        let rtt = self.min_rtt.map_or(Nanos::ZERO, |(rtt, _)| rtt);
        let full_length = ack.now.saturating_sub(since) > rtt;
        match CYCLE.get(phase).copied().unwrap_or(1.0) {
            gain if gain > 1.0 => {
                full_length && (ack.lost > 0.0 || ack.prior_in_flight >= self.inflight(gain))
            }
            gain if gain < 1.0 => full_length || ack.prior_in_flight <= self.inflight(1.0),
            _ => full_length,
        }
    }

    fn update_min_rtt(&mut self, ack: &AckSample) {
        let expired = self.min_rtt.is_some_and(|(_, at)| ack.now > at.saturating_add(MIN_RTT_FILTER));
        if self.min_rtt.is_none_or(|(rtt, _)| ack.rtt <= rtt) || expired {
            self.min_rtt = Some((ack.rtt, ack.now));
        }
        if let State::ProbeRtt { until } = self.state {
            match until {
                None if ack.in_flight <= LEAST_WINDOW => {
                    let until = (ack.now.saturating_add(PROBE_RTT_TIME), self.round.saturating_add(1));
                    self.state = State::ProbeRtt { until: Some(until) };
                }
                Some((time, round)) if ack.now > time && self.round >= round => self.leave_probe_rtt(ack.now),
                None | Some(_) => {}
            }
        } else if expired {
            self.save_window();
            self.state = State::ProbeRtt { until: None };
        }
    }

    fn leave_probe_rtt(&mut self, now: Nanos) {
        self.min_rtt = self.min_rtt.map(|(rtt, _)| (rtt, now));
        self.window = self.window.max(self.prior_window);
        if self.full.reached() {
            self.enter_probe_bandwidth(now);
        } else {
            self.state = State::Startup;
        }
    }

    fn save_window(&mut self) {
        self.prior_window =
            if self.recovery == Recovery::None && !matches!(self.state, State::ProbeRtt { .. }) {
                self.window
            } else {
                self.prior_window.max(self.window)
            };
    }

    fn set_pacing_rate(&mut self, gain: f64, ack: &AckSample) {
        let initial = HIGH_GAIN * INITIAL_WINDOW / seconds(ack.smoothed_rtt).max(1e-6);
        let rate = gain * self.bandwidth.get();
        let current = self.pacing_rate.unwrap_or(initial);
        self.pacing_rate = Some(if self.full.reached() { rate } else { rate.max(current) });
    }

    fn set_window(&mut self, gain: f64, ack: &AckSample) {
        if self.recovery != Recovery::None && !ack.recovering {
            self.recovery = Recovery::None;
            self.window = self.window.max(self.prior_window);
        }
        if let Recovery::Conserving { until_round } = self.recovery
            && self.round >= until_round
        {
            self.recovery = Recovery::Growing;
        }
        self.window = (self.window - ack.lost).max(1.0);
        if matches!(self.recovery, Recovery::Conserving { .. }) {
            self.window = self.window.max(ack.in_flight + ack.delivered);
        } else {
            let target = self.inflight(gain);
            if self.full.reached() {
                self.window = (self.window + ack.delivered).min(target);
            } else if self.window < target || (ack.total_delivered as f64) < INITIAL_WINDOW {
                self.window += ack.delivered;
            }
            self.window = self.window.max(LEAST_WINDOW);
        }
        if matches!(self.state, State::ProbeRtt { .. }) {
            self.window = self.window.min(LEAST_WINDOW);
        }
    }
}

impl Control for Bbr1 {
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
            self.update_bandwidth(ack);
            self.update_state(ack);
            self.update_min_rtt(ack);
        }
        let (pacing_gain, window_gain) = self.gains();
        self.set_pacing_rate(pacing_gain, ack);
        self.set_window(window_gain, ack);
    }

    fn on_congestion(&mut self, ack: &AckSample, signal: Signal) -> Reaction {
        match signal {
            Signal::Mark => Reaction::Ignored,
            Signal::Loss => {
                self.save_window();
                self.recovery = Recovery::Conserving { until_round: self.round.saturating_add(1) };
                self.window = ack.in_flight + ack.delivered.max(1.0);
                Reaction::Own
            }
        }
    }

    fn on_timeout(&mut self) -> Reaction {
        self.save_window();
        self.recovery = Recovery::Growing;
        self.window = 1.0;
        Reaction::Own
    }
}
