//! Durations and rates as an experiment file writes them: `"10ms"`, `"9.5mbit"`.
//!
//! The texts are those of the configuration file ([`crate::config::units`]), with the ranges of the lab.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use crate::config::units as config;

/// A rate in bits per second, 1 to 100 Gbit/s when it comes from a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BitRate(u64);

impl BitRate {
    /// The highest rate a file may ask for: 100 Gbit/s.
    pub const MAX_BPS: u64 = 100_000_000_000;

    /// A rate of `bps` bits per second; zero becomes 1, so that a division by a rate is safe.
    #[must_use]
    pub const fn from_bps(bps: u64) -> Self {
        Self(if bps == 0 { 1 } else { bps })
    }

    /// Bits per second, never 0.
    #[must_use]
    pub const fn bps(self) -> u64 {
        self.0
    }

    /// The nanoseconds that `bytes` take on a link of this rate, rounded to nearest.
    #[must_use]
    pub const fn time_of(self, bytes: u64) -> u64 {
        let bits_ns = bytes.saturating_mul(8).saturating_mul(1_000_000_000);
        bits_ns.saturating_add(self.0 / 2) / self.0
    }

    /// This rate times `numerator / denominator`.
    #[must_use]
    pub fn scaled(self, numerator: u64, denominator: u64) -> Self {
        Self::from_bps(self.0.saturating_mul(numerator) / denominator.max(1))
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, name) in [(1_000_000_000, "Gbit/s"), (1_000_000, "Mbit/s"), (1_000, "kbit/s")] {
            if self.0 >= unit {
                let whole = self.0 / unit;
                let thousandths = (self.0 % unit) / (unit / 1_000);
                let fraction = format!("{thousandths:03}");
                let fraction = fraction.trim_end_matches('0');
                return if fraction.is_empty() {
                    write!(f, "{whole} {name}")
                } else {
                    write!(f, "{whole}.{fraction} {name}")
                };
            }
        }
        write!(f, "{} bit/s", self.0)
    }
}

/// Parses a duration such as `"10ms"`, `"1.5s"`, `"250us"`; the unit is required, except for `"0"`.
///
/// # Errors
/// The rule that the text breaks, ready for a person to read.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    if text.trim() == "0" {
        return Ok(Duration::ZERO);
    }
    let time = config::parse_time(text).map_err(|rule| format!("the duration `{text}` {rule}"))?;
    Ok(Duration::from_nanos(time.as_nanos()))
}

/// Parses a rate such as `"10mbit"`, `"9.5mbit"`, `"500kbit"`, `"1gbit"`, `"64000bit"`.
///
/// # Errors
/// The rule that the text breaks: the form, or the range of 1 bit/s to [`BitRate::MAX_BPS`].
pub fn parse_rate(text: &str) -> Result<BitRate, String> {
    let rate = config::parse_rate(text).map_err(|rule| format!("the rate `{text}` {rule}"))?;
    match rate.bits_per_second() {
        bps @ 1..=BitRate::MAX_BPS => Ok(BitRate(bps)),
        _ => Err(format!("the rate `{text}` is out of range: a rate is between 1bit and 100gbit")),
    }
}

impl<'de> Deserialize<'de> for BitRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_rate(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// `#[serde(deserialize_with)]` for a duration.
///
/// # Errors
/// The rule of [`parse_duration`], at the value's place in the file.
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

/// Nanoseconds of a duration; a duration beyond 584 years saturates.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_exactly_in_decimal() {
        assert_eq!(parse_rate("10mbit").unwrap().bps(), 10_000_000);
        assert_eq!(parse_rate("9.5mbit").unwrap().bps(), 9_500_000);
        assert_eq!(parse_rate("0.1Mbit").unwrap().bps(), 100_000);
        assert_eq!(parse_rate("64000bit").unwrap().bps(), 64_000);
        assert_eq!(parse_rate("1gbit").unwrap().bps(), 1_000_000_000);
    }

    #[test]
    fn a_rate_without_a_unit_or_out_of_range_is_refused() {
        for text in ["", "10", "mbit", "10mb", "1.mbit", ".5mbit", "0mbit", "101gbit", "-1mbit"] {
            assert!(parse_rate(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_duration_is_read_exactly_in_decimal() {
        assert_eq!(parse_duration("10ms").unwrap(), Duration::from_millis(10));
        assert_eq!(parse_duration("1.5s").unwrap(), Duration::from_millis(1_500));
        assert_eq!(parse_duration("250us").unwrap(), Duration::from_micros(250));
        assert_eq!(parse_duration("0").unwrap(), Duration::ZERO);
        assert!(parse_duration("10").is_err());
        assert!(parse_duration("1.5ns").is_err());
    }

    #[test]
    fn a_full_frame_takes_its_bits_over_the_rate() {
        assert_eq!(BitRate::from_bps(10_000_000).time_of(1_514), 1_211_200);
        assert_eq!(BitRate::from_bps(2_000_000).time_of(1_514), 6_056_000);
    }

    #[test]
    fn a_rate_prints_in_its_largest_whole_unit() {
        assert_eq!(BitRate::from_bps(10_000_000).to_string(), "10 Mbit/s");
        assert_eq!(BitRate::from_bps(9_500_000).to_string(), "9.5 Mbit/s");
        assert_eq!(BitRate::from_bps(800).to_string(), "800 bit/s");
    }
}
