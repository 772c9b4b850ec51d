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

#[cfg(test)]
mod tests {
    use super::*;

    /// What a round of ten acknowledgements of two packets with this round-trip time says in the end.
    fn round(start: &mut HyStart, rtt_ms: u64) -> Verdict {
        let mut verdict = Verdict::Leave;
        for i in 0..10 {
            let ack = AckSample {
                round_start: i == 0,
                delivered: 2.0,
                ..AckSample::of(Nanos::from_millis(rtt_ms))
            };
            verdict = start.on_ack(&ack);
            if verdict == Verdict::Leave {
                break;
            }
        }
        verdict
    }

    #[test]
    fn rfc_9406_an_eighth_more_delay_slows_growth_to_a_quarter_and_five_rounds_later_ends_it() {
        let mut start = HyStart::default();
        assert_eq!(round(&mut start, 80), Verdict::Grow(2.0));
        assert_eq!(round(&mut start, 89), Verdict::Grow(2.0));
        assert_eq!(round(&mut start, 101), Verdict::Grow(0.5));
        for _ in 0..4 {
            assert_eq!(round(&mut start, 105), Verdict::Grow(0.5));
        }
        assert_eq!(round(&mut start, 105), Verdict::Leave);
    }

    #[test]
    fn rfc_9406_delay_that_falls_again_was_noise_and_growth_goes_on() {
        let mut start = HyStart::default();
        round(&mut start, 80);
        assert_eq!(round(&mut start, 95), Verdict::Grow(0.5));
        assert_eq!(round(&mut start, 85), Verdict::Grow(2.0));
    }

    #[test]
    fn rfc_9406_the_rise_is_4_ms_at_least_and_16_ms_at_most() {
        for (before, same, risen) in [(8, 11, 12), (400, 415, 416)] {
            let (mut slow, mut fast) = (HyStart::default(), HyStart::default());
            round(&mut slow, before);
            round(&mut fast, before);
            assert_eq!(round(&mut slow, same), Verdict::Grow(2.0));
            assert_eq!(round(&mut fast, risen), Verdict::Grow(0.5));
        }
    }
}
