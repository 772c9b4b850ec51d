//! What was typed: the tables and keys of the file, each value with its place in the text.
//!
//! The tree of `toml` is read by hand rather than by a derived deserialiser, because a deserialiser stops at the first
//! wrong type or unknown key, and a file is to be refused with all that is wrong with it.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::back_off::BackOffTable;
use super::error::{Problem, Source};
use super::policy::file::{ClassTable, PolicyTables};
use super::rule::Rule;

/// One key of a table.
#[derive(Debug, Default)]
pub enum Field<T> {
    /// Not in the file.
    #[default]
    Absent,
    /// In the file with the wrong type, which has been reported.
    Wrong,
    /// In the file.
    Is(Spanned<T>),
}

impl<T> Field<T> {
    /// The value, where there is one of the right type.
    pub fn get(&self) -> Option<&Spanned<T>> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::Wrong => None,
        }
    }

    /// Whether the key does not stand in the file.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// A value of one of the types that a list may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// A string.
    Text(String),
    /// An integer.
    Number(i64),
}

/// A key that takes one value or a list of them.
#[derive(Debug, Default)]
pub enum Items {
    /// Not in the file.
    #[default]
    Absent,
    /// In the file with a wrong type, which has been reported.
    Wrong,
    /// In the file; possibly an empty list.
    Are {
        /// The values.
        values: Vec<Spanned<Scalar>>,
        /// All of them, brackets included.
        span: Range<usize>,
    },
}

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

pub(super) struct Reader<'a> {
    pub(super) source: &'a Source,
    pub(super) problems: Vec<Problem>,
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

    /// Reports every key that the table does not have.
    pub(super) fn known(
        &mut self,
        place: &str,
        prefix: &str,
        table: &DeTable<'_>,
        keys: &'static [&'static str],
    ) {
        for (key, _) in table.iter().filter(|(key, _)| !keys.contains(&key.get_ref().as_ref())) {
            let rule = Rule::UnknownKey { allowed: keys.join(", "), nearest: nearest(key.get_ref(), keys) };
            let name = format!("{prefix}{}", key.get_ref());
            self.problems.push(self.source.key_problem(place, &name, key.span(), rule));
        }
    }

    pub(super) fn text(
        &mut self,
        place: &str,
        key: &str,
        table: &DeTable<'_>,
        example: &'static str,
    ) -> Field<String> {
        let read = |value: &DeValue<'_>| value.as_str().map(str::to_owned);
        self.field(place, key, table, ("a string", example), read)
    }

    pub(super) fn boolean(
        &mut self,
        place: &str,
        key: &str,
        table: &DeTable<'_>,
        example: &'static str,
    ) -> Field<bool> {
        self.field(place, key, table, ("true or false", example), |value| value.as_bool())
    }

    pub(super) fn integer(
        &mut self,
        place: &str,
        key: &str,
        table: &DeTable<'_>,
        example: &'static str,
    ) -> Field<i64> {
        self.field(place, key, table, ("an integer of at most 64 bits", example), integer)
    }

    fn integers(
        &mut self,
        place: &str,
        key: &str,
        table: &DeTable<'_>,
        example: &'static str,
    ) -> Vec<Spanned<i64>> {
        let Some(value) = table.get(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(place, key, value, ("an array of integers", example));
            return Vec::new();
        };
        let mut numbers = Vec::new();
        for element in array.iter() {
            match integer(element.get_ref()) {
                Some(number) => numbers.push(Spanned::new(element.span(), number)),
                None => self.wrong(place, key, element, ("an integer", example)),
            }
        }
        numbers
    }

    fn field<T>(
        &mut self,
        place: &str,
        key: &str,
        table: &DeTable<'_>,
        expected: (&'static str, &'static str),
        read: impl Fn(&DeValue<'_>) -> Option<T>,
    ) -> Field<T> {
        let Some(value) = table.get(last(key)) else { return Field::Absent };
        match read(value.get_ref()) {
            Some(typed) => Field::Is(Spanned::new(value.span(), typed)),
            None => {
                self.wrong(place, key, value, expected);
                Field::Wrong
            }
        }
    }

    pub(super) fn table<'t, 'i>(
        &mut self,
        place: &str,
        key: &str,
        table: &'t DeTable<'i>,
        header: &'static str,
    ) -> Option<(&'t DeTable<'i>, Range<usize>)> {
        let value = table.get(key)?;
        let found = value.get_ref().as_table();
        if found.is_none() {
            self.wrong(place, key, value, ("a table", header));
        }
        found.map(|found| (found, value.span()))
    }

    /// A string, an integer, or a list of either.
    pub(super) fn items(
        &mut self,
        place: &str,
        key: &str,
        table: &DeTable<'_>,
        expected: (&'static str, &'static str),
    ) -> Items {
        let Some(value) = table.get(last(key)) else { return Items::Absent };
        let listed = value.get_ref().as_array();
        let elements = listed.map_or_else(|| vec![value], |array| array.iter().collect());
        let mut values = Vec::new();
        for element in elements {
            match scalar(element.get_ref()) {
                Some(scalar) => values.push(Spanned::new(element.span(), scalar)),
                None => {
                    self.wrong(place, key, element, expected);
                    return Items::Wrong;
                }
            }
        }
        Items::Are { values, span: value.span() }
    }

    pub(super) fn tables<'t, 'i>(
        &mut self,
        place: &str,
        key: &str,
        table: &'t DeTable<'i>,
        header: &'static str,
    ) -> Vec<(&'t DeTable<'i>, Range<usize>)> {
        let Some(value) = table.get(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(place, key, value, ("an array of tables", header));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for element in array.iter() {
            match element.get_ref().as_table() {
                Some(table) => tables.push((table, element.span())),
                None => self.wrong(place, key, element, ("a table", header)),
            }
        }
        tables
    }

    pub(super) fn wrong(
        &mut self,
        place: &str,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        (expected, example): (&'static str, &'static str),
    ) {
        let rule = Rule::WrongType { expected, found: type_name(value.get_ref()), example };
        self.problems.push(self.source.value_problem(place, key, value.span(), rule));
    }
}

/// Whether `key` stands in the table with anything but an empty array.
fn names_any(table: &DeTable<'_>, key: &str) -> bool {
    table.get(key).is_some_and(|value| value.get_ref().as_array().is_none_or(|array| !array.is_empty()))
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(integer) if i64::from_str_radix(integer.as_str(), integer.radix()).is_err() => {
            "a larger number"
        }
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a floating-point number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// The key itself, without the tables that errors name it by.
fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

fn scalar(value: &DeValue<'_>) -> Option<Scalar> {
    let text = value.as_str().map(|text| Scalar::Text(text.to_owned()));
    text.or_else(|| integer(value).map(Scalar::Number))
}

/// How errors name one of several tables: by its device or name where it has one, else by its number.
pub(super) fn place(header: &str, key: &str, number: usize, table: &DeTable<'_>) -> String {
    match table.get(key).and_then(|name| name.get_ref().as_str()) {
        Some(name) => format!("{header} {name:?}"),
        None => format!("{header} number {}", number + 1),
    }
}

/// The candidate that differs least from `typed`, where that is at most a third of its letters.
pub(super) fn nearest(typed: &str, candidates: &'static [&'static str]) -> Option<&'static str> {
    candidates
        .iter()
        .map(|&candidate| (distance(&typed.to_lowercase(), candidate), candidate))
        .filter(|&(distance, candidate)| distance * 3 <= candidate.len().max(3))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance of two words.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (above, to) in row.iter().skip(1).zip(b.chars()) {
            left = (diagonal + usize::from(from != to)).min(left + 1).min(above + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
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

    #[test]
    fn a_misspelt_key_is_answered_with_the_nearest_one() {
        assert_eq!(nearest("taget", AQM_KEYS), Some("target"));
        assert_eq!(nearest("Rate", PORT_KEYS), Some("rate"));
        assert_eq!(nearest("colour", PORT_KEYS), None);
    }

    #[test]
    fn the_distance_of_two_words_is_the_number_of_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }
}
