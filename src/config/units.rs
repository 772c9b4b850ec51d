//! Numbers with a unit, as people write them: `"10mbit"`, `"5ms"`, `"32kb"`.
//!
//! The suffixes are `tc`'s: rates are decimal bits per second, sizes are binary bytes. Arithmetic is exact: a fraction is
//! taken as decimal digits, and a value finer than the smallest unit is an error, not rounded.

use thiserror::Error;
use weir_aqm::{Bytes, Nanos, Rate};

/// Why a quantity could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnitError {
    /// Nothing but white space.
    #[error("is empty; expected a number and a unit ({expected})")]
    Empty {
        /// The units allowed.
        expected: &'static str,
    },
    /// The value does not begin with a decimal number.
    #[error("does not begin with a decimal number")]
    NotANumber,
    /// The number is below zero.
    #[error("must not be negative")]
    Negative,
    /// A bare number.
    #[error("has no unit; expected one of {expected}")]
    NoUnit {
        /// The units allowed.
        expected: &'static str,
    },
    /// A suffix that is none of the units.
    #[error("has the unknown unit `{unit}`; expected one of {expected}")]
    UnknownUnit {
        /// The suffix as typed.
        unit: String,
        /// The units allowed.
        expected: &'static str,
    },
    /// `kbps`, `mbps`, `gbps`: bits for most people, bytes for `tc`.
    #[error("has the ambiguous unit `{unit}`: tc reads it as bytes per second; expected one of {expected}")]
    AmbiguousUnit {
        /// The suffix as typed.
        unit: String,
        /// The units allowed.
        expected: &'static str,
    },
    /// More digits than the smallest unit can hold.
    #[error("is finer than {finest}, the smallest step")]
    TooFine {
        /// The smallest step.
        finest: &'static str,
    },
    /// Beyond 64 bits of the smallest unit.
    #[error("is too large to be represented")]
    Overflow,
}

/// One kind of quantity: its suffixes with their factors, and how to name them.
struct Kind {
    units: &'static [(&'static str, u64)],
    expected: &'static str,
    finest: &'static str,
}

const RATE: Kind = Kind {
    units: &[
        ("bit", 1),
        ("kbit", 1_000),
        ("mbit", 1_000_000),
        ("gbit", 1_000_000_000),
        ("tbit", 1_000_000_000_000),
    ],
    expected: "bit, kbit, mbit, gbit, tbit (a trailing /s is allowed)",
    finest: "1 bit per second",
};

const TIME: Kind = Kind {
    units: &[
        ("ns", 1),
        ("us", 1_000),
        ("\u{b5}s", 1_000),
        ("\u{3bc}s", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
    ],
    expected: "ns, us, ms, s",
    finest: "1 ns",
};

const SIZE: Kind = Kind {
    units: &[
        ("b", 1),
        ("kb", 1 << 10),
        ("kib", 1 << 10),
        ("mb", 1 << 20),
        ("mib", 1 << 20),
        ("gb", 1 << 30),
        ("gib", 1 << 30),
    ],
    expected: "b, kb, mb, gb (1kb is 1024 bytes, as in tc)",
    finest: "1 byte",
};

/// Reads a rate in bits per second: `"100mbit"`, `"1.5Gbit/s"`. Suffixes are decimal; case does not matter.
///
/// # Errors
///
/// Any [`UnitError`]; `kbps`, `mbps` and `gbps` are [`UnitError::AmbiguousUnit`].
pub fn parse_rate(text: &str) -> Result<Rate, UnitError> {
    let (number, unit) = split(text, &RATE)?;
    let unit = unit.strip_suffix("/s").unwrap_or(&unit);
    if matches!(unit, "bps" | "kbps" | "mbps" | "gbps" | "tbps") {
        return Err(UnitError::AmbiguousUnit { unit: unit.to_owned(), expected: RATE.expected });
    }
    scale(number, unit, &RATE).map(Rate::from_bits_per_second)
}

/// Reads a duration: `"5ms"`, `"100us"`, `"1.5s"`.
///
/// # Errors
///
/// Any [`UnitError`] but `AmbiguousUnit`.
pub fn parse_time(text: &str) -> Result<Nanos, UnitError> {
    let (number, unit) = split(text, &TIME)?;
    scale(number, &unit, &TIME).map(Nanos::from_nanos)
}

/// Reads a size: `"1500b"`, `"32kb"`. As in `tc`, 1 kb is 1,024 bytes.
///
/// # Errors
///
/// Any [`UnitError`] but `AmbiguousUnit`.
pub fn parse_size(text: &str) -> Result<Bytes, UnitError> {
    let (number, unit) = split(text, &SIZE)?;
    scale(number, &unit, &SIZE).map(Bytes::new)
}

/// Splits `"1.5 Gbit"` into its number and its lower-case unit.
fn split<'a>(text: &'a str, kind: &Kind) -> Result<(&'a str, String), UnitError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(UnitError::Empty { expected: kind.expected });
    }
    if text.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
        return Err(UnitError::Negative);
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if number.is_empty() {
        return Err(UnitError::NotANumber);
    }
    let unit = unit.trim_start();
    if unit.is_empty() {
        return Err(UnitError::NoUnit { expected: kind.expected });
    }
    Ok((number, unit.to_lowercase()))
}

/// `number * factor of unit`, exactly.
fn scale(number: &str, unit: &str, kind: &Kind) -> Result<u64, UnitError> {
    let factor = kind
        .units
        .iter()
        .find_map(|&(name, factor)| (name == unit).then_some(u128::from(factor)))
        .ok_or_else(|| UnitError::UnknownUnit { unit: unit.to_owned(), expected: kind.expected })?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err(UnitError::NotANumber);
    }
    let fraction = fraction.trim_end_matches('0');
    let whole: u128 = whole.parse().map_err(|_| UnitError::Overflow)?;
    let numerator: u128 = match fraction {
        "" => 0,
        digits => digits.parse().map_err(|_| UnitError::TooFine { finest: kind.finest })?,
    };
    let too_fine = UnitError::TooFine { finest: kind.finest };
    let denominator = u32::try_from(fraction.len()).ok().and_then(|digits| 10_u128.checked_pow(digits));
    let denominator = denominator.ok_or(too_fine.clone())?;
    let part = numerator.checked_mul(factor).ok_or(too_fine.clone())?;
    if part % denominator != 0 {
        return Err(too_fine);
    }
    let total = whole.checked_mul(factor).and_then(|product| product.checked_add(part / denominator));
    total.and_then(|total| u64::try_from(total).ok()).ok_or(UnitError::Overflow)
}

/// A rate as people read it, in the largest decimal unit that leaves at most three decimals: `1.5gbit`.
pub fn show_rate(rate: Rate) -> String {
    let bits = rate.bits_per_second();
    decimal(bits, &[(1_000_000_000, "gbit"), (1_000_000, "mbit"), (1_000, "kbit")], "bit")
}

/// A duration as people read it, to three decimals: `5ms`, `1.211ms`.
pub fn show_time(time: Nanos) -> String {
    decimal(time.as_nanos(), &[(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")], "ns")
}

/// A size in bytes: `1514b`, or `32kb` where it is a whole number of them.
pub fn show_size(size: Bytes) -> String {
    match size.get() {
        bytes if bytes >= 1024 && bytes % 1024 == 0 => format!("{}kb", bytes / 1024),
        bytes => format!("{bytes}b"),
    }
}

fn decimal(value: u64, steps: &[(u64, &str)], base: &str) -> String {
    for &(factor, unit) in steps {
        if value >= factor {
            let thousandths = value % factor * 1_000 / factor;
            let digits = format!("{}.{thousandths:03}", value / factor);
            let digits = digits.trim_end_matches('0').trim_end_matches('.');
            return format!("{digits}{unit}");
        }
    }
    format!("{value}{base}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Result<u64, UnitError> {
        parse_rate(text).map(Rate::bits_per_second)
    }

    #[test]
    fn rates_are_decimal_bits_per_second_in_any_case() {
        assert_eq!(rate("10mbit"), Ok(10_000_000));
        assert_eq!(rate("1.5gbit"), Ok(1_500_000_000));
        assert_eq!(rate("800 kbit"), Ok(800_000));
        assert_eq!(rate("2.5Mbit/s"), Ok(2_500_000));
        assert_eq!(rate("0bit"), Ok(0));
    }

    #[test]
    fn megabits_and_megabytes_are_never_confused() {
        assert!(matches!(rate("100mbps"), Err(UnitError::AmbiguousUnit { .. })));
        assert!(matches!(rate("100MBps"), Err(UnitError::AmbiguousUnit { .. })));
        assert!(matches!(rate("100mb"), Err(UnitError::UnknownUnit { .. })));
    }

    #[test]
    fn durations_are_exact_to_the_nanosecond() {
        assert_eq!(parse_time("5ms"), Ok(Nanos::from_millis(5)));
        assert_eq!(parse_time("100us"), Ok(Nanos::from_micros(100)));
        assert_eq!(parse_time("100\u{b5}s"), Ok(Nanos::from_micros(100)));
        assert_eq!(parse_time("1.000000001s"), Ok(Nanos::from_nanos(1_000_000_001)));
        assert_eq!(parse_time("0.5ns"), Err(UnitError::TooFine { finest: "1 ns" }));
    }

    #[test]
    fn sizes_follow_tc_where_a_kilobyte_is_1024_bytes() {
        assert_eq!(parse_size("32kb"), Ok(Bytes::new(32_768)));
        assert_eq!(parse_size("1500b"), Ok(Bytes::new(1_500)));
        assert_eq!(parse_size("1.5kb"), Ok(Bytes::new(1_536)));
    }

    #[test]
    fn nonsense_and_overflow_are_named() {
        assert!(matches!(rate(""), Err(UnitError::Empty { .. })));
        assert!(matches!(rate("  "), Err(UnitError::Empty { .. })));
        assert_eq!(rate("fast"), Err(UnitError::NotANumber));
        assert_eq!(rate("-1mbit"), Err(UnitError::Negative));
        assert_eq!(rate("1.2.3mbit"), Err(UnitError::NotANumber));
        assert_eq!(rate(".5mbit"), Err(UnitError::NotANumber));
        assert_eq!(rate("5.mbit"), Err(UnitError::NotANumber));
        assert!(matches!(rate("100"), Err(UnitError::NoUnit { .. })));
        assert!(matches!(rate("1e3mbit"), Err(UnitError::UnknownUnit { .. })));
        assert_eq!(rate("99999999999999999999gbit"), Err(UnitError::Overflow));
        assert_eq!(rate(&format!("{}gbit", "9".repeat(60))), Err(UnitError::Overflow));
        assert!(matches!(rate(&format!("0.{}1gbit", "0".repeat(60))), Err(UnitError::TooFine { .. })));
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same_value() {
        for text in ["10mbit", "1.5gbit", "800kbit", "64kbit", "999bit"] {
            assert_eq!(parse_rate(text).map(show_rate).as_deref(), Ok(text));
        }
        for text in ["5ms", "100us", "1s", "1.211ms", "999ns"] {
            assert_eq!(parse_time(text).map(show_time).as_deref(), Ok(text));
        }
        for text in ["32kb", "1514b", "0b"] {
            assert_eq!(parse_size(text).map(show_size).as_deref(), Ok(text));
        }
    }
}
