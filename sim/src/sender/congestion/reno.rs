//! NewReno.

use super::{AckSample, Control, INITIAL_WINDOW, LEAST_WINDOW, Reaction, Signal};
use crate::Ecn;

/// RFC 5681 with the byte counting that its section 3.1 recommends, and the smaller reduction for marks of RFC 8511. What
/// RFC 6582 adds, recovery from several losses of a window with one reduction, is the sender's.
#[derive(Clone, Debug)]
pub struct Reno {
    window: f64,
    threshold: f64,
    ecn: Ecn,
}

impl Reno {
    const BETA_LOSS: f64 = 0.5;
    const BETA_MARK: f64 = 0.8;

    /// In slow start; packets bear `ecn`.
    pub const fn new(ecn: Ecn) -> Self {
        Self { window: INITIAL_WINDOW, threshold: f64::INFINITY, ecn }
    }
}

impl Control for Reno {
    fn window(&self) -> f64 {
        self.window
    }

    fn ecn(&self) -> Ecn {
        self.ecn
    }

    fn on_ack(&mut self, ack: &AckSample) {
        if !ack.recovering {
            grow(&mut self.window, self.threshold, ack.delivered, ack.delivered);
        }
    }

    fn on_congestion(&mut self, _ack: &AckSample, signal: Signal) -> Reaction {
        let beta = match signal {
            Signal::Loss => Self::BETA_LOSS,
            Signal::Mark => Self::BETA_MARK,
        };
        self.threshold = (self.window * beta).max(LEAST_WINDOW);
        self.window = self.threshold;
        Reaction::Gradual
    }

    fn on_timeout(&mut self) -> Reaction {
        self.threshold = (self.window * Self::BETA_LOSS).max(LEAST_WINDOW);
        self.window = 1.0;
        Reaction::Gradual
    }
}

/// Below `threshold` as much as was acknowledged, above it `share` of a packet for each window's worth.
pub(super) fn grow(window: &mut f64, threshold: f64, acked: f64, share: f64) {
    if *window < threshold {
        *window = (*window + acked).min(threshold.max(*window));
    } else {
        *window += share / *window;
    }
}
