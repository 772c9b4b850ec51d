//! The list of subscribers: CSV (RFC 4180) with the columns `name`, `prefixes` and `plan`.

use std::ops::Range;

use csv::{ByteRecord, ReaderBuilder};

use super::PolicyRule;
use super::plan::label;
use super::rule::parse_prefix;
use super::subscriber::{Found, Written};
use crate::config::error::{Problem, Source};
use crate::config::rule::Rule;
use std::collections::HashMap;

/// Problems of one file that are shown; the rest of it is not read.
const MOST_PROBLEMS: usize = 20;

const COLUMNS: [&str; 3] = ["name", "prefixes", "plan"];

/// What a list holds.
#[derive(Default)]
pub(super) struct Listed {
    pub found: Vec<Found>,
    pub problems: Vec<Problem>,
}

/// Reads a list as far as its first problems.
pub(super) fn read(source: &Source, plans: &HashMap<String, usize>) -> Listed {
    let mut listed = Listed::default();
    let mut reader = ReaderBuilder::new().flexible(true).from_reader(source.text().as_bytes());
    let header = match reader.byte_headers() {
        Ok(header) => header.clone(),
        Err(_) => ByteRecord::new(),
    };
    let column = |name: &str| header.iter().position(|field| field.trim_ascii() == name.as_bytes());
    let mut columns = [0; 3];
    for (place, name) in columns.iter_mut().zip(COLUMNS) {
        match column(name) {
            Some(index) => *place = index,
            None => {
                let end = source.text().find('\n').unwrap_or(source.text().len());
                let rule = Rule::Policy(PolicyRule::CsvHeader { missing: name });
                listed.problems.push(source.problem("the first line".to_owned(), 0..end, rule));
                return listed;
            }
        }
    }
    let mut record = ByteRecord::new();
    // Bytes of a string are UTF-8, and any number of fields is taken: reading them cannot fail.
    while listed.problems.len() < MOST_PROBLEMS && reader.read_byte_record(&mut record).unwrap_or(false) {
        let line = Line { source, record: &record };
        if record.len() != header.len() {
            let rule = PolicyRule::CsvFields { has: record.len(), expected: header.len() };
            listed.problems.push(source.problem(line.subject(), line.span(), Rule::Policy(rule)));
            continue;
        }
        line.subscriber(columns, plans, &mut listed);
    }
    listed.problems.truncate(MOST_PROBLEMS);
    listed
}

struct Line<'a> {
    source: &'a Source,
    record: &'a ByteRecord,
}

impl Line<'_> {
    fn subscriber(
        &self,
        [name, prefixes, plan]: [usize; 3],
        plans: &HashMap<String, usize>,
        into: &mut Listed,
    ) {
        let named = label("subscriber", self.field(name));
        let name = match named {
            Ok(name) => Some(name),
            Err(rule) => {
                into.problems.push(self.problem("name", self.field(name), rule));
                None
            }
        };
        let mut nets = Vec::new();
        for typed in self.field(prefixes).split_ascii_whitespace() {
            match parse_prefix(typed) {
                Ok(net) => nets.push(net),
                Err(rule) => into.problems.push(self.problem("prefixes", typed, rule)),
            }
        }
        if self.field(prefixes).trim().is_empty() {
            into.problems.push(self.problem("prefixes", "", PolicyRule::EmptyList));
        }
        let found = plans.get(self.field(plan)).copied();
        if found.is_none() {
            let rule = PolicyRule::Unknown { what: "plan", known: String::new() };
            into.problems.push(self.problem("plan", self.field(plan), rule));
        }
        if let (Some(name), Some(plan)) = (name, found) {
            let at = self.span();
            into.found.push(Found { name, prefixes: nets, plan, written: Written::Listed(at) });
        }
    }

    fn field(&self, index: usize) -> &str {
        let bytes = self.record.get(index).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default().trim()
    }

    fn problem(&self, key: &str, typed: &str, rule: PolicyRule) -> Problem {
        let line = self.span();
        let text = self.source.text().get(line.clone()).unwrap_or_default();
        let span = match text.find(typed) {
            Some(at) if !typed.is_empty() => line.start + at..line.start + at + typed.len(),
            Some(_) | None => line,
        };
        self.source.problem(format!("{}: {key} = {typed:?}", self.subject()), span, Rule::Policy(rule))
    }

    fn subject(&self) -> String {
        format!("subscriber {:?}", self.field(0))
    }

    /// The line in the text, without its end.
    fn span(&self) -> Range<usize> {
        let start = self.record.position().map_or(0, |at| at.byte()) as usize;
        let rest = self.source.text().get(start..).unwrap_or_default();
        // A reader's position may stand on the line break before the record.
        let blank = rest.len() - rest.trim_start_matches(['\r', '\n']).len();
        let start = start + blank;
        let rest = self.source.text().get(start..).unwrap_or_default();
        start..start + rest.find(['\r', '\n']).unwrap_or(rest.len())
    }
}
