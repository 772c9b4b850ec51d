//! From what was typed to what is meant. One function for each table, most in a module of their own; every broken rule is
//! collected.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;

use weir_shared_maps::{MAX_INGRESS, MAX_PORTS};

pub use super::aqm::{DEFAULT_INTERVAL, DEFAULT_TARGET, MAX_INTERVAL, MAX_LIMIT, PIE_TARGET};
use super::error::{ConfigError, Problem, Source};
use super::file::{File, IngressTable};
use super::load::ReadList;
use super::model::{Config, ConfigSource, Ingress, Metrics};
use super::names::{DeviceName, InstanceName, VlanId};
use super::nearest::nearest;
use super::policy::PolicyRule;
use super::rule::Rule;
use super::typed::Field;

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
            _ => Err(choice(word, &["native"])),
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

    pub(super) fn device(
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

fn listen(text: &str) -> Option<SocketAddr> {
    text.parse().ok().filter(|address: &SocketAddr| address.port() != 0)
}

pub(super) fn choice(word: &str, allowed: &'static [&'static str]) -> Rule {
    Rule::Choice { allowed, nearest: nearest(word, allowed) }
}
