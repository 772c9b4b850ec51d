//! From typed to meant: defaults, what a class takes from its port, and that every spill has somewhere to go.

use std::collections::HashMap;
use std::ops::Range;

use miette::Diagnostic;
use thiserror::Error;
use toml::Spanned;

use super::typed::BackOffTable;
use super::{Action, BackOff, effective};
use crate::config::file::PortTable;
use crate::config::model::Port;
use crate::config::names::DeviceName;
use crate::config::rule::Rule;
use crate::config::typed::Field;
use crate::config::validate::{At, Check, choice};

/// The keys with their values, before defaults.
#[derive(Clone, Debug, Default)]
pub(in crate::config) struct BackOffKeys {
    on_congested: Option<Action>,
    on_full: Option<Action>,
    spill_to: Option<DeviceName>,
}

impl BackOffKeys {
    /// A class's, with those of its port where it says nothing.
    pub fn or(self, port: &Self) -> Self {
        Self {
            on_congested: self.on_congested.or(port.on_congested),
            on_full: self.on_full.or(port.on_full),
            spill_to: self.spill_to.or_else(|| port.spill_to.clone()),
        }
    }

    /// Egress decides for a class: a ring that is full for one has room for another.
    pub fn of_class(&self) -> BackOff {
        self.with(Action::None)
    }

    /// What egress would drop anyway is dropped early.
    pub fn of_port(&self) -> BackOff {
        self.with(Action::Drop)
    }

    fn with(&self, on_full: Action) -> BackOff {
        BackOff {
            on_congested: self.on_congested.unwrap_or(Action::None),
            on_full: self.on_full.unwrap_or(on_full),
            spill_to: self.spill_to.clone(),
        }
    }
}

/// A broken rule of these keys.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
pub enum BackOffRule {
    /// Nowhere to spill to.
    #[error("\"spill\" needs a port to spill to")]
    #[diagnostic(
        code(weir::config::spill_without_port),
        help("add, for example: spill_to = \"wan1\", the device of another [[port]]")
    )]
    SpillWithoutPort,
    /// Not the device of a port.
    #[error("no [[port]] has this device; known: {known}")]
    #[diagnostic(
        code(weir::config::spill_to_unknown),
        help("packets spill through another managed port, so that its queue is kept short, too")
    )]
    SpillToUnknown {
        /// The devices of all ports.
        known: String,
    },
    /// The port itself.
    #[error("a port cannot spill to itself")]
    #[diagnostic(code(weir::config::spill_to_itself), help("name the device of another [[port]]"))]
    SpillToItself,
    /// Ports that spill in a circle.
    #[error("ports must not spill in a circle: {circle}")]
    #[diagnostic(
        code(weir::config::spill_circle),
        help("where each port is the other's way out, neither has one when both are full")
    )]
    SpillCircle {
        /// `wan0 -> wan1 -> wan0`.
        circle: String,
    },
    /// `spill_to` where nothing spills.
    #[error("has no effect while neither on_congested nor on_full is \"spill\"")]
    #[diagnostic(code(weir::config::spill_to_unused), help("remove the key, or set on_full = \"spill\""))]
    SpillToUnused,
    /// `divert_rate` where nothing is diverted.
    #[error("has no effect while neither on_congested nor on_full is \"divert\"")]
    #[diagnostic(code(weir::config::divert_rate_unused), help("remove the key, or set on_full = \"divert\""))]
    DivertRateUnused,
}

impl Check<'_> {
    pub(in crate::config) fn back_off_keys(&mut self, place: &str, table: &BackOffTable) -> BackOffKeys {
        const CONGESTED: &[&str] = &["none", "mark", "drop", "divert", "spill"];
        const FULL: &[&str] = &["none", "drop", "divert", "spill"];
        let on_congested =
            self.parsed(At { place, key: "on_congested" }, &table.on_congested, |word| match word {
                "mark" => Ok(Action::Mark),
                _ => action(word).ok_or_else(|| choice(word, CONGESTED)),
            });
        let on_full = self.parsed(At { place, key: "on_full" }, &table.on_full, |word| {
            action(word).ok_or_else(|| choice(word, FULL))
        });
        let spill_to = self.parsed(At { place, key: "spill_to" }, &table.spill_to, |name| {
            DeviceName::new(name).map_err(Rule::DeviceName)
        });
        BackOffKeys { on_congested, on_full, spill_to }
    }

    /// What the keys of all ports and classes mean together.
    pub(in crate::config) fn back_offs(&mut self, tables: &[PortTable], ports: &[Option<Port>]) {
        let devices: Vec<&str> = tables.iter().filter_map(|table| text(&table.device)).collect();
        for (table, port) in tables.iter().zip(ports) {
            let Some(port) = port else { continue };
            let device = port.device.as_str();
            self.target(&table.place, device, &table.back_off, &devices);
            for class in &table.classes {
                self.target(&class.place, device, &class.back_off, &devices);
            }
            let all = effective(port);
            if table.classes.is_empty() {
                self.needs_target(&table.place, &table.back_off, &table.span, &port.back_off);
            }
            for class in &table.classes {
                let meant = port.classes.iter().find(|meant| text(&class.name) == Some(&meant.name));
                let Some(meant) = meant.map(|meant| &meant.back_off) else { continue };
                self.needs_target(&class.place, &class.back_off, &class.span, meant);
                self.used(&class.place, "spill_to", &class.back_off.spill_to, meant.does(Action::Spill));
            }
            let does = |action| all.iter().any(|back_off| back_off.does(action));
            self.used(&table.place, "spill_to", &table.back_off.spill_to, does(Action::Spill));
            self.used(&table.place, "divert_rate", &table.divert_rate, does(Action::Divert));
        }
        self.circles(tables, ports);
    }

    /// `spill_to` must be another port.
    fn target(&mut self, place: &str, device: &str, table: &BackOffTable, devices: &[&str]) {
        let Some(typed) = table.spill_to.get() else { return };
        let name = typed.get_ref().as_str();
        if DeviceName::new(name).is_err() {
            return;
        }
        let rule = if name == device {
            BackOffRule::SpillToItself
        } else if devices.contains(&name) {
            return;
        } else {
            BackOffRule::SpillToUnknown { known: devices.join(", ") }
        };
        self.back_off_problem(place, "spill_to", typed.span(), rule);
    }

    fn needs_target(&mut self, place: &str, table: &BackOffTable, header: &Range<usize>, meant: &BackOff) {
        if !meant.does(Action::Spill) || meant.spill_to.is_some() || !table.spill_to.is_absent() {
            return;
        }
        let spills =
            |field: &Field<String>| field.get().filter(|typed| typed.get_ref() == "spill").map(Spanned::span);
        match (spills(&table.on_congested), spills(&table.on_full)) {
            (Some(span), _) => {
                self.back_off_problem(place, "on_congested", span, BackOffRule::SpillWithoutPort);
            }
            (None, Some(span)) => {
                self.back_off_problem(place, "on_full", span, BackOffRule::SpillWithoutPort);
            }
            // It is the port that says so.
            (None, None) => {
                let rule = Rule::BackOff(BackOffRule::SpillWithoutPort);
                self.problems.push(self.source.key_problem(place, "spill_to", header.clone(), rule));
            }
        }
    }

    fn used(&mut self, place: &str, key: &str, field: &Field<String>, used: bool) {
        let Some(typed) = field.get().filter(|_| !used) else { return };
        let rule = if key == "spill_to" { BackOffRule::SpillToUnused } else { BackOffRule::DivertRateUnused };
        self.back_off_problem(place, key, typed.span(), rule);
    }

    /// Reports each circle once, at the first of its ports.
    fn circles(&mut self, tables: &[PortTable], ports: &[Option<Port>]) {
        let spills: HashMap<&str, Vec<&str>> = ports
            .iter()
            .flatten()
            .map(|port| {
                let targets = effective(port).into_iter().filter(|back_off| back_off.does(Action::Spill));
                (port.device.as_str(), targets.filter_map(|b| Some(b.spill_to.as_ref()?.as_str())).collect())
            })
            .collect();
        let mut known: Vec<&str> = Vec::new();
        for table in tables {
            let Some(start) = text(&table.device).filter(|device| !known.contains(device)) else { continue };
            let Some(circle) = way_back(&spills, start) else { continue };
            known.extend(&circle);
            let mut shown = circle;
            shown.push(start);
            let places = table.classes.iter().map(|class| &class.back_off.spill_to);
            let typed = places.chain([&table.back_off.spill_to]).find_map(Field::get);
            let span = typed.map_or_else(|| table.span.clone(), Spanned::span);
            let rule = BackOffRule::SpillCircle { circle: shown.join(" -> ") };
            self.back_off_problem(&table.place, "spill_to", span, rule);
        }
    }

    fn back_off_problem(&mut self, place: &str, key: &str, span: Range<usize>, rule: BackOffRule) {
        self.problems.push(self.source.value_problem(place, key, span, Rule::BackOff(rule)));
    }
}

/// The shortest way along `spills` from `start` back to it, without the last step; a port that spills to itself has none.
fn way_back<'a>(spills: &HashMap<&'a str, Vec<&'a str>>, start: &'a str) -> Option<Vec<&'a str>> {
    let mut ways = std::collections::VecDeque::from([vec![start]]);
    let mut seen = vec![start];
    while let Some(way) = ways.pop_front() {
        let here = way.last().copied().unwrap_or(start);
        for next in spills.get(here).into_iter().flatten() {
            if *next == start && way.len() > 1 {
                return Some(way);
            }
            if !seen.contains(next) {
                seen.push(next);
                ways.push_back([way.as_slice(), &[*next]].concat());
            }
        }
    }
    None
}

fn text(field: &Field<String>) -> Option<&str> {
    field.get().map(|typed| typed.get_ref().as_str())
}

fn action(word: &str) -> Option<Action> {
    match word {
        "none" => Some(Action::None),
        "drop" => Some(Action::Drop),
        "divert" => Some(Action::Divert),
        "spill" => Some(Action::Spill),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_circle_is_found_through_any_number_of_ports() {
        let spills =
            HashMap::from([("a", vec!["b"]), ("b", vec!["c"]), ("c", vec!["d", "a"]), ("d", vec!["d"])]);
        assert_eq!(way_back(&spills, "a"), Some(vec!["a", "b", "c"]));
        assert_eq!(way_back(&spills, "d"), None);
    }
}
