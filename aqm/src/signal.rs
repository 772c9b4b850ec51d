//! The backpressure signal of one transmit ring, with hysteresis and an expiry.
//!
//! Whoever observes the ring raises it, ingress reads it before it redirects. Ingress stopping means that no frame
//! reaches the ring and nobody observes it any more, so each level carries the instant by which the queue must have
//! drained: past that it reads as clear, and a stale signal cannot stop traffic.
//!
//! Between congested and full stands a pressure: the probability of an early signal, so that senders do not all slow
//! down at once (the reason for random early detection: Floyd and Jacobson 1993, section 4).

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

impl SignalParams {
    /// How far a queue is on its way to full, Q0.32: the square of its place between the low and the high watermark, in
    /// time or in slots, whichever is further. 0 up to the low mark, `u32::MAX` from the high mark on.
    ///
    /// The square is gentle on a queue just above its target, which a controller behind may yet bring down, and steep where
    /// nothing else is left.
    #[inline(always)]
    pub fn pressure(&self, sojourn: Nanos, occupancy: u32) -> u32 {
        let waited = sojourn.saturating_sub(self.congested_low).as_nanos();
        let time = place(waited, self.high.saturating_sub(self.congested_low).as_nanos());
        let filled = u64::from(occupancy.saturating_sub(self.slots_low));
        let slots = place(filled, u64::from(self.slots_high.saturating_sub(self.slots_low)));
        let place = if time > slots { time } else { slots };
        if place >= ONE { u32::MAX } else { (place.wrapping_mul(place) >> 32) as u32 }
    }
}

/// 1 in Q0.32.
const ONE: u64 = 1 << 32;

/// `above / span` in Q0.32, at most [`ONE`]. A mark that lies at or below the low one is reached by anything above that.
#[inline(always)]
const fn place(above: u64, span: u64) -> u64 {
    if above == 0 {
        return 0;
    }
    if above >= span {
        return ONE;
    }
    // Both to 32 bits: the quotient keeps 31 bits of the span at the least.
    let shift = 32_u32.saturating_sub(span.leading_zeros());
    match ((above >> shift) << 32).checked_div(span >> shift) {
        Some(place) => place,
        None => ONE,
    }
}

/// The signal of one ring. The default is clear, and never observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalVars {
    /// The level last observed; read it with [`SignalVars::level_at`].
    pub level: Level,
    /// When this level began; 0 before the first observation.
    pub since: Nanos,
    /// When it ends unless it is observed again.
    pub until: Nanos,
    /// Q0.32: 0 while clear, `u32::MAX` while full, [`SignalParams::pressure`] between; read it with
    /// [`SignalVars::pressure_at`].
    pub pressure: u32,
    /// Time spent in levels that have ended. One that expired ended at `until`, and clear followed.
    pub held: Held,
}

/// Time spent in each level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// At [`Level::Clear`].
    pub clear: Nanos,
    /// At [`Level::Congested`].
    pub congested: Nanos,
    /// At [`Level::Full`].
    pub full: Nanos,
}

impl Held {
    /// All of it.
    pub const fn total(&self) -> Nanos {
        self.clear.saturating_add(self.congested).saturating_add(self.full)
    }

    #[inline(always)]
    const fn add(&mut self, level: Level, time: Nanos) {
        let held = match level {
            Level::Clear => &mut self.clear,
            Level::Congested => &mut self.congested,
            Level::Full => &mut self.full,
        };
        *held = held.saturating_add(time);
    }
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

    /// The pressure at `now`; none once the level has expired.
    #[inline(always)]
    pub fn pressure_at(&self, now: Nanos) -> u32 {
        match self.level_at(now) {
            Level::Clear => 0,
            Level::Congested | Level::Full => self.pressure,
        }
    }

    /// Time spent in each level until `now`, the running one included: from the first observation on, it adds up to the
    /// time that has passed. A clock that steps back adds nothing.
    #[inline(always)]
    pub fn held_at(&self, now: Nanos) -> Held {
        let mut held = self.held;
        if self.since == Nanos::ZERO || self.since > now {
            return held;
        }
        let ended = if self.level == Level::Clear || self.until > now { now } else { self.until };
        held.add(self.level, ended.saturating_sub(self.since));
        held.add(Level::Clear, now.saturating_sub(ended));
        held
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
        if level != self.level || before != self.level || self.since > now || self.since == Nanos::ZERO {
            self.held = self.held_at(now);
            self.since = now;
        }
        self.pressure = match level {
            Level::Clear => 0,
            Level::Congested => params.pressure(sojourn, occupancy),
            Level::Full => u32::MAX,
        };
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
