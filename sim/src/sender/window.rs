//! Congestion windows: how many packets may be under way.

use weir_aqm::Nanos;

/// RFC 6928.
const INITIAL: f64 = 10.0;
const LEAST: f64 = 2.0;

/// What said that the path is congested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Congestion {
    /// A packet was lost.
    Loss,
    /// A packet was marked.
    Mark,
}

/// A congestion window in packets.
pub trait Window {
    /// Packets that may be under way.
    fn packets(&self) -> f64;

    /// In slow start.
    fn in_slow_start(&self) -> bool;

    /// One more packet has arrived, `rtt` after it was sent, and none was lost in this round.
    fn on_ack(&mut self, now: Nanos, rtt: Nanos);

    /// At most once a round.
    fn on_congestion(&mut self, congestion: Congestion);

    /// The retransmission timer fired.
    fn on_timeout(&mut self);

    /// Delay rises: no more doubling.
    fn leave_slow_start(&mut self);
}

/// RFC 5681, with the smaller reduction for marks of RFC 8511.
#[derive(Clone, Debug)]
pub struct Reno {
    window: f64,
    threshold: f64,
}

impl Reno {
    const BETA_LOSS: f64 = 0.5;
    const BETA_MARK: f64 = 0.8;
}

impl Default for Reno {
    fn default() -> Self {
        Self { window: INITIAL, threshold: f64::INFINITY }
    }
}

impl Window for Reno {
    fn packets(&self) -> f64 {
        self.window
    }

    fn in_slow_start(&self) -> bool {
        self.window < self.threshold
    }

    fn on_ack(&mut self, _now: Nanos, _rtt: Nanos) {
        self.window += if self.in_slow_start() { 1.0 } else { 1.0 / self.window };
    }

    fn on_congestion(&mut self, congestion: Congestion) {
        let beta = match congestion {
            Congestion::Loss => Self::BETA_LOSS,
            Congestion::Mark => Self::BETA_MARK,
        };
        self.threshold = (self.window * beta).max(LEAST);
        self.window = self.threshold;
    }

    fn on_timeout(&mut self) {
        self.threshold = (self.window * Self::BETA_LOSS).max(LEAST);
        self.window = 1.0;
    }

    fn leave_slow_start(&mut self) {
        self.threshold = self.window;
    }
}

/// RFC 9438, with fast convergence and the Reno-friendly region.
#[derive(Clone, Debug)]
pub struct Cubic {
    window: f64,
    threshold: f64,
    /// `W_max`.
    most: f64,
    /// `cwnd_prior`.
    prior: f64,
    epoch: Option<Epoch>,
}

/// Congestion avoidance since the last reduction.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    began: Nanos,
    /// `K`, seconds.
    k: f64,
    /// `W_max` of this epoch.
    origin: f64,
    /// `W_est`.
    reno: f64,
}

impl Cubic {
    /// `C`, RFC 9438 section 5.
    const C: f64 = 0.4;
    const BETA_LOSS: f64 = 0.7;
    const BETA_MARK: f64 = 0.85;

    fn begin(&self, now: Nanos) -> Epoch {
        let behind = (self.most - self.window).max(0.0);
        let origin = self.most.max(self.window);
        Epoch { began: now, k: (behind / Self::C).cbrt(), origin, reno: self.window }
    }
}

impl Default for Cubic {
    fn default() -> Self {
        Self { window: INITIAL, threshold: f64::INFINITY, most: 0.0, prior: 0.0, epoch: None }
    }
}

fn seconds(time: Nanos) -> f64 {
    time.as_nanos() as f64 / 1e9
}

impl Window for Cubic {
    fn packets(&self) -> f64 {
        self.window
    }

    fn in_slow_start(&self) -> bool {
        self.window < self.threshold
    }

    fn on_ack(&mut self, now: Nanos, rtt: Nanos) {
        if self.in_slow_start() {
            self.window += 1.0;
            return;
        }
        let mut epoch = self.epoch.unwrap_or_else(|| self.begin(now));
        // RFC 9438 section 4.3: slower than one packet a round until the old window is reached.
        let alpha = if epoch.reno < self.prior {
            3.0 * (1.0 - Self::BETA_LOSS) / (1.0 + Self::BETA_LOSS)
        } else {
            1.0
        };
        epoch.reno += alpha / self.window;
        self.epoch = Some(epoch);
        let t = seconds(now.saturating_sub(epoch.began));
        let cubic = |t: f64| Self::C * (t - epoch.k).powi(3) + epoch.origin;
        if cubic(t) < epoch.reno {
            self.window = self.window.max(epoch.reno);
            return;
        }
        let target = cubic(t + seconds(rtt)).clamp(self.window, 1.5 * self.window);
        self.window += (target - self.window) / self.window;
    }

    fn on_congestion(&mut self, congestion: Congestion) {
        let beta = match congestion {
            Congestion::Loss => Self::BETA_LOSS,
            Congestion::Mark => Self::BETA_MARK,
        };
        // Fast convergence, section 4.7.
        self.most = if self.window < self.most { self.window * (1.0 + beta) / 2.0 } else { self.window };
        self.prior = self.window;
        self.threshold = (self.window * beta).max(LEAST);
        self.window = self.threshold;
        self.epoch = None;
    }

    fn on_timeout(&mut self) {
        self.on_congestion(Congestion::Loss);
        self.window = 1.0;
    }

    fn leave_slow_start(&mut self) {
        self.threshold = self.window;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean window over many periods of one loss each `period` packets.
    fn mean_under_periodic_loss(window: &mut dyn Window, period: u32, rtt: Nanos) -> f64 {
        window.leave_slow_start();
        let (mut area, mut time, mut now) = (0.0, 0.0, 0.0);
        let warm = 200;
        for i in 0..600u32 {
            for _ in 0..period {
                let step = rtt.as_nanos() as f64 / window.packets();
                now += step;
                if i >= warm {
                    area += window.packets() * step;
                    time += step;
                }
                window.on_ack(Nanos::from_nanos(now as u64), rtt);
            }
            window.on_congestion(Congestion::Loss);
        }
        area / time
    }

    #[test]
    fn reno_under_periodic_loss_follows_mathis() {
        for period in [100, 1_000, 10_000] {
            let mean = mean_under_periodic_loss(&mut Reno::default(), period, Nanos::from_millis(100));
            let theory = 1.2247 * f64::from(period).sqrt();
            assert!((mean / theory - 1.0).abs() < 0.05, "{period}: {mean} against {theory}");
        }
    }

    #[test]
    fn rfc_9438_table_1_average_windows_of_cubic() {
        // Round-trip time 0.1 s, loss rates 1e-4 and 1e-5, as periods.
        for (period, table) in [(10_000, 187.0), (100_000, 1_054.0)] {
            let mean = mean_under_periodic_loss(&mut Cubic::default(), period, Nanos::from_millis(100));
            assert!((mean / table - 1.0).abs() < 0.15, "{period}: {mean} against {table}");
        }
    }

    #[test]
    fn a_mark_costs_less_than_a_loss_and_a_timeout_leaves_one_packet() {
        let windows: [fn() -> Box<dyn Window>; 2] = [|| Box::<Reno>::default(), || Box::<Cubic>::default()];
        for new in windows {
            let (mut lost, mut marked, mut late) = (new(), new(), new());
            lost.on_congestion(Congestion::Loss);
            marked.on_congestion(Congestion::Mark);
            late.on_timeout();
            assert!(lost.packets() < marked.packets() && marked.packets() < INITIAL);
            assert_eq!(late.packets(), 1.0);
        }
    }
}
