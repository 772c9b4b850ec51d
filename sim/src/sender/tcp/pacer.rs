//! When a paced packet may leave.

use weir_aqm::Nanos;

use crate::sender::congestion::{Pacing, nanos};

/// Bursts of a quantum, as far apart as the rate says (as Linux's `fq` sends what TCP hands it).
#[derive(Clone, Debug, Default)]
pub struct Pacer {
    /// When the next burst may begin.
    next_at: Nanos,
    /// What is left of the running one.
    left: f64,
}

impl Pacer {
    /// `None` if a packet may leave now, else when to ask again.
    pub fn wait(&mut self, now: Nanos, pacing: Pacing) -> Option<Nanos> {
        if self.left >= 1.0 {
            return None;
        }
        if now < self.next_at {
            return Some(self.next_at);
        }
        self.left = pacing.quantum.max(1.0);
        self.next_at = now;
        None
    }

    /// One left.
    pub fn on_sent(&mut self, pacing: Pacing) {
        self.left -= 1.0;
        self.next_at = self.next_at.saturating_add(nanos(1.0 / pacing.rate.max(1.0)));
    }
}
