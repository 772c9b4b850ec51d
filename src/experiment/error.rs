//! Why an experiment file is not one: the file, the line, the key and the rule.

use std::ops::Range;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};

/// Why an experiment file is not one.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A key or a value breaks a rule.
    #[error("{file}:{line}: {key}: {rule}")]
    Rule {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The key with its table (`link.rate`), or the table.
        key: String,
        /// The rule it breaks.
        rule: String,
        /// The text, for the snippet.
        source_code: NamedSource<String>,
        /// The bytes to point at.
        span: Range<usize>,
    },
}

impl Diagnostic for ExperimentError {
    fn code<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        Some(Box::new("weir::experiment"))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        match self {
            Self::Read { .. } => None,
            Self::Rule { source_code, .. } => Some(source_code),
        }
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        match self {
            Self::Read { .. } => None,
            Self::Rule { span, key, .. } => {
                Some(Box::new(std::iter::once(LabeledSpan::new_with_span(Some(key.clone()), span.clone()))))
            }
        }
    }
}

/// The file being checked, to build errors from.
pub(super) struct Context<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
}

impl Context<'_> {
    pub(super) fn error(&self, span: Range<usize>, rule: &str) -> Box<ExperimentError> {
        let start = span.start.min(self.text.len());
        Box::new(ExperimentError::Rule {
            file: self.file.to_owned(),
            line: self.text.get(..start).map_or(0, |before| before.matches('\n').count()) + 1,
            key: key_at(self.text, start),
            rule: rule.lines().collect::<Vec<_>>().join(" "),
            source_code: NamedSource::new(self.file, self.text.to_owned()),
            span,
        })
    }
}

/// The key that the byte at `offset` belongs to, with its table: `link.rate`, `tcp`, `the file`.
fn key_at(text: &str, offset: usize) -> String {
    let line_start = text.get(..offset).and_then(|t| t.rfind('\n')).map_or(0, |i| i + 1);
    let line_end = text.get(offset..).and_then(|t| t.find('\n')).map_or(text.len(), |i| offset + i);
    let line = text.get(line_start..line_end).unwrap_or("").trim();
    let header = |line: &str| {
        let line = line.trim();
        line.starts_with('[')
            .then(|| line.split(']').next().unwrap_or("").trim_matches(['[', ' ']).to_owned())
    };
    let key = line.split_once('=').map(|(key, _)| key.trim().to_owned());
    let table = match (&key, header(line)) {
        (None, Some(table)) => Some(table),
        _ => text.get(..line_start).and_then(|before| before.lines().rev().find_map(header)),
    };
    match (table, key) {
        (Some(table), Some(key)) => format!("{table}.{key}"),
        (Some(name), None) | (None, Some(name)) => name,
        (None, None) => "the file".to_owned(),
    }
}
