//! What was typed about classes, rules, plans and subscribers.

use std::ops::Range;

use toml::de::DeTable;

use crate::config::back_off::BackOffTable;
use crate::config::file::AqmTable;
use crate::config::typed::{Field, Items, Reader, place};

/// One `[[port.class]]`.
#[derive(Debug)]
pub struct ClassTable {
    /// `name`
    pub name: Field<String>,
    /// `priority`
    pub priority: Field<i64>,
    /// `rate`
    pub rate: Field<String>,
    /// `ceil`
    pub ceil: Field<String>,
    /// `weight`
    pub weight: Field<i64>,
    /// `burst`
    pub burst: Field<String>,
    /// `fairness`
    pub fairness: Field<String>,
    /// `dscp`
    pub dscp: Items,
    /// `pfc_priority`
    pub pfc_priority: Field<i64>,
    /// `ecn`
    pub ecn: Field<bool>,
    /// `[port.class.aqm]`
    pub aqm: Option<AqmTable>,
    /// `[port.class.policer]`
    pub policer: Option<PolicerTable>,
    /// `on_congested`, `on_full`, `spill_to`
    pub back_off: BackOffTable,
    /// How errors name the table.
    pub place: String,
    /// The table's header.
    pub span: Range<usize>,
}

/// `[port.class.policer]`
#[derive(Debug)]
pub struct PolicerTable {
    /// `cir`
    pub cir: Field<String>,
    /// `cbs`
    pub cbs: Field<String>,
    /// `pir`
    pub pir: Field<String>,
    /// `pbs`
    pub pbs: Field<String>,
    /// `aware`
    pub aware: Field<bool>,
    /// `yellow`
    pub yellow: Items,
    /// `red`
    pub red: Items,
    /// The table's header.
    pub span: Range<usize>,
}

/// One `[[rule]]`.
#[derive(Debug)]
pub struct RuleTable {
    /// `class`
    pub class: Field<String>,
    /// `dscp`
    pub dscp: Items,
    /// `vlan`
    pub vlan: Items,
    /// `source`
    pub source: Items,
    /// `destination`
    pub destination: Items,
    /// `protocol`
    pub protocol: Items,
    /// `source_port`
    pub source_port: Items,
    /// `destination_port`
    pub destination_port: Items,
    /// `ingress`
    pub ingress: Items,
    /// `size`
    pub size: Items,
    /// `mark`
    pub mark: Items,
    /// How errors name the table.
    pub place: String,
    /// The table's header.
    pub span: Range<usize>,
}

/// One `[[plan]]`.
#[derive(Debug)]
pub struct PlanTable {
    /// `name`
    pub name: Field<String>,
    /// `down`
    pub down: Field<String>,
    /// `up`
    pub up: Field<String>,
    /// `down_ceil`
    pub down_ceil: Field<String>,
    /// `up_ceil`
    pub up_ceil: Field<String>,
    /// `burst`
    pub burst: Field<String>,
    /// `class`
    pub class: Field<String>,
    /// How errors name the table.
    pub place: String,
    /// The table's header.
    pub span: Range<usize>,
}

/// One `[[subscriber]]`.
#[derive(Debug)]
pub struct SubscriberTable {
    /// `name`
    pub name: Field<String>,
    /// `prefixes`
    pub prefixes: Items,
    /// `plan`
    pub plan: Field<String>,
    /// How errors name the table.
    pub place: String,
    /// The table's header.
    pub span: Range<usize>,
}

/// What stands beside ports.
#[derive(Debug, Default)]
pub struct PolicyTables {
    /// `[[rule]]`
    pub rules: Vec<RuleTable>,
    /// `[[plan]]`
    pub plans: Vec<PlanTable>,
    /// `[[subscriber]]`
    pub subscribers: Vec<SubscriberTable>,
    /// `[subscribers]`'s `file`
    pub subscribers_file: Field<String>,
}

const CLASS_KEYS: &[&str] = &[
    "name",
    "priority",
    "rate",
    "ceil",
    "weight",
    "burst",
    "fairness",
    "dscp",
    "pfc_priority",
    "ecn",
    "aqm",
    "policer",
    "on_congested",
    "on_full",
    "spill_to",
];
const POLICER_KEYS: &[&str] = &["cir", "cbs", "pir", "pbs", "aware", "yellow", "red"];
const RULE_KEYS: &[&str] = &[
    "class",
    "dscp",
    "vlan",
    "source",
    "destination",
    "protocol",
    "source_port",
    "destination_port",
    "ingress",
    "size",
    "mark",
];
const PLAN_KEYS: &[&str] = &["name", "down", "up", "down_ceil", "up_ceil", "burst", "class"];
const SUBSCRIBER_KEYS: &[&str] = &["name", "prefixes", "plan"];
const SUBSCRIBERS_KEYS: &[&str] = &["file"];

const CODE_POINT: &str = "a code point's name or number";

impl Reader<'_> {
    pub(in crate::config) fn policy(&mut self, root: &DeTable<'_>) -> PolicyTables {
        let mut policy = PolicyTables::default();
        for (number, (table, span)) in self.tables("", "rule", root, "[[rule]]").into_iter().enumerate() {
            policy.rules.push(self.rule(number, table, span));
        }
        for (number, (table, span)) in self.tables("", "plan", root, "[[plan]]").into_iter().enumerate() {
            policy.plans.push(self.plan(number, table, span));
        }
        let subscribers = self.tables("", "subscriber", root, "[[subscriber]]");
        for (number, (table, span)) in subscribers.into_iter().enumerate() {
            policy.subscribers.push(self.subscriber(number, table, span));
        }
        if let Some((table, _)) = self.table("", "subscribers", root, "[subscribers]") {
            self.known("[subscribers]", "", table, SUBSCRIBERS_KEYS);
            policy.subscribers_file = self.text("[subscribers]", "file", table, "file = \"subscribers.csv\"");
        }
        policy
    }

    pub(in crate::config) fn classes(&mut self, port: &str, table: &DeTable<'_>) -> Vec<ClassTable> {
        let tables = self.tables(port, "class", table, "[[port.class]]");
        let port = port.trim_start_matches("[[port]]");
        let mut classes = Vec::new();
        for (number, (table, span)) in tables.into_iter().enumerate() {
            let class = place("[[port.class]]", "name", number, table);
            classes.push(self.class(format!("{class} of port{port}"), table, span));
        }
        classes
    }

    fn class(&mut self, place: String, table: &DeTable<'_>, span: Range<usize>) -> ClassTable {
        self.known(&place, "", table, CLASS_KEYS);
        let aqm = self.table(&place, "aqm", table, "[port.class.aqm]").map(|(aqm, _)| self.aqm(&place, aqm));
        let policer = self
            .table(&place, "policer", table, "[port.class.policer]")
            .map(|(policer, span)| self.policer(&place, policer, span));
        ClassTable {
            name: self.text(&place, "name", table, "name = \"voice\""),
            priority: self.integer(&place, "priority", table, "priority = 4"),
            rate: self.text(&place, "rate", table, "rate = \"10mbit\""),
            ceil: self.text(&place, "ceil", table, "ceil = \"100mbit\""),
            weight: self.integer(&place, "weight", table, "weight = 1"),
            burst: self.text(&place, "burst", table, "burst = \"15kb\""),
            fairness: self.text(&place, "fairness", table, "fairness = \"flow\""),
            dscp: self.items(&place, "dscp", table, (CODE_POINT, "dscp = \"keep\"")),
            pfc_priority: self.integer(&place, "pfc_priority", table, "pfc_priority = 3"),
            ecn: self.boolean(&place, "ecn", table, "ecn = true"),
            aqm,
            policer,
            back_off: self.back_off(&place, table),
            place,
            span,
        }
    }

    fn policer(&mut self, place: &str, table: &DeTable<'_>, span: Range<usize>) -> PolicerTable {
        self.known(place, "policer.", table, POLICER_KEYS);
        PolicerTable {
            cir: self.text(place, "policer.cir", table, "cir = \"5mbit\""),
            cbs: self.text(place, "policer.cbs", table, "cbs = \"15kb\""),
            pir: self.text(place, "policer.pir", table, "pir = \"10mbit\""),
            pbs: self.text(place, "policer.pbs", table, "pbs = \"30kb\""),
            aware: self.boolean(place, "policer.aware", table, "aware = false"),
            yellow: self.items(place, "policer.yellow", table, (CODE_POINT, "yellow = \"af12\"")),
            red: self.items(place, "policer.red", table, (CODE_POINT, "red = \"drop\"")),
            span,
        }
    }

    fn rule(&mut self, number: usize, table: &DeTable<'_>, span: Range<usize>) -> RuleTable {
        let place = format!("[[rule]] number {}", number + 1);
        self.known(&place, "", table, RULE_KEYS);
        let mut items = |key: &str, expected, example| self.items(&place, key, table, (expected, example));
        RuleTable {
            dscp: items("dscp", CODE_POINT, "dscp = [\"ef\", 46]"),
            vlan: items("vlan", "a VLAN identifier or a list of them", "vlan = [10, 20]"),
            source: items("source", "a prefix or a list of them", "source = \"10.0.0.0/8\""),
            destination: items("destination", "a prefix or a list of them", "destination = \"fd00::/8\""),
            protocol: items("protocol", "a protocol's name or number", "protocol = \"udp\""),
            source_port: items("source_port", "a port, a range or a list", "source_port = \"1000-2000\""),
            destination_port: items("destination_port", "a port, a range or a list", "destination_port = 53"),
            ingress: items("ingress", "a device's name or a list of them", "ingress = \"lan0\""),
            size: items("size", "a range of bytes", "size = \"..128\""),
            mark: items("mark", "a number or a list of them", "mark = [1, 0x20]"),
            class: self.text(&place, "class", table, "class = \"voice\""),
            place,
            span,
        }
    }

    fn plan(&mut self, number: usize, table: &DeTable<'_>, span: Range<usize>) -> PlanTable {
        let place = place("[[plan]]", "name", number, table);
        self.known(&place, "", table, PLAN_KEYS);
        PlanTable {
            name: self.text(&place, "name", table, "name = \"gold\""),
            down: self.text(&place, "down", table, "down = \"100mbit\""),
            up: self.text(&place, "up", table, "up = \"20mbit\""),
            down_ceil: self.text(&place, "down_ceil", table, "down_ceil = \"150mbit\""),
            up_ceil: self.text(&place, "up_ceil", table, "up_ceil = \"30mbit\""),
            burst: self.text(&place, "burst", table, "burst = \"32kb\""),
            class: self.text(&place, "class", table, "class = \"voice\""),
            place,
            span,
        }
    }

    fn subscriber(&mut self, number: usize, table: &DeTable<'_>, span: Range<usize>) -> SubscriberTable {
        let place = place("[[subscriber]]", "name", number, table);
        self.known(&place, "", table, SUBSCRIBER_KEYS);
        SubscriberTable {
            name: self.text(&place, "name", table, "name = \"alice\""),
            prefixes: self.items(
                &place,
                "prefixes",
                table,
                ("a prefix or a list of them", "prefixes = [\"192.0.2.7\"]"),
            ),
            plan: self.text(&place, "plan", table, "plan = \"gold\""),
            place,
            span,
        }
    }
}
