//! The round-trip time without a queue.

use weir_aqm::Nanos;

use super::{AckSample, Acks, Bbr3, LEAST_WINDOW, MIN_RTT_FILTER, PROBE_RTT_WINDOW_GAIN, State};

/// `ProbeRTTInterval`, `ProbeRTTDuration`.
const INTERVAL: Nanos = Nanos::from_secs(5);
const DURATION: Nanos = Nanos::from_millis(200);

/// When the round-trip time was last seen low, and how far a probe for it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProbeRtt {
    /// `probe_rtt_min_delay`, `probe_rtt_min_stamp`.
    least: Option<(Nanos, Nanos)>,
    /// `probe_rtt_done_stamp`: set once few enough packets are under way.
    done_at: Option<Nanos>,
    round_done: bool,
}

impl Bbr3 {
    /// `UpdateMinRTT`, `CheckProbeRTT`.
    pub(super) fn update_min_rtt(&mut self, ack: &AckSample) {
        let older = |seen: Option<(Nanos, Nanos)>, age| {
            seen.is_some_and(|(_, at): (Nanos, Nanos)| ack.now > at.saturating_add(age))
        };
        let expired = older(self.probe_rtt.least, INTERVAL);
        if expired || self.probe_rtt.least.is_none_or(|(least, _)| ack.rtt < least) {
            self.probe_rtt.least = Some((ack.rtt, ack.now));
        }
        let stale = older(self.min_rtt, MIN_RTT_FILTER);
        let lower = match (self.probe_rtt.least, self.min_rtt) {
            (Some((least, _)), Some((rtt, _))) => least < rtt,
            (_, None) => true,
            (None, Some(_)) => false,
        };
        if stale || lower {
            self.min_rtt = self.probe_rtt.least;
        }
        if self.state == State::ProbeRtt {
            self.handle_probe_rtt(ack);
        } else if expired {
            self.save_window();
            self.state = State::ProbeRtt;
            self.probe_rtt.done_at = None;
            self.cycle.acks = Acks::ProbeStopping;
            self.rounds.restart(ack);
        }
    }

    pub(super) fn probe_rtt_window(&self) -> f64 {
        self.path_holds(self.bandwidth, PROBE_RTT_WINDOW_GAIN).max(LEAST_WINDOW)
    }

    fn handle_probe_rtt(&mut self, ack: &AckSample) {
        match self.probe_rtt.done_at {
            None if ack.in_flight <= self.probe_rtt_window() => {
                self.probe_rtt.done_at = Some(ack.now.saturating_add(DURATION));
                self.probe_rtt.round_done = false;
                self.rounds.restart(ack);
            }
            None => {}
            Some(done_at) => {
                self.probe_rtt.round_done |= self.rounds.start;
                if self.probe_rtt.round_done && ack.now > done_at {
                    self.leave_probe_rtt(ack);
                }
            }
        }
    }

    /// `ExitProbeRTT`.
    fn leave_probe_rtt(&mut self, ack: &AckSample) {
        self.probe_rtt.least = self.probe_rtt.least.map(|(least, _)| (least, ack.now));
        self.window = self.window.max(self.prior_window);
        self.bounds.reset_short_term();
        if self.full.ever {
            self.start_down(ack);
            self.start_cruise();
        } else {
            self.state = State::Startup;
        }
    }
}
