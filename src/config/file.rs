//! What was typed: the tables and keys of the file, each value with its place in the text.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeTable;

use super::back_off::BackOffTable;
use super::error::{Problem, Source};
use super::policy::file::{ClassTable, PolicyTables};
use super::rule::Rule;
use super::typed::{Reader, place};

pub use super::typed::{Field, Items, Scalar};

/// The whole file.
#[derive(Debug, Default)]
pub struct File {
    /// `instance`
    pub instance: Field<String>,
    /// `[metrics]`
    pub metrics: Option<MetricsTable>,
    /// `[[ingress]]`
    pub ingress: Vec<IngressTable>,
    /// `[[port]]`
    pub ports: Vec<PortTable>,
    /// `[[rule]]`, `[[plan]]`, `[[subscriber]]`, `[subscribers]`
    pub policy: PolicyTables,
    /// Whether `ingress` names anything, be it malformed.
    pub has_ingress: bool,
    /// Whether `port` names anything, be it malformed.
    pub has_ports: bool,
}

/// `[metrics]`
#[derive(Debug)]
pub struct MetricsTable {
    /// `listen`
    pub listen: Field<String>,
    /// The table's header.
    pub span: Range<usize>,
}

/// One `[[ingress]]`.
#[derive(Debug)]
pub struct IngressTable {
    /// `device`
    pub device: Field<String>,
    /// `xdp`
    pub xdp: Field<String>,
    /// `vlans`, those of its elements that are integers
    pub vlans: Vec<Spanned<i64>>,
    /// How errors name the table.
    pub place: String,
    /// The table's header.
    pub span: Range<usize>,
}

/// One `[[port]]`.
#[derive(Debug)]
pub struct PortTable {
    /// `device`
    pub device: Field<String>,
    /// `mode`
    pub mode: Field<String>,
    /// `rate`
    pub rate: Field<String>,
    /// `overhead`: bytes, or keywords
    pub overhead: Items,
    /// `mpu`
    pub mpu: Field<i64>,
    /// `burst`
    pub burst: Field<String>,
    /// `reserve`
    pub reserve: Field<i64>,
    /// `[port.aqm]`
    pub aqm: AqmTable,
    /// `[[port.class]]`
    pub classes: Vec<ClassTable>,
    /// `default_class`
    pub default_class: Field<String>,
    /// `subscribers`
    pub subscribers: Field<String>,
    /// `pause`
    pub pause: Field<String>,
    /// `stack`
    pub stack: Field<String>,
    /// `on_congested`, `on_full`, `spill_to`
    pub back_off: BackOffTable,
    /// `divert_rate`
    pub divert_rate: Field<String>,
    /// How errors name the table.
    pub place: String,
    /// The table's header.
    pub span: Range<usize>,
}

/// `[port.aqm]`
#[derive(Debug, Default)]
pub struct AqmTable {
    /// `algorithm`
    pub algorithm: Field<String>,
    /// `target`
    pub target: Field<String>,
    /// `interval`
    pub interval: Field<String>,
    /// `limit`
    pub limit: Field<String>,
    /// `sojourn`
    pub sojourn: Field<String>,
    /// `t_update`
    pub t_update: Field<String>,
    /// `max_burst`
    pub max_burst: Field<String>,
    /// `ecn`
    pub ecn: Field<bool>,
}

/// Reads the text as far as it can be read, with all problems of syntax, type and unknown keys.
pub(super) fn read(source: &Source) -> (File, Vec<Problem>) {
    let (root, errors) = DeTable::parse_recoverable(source.text());
    let mut problems: Vec<Problem> = errors.iter().map(|error| syntax(source, error)).collect();
    if !problems.is_empty() {
        // What the parser recovered is a guess: rules checked on it would report what was never typed.
        problems.truncate(MAX_SYNTAX);
        return (File::default(), problems);
    }
    let mut reader = Reader { source, problems };
    let file = reader.file(root.get_ref());
    (file, reader.problems)
}

/// One broken quote makes every further line an error.
const MAX_SYNTAX: usize = 3;

fn syntax(source: &Source, error: &toml::de::Error) -> Problem {
    let span = error.span().unwrap_or_default();
    let (line, _) = source.position(span.start);
    let typed = source.text().lines().nth(line.saturating_sub(1)).unwrap_or_default().trim();
    let shown: String = typed.chars().take(60).collect();
    source.problem(format!("`{shown}`"), span, Rule::Syntax { message: error.message().to_owned() })
}

const ROOT_KEYS: &[&str] =
    &["instance", "metrics", "ingress", "port", "rule", "plan", "subscriber", "subscribers"];
const METRICS_KEYS: &[&str] = &["listen"];
const INGRESS_KEYS: &[&str] = &["device", "xdp", "vlans"];
const PORT_KEYS: &[&str] = &[
    "device",
    "mode",
    "rate",
    "overhead",
    "mpu",
    "burst",
    "reserve",
    "aqm",
    "class",
    "default_class",
    "subscribers",
    "pause",
    "stack",
    "on_congested",
    "on_full",
    "spill_to",
    "divert_rate",
];
const AQM_KEYS: &[&str] =
    &["algorithm", "target", "interval", "limit", "sojourn", "t_update", "max_burst", "ecn"];

impl Reader<'_> {
    fn file(&mut self, root: &DeTable<'_>) -> File {
        self.known("", "", root, ROOT_KEYS);
        let metrics = self.table("", "metrics", root, "[metrics]").map(|(table, span)| {
            self.known("[metrics]", "", table, METRICS_KEYS);
            MetricsTable {
                listen: self.text("[metrics]", "listen", table, "listen = \"127.0.0.1:9469\""),
                span,
            }
        });
        let mut ingress = Vec::new();
        for (number, (table, span)) in self.tables("", "ingress", root, "[[ingress]]").into_iter().enumerate()
        {
            ingress.push(self.ingress(number, table, span));
        }
        let mut ports = Vec::new();
        for (number, (table, span)) in self.tables("", "port", root, "[[port]]").into_iter().enumerate() {
            ports.push(self.port(number, table, span));
        }
        File {
            instance: self.text("", "instance", root, "instance = \"default\""),
            metrics,
            ingress,
            ports,
            policy: self.policy(root),
            has_ingress: names_any(root, "ingress"),
            has_ports: names_any(root, "port"),
        }
    }

    fn ingress(&mut self, number: usize, table: &DeTable<'_>, span: Range<usize>) -> IngressTable {
        let place = place("[[ingress]]", "device", number, table);
        self.known(&place, "", table, INGRESS_KEYS);
        IngressTable {
            device: self.text(&place, "device", table, "device = \"lan0\""),
            xdp: self.text(&place, "xdp", table, "xdp = \"native\""),
            vlans: self.integers(&place, "vlans", table, "vlans = [10, 20]"),
            place,
            span,
        }
    }

    fn port(&mut self, number: usize, table: &DeTable<'_>, span: Range<usize>) -> PortTable {
        let place = place("[[port]]", "device", number, table);
        self.known(&place, "", table, PORT_KEYS);
        let aqm = self.table(&place, "aqm", table, "[port.aqm]").map(|(aqm, _)| self.aqm(&place, aqm));
        PortTable {
            device: self.text(&place, "device", table, "device = \"wan0\""),
            mode: self.text(&place, "mode", table, "mode = \"bottleneck\""),
            rate: self.text(&place, "rate", table, "rate = \"100mbit\""),
            overhead: self.items(
                &place,
                "overhead",
                table,
                ("an integer, a keyword or a list of keywords", "overhead = \"ethernet\""),
            ),
            mpu: self.integer(&place, "mpu", table, "mpu = 84"),
            burst: self.text(&place, "burst", table, "burst = \"32kb\""),
            reserve: self.integer(&place, "reserve", table, "reserve = 64"),
            aqm: aqm.unwrap_or_default(),
            classes: self.classes(&place, table),
            default_class: self.text(&place, "default_class", table, "default_class = \"bulk\""),
            subscribers: self.text(&place, "subscribers", table, "subscribers = \"source\""),
            pause: self.text(&place, "pause", table, "pause = \"802.3x\""),
            stack: self.text(&place, "stack", table, "stack = \"decide\""),
            back_off: self.back_off(&place, table),
            divert_rate: self.text(&place, "divert_rate", table, "divert_rate = \"50mbit\""),
            place,
            span,
        }
    }

    pub(super) fn aqm(&mut self, place: &str, table: &DeTable<'_>) -> AqmTable {
        self.known(place, "aqm.", table, AQM_KEYS);
        AqmTable {
            algorithm: self.text(place, "aqm.algorithm", table, "algorithm = \"codel\""),
            target: self.text(place, "aqm.target", table, "target = \"5ms\""),
            interval: self.text(place, "aqm.interval", table, "interval = \"100ms\""),
            limit: self.text(place, "aqm.limit", table, "limit = \"25ms\""),
            sojourn: self.text(place, "aqm.sojourn", table, "sojourn = \"predicted\""),
            t_update: self.text(place, "aqm.t_update", table, "t_update = \"15ms\""),
            max_burst: self.text(place, "aqm.max_burst", table, "max_burst = \"150ms\""),
            ecn: self.boolean(place, "aqm.ecn", table, "ecn = true"),
        }
    }
}

/// Whether `key` stands in the table with anything but an empty array.
fn names_any(table: &DeTable<'_>, key: &str) -> bool {
    table.get(key).is_some_and(|value| value.get_ref().as_array().is_none_or(|array| !array.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_keeps_its_place_in_the_text() {
        let text = "[[port]]\ndevice = \"wan0\"\n[port.aqm]\ntarget = \"5ms\"\n";
        let source = Source::new("t.toml", text);
        let (file, problems) = read(&source);
        assert!(problems.is_empty(), "{problems:?}");
        let target = file.ports[0].aqm.target.get().unwrap();
        assert_eq!((&text[target.span()], target.get_ref().as_str()), ("\"5ms\"", "5ms"));
        assert_eq!(&text[file.ports[0].span.clone()], "[[port]]");
    }

    #[test]
    fn all_wrong_types_and_unknown_keys_are_reported_in_one_go() {
        let text = "colour = 1\n[[port]]\ndevice = 5\nrate = 7\n[port.aqm]\necn = \"yes\"\ntaget = \"5ms\"\n";
        let (_, problems) = read(&Source::new("t.toml", text));
        let mut lines: Vec<usize> = problems.iter().map(Problem::line).collect();
        lines.sort_unstable();
        assert_eq!(lines, [1, 3, 4, 6, 7]);
    }
}
