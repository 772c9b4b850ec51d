//! Packet-delivery traces in mahimahi's format.

use std::str::FromStr;

use weir_aqm::Nanos;

/// Times at which a link can deliver [`Trace::OPPORTUNITY_BYTES`] each, repeated for ever with the last time as the period
/// (`mm-link(1)`; Netravali et al.: "Mahimahi: accurate record-and-replay for HTTP", USENIX ATC 2015).
///
/// As text: one whole number of milliseconds a line, none smaller than the one before. Several lines alike are several
/// opportunities at that time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    opportunities: Vec<Nanos>,
}

/// Why a text is no trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceError {
    /// A line is something else than a whole number of milliseconds.
    NotANumber {
        /// Counted from 1.
        line: usize,
        /// What it says.
        found: String,
    },
    /// A time is beyond the simulator's clock.
    TooLate {
        /// Counted from 1.
        line: usize,
        /// Milliseconds.
        found: u64,
    },
    /// Times do not step back.
    StepsBack {
        /// Counted from 1.
        line: usize,
        /// Milliseconds of this line.
        found: u64,
        /// Milliseconds of the line before.
        before: u64,
    },
    /// There is no line.
    Empty,
    /// The last time is the period, so it is not zero.
    NoPeriod {
        /// The last line, counted from 1.
        line: usize,
    },
}

impl Trace {
    /// Bytes of an opportunity: an IP packet of 1,500 bytes behind the 4 bytes that a tun device puts before it
    /// (`PACKET_SIZE` in mahimahi's `src/frontend/link_queue.hh`).
    pub const OPPORTUNITY_BYTES: u32 = 1504;

    /// The times, from zero; at least one, the last one not zero.
    pub fn opportunities(&self) -> &[Nanos] {
        &self.opportunities
    }

    /// After this time it all begins again.
    pub fn period(&self) -> Nanos {
        self.opportunities.last().copied().unwrap_or(Nanos::from_nanos(1))
    }

    /// The first opportunity later than `now`: which one, and in which turn.
    pub(crate) fn after(&self, now: Nanos) -> Cursor {
        let period = self.period().as_nanos().max(1);
        let turn = now.as_nanos() / period;
        let phase = Nanos::from_nanos(now.as_nanos() % period);
        let index = self.opportunities.partition_point(|at| *at <= phase);
        // An opportunity at the period's end is of this turn, those at zero are of the next: both may be at one instant.
        Cursor { base: Nanos::from_nanos(turn * period), index }
    }

    /// When the opportunity is.
    pub(crate) fn time(&self, cursor: Cursor) -> Nanos {
        let at = self.opportunities.get(cursor.index).copied().unwrap_or_default();
        cursor.base.saturating_add(at)
    }

    /// The opportunity after this one.
    pub(crate) fn next(&self, cursor: Cursor) -> Cursor {
        let index = cursor.index + 1;
        if index < self.opportunities.len() {
            Cursor { index, ..cursor }
        } else {
            Cursor { base: cursor.base.saturating_add(self.period()), index: 0 }
        }
    }

    /// Opportunities from zero until `end`, which is not counted.
    pub(crate) fn count_before(&self, end: Nanos) -> u64 {
        let period = self.period().as_nanos().max(1);
        let (turns, phase) = (end.as_nanos() / period, Nanos::from_nanos(end.as_nanos() % period));
        let all = self.opportunities.len() as u64;
        let within = self.opportunities.partition_point(|at| *at < phase) as u64;
        if phase == Nanos::ZERO && turns > 0 {
            // Those at the end of the last turn are at `end`.
            let early = self.opportunities.partition_point(|at| at.as_nanos() < period) as u64;
            return (turns - 1) * all + early;
        }
        turns * all + within
    }
}

/// One opportunity of a [`Trace`] in its endless repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    base: Nanos,
    index: usize,
}

impl FromStr for Trace {
    type Err = TraceError;

    fn from_str(text: &str) -> Result<Self, TraceError> {
        let mut opportunities = Vec::new();
        let (mut before, mut last) = (0, 0);
        for (line, found) in (1..).zip(text.lines()) {
            let ms: u64 = found
                .parse()
                .map_err(|_| TraceError::NotANumber { line, found: found.chars().take(40).collect() })?;
            if ms < before {
                return Err(TraceError::StepsBack { line, found: ms, before });
            }
            let ns = ms.checked_mul(1_000_000).ok_or(TraceError::TooLate { line, found: ms })?;
            opportunities.push(Nanos::from_nanos(ns));
            (before, last) = (ms, line);
        }
        if last == 0 {
            return Err(TraceError::Empty);
        }
        if before == 0 {
            return Err(TraceError::NoPeriod { line: last });
        }
        Ok(Self { opportunities })
    }
}

impl std::fmt::Display for TraceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotANumber { line, found } => {
                write!(f, "line {line}: {found:?} is not a whole number of milliseconds")
            }
            Self::TooLate { line, found } => {
                write!(f, "line {line}: {found} ms is later than the clock goes, 2^64 ns")
            }
            Self::StepsBack { line, found, before } => write!(
                f,
                "line {line}: {found} ms comes after {before} ms, but times must not step back from one line to the next"
            ),
            Self::Empty => f.write_str("no line: a trace needs one opportunity at least"),
            Self::NoPeriod { line } => {
                write!(f, "line {line}: the last time is the period of the repetition and must not be 0")
            }
        }
    }
}

impl std::error::Error for TraceError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(text: &str) -> Trace {
        text.parse().unwrap()
    }

    fn ms(ms: u64) -> Nanos {
        Nanos::from_millis(ms)
    }

    #[test]
    fn a_trace_repeats_with_its_last_time_as_the_period() {
        let trace = trace("0\n3\n3\n10\n");
        let mut cursor = trace.after(ms(2));
        let times: Vec<u64> = (0..8)
            .map(|_| {
                let at = trace.time(cursor).as_nanos() / 1_000_000;
                cursor = trace.next(cursor);
                at
            })
            .collect();
        assert_eq!(times, [3, 3, 10, 10, 13, 13, 20, 20]);
    }

    #[test]
    fn the_next_opportunity_is_later_than_now_wherever_now_is() {
        let trace = trace("0\n3\n3\n10\n");
        for (now, next) in [(0, 3), (3, 10), (9, 10), (10, 13), (12, 13), (13, 20), (20, 23)] {
            assert_eq!(trace.time(trace.after(ms(now))), ms(next), "after {now}");
        }
    }

    #[test]
    fn opportunities_are_counted_as_they_come() {
        let trace = trace("0\n3\n3\n10\n");
        for (end, count) in [(0, 0), (1, 1), (3, 1), (4, 3), (10, 3), (11, 5), (20, 7), (24, 11)] {
            assert_eq!(trace.count_before(ms(end)), count, "before {end}");
        }
    }

    #[test]
    fn a_bad_line_is_named_with_the_rule_it_breaks() {
        for (text, error) in [
            ("1\nx\n", "line 2: \"x\" is not a whole number of milliseconds"),
            ("1\n\n2\n", "line 2: \"\" is not a whole number of milliseconds"),
            ("-1\n", "line 1: \"-1\" is not a whole number of milliseconds"),
            ("1.5\n", "line 1: \"1.5\" is not a whole number of milliseconds"),
            (
                "1\n5\n4\n",
                "line 3: 4 ms comes after 5 ms, but times must not step back from one line to the next",
            ),
            ("", "no line: a trace needs one opportunity at least"),
            ("0\n0\n", "line 2: the last time is the period of the repetition and must not be 0"),
            ("99999999999999999\n", "line 1: 99999999999999999 ms is later than the clock goes, 2^64 ns"),
        ] {
            assert_eq!(text.parse::<Trace>().unwrap_err().to_string(), error);
        }
    }
}
