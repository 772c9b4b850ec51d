//! The backpressure signal of one transmit ring, with hysteresis and an expiry.
//!
//! Whoever observes the ring raises it, ingress reads it before it redirects. Ingress stopping means that no frame
//! reaches the ring and nobody observes it any more, so each level carries the instant by which the queue must have
//! drained: past that it reads as clear, and a stale signal cannot stop traffic.

use crate::units::Nanos;

/// Shortest hold of a raised level: about one NAPI poll. A ring can be full of frames that all arrived at the same
/// instant, whose head has not waited at all.
const HOLD_MIN: Nanos = Nanos::from_micros(100);
/// Clocks of two CPUs may differ by this much. A signal raised further in the future is from before a clock step.
const SKEW_MAX: Nanos = Nanos::from_millis(1);

/// How much a ring can still take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing to do.
    #[default]
    Clear,
    /// A standing queue: signal congestion early.
    Congested,
    /// Do not send to this ring.
    Full,
}

impl Level {
    /// The level as stored in a map: 0, 1, 2.
    #[inline(always)]
    pub const fn as_u32(self) -> u32 {
        match self {
            Self::Clear => 0,
            Self::Congested => 1,
            Self::Full => 2,
        }
    }

    /// The level of a stored number. Unknown numbers are [`Level::Clear`]: the signal fails open.
    #[inline(always)]
    pub const fn from_u32(level: u32) -> Self {
        match level {
            1 => Self::Congested,
            2 => Self::Full,
            _ => Self::Clear,
        }
    }
}

/// Watermarks of one ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalParams {
    /// Sojourn time from which the ring is full.
    pub high: Nanos,
    /// Sojourn time at which a raised level ends; below `high`.
    pub low: Nanos,
    /// Sojourn time from which the ring is congested; below `high`.
    pub congested: Nanos,
    /// Sojourn time at which congested ends; below `congested`.
    pub congested_low: Nanos,
    /// Longest time that a level is held without a new observation.
    pub hold_max: Nanos,
    /// Frames in the ring from which it is full.
    pub slots_high: u32,
    /// Frames in the ring at which full ends; below `slots_high`.
    pub slots_low: u32,
}

/// The signal of one ring. The default is clear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalVars {
    /// The level last observed; read it with [`SignalVars::level_at`].
    pub level: Level,
    /// When this level began.
    pub since: Nanos,
    /// When it ends unless it is observed again.
    pub until: Nanos,
}

impl SignalVars {
    /// The level at `now`: clear once it has expired, and clear if it was raised more than a millisecond after `now`
    /// (the clock stepped back).
    #[inline(always)]
    pub fn level_at(&self, now: Nanos) -> Level {
        if now >= self.until || self.since.saturating_sub(now) > SKEW_MAX {
            return Level::Clear;
        }
        self.level
    }

    /// Takes in an observation: the wait of the ring's head (or the predicted wait of its tail) and the frames in
    /// the ring.
    ///
    /// Full from `high` or `slots_high`, until both are at most `low` and `slots_low`. Congested from `congested`,
    /// until `congested_low`. Held for the time the queue needs to drain to its level's low watermark, at least
    /// 100 us, at most `hold_max`.
    #[inline(always)]
    pub fn on_observation(&mut self, params: &SignalParams, now: Nanos, sojourn: Nanos, occupancy: u32) {
        let before = self.level_at(now);
        let level = next_level(params, before, sojourn, occupancy);
        if level != self.level || before != self.level || self.since > now {
            self.since = now;
        }
        self.level = level;
        self.until = match level {
            Level::Clear => now,
            Level::Congested => {
                let hold = sojourn.saturating_sub(params.congested_low);
                now.saturating_add(clamp_hold(params, hold))
            }
            Level::Full => now.saturating_add(hold(params, sojourn, occupancy)),
        };
    }
}

#[inline(always)]
fn next_level(params: &SignalParams, before: Level, sojourn: Nanos, occupancy: u32) -> Level {
    let reached_high = sojourn >= params.high || occupancy >= params.slots_high;
    let left_low = sojourn > params.low || occupancy > params.slots_low;
    if reached_high || (before == Level::Full && left_low) {
        return Level::Full;
    }
    if sojourn >= params.congested || (before != Level::Clear && sojourn > params.congested_low) {
        return Level::Congested;
    }
    Level::Clear
}

/// The time until the queue has drained to `low` and, if the head's wait is what the frames behind it will see, to
/// `slots_low`.
#[inline(always)]
fn hold(params: &SignalParams, sojourn: Nanos, occupancy: u32) -> Nanos {
    let to_low = sojourn.saturating_sub(params.low);
    // The head entered behind about as many frames as are behind it now: they leave in its sojourn time. Capped
    // before the product: 2^32 slots times hold_max would saturate.
    let excess = u64::from(occupancy.saturating_sub(params.slots_low));
    let wait = if sojourn < params.hold_max { sojourn } else { params.hold_max };
    let slots = if occupancy == 0 { 1 } else { u64::from(occupancy) };
    let to_slots_low = Nanos::from_nanos(wait.saturating_mul(excess).as_nanos() / slots);
    let hold = if to_low > to_slots_low { to_low } else { to_slots_low };
    clamp_hold(params, hold)
}

#[inline(always)]
fn clamp_hold(params: &SignalParams, hold: Nanos) -> Nanos {
    let hold = if hold > HOLD_MIN { hold } else { HOLD_MIN };
    if hold < params.hold_max { hold } else { params.hold_max }
}
