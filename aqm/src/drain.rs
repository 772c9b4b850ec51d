//! How fast a FIFO ring drains, from the position of its head.
//!
//! The estimate is a time per byte, averaged over windows of equal size. An observation says when how many bytes had
//! left the ring. Two successive ones belong to one window only if the ring cannot have been empty in between: the
//! head has not passed where the tail was. An idle link says nothing about its rate.
//!
//! Why times per byte are averaged and not rates: windows close on a number of bytes, so the mean of their times is
//! total time over total bytes, the true pace; the mean of their rates would be too high (Jensen). Windows follow
//! one another without a gap, so that the part of a packet that one window saw too much the next sees too little:
//! in the moving average that error cancels but for one packet times the weight of a window.
//!
//! A link that stops for a while and a link that became slower look alike for one window. One window that is off by
//! more than a factor of two therefore counts as off by two; the second in a row, on the same side, replaces the
//! estimate.

use crate::units::{Bytes, Nanos, Pace};

/// What a packet is taken for when `min_packets` are counted: an Ethernet frame of a full MTU.
const PACKET_BYTES: u64 = 1514;
/// Samples that a configured rate counts for: it is moved like a settled estimate.
const SEEDED_SAMPLES: u32 = 8;

/// Configuration of the estimator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainParams {
    /// Bytes that a window covers at least.
    pub min_bytes: Bytes,
    /// Full-sized packets' worth of bytes from which the first window is believed before it is complete, 4 to 16.
    pub min_packets: u32,
    /// Time that a window covers at least: shorter ones see the driver's batches instead of the link.
    pub min_time: Nanos,
    /// A window weighs `1 / 2^weight_shift` in the average; at most 8.
    pub weight_shift: u32,
}

impl Default for DrainParams {
    /// 16 KiB (RFC 8033 section 4.3), 4 packets, 1 ms, 1/8 (Linux include/net/pie.h).
    fn default() -> Self {
        Self {
            min_bytes: Bytes::new(16 * 1024),
            min_packets: 4,
            min_time: Nanos::from_millis(1),
            weight_shift: 3,
        }
    }
}

/// State of the estimator of one ring. The default knows nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainVars {
    /// When the window began.
    pub window_start: Nanos,
    /// Cumulative bytes that had left the ring then.
    pub window_head: u64,
    /// Cumulative bytes that had entered the ring at the last observation: the ring was busy until its head passed.
    pub busy_until: u64,
    /// [`Pace::mult`] of the estimate, 0 while unknown.
    pub mult: u32,
    /// [`Pace::shift`] of the estimate.
    pub shift: u32,
    /// Complete windows that the estimate rests on: its confidence. 0 with a known pace is a first guess.
    pub samples: u32,
    /// Which side the last window was far off.
    pub outlier: Outlier,
    /// Whether a window is running.
    pub open: bool,
}

/// On which side of the estimate, by more than a factor of two, the last window was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outlier {
    /// Within a factor of two.
    #[default]
    None,
    /// The link was more than twice as slow.
    Slower,
    /// The link was more than twice as fast.
    Faster,
}

impl Outlier {
    /// As stored in a map: 0, 1, 2.
    #[inline(always)]
    pub const fn as_u32(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Slower => 1,
            Self::Faster => 2,
        }
    }

    /// Of a stored number; unknown numbers are [`Outlier::None`].
    #[inline(always)]
    pub const fn from_u32(outlier: u32) -> Self {
        match outlier {
            1 => Self::Slower,
            2 => Self::Faster,
            _ => Self::None,
        }
    }
}

impl DrainVars {
    /// The estimated pace, `None` while unknown.
    #[inline(always)]
    pub const fn pace(&self) -> Option<Pace> {
        Pace::from_parts(self.mult, self.shift)
    }

    /// The time that `backlog` will take to drain, `None` while the pace is unknown.
    #[inline(always)]
    pub fn predicted(&self, backlog: Bytes) -> Option<Nanos> {
        self.pace().map(|pace| pace.time_for(backlog))
    }

    /// Starts from a configured rate. Measurements move it from there, and replace it if it is off by more than a
    /// factor of two.
    #[inline(always)]
    pub fn seed(&mut self, pace: Pace) {
        self.store(pace);
        self.samples = SEEDED_SAMPLES;
        self.outlier = Outlier::None;
        self.open = false;
    }

    /// Takes in an observation: `head_bytes` is the cumulative number of bytes that left the ring, `backlog` the
    /// bytes in it.
    ///
    /// A head or a clock that went backwards starts a new window. After a change of rate the estimate is within
    /// 2 % of the new one once 64 windows' bytes (1 MiB by default) have left, after a change by a factor of two or
    /// more it is within 30 % once 4 windows have left.
    #[inline(always)]
    pub fn on_observation(&mut self, params: &DrainParams, now: Nanos, head_bytes: u64, backlog: Bytes) {
        let was_busy = head_bytes < self.busy_until;
        self.busy_until = head_bytes.saturating_add(backlog.get());
        if backlog == Bytes::ZERO {
            self.open = false;
            return;
        }
        if !self.open || !was_busy || now < self.window_start || head_bytes < self.window_head {
            self.open_window(now, head_bytes);
            return;
        }
        let elapsed = now.saturating_sub(self.window_start);
        if elapsed < params.min_time {
            return;
        }
        let bytes = Bytes::new(head_bytes.wrapping_sub(self.window_head));
        if bytes >= params.min_bytes {
            if let Some(sample) = Pace::from_sample(bytes, elapsed) {
                self.take(params, sample);
            }
            self.open_window(now, head_bytes);
        } else if self.samples == 0
            && bytes.get() >= u64::from(params.min_packets).wrapping_mul(PACKET_BYTES)
            && let Some(guess) = Pace::from_sample(bytes, elapsed)
        {
            self.store(guess);
        }
    }

    #[inline(always)]
    fn open_window(&mut self, now: Nanos, head_bytes: u64) {
        self.open = true;
        self.window_start = now;
        self.window_head = head_bytes;
    }

    #[inline(always)]
    fn store(&mut self, pace: Pace) {
        self.mult = pace.mult();
        self.shift = pace.shift();
    }

    /// Averages a complete window in.
    #[inline(always)]
    fn take(&mut self, params: &DrainParams, sample: Pace) {
        let known = if self.samples == 0 { None } else { self.pace() };
        let Some(estimate) = known else {
            self.store(sample);
            self.samples = 1;
            self.outlier = Outlier::None;
            return;
        };
        let outlier = compare(estimate, sample);
        if outlier != Outlier::None && outlier == self.outlier {
            self.store(sample);
            self.samples = 1;
            self.outlier = Outlier::None;
            return;
        }
        let weight_shift = self.weight_shift(params);
        self.outlier = outlier;
        self.store(average(estimate, sample, outlier, weight_shift));
        self.samples = self.samples.saturating_add(1);
    }

    /// The first windows weigh more, 1/2, 1/4, 1/4, ..., so that the first one's error is not carried along.
    #[inline(always)]
    fn weight_shift(&self, params: &DrainParams) -> u32 {
        let settled = if params.weight_shift < 8 { params.weight_shift } else { 8 };
        let young = match self.samples {
            0 | 1 => 1,
            2 | 3 => 2,
            4..=7 => 3,
            8..=15 => 4,
            _ => 8,
        };
        if young < settled { young } else { settled }
    }
}

/// Extra bits that the average is computed with.
const EXTRA: u32 = 16;

/// `pace` in units of `2^-(shift + 16)` ns per byte; `shift` differs by at most one from the pace's own.
#[inline(always)]
fn in_units_of(pace: Pace, shift: u32) -> u64 {
    let value = u64::from(pace.mult()) << EXTRA;
    if pace.shift() <= shift {
        value << (shift.wrapping_sub(pace.shift()) & 1)
    } else {
        value >> (pace.shift().wrapping_sub(shift) & 1)
    }
}

#[inline(always)]
fn compare(estimate: Pace, sample: Pace) -> Outlier {
    // A smaller shift is a longer time per byte. Two apart is a factor of more than two whatever the fraction.
    if sample.shift().saturating_add(1) < estimate.shift() {
        return Outlier::Slower;
    }
    if estimate.shift().saturating_add(1) < sample.shift() {
        return Outlier::Faster;
    }
    let new = in_units_of(sample, estimate.shift());
    let old = u64::from(estimate.mult()) << EXTRA;
    if new > old << 1 {
        Outlier::Slower
    } else if new < old >> 1 {
        Outlier::Faster
    } else {
        Outlier::None
    }
}

#[inline(always)]
fn average(estimate: Pace, sample: Pace, outlier: Outlier, weight_shift: u32) -> Pace {
    let old = u64::from(estimate.mult()) << EXTRA;
    let new = match outlier {
        Outlier::None => in_units_of(sample, estimate.shift()),
        Outlier::Slower => old << 1,
        Outlier::Faster => old >> 1,
    };
    let weight_shift = weight_shift & 63;
    let mixed = if new >= old {
        old.wrapping_add(new.wrapping_sub(old) >> weight_shift)
    } else {
        old.wrapping_sub(old.wrapping_sub(new) >> weight_shift)
    };
    Pace::from_fixed(mixed, estimate.shift().wrapping_add(EXTRA))
}
