//! Proportional rate reduction (RFC 6937).

/// From a reduction until all that was lost before it is sent again.
#[derive(Clone, Copy, Debug)]
pub struct Gliding {
    /// `ssthresh`.
    target: f64,
    /// `RecoverFS`.
    flight: f64,
    /// `prr_delivered`.
    delivered: f64,
    /// `prr_out`.
    sent: f64,
    /// Packets that may be under way until the next acknowledgement.
    limit: f64,
}

impl Gliding {
    /// Down to `target`, with `flight` packets under way.
    pub const fn new(target: f64, flight: f64) -> Self {
        Self { target, flight: flight.max(1.0), delivered: 0.0, sent: 0.0, limit: 0.0 }
    }

    /// Section 3.1 with the slow-start reduction bound. The first acknowledgement frees one packet at least: the fast
    /// retransmission.
    pub fn on_ack(&mut self, delivered: f64, in_flight: f64) {
        let first = self.sent == 0.0;
        self.delivered += delivered;
        let more = if in_flight > self.target {
            (self.delivered * self.target / self.flight).ceil() - self.sent
        } else {
            let bound = (self.delivered - self.sent).max(delivered) + 1.0;
            bound.min(self.target - in_flight)
        };
        self.limit = in_flight + more.max(if first { 1.0 } else { 0.0 });
    }

    /// One packet was sent.
    pub fn on_sent(&mut self) {
        self.sent += 1.0;
    }

    /// Packets that may be under way.
    pub const fn limit(&self) -> f64 {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_6937_figure_2_one_loss_of_twenty_packets_sends_one_for_every_two_delivered() {
        // RecoverFS 20, ssthresh 10, one packet lost, nineteen arrive; three of them before recovery begins.
        let mut gliding = Gliding::new(10.0, 20.0);
        let mut in_flight = 16.0;
        let mut sent = 0;
        for ack in 0..16 {
            if ack > 0 {
                in_flight -= 1.0;
            }
            gliding.on_ack(1.0, in_flight);
            while in_flight + 1.0 <= gliding.limit().floor() {
                in_flight += 1.0;
                sent += 1;
                gliding.on_sent();
            }
        }
        assert_eq!(in_flight, 10.0);
        assert!((8..=10).contains(&sent), "{sent}");
    }
}
