//! `[port.aqm]` and `[port.class.aqm]`: the controller and its times, checked against each other.

use std::ops::Range;

use toml::Spanned;
use weir_aqm::Nanos;

use super::error::Problem;
use super::file::AqmTable;
use super::model::{Algorithm, Aqm, Sojourn};
use super::rule::Rule;
use super::typed::Field;
use super::units::{parse_time, show_time};
use super::validate::{At, Check, choice};

/// The default target: RFC 8289 section 4.3, for links on which a full frame takes less.
pub const DEFAULT_TARGET: Nanos = Nanos::from_millis(5);
/// The default interval: RFC 8289 section 4.2, a round-trip time that fits most of the Internet.
pub const DEFAULT_INTERVAL: Nanos = Nanos::from_millis(100);
/// Default `aqm.target` of PIE (RFC 8033 section 4.2).
pub const PIE_TARGET: Nanos = Nanos::from_millis(15);
/// The longest interval: CoDel's square root works on 32 bits of nanoseconds.
pub const MAX_INTERVAL: Nanos = Nanos::from_nanos(u32::MAX as u64);
/// The longest limit. Far above any ring; keeps `now + limit` far from wrapping.
pub const MAX_LIMIT: Nanos = Nanos::from_secs(3_600);

/// Which algorithms a table takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithms {
    /// A port's.
    OfPort,
    /// A class's.
    OfClass,
}

impl Algorithms {
    fn choice(self, word: &str) -> Rule {
        match self {
            Self::OfPort => choice(word, &["codel", "pi2", "pie", "none"]),
            Self::OfClass => choice(word, &["codel", "pi2", "pie", "l4s", "none"]),
        }
    }
}

impl Check<'_> {
    /// A port's or a class's AQM.
    pub(super) fn aqm(&mut self, place: &str, table: &AqmTable, algorithms: Algorithms) -> Aqm {
        let algorithm =
            self.parsed(At { place, key: "aqm.algorithm" }, &table.algorithm, |word| match word {
                "codel" => Ok(Algorithm::Codel),
                "pi2" => Ok(Algorithm::Pi2),
                "pie" => Ok(Algorithm::Pie),
                "none" => Ok(Algorithm::None),
                "l4s" if algorithms == Algorithms::OfClass => Ok(Algorithm::L4s),
                _ => Err(algorithms.choice(word)),
            });
        if algorithm == Some(Algorithm::None) {
            self.unused(place, table);
        }
        let target =
            self.time(At { place, key: "aqm.target" }, &table.target, MAX_INTERVAL, "target = \"5ms\"");
        let interval = self.time(
            At { place, key: "aqm.interval" },
            &table.interval,
            MAX_INTERVAL,
            "interval = \"100ms\"",
        );
        let limit = self.time(At { place, key: "aqm.limit" }, &table.limit, MAX_LIMIT, "limit = \"25ms\"");
        let sojourn = self.parsed(At { place, key: "aqm.sojourn" }, &table.sojourn, |word| match word {
            "predicted" => Ok(Sojourn::Predicted),
            "head" => Ok(Sojourn::Head),
            _ => Err(choice(word, &["predicted", "head"])),
        });
        let t_update = self.time(
            At { place, key: "aqm.t_update" },
            &table.t_update,
            MAX_INTERVAL,
            "t_update = \"15ms\"",
        );
        let max_burst = self.time(
            At { place, key: "aqm.max_burst" },
            &table.max_burst,
            MAX_INTERVAL,
            "max_burst = \"150ms\"",
        );
        let acting = algorithm.unwrap_or(Algorithm::Codel);
        self.of_another(place, table, acting);
        self.times_agree(place, table, acting, [target, interval, limit]);
        Aqm {
            algorithm,
            target,
            interval,
            limit,
            sojourn: sojourn.unwrap_or(Sojourn::Predicted),
            t_update,
            max_burst,
            ecn: table.ecn.get().is_none_or(|ecn| *ecn.get_ref()),
        }
    }

    /// Keys that only another algorithm than the chosen one reads. Those of none at all are [`Self::unused`].
    fn of_another(&mut self, place: &str, table: &AqmTable, algorithm: Algorithm) {
        let keys: &[(&str, &Field<String>)] = match algorithm {
            Algorithm::Codel | Algorithm::Pi2 | Algorithm::L4s => {
                &[("aqm.t_update", &table.t_update), ("aqm.max_burst", &table.max_burst)]
            }
            Algorithm::Pie => &[("aqm.interval", &table.interval)],
            Algorithm::None => &[],
        };
        for (key, field) in keys {
            if let Some(typed) = field.get() {
                let rule = Rule::AqmKeyOfAnother { algorithm: algorithm.name() };
                self.problems.push(self.source.value_problem(place, key, typed.span(), rule));
            }
        }
    }

    /// `0 < target < interval`, but for PIE, which has none, and `target <= limit`, with the defaults where a key is absent.
    fn times_agree(
        &mut self,
        place: &str,
        table: &AqmTable,
        algorithm: Algorithm,
        [target, interval, limit]: [Option<Nanos>; 3],
    ) {
        // A value that was refused already is compared with nothing.
        let known = |field: &Field<String>, value: Option<Nanos>| field.is_absent() || value.is_some();
        let span = |field: &Field<String>| field.get().map(Spanned::span);
        let pie = algorithm == Algorithm::Pie;
        if let (Some(target), Some(at), true) =
            (target, span(&table.target), known(&table.interval, interval) && !pie)
        {
            let bound = interval.unwrap_or(DEFAULT_INTERVAL);
            if target >= bound {
                let rule = Rule::TargetNotBelowInterval { interval: or_default(bound, interval.is_none()) };
                let problem = self.source.value_problem(place, "aqm.target", at, rule);
                self.problems.push(with_also(problem, span(&table.interval), "the interval"));
            }
        }
        if let (Some(limit), Some(at), true) = (limit, span(&table.limit), known(&table.target, target)) {
            // A target that is not given shrinks to half the interval, see `encode`.
            let shrunk = Nanos::from_nanos(interval.unwrap_or(DEFAULT_INTERVAL).as_nanos() / 2);
            let bound = target.unwrap_or(if pie { PIE_TARGET } else { DEFAULT_TARGET.min(shrunk) });
            if limit < bound {
                let rule = Rule::LimitBelowTarget { target: or_default(bound, target.is_none()) };
                let problem = self.source.value_problem(place, "aqm.limit", at, rule);
                self.problems.push(with_also(problem, span(&table.target), "the target"));
            }
        }
    }

    fn unused(&mut self, place: &str, table: &AqmTable) {
        let texts = [
            ("aqm.target", &table.target),
            ("aqm.interval", &table.interval),
            ("aqm.limit", &table.limit),
            ("aqm.sojourn", &table.sojourn),
            ("aqm.t_update", &table.t_update),
            ("aqm.max_burst", &table.max_burst),
        ];
        let texts = texts.into_iter().filter_map(|(key, field)| Some((key, field.get()?.span())));
        for (key, span) in texts.chain(table.ecn.get().map(|ecn| ("aqm.ecn", ecn.span()))) {
            self.problems.push(self.source.value_problem(place, key, span, Rule::AqmKeyUnused));
        }
    }

    fn time(
        &mut self,
        at: At<'_>,
        field: &Field<String>,
        most: Nanos,
        example: &'static str,
    ) -> Option<Nanos> {
        self.parsed(at, field, |text| match parse_time(text) {
            Err(error) => Err(Rule::Unit(error, "\"5ms\"")),
            Ok(Nanos::ZERO) => Err(Rule::TimeZero { example }),
            Ok(time) if time > most && most == MAX_LIMIT => Err(Rule::LimitTooLong),
            Ok(time) if time > most => Err(Rule::IntervalTooLong),
            Ok(time) => Ok(time),
        })
    }
}

fn or_default(time: Nanos, is_default: bool) -> String {
    let shown = show_time(time);
    if is_default { format!("{shown} by default") } else { shown }
}

fn with_also(problem: Problem, span: Option<Range<usize>>, label: &'static str) -> Problem {
    match span {
        Some(span) => problem.also(span, label),
        None => problem,
    }
}
