//! What is measured while a run goes on.

use weir_aqm::Nanos;

use crate::RingOutcome;

/// The measured time: from, to.
pub type Window = (Nanos, Nanos);

/// The part of `a` within `b`.
pub fn overlap(a: Window, b: Window) -> Nanos {
    a.1.min(b.1).saturating_sub(a.0.max(b.0))
}

/// The queue's length over time.
#[derive(Debug)]
pub struct Occupancy {
    window: Window,
    since: Nanos,
    current: u32,
    max: u32,
    /// By length: nanoseconds of the measured time. As long as the longest queue.
    times: Vec<u64>,
}

impl Occupancy {
    /// An empty queue.
    pub const fn new(window: Window) -> Self {
        Self { window, since: Nanos::ZERO, current: 0, max: 0, times: Vec::new() }
    }

    /// Frames that stand at the moment.
    pub const fn current(&self) -> u32 {
        self.current
    }

    /// The queue has `length` frames from now on.
    pub fn change(&mut self, now: Nanos, length: u32) {
        if length == self.current {
            return;
        }
        self.count(now);
        self.current = length;
        self.max = self.max.max(length);
    }

    fn count(&mut self, now: Nanos) {
        let span = overlap((self.since, now), self.window).as_nanos();
        self.since = now;
        if span == 0 {
            return;
        }
        let at = self.current as usize;
        if at >= self.times.len() {
            self.times.resize(at + 1, 0);
        }
        if let Some(time) = self.times.get_mut(at) {
            *time += span;
        }
    }

    /// Mean and percentiles are weighted by time.
    pub fn outcome(mut self, now: Nanos, slots: u32) -> RingOutcome {
        self.count(now.max(self.window.1));
        let total: u64 = self.times.iter().sum();
        let area: u128 =
            self.times.iter().zip(0u128..).map(|(time, length)| u128::from(*time) * length).sum();
        // `share` of a hundred.
        let percentile = |share: u128| {
            let rank = u128::from(total) * share;
            let mut below = 0u128;
            let length = self.times.iter().position(|time| {
                below += u128::from(*time) * 100;
                below >= rank
            });
            length.unwrap_or(0) as u32
        };
        RingOutcome {
            slots,
            max: self.max,
            mean: area as f64 / total.max(1) as f64,
            p50: percentile(50),
            p99: percentile(99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Nanos {
        Nanos::from_millis(ms)
    }

    #[test]
    fn only_the_time_within_the_window_counts() {
        assert_eq!(overlap((ms(0), ms(10)), (ms(5), ms(20))), ms(5));
        assert_eq!(overlap((ms(0), ms(4)), (ms(5), ms(20))), Nanos::ZERO);
    }

    #[test]
    fn a_length_stands_to_the_end_of_the_window_though_the_run_ends_before() {
        let mut occupancy = Occupancy::new((ms(0), ms(100)));
        for (at, length) in [(0, 4), (10, 0)] {
            occupancy.change(ms(at), length);
        }
        let ring = occupancy.outcome(ms(20), 100);
        assert_eq!((ring.mean, ring.p50, ring.p99), (0.4, 0, 4));
    }

    #[test]
    fn lengths_are_weighted_by_the_time_they_stand() {
        let mut occupancy = Occupancy::new((ms(100), ms(200)));
        for (at, length) in [(0, 90), (100, 1), (150, 3), (199, 8), (300, 50)] {
            occupancy.change(ms(at), length);
        }
        let ring = occupancy.outcome(ms(400), 100);
        assert_eq!((ring.slots, ring.max, ring.p50, ring.p99), (100, 90, 1, 3));
        assert_eq!(ring.mean, (50.0 + 3.0 * 49.0 + 8.0) / 100.0);
    }
}
