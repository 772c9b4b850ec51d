//! A rate as people write it.

use super::Pace;
use core::fmt;

/// Bits per second. For configuration and display; the data path computes with [`Pace`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Rate(u64);

impl Rate {
    /// `bits` bits per second.
    pub const fn from_bits_per_second(bits: u64) -> Self {
        Self(bits)
    }

    /// Bits per second.
    pub const fn bits_per_second(self) -> u64 {
        self.0
    }

    /// The same rate as time per byte; `None` outside 64 kbit/s to 400 Gbit/s ([`Pace::from_bits_per_second`]).
    pub const fn pace(self) -> Option<Pace> {
        Pace::from_bits_per_second(self.0)
    }
}

impl From<Pace> for Rate {
    fn from(pace: Pace) -> Self {
        Self(pace.bits_per_second())
    }
}

impl fmt::Display for Rate {
    /// Exact, in the largest decimal unit that fits: `10 Mbit/s`, `2.5 Gbit/s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = match self.0 {
            1_000_000_000.. => (1_000_000_000, " Gbit/s"),
            1_000_000.. => (1_000_000, " Mbit/s"),
            1_000.. => (1_000, " kbit/s"),
            0.. => (1, " bit/s"),
        };
        super::write_decimal(f, self.0, unit)?;
        f.write_str(name)
    }
}
