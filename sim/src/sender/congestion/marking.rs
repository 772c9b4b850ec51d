//! How large a share of packets is marked.

/// DCTCP's estimator (RFC 8257 section 3.3).
#[derive(Clone, Debug)]
pub struct Marking {
    alpha: f64,
    received: f64,
    marked: f64,
}

impl Marking {
    /// `g`.
    const GAIN: f64 = 1.0 / 16.0;

    /// Assumes that everything is marked, so that the first mark halves the window.
    pub const fn new() -> Self {
        Self { alpha: 1.0, received: 0.0, marked: 0.0 }
    }

    /// More packets of this observation window.
    pub fn count(&mut self, received: f64, marked: f64) {
        self.received += received;
        self.marked += marked;
    }

    /// The observation window is over.
    pub fn end_window(&mut self) {
        if self.received > 0.0 {
            self.alpha += Self::GAIN * (self.marked / self.received - self.alpha);
        }
        (self.received, self.marked) = (0.0, 0.0);
    }

    /// What a reduction leaves of the window.
    pub const fn beta(&self) -> f64 {
        1.0 - self.alpha / 2.0
    }
}
