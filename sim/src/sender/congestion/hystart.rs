//! HyStart++ (RFC 9406): slow start that heeds rising delay.

use weir_aqm::Nanos;

use super::AckSample;

/// Section 4.3.
const RISE_MIN: Nanos = Nanos::from_millis(4);
const RISE_MAX: Nanos = Nanos::from_millis(16);
const RISE_DIVISOR: u64 = 8;
const SAMPLES: u32 = 8;
const GROWTH_DIVISOR: f64 = 4.0;
const CONSERVATIVE_ROUNDS: u32 = 5;
/// `L` of a sender that does not pace.
const PACKETS_PER_ACK: f64 = 8.0;

/// The first slow start of a connection.
#[derive(Clone, Debug, Default)]
pub struct HyStart {
    samples: u32,
    least: Option<Nanos>,
    least_before: Option<Nanos>,
    conservative: Option<Conservative>,
}

#[derive(Clone, Copy, Debug)]
struct Conservative {
    baseline: Nanos,
    rounds: u32,
}

/// What slow start does next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// The window grows by so many packets.
    Grow(f64),
    /// Congestion avoidance begins here.
    Leave,
}

impl HyStart {
    /// Section 4.2, for each acknowledgement in slow start.
    pub fn on_ack(&mut self, ack: &AckSample) -> Verdict {
        if ack.round_start {
            self.least_before = self.least.take();
            self.samples = 0;
            if let Some(conservative) = self.conservative.as_mut() {
                conservative.rounds = conservative.rounds.saturating_add(1);
                if conservative.rounds >= CONSERVATIVE_ROUNDS {
                    return Verdict::Leave;
                }
            }
        }
        self.samples = self.samples.saturating_add(1);
        let least = self.least.map_or(ack.rtt, |least| least.min(ack.rtt));
        self.least = Some(least);
        if self.samples >= SAMPLES {
            self.judge(least);
        }
        let growth = ack.delivered.min(PACKETS_PER_ACK);
        Verdict::Grow(if self.conservative.is_some() { growth / GROWTH_DIVISOR } else { growth })
    }

    fn judge(&mut self, least: Nanos) {
        match self.conservative {
            // The rise was noise.
            Some(Conservative { baseline, .. }) if least < baseline => self.conservative = None,
            Some(_) => {}
            None => {
                let Some(before) = self.least_before else { return };
                let rise = Nanos::from_nanos(before.as_nanos() / RISE_DIVISOR).clamp(RISE_MIN, RISE_MAX);
                if least >= before.saturating_add(rise) {
                    self.conservative = Some(Conservative { baseline: least, rounds: 0 });
                }
            }
        }
    }
}
