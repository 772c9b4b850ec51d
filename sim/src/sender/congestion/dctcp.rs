//! DCTCP.

use super::{
    AckSample, Control, INITIAL_WINDOW, LEAST_WINDOW, Reaction, Signal, marking::Marking, reno::grow,
};
use crate::Ecn;

/// RFC 8257: a reduction in proportion to the share of marked packets, at the first mark of each window of data. The
/// window grows as Reno's (section 3.4), in marked rounds too.
#[derive(Clone, Debug)]
pub struct Dctcp {
    window: f64,
    threshold: f64,
    marking: Marking,
    reduced: bool,
}

impl Dctcp {
    /// In slow start.
    pub const fn new() -> Self {
        Self { window: INITIAL_WINDOW, threshold: f64::INFINITY, marking: Marking::new(), reduced: false }
    }
}

impl Control for Dctcp {
    fn window(&self) -> f64 {
        self.window
    }

    fn ecn(&self) -> Ecn {
        Ecn::Ect0
    }

    fn ecn_again(&self) -> Ecn {
        self.ecn()
    }

    fn on_ack(&mut self, ack: &AckSample) {
        if ack.round_start {
            self.marking.end_window();
            self.reduced = false;
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
        grow(&mut self.window, self.threshold, ack.delivered, ack.delivered);
    }

    fn on_congestion(&mut self, _ack: &AckSample, signal: Signal) -> Reaction {
        match signal {
            Signal::Mark => Reaction::Ignored,
            // Section 3.5: as any TCP.
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
