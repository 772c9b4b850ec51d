//! CUBIC.

use weir_aqm::Nanos;

use super::{
    AckSample, Control, INITIAL_WINDOW, LEAST_WINDOW, Reaction, Signal,
    hystart::{HyStart, Verdict},
    seconds,
};
use crate::Ecn;

/// RFC 9438 with fast convergence and the Reno-friendly region, HyStart++ in the first slow start, and the smaller
/// reduction for marks of RFC 8511.
#[derive(Clone, Debug)]
pub struct Cubic {
    window: f64,
    threshold: f64,
    /// `W_max`.
    most: f64,
    /// `cwnd_prior`.
    prior: f64,
    epoch: Option<Epoch>,
    /// Until the first congestion.
    start: Option<HyStart>,
    ecn: Ecn,
}

/// Congestion avoidance since the last reduction.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    began: Nanos,
    curve: Curve,
    /// `W_est`.
    reno: f64,
}

/// `W_cubic`, section 4.2.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Curve {
    /// `K`, seconds.
    k: f64,
    /// Where it is flat.
    origin: f64,
}

impl Curve {
    /// `C`, section 5.
    const C: f64 = 0.4;

    fn new(window: f64, most: f64) -> Self {
        Self { k: libm::cbrt((most - window).max(0.0) / Self::C), origin: most.max(window) }
    }

    fn at(self, t: f64) -> f64 {
        let t = t - self.k;
        Self::C * t * t * t + self.origin
    }
}

impl Cubic {
    const BETA_LOSS: f64 = 0.7;
    /// RFC 8511 section 3.
    const BETA_MARK: f64 = 0.85;
    /// Section 4.3: slower than one packet a round until the old window is reached.
    const ALPHA: f64 = 3.0 * (1.0 - Self::BETA_LOSS) / (1.0 + Self::BETA_LOSS);

    /// In slow start; packets bear `ecn`.
    pub fn new(ecn: Ecn) -> Self {
        Self {
            window: INITIAL_WINDOW,
            threshold: f64::INFINITY,
            most: 0.0,
            prior: 0.0,
            epoch: None,
            start: Some(HyStart::default()),
            ecn,
        }
    }

    fn slow_start(&mut self, ack: &AckSample) {
        match self.start.as_mut().map(|start| start.on_ack(ack)) {
            Some(Verdict::Leave) => self.threshold = self.window,
            Some(Verdict::Grow(packets)) => self.window += packets,
            None => self.window = (self.window + ack.delivered).min(self.threshold),
        }
    }

    fn avoid_congestion(&mut self, ack: &AckSample) {
        let mut epoch = self.epoch.unwrap_or_else(|| Epoch {
            began: ack.now,
            curve: Curve::new(self.window, self.most),
            reno: self.window,
        });
        let alpha = if epoch.reno < self.prior { Self::ALPHA } else { 1.0 };
        epoch.reno += alpha * ack.delivered / self.window;
        self.epoch = Some(epoch);
        let t = seconds(ack.now.saturating_sub(epoch.began));
        if epoch.curve.at(t) < epoch.reno {
            self.window = self.window.max(epoch.reno);
            return;
        }
        let target = epoch.curve.at(t + seconds(ack.smoothed_rtt)).clamp(self.window, 1.5 * self.window);
        self.window += ack.delivered * (target - self.window) / self.window;
    }
}

impl Control for Cubic {
    fn window(&self) -> f64 {
        self.window
    }

    fn ecn(&self) -> Ecn {
        self.ecn
    }

    fn on_ack(&mut self, ack: &AckSample) {
        if ack.recovering {
            return;
        }
        if self.window < self.threshold {
            self.slow_start(ack);
        } else {
            self.avoid_congestion(ack);
        }
    }

    fn on_congestion(&mut self, _ack: &AckSample, signal: Signal) -> Reaction {
        let beta = match signal {
            Signal::Loss => Self::BETA_LOSS,
            Signal::Mark => Self::BETA_MARK,
        };
        // Fast convergence, section 4.7.
        self.most = if self.window < self.most { self.window * (1.0 + beta) / 2.0 } else { self.window };
        self.prior = self.window;
        self.threshold = (self.window * beta).max(LEAST_WINDOW);
        self.window = self.threshold;
        self.epoch = None;
        self.start = None;
        Reaction::Gradual
    }

    fn on_timeout(&mut self) -> Reaction {
        // Section 4.8: the curve of the next congestion avoidance begins flat, at the window it begins with.
        self.most = 0.0;
        self.prior = self.window;
        self.threshold = (self.window * Self::BETA_LOSS).max(LEAST_WINDOW);
        self.window = 1.0;
        self.epoch = None;
        self.start = None;
        Reaction::Gradual
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn rfc_9438_section_4_2_the_window_after_a_loss_at_100_follows_the_published_curve() {
        let vectors: Value =
            serde_json::from_str(include_str!("../../../tests/vectors/tcp_models.json")).unwrap();
        let example = &vectors["cubic_rfc9438"]["window_example"];
        let number = |value: &Value| value.as_f64().unwrap();
        let curve = Curve::new(number(&example["w_after_loss"]), number(&example["wmax"]));
        assert!((curve.k - number(&example["K_s"])).abs() < 1e-4, "{curve:?}");
        for row in example["w"].as_array().unwrap() {
            let (t, w) = (number(&row[0]), number(&row[1]));
            assert!((curve.at(t) - w).abs() < 1e-3, "at {t}: {} against {w}", curve.at(t));
        }
    }
}
