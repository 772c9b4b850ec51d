//! From what was typed to what is meant. One function for each table; every broken rule is collected.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;

use toml::Spanned;
use weir_aqm::{Bytes, Nanos, Pace, Rate};
use weir_shared_maps::{MAX_INGRESS, MAX_PORTS};

use super::back_off::Action;
use super::error::{ConfigError, Problem, Source};
use super::file::{AqmTable, File, IngressTable, PortTable};
use super::model::{
    Algorithm, Aqm, Config, ConfigSource, DeviceName, Ingress, InstanceName, Metrics, Mode, PauseKind, Port,
    ReadList, Sojourn, Stack, VlanId,
};
use super::nearest::nearest;
use super::policy::{Class, PolicyRule, Side};
use super::rule::Rule;
use super::typed::Field;
use super::units::{UnitError, parse_rate, parse_size, parse_time, show_time};

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
/// A full frame of Ethernet's usual MTU without its FCS, which is what XDP sees.
pub(super) const FULL_FRAME: i64 = 1_514;

/// Checks a file's values. `problems` are those found while reading; a file with any problem is refused.
pub(super) fn validate(
    source: &Source,
    file: &File,
    problems: Vec<Problem>,
    read: &ReadList<'_>,
) -> Result<Config, ConfigError> {
    let readable = problems.iter().all(|problem| !matches!(problem.rule(), Rule::Syntax { .. }));
    let mut check = Check { source, problems, list_problems: Vec::new(), read };
    let config = readable.then(|| check.config(file)).flatten();
    let Check { mut problems, list_problems, .. } = check;
    match config {
        Some(config) if problems.is_empty() && list_problems.is_empty() => Ok(config),
        Some(_) | None => {
            problems.sort_by_key(Problem::start);
            problems.extend(list_problems);
            Err(ConfigError::Invalid { name: source.name().to_owned(), problems })
        }
    }
}

/// Checks one file and collects what is wrong with it.
pub(super) struct Check<'a> {
    pub source: &'a Source,
    pub problems: Vec<Problem>,
    /// Those of the list of subscribers, which is another file.
    pub list_problems: Vec<Problem>,
    /// The way to that list.
    pub read: &'a ReadList<'a>,
}

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
            Self::OfPort => {
                choice(word, "\"codel\", \"pi2\", \"pie\", \"none\"", &["codel", "pi2", "pie", "none"])
            }
            Self::OfClass => choice(
                word,
                "\"codel\", \"pi2\", \"pie\", \"l4s\", \"none\"",
                &["codel", "pi2", "pie", "l4s", "none"],
            ),
        }
    }
}

/// Where in the file a check stands: the table as errors name it, and the key.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub place: &'a str,
    pub key: &'a str,
}

impl Check<'_> {
    /// `None` only where a problem was recorded.
    fn config(&mut self, file: &File) -> Option<Config> {
        let instance = self.parsed(At { place: "", key: "instance" }, &file.instance, |name| {
            InstanceName::new(name).map_err(Rule::InstanceName)
        });
        let metrics = file.metrics.as_ref().and_then(|table| {
            let at = At { place: "[metrics]", key: "listen" };
            self.required(at, &table.listen, &table.span, "listen = \"127.0.0.1:9469\"");
            self.parsed(at, &table.listen, |text| listen(text).ok_or(Rule::Listen))
        });
        self.count(file);
        let ingress: Vec<_> = file.ingress.iter().map(|table| self.ingress(table)).collect();
        let ports: Vec<_> = file.ports.iter().map(|table| self.port(table)).collect();
        self.unique("an [[ingress]]", file.ingress.iter().map(|table| (table.place.as_str(), &table.device)));
        self.unique("a [[port]]", file.ports.iter().map(|table| (table.place.as_str(), &table.device)));
        self.back_offs(&file.ports, &ports);
        let policy = self.policy(file);
        Some(Config {
            instance: instance.unwrap_or_default(),
            metrics: metrics.map(|listen| Metrics { listen }),
            ingress: ingress.into_iter().collect::<Option<_>>()?,
            ports: ports.into_iter().collect::<Option<_>>()?,
            policy,
            source: ConfigSource { name: self.source.name().to_owned(), text: self.source.text().to_owned() },
        })
    }

    fn count(&mut self, file: &File) {
        let end = self.source.text().len();
        if !file.has_ingress {
            self.problems.push(self.source.problem("[[ingress]]".to_owned(), end..end, Rule::NoIngress));
        }
        if !file.has_ports {
            self.problems.push(self.source.problem("[[port]]".to_owned(), end..end, Rule::NoPort));
        }
        let ingress = file.ingress.iter().map(|table| (&table.place, &table.span));
        self.at_most("[[ingress]]", MAX_INGRESS, ingress);
        self.at_most("[[port]]", MAX_PORTS, file.ports.iter().map(|table| (&table.place, &table.span)));
    }

    /// Reports the first table beyond the bound.
    fn at_most<'t>(
        &mut self,
        table: &'static str,
        most: u32,
        mut tables: impl Iterator<Item = (&'t String, &'t Range<usize>)>,
    ) {
        let most = most as usize;
        if let Some((place, span)) = tables.nth(most) {
            let rule = Rule::TooMany { table, most, nth: most + 1 };
            self.problems.push(self.source.problem(place.clone(), span.clone(), rule));
        }
    }

    fn unique<'t>(
        &mut self,
        table: &'static str,
        devices: impl Iterator<Item = (&'t str, &'t Field<String>)>,
    ) {
        let mut seen: HashMap<&str, Range<usize>> = HashMap::new();
        for (place, device) in devices {
            let Some(device) = device.get() else { continue };
            if let Some(first) = seen.get(device.get_ref().as_str()) {
                let rule = Rule::DuplicateDevice { table };
                let problem = self.source.value_problem(place, "device", device.span(), rule);
                self.problems.push(problem.also(first.clone(), "first named here"));
            } else {
                seen.insert(device.get_ref(), device.span());
            }
        }
    }

    fn ingress(&mut self, table: &IngressTable) -> Option<Ingress> {
        let place = &table.place;
        let device = self.device(place, &table.device, &table.span, "device = \"lan0\"");
        self.parsed(At { place, key: "xdp" }, &table.xdp, |word| match word {
            "native" => Ok(()),
            "generic" => Err(Rule::XdpGeneric),
            _ => Err(choice(word, "\"native\"", &["native"])),
        });
        let mut seen: HashMap<VlanId, Range<usize>> = HashMap::new();
        let mut vlans = Vec::new();
        for typed in &table.vlans {
            match VlanId::new(*typed.get_ref()) {
                None => {
                    let why = "0 marks a priority tag and 4095 is reserved (IEEE 802.1Q table 9-2)";
                    let rule = Rule::Range { low: 1, high: 4094, unit: "", why };
                    self.problems.push(self.source.value_problem(place, "vlans", typed.span(), rule));
                }
                Some(vlan) => match seen.insert(vlan, typed.span()) {
                    None => vlans.push(vlan),
                    Some(first) => {
                        let rule = Rule::VlanDuplicate;
                        let problem = self.source.value_problem(place, "vlans", typed.span(), rule);
                        self.problems.push(problem.also(first, "first listed here"));
                    }
                },
            }
        }
        Some(Ingress { device: device?, vlans })
    }

    fn port(&mut self, table: &PortTable) -> Option<Port> {
        let place = &table.place;
        let device = self.device(place, &table.device, &table.span, "device = \"wan0\"");
        let mode = self
            .parsed(At { place, key: "mode" }, &table.mode, |word| match word {
                "bottleneck" => Ok(Mode::Bottleneck),
                "policer" => Ok(Mode::Policer),
                "tc" => Ok(Mode::Tc),
                "auto" => Ok(Mode::Auto),
                _ => Err(choice(
                    word,
                    "\"bottleneck\", \"policer\", \"tc\", \"auto\"",
                    &["bottleneck", "policer", "tc", "auto"],
                )),
            })
            .unwrap_or(Mode::Bottleneck);
        let divert_rate = self.parsed(At { place, key: "divert_rate" }, &table.divert_rate, rate);
        let rate = self.parsed(At { place, key: "rate" }, &table.rate, rate);
        if let (true, true, Some(typed)) = (mode.has_meter(), table.rate.is_absent(), table.mode.get()) {
            let rule = Rule::MeterWithoutRate { mode: mode.name() };
            self.problems.push(self.source.key_problem(place, "rate", typed.span(), rule));
        }
        let link = self.link(table);
        let mpu = self.range(
            At { place, key: "mpu" },
            &table.mpu,
            (0, 256, " bytes"),
            "the smallest size a frame takes on the wire, overhead included: 84 for Ethernet with preamble and gap",
        );
        let reserve = self.range(
            At { place, key: "reserve" },
            &table.reserve,
            (0, 1_024, " slots"),
            "slots of the TX ring that stay free, so that a batch never meets a full ring; 64 is one NAPI poll",
        );
        let burst = self.burst(table, mode, i64::from(link.overhead));
        let aqm = self.aqm(place, &table.aqm, Algorithms::OfPort);
        let back_off = self.back_off_keys(place, &table.back_off);
        let mut classes = self.port_classes(table, rate, &back_off);
        let subscribers =
            self.parsed(At { place, key: "subscribers" }, &table.subscribers, |word| match word {
                "source" => Ok(Side::Source),
                "destination" => Ok(Side::Destination),
                _ => Err(choice(word, "\"source\", \"destination\"", &["source", "destination"])),
            });
        if subscribers.is_some() && classes.classes.is_empty() {
            classes.classes.push(Class::implicit(back_off.of_class()));
        }
        let pause = self.pause(table, mode, !classes.classes.is_empty());
        let egress_decides = !classes.classes.is_empty() || pause != PauseKind::Off;
        let back_off = if egress_decides { back_off.of_class() } else { back_off.of_port() };
        let diverts = back_off.does(Action::Divert)
            || classes.classes.iter().any(|class| class.back_off.does(Action::Divert));
        let stack = self.stack(table, mode, diverts);
        Some(Port {
            device: device?,
            mode,
            rate,
            overhead: link.overhead,
            mpu: mpu.and_then(|mpu| u32::try_from(mpu).ok()).unwrap_or(link.mpu),
            framing: link.framing,
            burst,
            reserve: reserve.and_then(|slots| u32::try_from(slots).ok()),
            aqm,
            classes: classes.classes,
            default_class: classes.default,
            subscribers,
            pause,
            stack,
            back_off,
            divert_rate,
        })
    }

    fn pause(&mut self, table: &PortTable, mode: Mode, classes: bool) -> PauseKind {
        let at = At { place: &table.place, key: "pause" };
        let kind = self.parsed(at, &table.pause, |word| match word {
            "off" => Ok(PauseKind::Off),
            _ if matches!(word, "802.3x" | "pfc") && mode.has_meter() => Err(Rule::PauseOnPolicer),
            "802.3x" => Ok(PauseKind::Link),
            "pfc" if !classes => Err(Rule::PfcWithoutClasses),
            "pfc" => Ok(PauseKind::Priority),
            _ => Err(choice(word, "\"off\", \"802.3x\", \"pfc\"", &["off", "802.3x", "pfc"])),
        });
        kind.unwrap_or_default()
    }

    /// Diverted packets are given to the stack so that they wait in the device's qdisc: decided on before it, they would meet
    /// the full queue again that they were diverted from.
    fn stack(&mut self, table: &PortTable, mode: Mode, diverts: bool) -> Stack {
        let at = At { place: &table.place, key: "stack" };
        let parsed = self.parsed(at, &table.stack, |word| {
            let stack = match word {
                "decide" => Stack::Decide,
                "charge" => Stack::Charge,
                "ignore" => Stack::Ignore,
                _ => {
                    let words = &["decide", "charge", "ignore"];
                    return Err(choice(word, "\"decide\", \"charge\", \"ignore\"", words));
                }
            };
            match (mode, stack) {
                (Mode::Tc | Mode::Auto, Stack::Charge | Stack::Ignore) => {
                    Err(Rule::StackOfTc { mode: mode.name() })
                }
                (Mode::Bottleneck | Mode::Policer, _) | (_, Stack::Decide) => Ok(stack),
            }
        });
        parsed.unwrap_or(match mode {
            Mode::Bottleneck | Mode::Policer if diverts => Stack::Charge,
            Mode::Bottleneck | Mode::Policer | Mode::Tc | Mode::Auto => Stack::Decide,
        })
    }

    fn burst(&mut self, table: &PortTable, mode: Mode, overhead: i64) -> Option<Bytes> {
        let at = At { place: &table.place, key: "burst" };
        let least = FULL_FRAME.saturating_add(overhead).unsigned_abs();
        self.parsed(at, &table.burst, |text| match (mode, parse_size(text)) {
            (Mode::Bottleneck, _) => Err(Rule::BurstOnBottleneck),
            (Mode::Policer | Mode::Tc | Mode::Auto, Err(error)) => Err(Rule::Unit(error, "\"32kb\"")),
            (Mode::Policer | Mode::Tc | Mode::Auto, Ok(burst)) if burst.get() < least => {
                Err(Rule::BurstTooSmall { least })
            }
            (Mode::Policer | Mode::Tc | Mode::Auto, Ok(burst)) => Ok(burst),
        })
    }

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
            _ => Err(choice(word, "\"predicted\", \"head\"", &["predicted", "head"])),
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

    fn device(
        &mut self,
        place: &str,
        field: &Field<String>,
        table: &Range<usize>,
        example: &'static str,
    ) -> Option<DeviceName> {
        let at = At { place, key: "device" };
        self.required(at, field, table, example);
        self.parsed(at, field, |name| DeviceName::new(name).map_err(Rule::DeviceName))
    }

    pub(super) fn required(
        &mut self,
        at: At<'_>,
        field: &Field<String>,
        table: &Range<usize>,
        example: &'static str,
    ) {
        if field.is_absent() {
            let rule = Rule::MissingKey { example };
            self.problems.push(self.source.key_problem(at.place, at.key, table.clone(), rule));
        }
    }

    /// Reports a rule of policy that a value breaks.
    pub(super) fn broken(&mut self, at: At<'_>, span: Range<usize>, rule: PolicyRule) {
        self.problems.push(self.source.value_problem(at.place, at.key, span, Rule::Policy(rule)));
    }

    /// Reports a rule of policy that a table breaks as a whole.
    pub(super) fn broken_at(&mut self, place: &str, key: &str, table: Range<usize>, rule: PolicyRule) {
        self.problems.push(self.source.key_problem(place, key, table, Rule::Policy(rule)));
    }

    /// The meaning of a string, or `None` with the broken rule recorded; `None` too where the key is absent.
    pub(super) fn parsed<T>(
        &mut self,
        at: At<'_>,
        field: &Field<String>,
        parse: impl FnOnce(&str) -> Result<T, Rule>,
    ) -> Option<T> {
        let typed = field.get()?;
        match parse(typed.get_ref()) {
            Ok(value) => Some(value),
            Err(rule) => {
                self.problems.push(self.source.value_problem(at.place, at.key, typed.span(), rule));
                None
            }
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

    pub(super) fn range(
        &mut self,
        at: At<'_>,
        field: &Field<i64>,
        (low, high, unit): (i64, i64, &'static str),
        why: &'static str,
    ) -> Option<i64> {
        let typed = field.get()?;
        if (low..=high).contains(typed.get_ref()) {
            return Some(*typed.get_ref());
        }
        let rule = Rule::Range { low, high, unit, why };
        self.problems.push(self.source.value_problem(at.place, at.key, typed.span(), rule));
        None
    }
}

pub(super) fn rate(text: &str) -> Result<Rate, Rule> {
    let rate = match parse_rate(text) {
        Ok(rate) => rate,
        Err(UnitError::Overflow) => return Err(Rule::RateTooHigh),
        Err(error) => return Err(Rule::Unit(error, "\"100mbit\"")),
    };
    match rate.bits_per_second() {
        0 => Err(Rule::RateZero),
        bits if bits < Pace::MIN_BITS_PER_SECOND => Err(Rule::RateTooLow),
        bits if bits > Pace::MAX_BITS_PER_SECOND => Err(Rule::RateTooHigh),
        _ => Ok(rate),
    }
}

fn listen(text: &str) -> Option<SocketAddr> {
    text.parse().ok().filter(|address: &SocketAddr| address.port() != 0)
}

pub(super) fn choice(word: &str, allowed: &'static str, words: &'static [&'static str]) -> Rule {
    Rule::Choice { allowed, nearest: nearest(word, words) }
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

const _: () = assert!(Pace::MIN_BITS_PER_SECOND == 64_000 && Pace::MAX_BITS_PER_SECOND == 400_000_000_000);
