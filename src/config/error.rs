//! What is wrong with a configuration and where: the file, the line, the key, the value and the rule.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use thiserror::Error;

use super::rule::Rule;

/// Why a configuration was refused. Its [`Diagnostic`] shows each problem in its place in the text.
#[derive(Debug, Error, Diagnostic)]
pub enum ConfigError {
    /// The file is missing or may not be read.
    #[error("{path}: cannot be read")]
    #[diagnostic(code(weir::config::unreadable), help("name an existing file that this user may read"))]
    Unreadable {
        /// The path as given.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The path leads to a directory.
    #[error("{path}: is a directory, not a configuration file")]
    #[diagnostic(code(weir::config::directory), help("name the TOML file itself"))]
    Directory {
        /// The path as given.
        path: String,
    },
    /// The file is above 1 MiB.
    #[error("{path}: is larger than 1 MiB, no configuration file is")]
    #[diagnostic(code(weir::config::too_large))]
    TooLarge {
        /// The path as given.
        path: String,
    },
    /// The file's bytes are not UTF-8 text.
    #[error("{path}:{line}: byte {offset} is not UTF-8 text")]
    #[diagnostic(
        code(weir::config::not_utf8),
        help("TOML files are UTF-8; convert the file or remove the byte")
    )]
    NotUtf8 {
        /// The path as given.
        path: String,
        /// The line of the first bad byte, from 1.
        line: usize,
        /// Its offset in the file, from 0.
        offset: usize,
    },
    /// The text breaks rules.
    #[error("{name}: {} found, nothing was changed", count(problems.len()))]
    Invalid {
        /// The file.
        name: String,
        /// All that was found, in the order of the text; never empty.
        #[related]
        problems: Vec<Problem>,
    },
}

fn count(problems: usize) -> String {
    match problems {
        1 => "1 problem".to_owned(),
        more => format!("{more} problems"),
    }
}

impl ConfigError {
    pub(super) fn not_utf8(path: &str, error: &std::string::FromUtf8Error) -> Self {
        let offset = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes().iter().take(offset).filter(|&&byte| byte == b'\n').count();
        Self::NotUtf8 { path: path.to_owned(), line, offset }
    }

    /// The single problems; empty where the file could not be read at all.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Invalid { problems, .. } => problems,
            Self::Unreadable { .. }
            | Self::Directory { .. }
            | Self::TooLarge { .. }
            | Self::NotUtf8 { .. } => &[],
        }
    }
}

/// One broken rule and where. Its text stands alone: file, line, column, table, key, value and rule.
#[derive(Debug)]
pub struct Problem {
    source: Arc<NamedSource<String>>,
    span: Range<usize>,
    also: Option<(Range<usize>, &'static str)>,
    line: usize,
    column: usize,
    /// `[[port]] "wan0": aqm.target = "5 parsecs"`, or less where less is known.
    subject: String,
    rule: Rule,
}

impl Problem {
    /// Line of the value (or of the table's header where a key is missing), from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The rule.
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    pub(super) fn start(&self) -> usize {
        self.span.start
    }

    /// Adds a second place that the rule speaks of.
    pub(super) fn also(mut self, span: Range<usize>, label: &'static str) -> Self {
        self.also = Some((span, label));
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, line, column, subject, rule, .. } = self;
        write!(f, "{}:{line}:{column}: {subject}: {rule}", source.name())
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.rule.code()
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.rule.help()
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self.source.as_ref())
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let here = LabeledSpan::new_primary_with_span(Some("here".to_owned()), self.span.clone());
        let also = self
            .also
            .iter()
            .map(|(span, label)| LabeledSpan::new_with_span(Some((*label).to_owned()), span.clone()));
        Some(Box::new(std::iter::once(here).chain(also)))
    }
}

/// The text that problems point into.
pub(in crate::config) struct Source {
    named: Arc<NamedSource<String>>,
}

impl Source {
    pub(in crate::config) fn new(name: &str, text: &str) -> Self {
        Self { named: Arc::new(NamedSource::new(name, text.to_owned())) }
    }

    pub(in crate::config) fn name(&self) -> &str {
        self.named.name()
    }

    pub(in crate::config) fn text(&self) -> &str {
        self.named.inner()
    }

    /// A problem with the value of `key` in the table `place`; the value is shown as it was typed.
    pub(in crate::config) fn value_problem(
        &self,
        place: &str,
        key: &str,
        span: Range<usize>,
        rule: Rule,
    ) -> Problem {
        let typed = self.text().get(span.clone()).unwrap_or_default();
        let first = typed.lines().next().unwrap_or_default();
        let shown: String = first.chars().take(60).collect();
        let more = if shown.len() < typed.len() { "…" } else { "" };
        self.problem(subject(place, &format!("{key} = {shown}{more}")), span, rule)
    }

    /// A problem with a key as such: unknown, or missing.
    pub(in crate::config) fn key_problem(
        &self,
        place: &str,
        key: &str,
        span: Range<usize>,
        rule: Rule,
    ) -> Problem {
        self.problem(subject(place, key), span, rule)
    }

    /// Line and column of a byte offset, both from 1; the column counts characters.
    pub(in crate::config) fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text().get(..self.boundary(offset)).unwrap_or_default();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
        (1 + before.matches('\n').count(), 1 + column)
    }

    /// A parser may point behind the end, or between the bytes of a character.
    fn boundary(&self, offset: usize) -> usize {
        let text = self.text();
        let mut boundary = offset.min(text.len());
        while !text.is_char_boundary(boundary) {
            boundary -= 1;
        }
        boundary
    }

    /// A problem of the file as a whole, or of a table.
    pub(in crate::config) fn problem(&self, subject: String, span: Range<usize>, rule: Rule) -> Problem {
        let start = self.boundary(span.start);
        let end = self.boundary(span.end).max(start);
        let (line, column) = self.position(start);
        Problem { source: Arc::clone(&self.named), span: start..end, also: None, line, column, subject, rule }
    }
}

fn subject(place: &str, what: &str) -> String {
    if place.is_empty() { what.to_owned() } else { format!("{place}: {what}") }
}
