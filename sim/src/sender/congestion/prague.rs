//! Prague.

use weir_aqm::Nanos;

use super::{
    AckSample, Control, INITIAL_WINDOW, LEAST_WINDOW, Pacing, Reaction, Signal, marking::Marking, reno::grow,
    seconds,
};
use crate::Ecn;

/// Flows with a shorter round-trip time behave as if it were this long.
const REFERENCE_RTT: Nanos = Nanos::from_millis(25);
/// Back to back leaves what fits into this time, at least one packet.
const BURST_SECONDS: f64 = 250e-6;

/// draft-briscoe-iccrg-prague-congestion-control: DCTCP's response once per virtual round-trip time, packets that are
/// ECT(1) and paced, growth by packets that bear no mark, and with RTT independence: a flow of 5 ms grows by as much a
/// second as one of 25 ms.
///
/// Left out: the fallback to a classic response when marks seem to come from an AQM that isolates no L4S traffic.
#[derive(Clone, Debug)]
pub struct Prague {
    window: f64,
    threshold: f64,
    marking: Marking,
    reduced: bool,
    window_began: Nanos,
    smoothed_rtt: Option<Nanos>,
}

impl Prague {
    /// In slow start.
    pub const fn new() -> Self {
        Self {
            window: INITIAL_WINDOW,
            threshold: f64::INFINITY,
            marking: Marking::new(),
            reduced: false,
            window_began: Nanos::ZERO,
            smoothed_rtt: None,
        }
    }
}

impl Control for Prague {
    fn window(&self) -> f64 {
        self.window
    }

    fn pacing(&self) -> Option<Pacing> {
        let rate = self.window / seconds(self.smoothed_rtt?).max(1e-9);
        // As Linux does for every paced flow in slow start, that it may double each round.
        let rate = if self.window < self.threshold / 2.0 { 2.0 * rate } else { rate };
        Some(Pacing { rate, quantum: (rate * BURST_SECONDS).max(1.0) })
    }

    fn ecn(&self) -> Ecn {
        Ecn::Ect1
    }

    fn ecn_again(&self) -> Ecn {
        self.ecn()
    }

    fn on_ack(&mut self, ack: &AckSample) {
        self.smoothed_rtt = Some(ack.smoothed_rtt);
        let virtual_rtt = ack.smoothed_rtt.max(REFERENCE_RTT);
        if ack.round_start && ack.now >= self.window_began.saturating_add(virtual_rtt) {
            self.marking.end_window();
            self.reduced = false;
            self.window_began = ack.now;
        }
        self.marking.count(ack.received, ack.marked);
        if ack.recovering {
            return;
        }
        if ack.marked > 0.0 && !self.reduced {
            self.reduced = true;
            self.threshold = (self.window * self.marking.beta()).max(LEAST_WINDOW);
            self.window = self.threshold;
        }
        let share = seconds(ack.smoothed_rtt) / seconds(virtual_rtt);
        let unmarked = (ack.delivered - ack.marked).max(0.0);
        grow(&mut self.window, self.threshold, unmarked, unmarked * share * share);
    }

    fn on_congestion(&mut self, _ack: &AckSample, signal: Signal) -> Reaction {
        match signal {
            Signal::Mark => Reaction::Ignored,
            Signal::Loss => {
                self.threshold = (self.window / 2.0).max(LEAST_WINDOW);
                self.window = self.threshold;
                Reaction::Gradual
            }
        }
    }

    fn on_timeout(&mut self) -> Reaction {
        self.threshold = (self.window / 2.0).max(LEAST_WINDOW);
        self.window = 1.0;
        Reaction::Gradual
    }
}
