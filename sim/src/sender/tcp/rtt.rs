//! Round-trip times and the timers they set.

use weir_aqm::Nanos;

/// RFC 6298 section 2.
const INITIAL_TIMEOUT: Nanos = Nanos::from_secs(1);
/// Linux's bounds (`TCP_RTO_MIN`, `TCP_RTO_MAX`); the lower one is on the variation (`tcp_rtt_estimator`, tcp_input.c).
const LEAST_VARIATION: Nanos = Nanos::from_millis(200);
const LONGEST_TIMEOUT: Nanos = Nanos::from_secs(120);
/// RFC 8985 section 7.2: a receiver may wait this long with the acknowledgement of a single packet.
const WORST_DELAYED_ACK: Nanos = Nanos::from_millis(200);

/// RFC 6298's estimator, and what RACK needs beside it.
#[derive(Clone, Debug, Default)]
pub struct RoundTrip {
    estimate: Option<Estimate>,
}

#[derive(Clone, Copy, Debug)]
struct Estimate {
    smoothed: Nanos,
    variation: Nanos,
    latest: Nanos,
    least: Nanos,
}

impl RoundTrip {
    /// `sample` is the time since the oldest newly acknowledged packet was sent, `latest` since the newest was.
    pub fn sample(&mut self, sample: Nanos, latest: Nanos) {
        let r = sample.as_nanos();
        self.estimate = Some(match self.estimate {
            None => Estimate { smoothed: sample, variation: Nanos::from_nanos(r / 2), latest, least: latest },
            Some(Estimate { smoothed, variation, least, .. }) => {
                let (s, v) = (smoothed.as_nanos(), variation.as_nanos());
                Estimate {
                    smoothed: Nanos::from_nanos(s - s / 8 + r / 8),
                    variation: Nanos::from_nanos(v - v / 4 + s.abs_diff(r) / 4),
                    latest,
                    least: least.min(latest),
                }
            }
        });
    }

    /// Zero before the first sample.
    pub fn smoothed(&self) -> Nanos {
        self.estimate.map_or(Nanos::ZERO, |estimate| estimate.smoothed)
    }

    /// RFC 8985 section 6.2, step 5: how long after it was sent a packet is lost if a later one has arrived.
    pub fn reordering_deadline(&self) -> Nanos {
        self.estimate.map_or(INITIAL_TIMEOUT, |Estimate { latest, least, .. }| {
            latest.saturating_add(Nanos::from_nanos(least.as_nanos() / 4))
        })
    }

    /// The retransmission timeout, after `backoff` of them in a row.
    pub fn timeout(&self, backoff: u32) -> Nanos {
        let base = self.estimate.map_or(INITIAL_TIMEOUT, |Estimate { smoothed, variation, .. }| {
            smoothed.saturating_add(variation.saturating_mul(4).max(LEAST_VARIATION))
        });
        base.saturating_mul(1 << backoff.min(16)).min(LONGEST_TIMEOUT)
    }

    /// RFC 8985 section 7.2: when to probe for the loss of a tail; `None` before the first sample.
    pub fn probe_timeout(&self, in_flight: u32) -> Option<Nanos> {
        let twice = self.estimate?.smoothed.saturating_mul(2);
        Some(if in_flight == 1 { twice.saturating_add(WORST_DELAYED_ACK) } else { twice })
    }
}
