//! A rate as the data path uses it: time per byte, as a normalised fixed-point number.

use super::{Bytes, Nanos};

/// `mult` has its top bit set: the fraction always carries 31 to 32 significant bits.
const MULT_MIN: u64 = 1 << 31;
/// One above the largest `mult`.
const MULT_END: u64 = 1 << 32;
/// The largest shift: with it a byte takes half a billionth of a nanosecond, faster than anything.
const SHIFT_MAX: u32 = 62;
/// Sizes clamp here, so that `bytes * mult` stays below 2^63.
const BYTES_MAX: u64 = 1 << 31;
/// Nanoseconds that one byte takes at 1 bit/s.
const BYTE_NS: u64 = 8_000_000_000;

/// Time per byte: `mult / 2^shift` nanoseconds, `2^31 <= mult < 2^32`, `shift <= 62`.
///
/// Multiplying by a time per byte needs no division on the data path, and averaging times per byte over equal
/// sizes gives the true mean. The relative error of a conversion is at most 2^-31.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pace {
    mult: u32,
    shift: u32,
}

impl Pace {
    /// The slowest pace that [`Pace::from_bits_per_second`] takes: 64 kbit/s.
    pub const MIN_BITS_PER_SECOND: u64 = 64_000;
    /// The fastest pace that [`Pace::from_bits_per_second`] takes: 400 Gbit/s.
    pub const MAX_BITS_PER_SECOND: u64 = 400_000_000_000;

    /// The pace of `bits` per second. `None` for 0 (a rate of zero is "closed", never a divisor) and outside
    /// 64 kbit/s to 400 Gbit/s, both ends included.
    pub const fn from_bits_per_second(bits: u64) -> Option<Self> {
        if bits < Self::MIN_BITS_PER_SECOND || bits > Self::MAX_BITS_PER_SECOND {
            return None;
        }
        Self::from_ratio(BYTE_NS, bits)
    }

    /// The pace at which `bytes` took `elapsed`. `None` if either is zero: nothing was measured. A pace out of the
    /// representable range becomes the nearest one in it (2^32 ns to 2^-31 ns a byte).
    #[inline]
    pub const fn from_sample(bytes: Bytes, elapsed: Nanos) -> Option<Self> {
        Self::from_ratio(elapsed.as_nanos(), bytes.get())
    }

    /// A pace from its stored parts, `None` unless `2^31 <= mult` and `shift <= 62`: what a map holds is not
    /// trusted, and zeros mean "unknown".
    #[inline(always)]
    pub const fn from_parts(mult: u32, shift: u32) -> Option<Self> {
        if (mult as u64) < MULT_MIN || shift > SHIFT_MAX {
            return None;
        }
        Some(Self { mult, shift })
    }

    /// The fixed-point numerator.
    #[inline(always)]
    pub const fn mult(self) -> u32 {
        self.mult
    }

    /// The fixed-point shift.
    #[inline(always)]
    pub const fn shift(self) -> u32 {
        self.shift
    }

    /// Whether a byte takes longer than at `other`.
    #[inline(always)]
    pub const fn is_slower_than(self, other: Self) -> bool {
        // Both fractions have their top bit set.
        self.shift < other.shift || (self.shift == other.shift && self.mult > other.mult)
    }

    /// The time that `bytes` take, rounded down to a nanosecond. More than 2^31 bytes count as 2^31.
    #[inline(always)]
    pub const fn time_for(self, bytes: Bytes) -> Nanos {
        Nanos::from_nanos(self.scaled(bytes) >> (self.shift & 63))
    }

    /// The time that `bytes` take, rounded up to a nanosecond: what a meter charges, so that rounding never lets
    /// more than the rate through. More than 2^31 bytes count as 2^31.
    #[inline(always)]
    pub const fn time_for_rounded_up(self, bytes: Bytes) -> Nanos {
        let shift = self.shift & 63;
        let mask = (1u64 << shift).wrapping_sub(1);
        Nanos::from_nanos(self.scaled(bytes).wrapping_add(mask) >> shift)
    }

    /// Below 2^63, so that adding a rounding mask of at most 62 bits cannot overflow.
    #[inline(always)]
    const fn scaled(self, bytes: Bytes) -> u64 {
        let bytes = if bytes.get() < BYTES_MAX { bytes.get() } else { BYTES_MAX };
        bytes.wrapping_mul(self.mult as u64)
    }

    /// The whole bytes that pass in `time`, at most [`Bytes::MAX`]. Three unsigned divisions.
    #[inline]
    pub const fn bytes_in(self, time: Nanos) -> Bytes {
        // `| MULT_MIN` changes nothing; it shows the compiler a divisor that is never zero.
        let mult = self.mult as u64 | MULT_MIN;
        let shift = self.shift & 63;
        let ns = time.as_nanos();
        let (whole, rest) = (ns / mult, ns % mult);
        if whole > u64::MAX >> shift {
            return Bytes::MAX;
        }
        // `rest < 2^32`: its shift is split in two of at most 32 bits.
        let (low, high) = if shift > 32 { (32, shift.wrapping_sub(32)) } else { (shift, 0) };
        let scaled = rest << low;
        let (part, rest) = (scaled / mult, scaled % mult);
        let fraction = (part << high).saturating_add((rest << high) / mult);
        Bytes::new((whole << shift).saturating_add(fraction))
    }

    /// The bytes that pass in `time` in 2^-16 bytes, rounded down: for drains, where whole bytes would lose the time
    /// between packets. From 4.29 s on [`u64::MAX`]. One unsigned division, relative error at most 2^-31.
    #[inline(always)]
    pub const fn bytes_in_q16(self, time: Nanos) -> u64 {
        if time.as_nanos() >= MULT_END {
            return u64::MAX;
        }
        // 2^63 / mult is at most 2^32; times a time below 2^32 it fits 64 bits.
        let per_ns = (1 << 63) / (self.mult as u64 | MULT_MIN);
        let scaled = time.as_nanos().wrapping_mul(per_ns);
        // Bytes are `scaled >> (63 - shift)`, and 16 bits of fraction stay. A pace with a shift above 47 is faster
        // than 2^15 bytes a nanosecond, and counts as that.
        scaled >> (47u32.saturating_sub(self.shift) & 63)
    }

    /// The rate in bits per second, rounded to the nearest.
    pub const fn bits_per_second(self) -> u64 {
        let mult = self.mult as u64 | MULT_MIN;
        // 8e9 << 31 still fits 64 bits; the remainder, below 2^32, takes the other 31 bits of shift.
        let (first, second) =
            if self.shift > 31 { (31, self.shift.wrapping_sub(31)) } else { (self.shift, 0) };
        let scaled = BYTE_NS << (first & 31);
        let (whole, rest) = (scaled / mult, scaled % mult);
        let rest = (rest << (second & 31)).wrapping_add(mult / 2) / mult;
        (whole << (second & 31)).wrapping_add(rest)
    }

    /// `ns / bytes` as a pace; `None` if either is zero.
    #[inline]
    const fn from_ratio(ns: u64, bytes: u64) -> Option<Self> {
        if ns == 0 || bytes == 0 {
            return None;
        }
        let bytes = if bytes < 1 << 48 { bytes } else { (1 << 48) - 1 };
        let up = ns.leading_zeros();
        let top = ns << (up & 63);
        let (quotient, rest) = (top / bytes, top % bytes);
        if bytes < MULT_END {
            // The quotient of a full 64-bit number by at most 32 bits has at least 32 bits.
            let round = if rest >= bytes.wrapping_sub(rest) { 1 } else { 0 };
            return Some(Self::from_fixed(quotient.saturating_add(round), up));
        }
        // The divisor has 33 to 48 bits: sixteen more bits of quotient from the remainder.
        let more = (rest << 16) / bytes;
        Some(Self::from_fixed((quotient << 16).wrapping_add(more), up.wrapping_add(16)))
    }

    /// `value / 2^shift` normalised, rounded to the nearest, clamped to the representable range. `value` is not
    /// zero.
    #[inline]
    pub(crate) const fn from_fixed(value: u64, shift: u32) -> Self {
        let zeros = value.leading_zeros();
        let (mult, shift) = if zeros >= 32 {
            let up = zeros.wrapping_sub(32);
            (value << (up & 31), shift.saturating_add(up))
        } else {
            let down = 32u32.wrapping_sub(zeros);
            if down > shift {
                return Self::SLOWEST;
            }
            let half = 1u64 << (down.wrapping_sub(1) & 63);
            (value.saturating_add(half) >> (down & 63), shift.wrapping_sub(down))
        };
        if mult >= MULT_END {
            // Rounded up to the next power of two.
            if shift == 0 {
                return Self::SLOWEST;
            }
            return Self { mult: MULT_MIN as u32, shift: shift.wrapping_sub(1) };
        }
        if shift > SHIFT_MAX {
            return Self { mult: MULT_MIN as u32, shift: SHIFT_MAX };
        }
        Self { mult: mult as u32 | MULT_MIN as u32, shift }
    }

    /// 4.29 s a byte: the slow end of the representable range.
    const SLOWEST: Self = Self { mult: u32::MAX, shift: 0 };
}
