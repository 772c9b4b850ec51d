//! What ingress does while the signal of a port's ring stands: from typed to meant to the bytes the programs read, and back.

use std::collections::HashMap;
use std::ops::Range;

use miette::Diagnostic;
use serde::Serialize;
use thiserror::Error;
use toml::Spanned;
use toml::de::DeTable;
use weir_aqm::{Bytes, Nanos, Pace, Rate};
use weir_shared_maps::{
    ACTION_DIVERT, ACTION_DROP, ACTION_MARK, ACTION_NONE, ACTION_SPILL, PFC_ANY, PortConfig,
};

use super::error::Rule;
use super::file::{Field, PortTable, Reader};
use super::model::{Config, DeviceName, Port};
use super::validate::{At, Check, choice};

/// One of the things ingress can do with a packet for a ring that has enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send it; egress decides.
    None,
    /// Mark it CE, if it is ECN-capable.
    Mark,
    /// Drop it.
    Drop,
    /// Give it to the kernel's stack.
    Divert,
    /// Send it out of another port.
    Spill,
}

impl Action {
    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Mark => "mark",
            Self::Drop => "drop",
            Self::Divert => "divert",
            Self::Spill => "spill",
        }
    }

    const fn code(self) -> u32 {
        match self {
            Self::None => ACTION_NONE,
            Self::Mark => ACTION_MARK,
            Self::Drop => ACTION_DROP,
            Self::Divert => ACTION_DIVERT,
            Self::Spill => ACTION_SPILL,
        }
    }
}

/// The name of an `ACTION_*` value.
fn action_name(code: u32) -> &'static str {
    match code {
        ACTION_NONE => "none",
        ACTION_MARK => "mark",
        ACTION_DROP => "drop",
        ACTION_DIVERT => "divert",
        ACTION_SPILL => "spill",
        _ => "unknown",
    }
}

/// What ingress does at each level of the signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackOff {
    /// At `congested`.
    pub on_congested: Action,
    /// At `full`.
    pub on_full: Action,
    /// The port that packets spill to.
    pub spill_to: Option<DeviceName>,
}

impl BackOff {
    /// Whether either level asks for `action`.
    pub fn does(&self, action: Action) -> bool {
        self.on_congested == action || self.on_full == action
    }

    /// Whether egress alone decides.
    pub fn does_nothing(&self) -> bool {
        (self.on_congested, self.on_full) == (Action::None, Action::None)
    }

    /// In words: `congested mark, full spill to wan1`.
    pub fn words(&self) -> String {
        let target = |action: Action| match (&self.spill_to, action) {
            (Some(device), Action::Spill) => format!("spill to {device}"),
            (Some(_) | None, action) => action.name().to_owned(),
        };
        format!("congested {}, full {}", target(self.on_congested), target(self.on_full))
    }
}

/// The three keys, as typed.
#[derive(Debug, Default)]
pub struct BackOffTable {
    /// `on_congested`
    pub on_congested: Field<String>,
    /// `on_full`
    pub on_full: Field<String>,
    /// `spill_to`
    pub spill_to: Field<String>,
}

impl Reader<'_> {
    pub(super) fn back_off(&mut self, place: &str, table: &DeTable<'_>) -> BackOffTable {
        BackOffTable {
            on_congested: self.text(place, "on_congested", table, "on_congested = \"mark\""),
            on_full: self.text(place, "on_full", table, "on_full = \"divert\""),
            spill_to: self.text(place, "spill_to", table, "spill_to = \"wan1\""),
        }
    }
}

/// The keys with their values, before defaults.
#[derive(Clone, Debug, Default)]
pub(super) struct BackOffKeys {
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
    pub(super) fn back_off_keys(&mut self, place: &str, table: &BackOffTable) -> BackOffKeys {
        const CONGESTED: &[&str] = &["none", "mark", "drop", "divert", "spill"];
        const FULL: &[&str] = &["none", "drop", "divert", "spill"];
        let on_congested =
            self.parsed(At { place, key: "on_congested" }, &table.on_congested, |word| match word {
                "mark" => Ok(Action::Mark),
                _ => action(word).ok_or_else(|| {
                    choice(word, "\"none\", \"mark\", \"drop\", \"divert\", \"spill\"", CONGESTED)
                }),
            });
        let on_full = self.parsed(At { place, key: "on_full" }, &table.on_full, |word| {
            action(word).ok_or_else(|| choice(word, "\"none\", \"drop\", \"divert\", \"spill\"", FULL))
        });
        let spill_to = self.parsed(At { place, key: "spill_to" }, &table.spill_to, |name| {
            DeviceName::new(name).map_err(Rule::DeviceName)
        });
        BackOffKeys { on_congested, on_full, spill_to }
    }

    /// What the keys of all ports and classes mean together.
    pub(super) fn back_offs(&mut self, tables: &[PortTable], ports: &[Option<Port>]) {
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

/// What holds for a port's packets: its classes', or its own where it has none.
fn effective(port: &Port) -> Vec<&BackOff> {
    if port.classes.is_empty() {
        return vec![&port.back_off];
    }
    port.classes.iter().map(|class| &class.back_off).collect()
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

const BURST_TIME: Nanos = Nanos::from_millis(10);
const BURST_FRAMES: u64 = 10;

/// A port's entries in the map, one for each class; one where it has none. `ifindex` finds the spill ports.
pub fn entries(
    port: &Port,
    encoded: &PortConfig,
    ifindex: impl Fn(&DeviceName) -> Option<u32>,
) -> Vec<weir_shared_maps::BackOff> {
    // As many again as the port carries: what a window that doubles offers, which is the queue's to keep.
    let twice = |rate: Rate| Rate::from_bits_per_second(rate.bits_per_second().saturating_mul(2));
    let pace = port.divert_rate.or(port.rate.map(twice)).and_then(Rate::pace);
    let frames = Bytes::new(u64::from(encoded.max_packet_bytes)).saturating_mul(BURST_FRAMES);
    let burst = pace.map_or(BURST_TIME, |pace| pace.time_for_rounded_up(frames).max(BURST_TIME));
    let entry = |(back_off, pfc_priority): (&BackOff, u32)| weir_shared_maps::BackOff {
        on_congested: back_off.on_congested.code(),
        on_full: back_off.on_full.code(),
        spill_ifindex: back_off.spill_to.as_ref().and_then(&ifindex).unwrap_or(0),
        divert_pace_mult: pace.map_or(0, Pace::mult),
        divert_pace_shift: pace.map_or(0, Pace::shift),
        pfc_priority,
        divert_burst_ns: burst.as_nanos(),
    };
    let priorities = port.classes.iter().map(|class| u32::from(class.pfc_priority()));
    effective(port).into_iter().zip(priorities.chain(std::iter::repeat(PFC_ANY))).map(entry).collect()
}

/// Bit `1 << ACTION_*` of each action that a class or port takes, but for none.
pub fn actions(config: &Config) -> u32 {
    let all = config.ports.iter().flat_map(effective);
    all.fold(0, |bits, back_off| bits | 1 << back_off.on_congested.code() | 1 << back_off.on_full.code())
        & !(1 << ACTION_NONE)
}

/// Whether flows of the port divert into the stack.
pub fn diverts(port: &Port) -> bool {
    effective(port).into_iter().any(|back_off| back_off.does(Action::Divert))
}

/// Whether a configuration moves flows between ways.
pub fn moves_flows(config: &Config) -> bool {
    actions(config) & (1 << ACTION_DIVERT | 1 << ACTION_SPILL) != 0
}

/// What runs, as it stands in the map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunningBackOff {
    /// `none`, `mark`, `drop`, `divert`, `spill`, or `unknown`.
    pub on_congested: &'static str,
    /// Alike.
    pub on_full: &'static str,
    /// The device that packets spill to.
    pub spill_to: Option<String>,
    /// Rate up to which diverted packets may enter the stack, in bits per second; `None` follows the ring's drain rate.
    pub divert_bps: Option<u64>,
}

/// Reads a map's entry. `name` knows the devices of the ports.
pub fn running(entry: &weir_shared_maps::BackOff, name: impl Fn(u32) -> Option<String>) -> RunningBackOff {
    RunningBackOff {
        on_congested: action_name(entry.on_congested),
        on_full: action_name(entry.on_full),
        spill_to: name(entry.spill_ifindex),
        divert_bps: Pace::from_parts(entry.divert_pace_mult, entry.divert_pace_shift)
            .map(Pace::bits_per_second),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::encode::{PortFacts, port_config};

    const TWO: &str =
        "[[ingress]]\ndevice = \"lan0\"\n[[port]]\ndevice = \"wan1\"\n[[port]]\ndevice = \"wan0\"\n";

    fn config(keys: &str) -> Config {
        Config::from_toml_str("t.toml", &format!("{TWO}{keys}\n")).unwrap()
    }

    fn encode(keys: &str) -> Vec<weir_shared_maps::BackOff> {
        let facts = PortFacts { ring_slots: 500, ..PortFacts::TAP };
        let port = &config(keys).ports[1];
        let encoded = port_config(port, &facts).unwrap();
        entries(port, &encoded, |device| (device.as_str() == "wan1").then_some(9))
    }

    #[test]
    fn a_port_drops_early_where_it_is_full_and_one_with_classes_leaves_it_to_egress() {
        let actions = |keys| encode(keys).iter().map(|e| (e.on_congested, e.on_full)).collect::<Vec<_>>();
        assert_eq!(actions(""), [(ACTION_NONE, ACTION_DROP)]);
        let classes = "[[port.class]]\nname = \"a\"\n[[port.class]]\nname = \"b\"\non_congested = \"mark\"";
        assert_eq!(actions(classes), [(ACTION_NONE, ACTION_NONE), (ACTION_MARK, ACTION_NONE)]);
        let inherited = format!("on_full = \"drop\"\non_congested = \"drop\"\n{classes}");
        assert_eq!(actions(&inherited), [(ACTION_DROP, ACTION_DROP), (ACTION_MARK, ACTION_DROP)]);
    }

    #[test]
    fn a_port_whose_senders_are_asked_to_wait_drops_nothing_early_but_where_the_file_says_so() {
        let on_full = |keys| encode(keys)[0].on_full;
        assert_eq!(on_full("pause = \"off\""), ACTION_DROP);
        assert_eq!(on_full("pause = \"802.3x\""), ACTION_NONE);
        assert_eq!(on_full("pause = \"802.3x\"\non_full = \"drop\""), ACTION_DROP);
    }

    #[test]
    fn a_class_is_stopped_by_one_priority_and_a_port_without_classes_by_any() {
        let priorities = |keys| encode(keys).iter().map(|entry| entry.pfc_priority).collect::<Vec<_>>();
        assert_eq!(priorities(""), [PFC_ANY]);
        let classes =
            "[[port.class]]\nname = \"a\"\npriority = 1\n[[port.class]]\nname = \"b\"\npfc_priority = 5";
        assert_eq!(priorities(classes), [6, 5]);
    }

    #[test]
    fn what_was_encoded_reads_back() {
        let keys =
            "on_congested = \"divert\"\non_full = \"spill\"\nspill_to = \"wan1\"\ndivert_rate = \"20mbit\"";
        let entry = encode(keys)[0];
        let back = running(&entry, |ifindex| (ifindex == 9).then(|| "wan1".to_owned()));
        assert_eq!((back.on_congested, back.on_full), ("divert", "spill"));
        assert_eq!((back.spill_to.as_deref(), back.divert_bps), (Some("wan1"), Some(20_000_000)));
        // Ten frames of 1,514 bytes at 20 Mbit/s take 6 ms.
        assert_eq!(entry.divert_burst_ns, 10_000_000);
    }

    #[test]
    fn the_bound_of_the_stack_is_twice_the_rate_of_the_port_or_follows_its_ring() {
        let bits = |keys| {
            let entry = encode(keys)[0];
            Pace::from_parts(entry.divert_pace_mult, entry.divert_pace_shift).map(Pace::bits_per_second)
        };
        assert_eq!(bits("on_full = \"divert\"\nrate = \"8mbit\""), Some(16_000_000));
        assert_eq!(bits("on_full = \"divert\""), None);
    }

    #[test]
    fn only_actions_in_use_are_kept_in_the_programs() {
        assert_eq!(actions(&config("")), 1 << ACTION_DROP);
        let classes = "on_full = \"spill\"\nspill_to = \"wan1\"\n[[port.class]]\nname = \"a\"";
        assert_eq!(actions(&config(classes)), 1 << ACTION_DROP | 1 << ACTION_SPILL);
        assert!(moves_flows(&config(classes)) && !moves_flows(&config("on_congested = \"mark\"")));
    }

    #[test]
    fn the_shortest_circle_is_found_through_any_number_of_ports() {
        let spills =
            HashMap::from([("a", vec!["b"]), ("b", vec!["c"]), ("c", vec!["d", "a"]), ("d", vec!["d"])]);
        assert_eq!(way_back(&spills, "a"), Some(vec!["a", "b", "c"]));
        assert_eq!(way_back(&spills, "d"), None);
    }
}
