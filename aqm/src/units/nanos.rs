//! Time.

use core::fmt;

/// Nanoseconds: a duration, or an instant of the caller's monotonic clock. Arithmetic saturates, 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Nanos(u64);

impl Nanos {
    /// No time, or the clock's origin.
    pub const ZERO: Self = Self(0);
    /// The longest time.
    pub const MAX: Self = Self(u64::MAX);

    /// `ns` nanoseconds.
    #[inline(always)]
    pub const fn from_nanos(ns: u64) -> Self {
        Self(ns)
    }

    /// `us` microseconds, at most [`Nanos::MAX`].
    #[inline(always)]
    pub const fn from_micros(us: u64) -> Self {
        Self(super::saturating_mul(us, 1_000))
    }

    /// `ms` milliseconds, at most [`Nanos::MAX`].
    #[inline(always)]
    pub const fn from_millis(ms: u64) -> Self {
        Self(super::saturating_mul(ms, 1_000_000))
    }

    /// `s` seconds, at most [`Nanos::MAX`].
    #[inline(always)]
    pub const fn from_secs(s: u64) -> Self {
        Self(super::saturating_mul(s, 1_000_000_000))
    }

    /// The number of nanoseconds.
    #[inline(always)]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Sum, at most [`Nanos::MAX`].
    #[inline(always)]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Difference; zero where `other` is later, so that a clock that steps back reads as "no time passed".
    #[inline(always)]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Product, at most [`Nanos::MAX`].
    #[inline(always)]
    pub const fn saturating_mul(self, factor: u64) -> Self {
        Self(super::saturating_mul(self.0, factor))
    }
}

impl fmt::Display for Nanos {
    /// Exact, in the largest unit that fits: `5ms`, `1.5ms`, `20us`, `0ns`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = match self.0 {
            1_000_000_000.. => (1_000_000_000, "s"),
            1_000_000.. => (1_000_000, "ms"),
            1_000.. => (1_000, "us"),
            0.. => (1, "ns"),
        };
        super::write_decimal(f, self.0, unit)?;
        f.write_str(name)
    }
}
