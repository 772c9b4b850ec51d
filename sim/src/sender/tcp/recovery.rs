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

    /// Section 3 with the slow-start reduction bound. The first acknowledgement frees one packet at least: the fast
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

    /// Packets sent for each of `acks` arrivals, with `in_flight` packets under way after the first.
    fn sent(gliding: &mut Gliding, mut in_flight: f64, acks: u32) -> Vec<u32> {
        let mut sent = Vec::new();
        for ack in 0..acks {
            if ack > 0 {
                in_flight -= 1.0;
            }
            gliding.on_ack(1.0, in_flight);
            let mut now = 0;
            while in_flight + 1.0 <= gliding.limit() {
                in_flight += 1.0;
                now += 1;
                gliding.on_sent();
            }
            sent.push(now);
        }
        sent
    }

    #[test]
    fn rfc_6937_figure_1_after_one_loss_of_twenty_packets_every_other_arrival_sends_one() {
        // Two new packets for the first two arrivals; the third finds the loss: 20 + 2 - 3 - 1 under way.
        let sent = sent(&mut Gliding::new(10.0, 20.0), 18.0, 16);
        assert_eq!(sent, [1, 0].repeat(8));
    }

    #[test]
    fn rfc_6937_after_many_losses_slow_start_refills_the_window() {
        // Fifteen of twenty lost: below the target, two for each arrival, until ten are under way.
        let sent = sent(&mut Gliding::new(10.0, 20.0), 4.0, 10);
        assert_eq!(sent, [2, 2, 2, 2, 2, 1, 1, 1, 1, 1]);
    }
}
