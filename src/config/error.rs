//! What is wrong with a configuration: the file, the line, the key, the value and the rule.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use thiserror::Error;

use super::back_off::BackOffRule;
use super::model::NameError;
use super::policy::PolicyRule;
use super::units::UnitError;

/// Larger files are refused unread.
pub(super) const MAX_FILE_BYTES: u64 = 1 << 20;

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

/// The rules of a configuration file. Bounds stand in the variants, so that the text cannot disagree with the check.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
pub enum Rule {
    /// Not TOML.
    #[error("not valid TOML: {message}")]
    #[diagnostic(
        code(weir::config::syntax),
        help("https://toml.io describes the format; strings stand in double quotes")
    )]
    Syntax {
        /// What the parser said.
        message: String,
    },
    /// A key that this table does not have.
    #[error("unknown key; this table has the keys {allowed}")]
    #[diagnostic(code(weir::config::unknown_key), help("{}", did_you_mean(nearest)))]
    UnknownKey {
        /// The keys of the table.
        allowed: String,
        /// The key that was probably meant.
        nearest: Option<&'static str>,
    },
    /// A value of another TOML type.
    #[error("must be {expected}, is {found}")]
    #[diagnostic(code(weir::config::wrong_type), help("for example: {example}"))]
    WrongType {
        /// The type asked for, with an article.
        expected: &'static str,
        /// The type found, with an article.
        found: &'static str,
        /// A line that would do.
        example: &'static str,
    },
    /// A key without which the table means nothing.
    #[error("the key is missing")]
    #[diagnostic(code(weir::config::missing_key), help("for example: {example}"))]
    MissingKey {
        /// A line that would do.
        example: &'static str,
    },
    /// No `[[ingress]]`.
    #[error("at least one [[ingress]] table is required")]
    #[diagnostic(code(weir::config::no_ingress), help("add:\n[[ingress]]\ndevice = \"lan0\""))]
    NoIngress,
    /// No `[[port]]`.
    #[error("at least one [[port]] table is required")]
    #[diagnostic(code(weir::config::no_port), help("add:\n[[port]]\ndevice = \"wan0\""))]
    NoPort,
    /// Too many tables of a kind.
    #[error("at most {most} {table} tables are allowed, this is the {nth}th")]
    #[diagnostic(code(weir::config::too_many), help("run a second instance for further devices"))]
    TooMany {
        /// `[[ingress]]` or `[[port]]`.
        table: &'static str,
        /// The bound.
        most: usize,
        /// Number of this table, from 1.
        nth: usize,
    },
    /// A device stands in two tables of a kind.
    #[error("the device already has {table} table")]
    #[diagnostic(
        code(weir::config::duplicate_device),
        help("a device may be an ingress and a port, but each of them once; merge the two tables")
    )]
    DuplicateDevice {
        /// `an [[ingress]]` or `a [[port]]`.
        table: &'static str,
    },
    /// Not a device name.
    #[error("a device name {0}")]
    #[diagnostic(
        code(weir::config::device_name),
        help(
            "the kernel's rule: 1 to 15 bytes without `/`, `:` or white space; `ip link` lists the devices"
        )
    )]
    DeviceName(NameError),
    /// Not an instance name.
    #[error("an instance name {0}")]
    #[diagnostic(
        code(weir::config::instance_name),
        help(
            "1 to 32 characters of a-z, 0-9, `_` and `-`: the name becomes a directory of the BPF file system"
        )
    )]
    InstanceName(NameError),
    /// Not a number with a unit.
    #[error("{0}")]
    #[diagnostic(code(weir::config::unit), help("write the number and its unit in quotes, for example {example}", example = .1))]
    Unit(UnitError, &'static str),
    /// Not one of the words that the key takes.
    #[error("must be one of {allowed}")]
    #[diagnostic(code(weir::config::choice), help("{}", did_you_mean(nearest)))]
    Choice {
        /// The words.
        allowed: &'static str,
        /// The word that was probably meant.
        nearest: Option<&'static str>,
    },
    /// A number outside of its range.
    #[error("must be from {low} to {high}{unit}")]
    #[diagnostic(code(weir::config::range), help("{why}"))]
    Range {
        /// Smallest value.
        low: i64,
        /// Largest value.
        high: i64,
        /// Unit with a leading space, or empty.
        unit: &'static str,
        /// What the number stands for.
        why: &'static str,
    },
    /// A rate of zero.
    #[error("a rate of 0 would stop the port")]
    #[diagnostic(code(weir::config::rate_zero), help("leave the key out where no rate is to be set"))]
    RateZero,
    /// Below the slowest rate.
    #[error("must be at least 64kbit")]
    #[diagnostic(code(weir::config::rate_too_low), help("at 64 kbit/s a full frame takes 190 ms already"))]
    RateTooLow,
    /// Above the fastest rate.
    #[error("must be at most 400gbit")]
    #[diagnostic(
        code(weir::config::rate_too_high),
        help("above it time per byte is no longer represented exactly enough")
    )]
    RateTooHigh,
    /// A policer that polices nothing.
    #[error("mode \"{mode}\" needs a rate")]
    #[diagnostic(code(weir::config::policer_without_rate), help("add, for example: rate = \"20mbit\""))]
    MeterWithoutRate {
        /// The mode.
        mode: &'static str,
    },
    /// A port that the stack alone sends to, and nobody decides.
    #[error("mode \"{mode}\" needs stack = \"decide\"")]
    #[diagnostic(
        code(weir::config::stack_of_tc),
        help(
            "where the kernel forwards, its stack sends everything that leaves by the port; remove the key"
        )
    )]
    StackOfTc {
        /// The mode.
        mode: &'static str,
    },
    /// A burst where no meter runs.
    #[error("only a policer has a burst; this port's mode is \"bottleneck\"")]
    #[diagnostic(
        code(weir::config::burst_on_bottleneck),
        help("remove the key, or set mode = \"policer\"; the queue of a bottleneck is bounded by aqm.limit")
    )]
    BurstOnBottleneck,
    /// Frames that ask a sender to stop, where no queue builds up that it could wait for.
    #[error("a policer drops what exceeds its rate; it has no queue to ask senders to wait for")]
    #[diagnostic(
        code(weir::config::pause_on_policer),
        help("remove the key, or set mode = \"bottleneck\" where the port's own ring is the queue")
    )]
    PauseOnPolicer,
    /// Flow control by class without classes.
    #[error("\"pfc\" pauses the priorities of classes, and this port has no [[port.class]]")]
    #[diagnostic(
        code(weir::config::pfc_without_classes),
        help("add classes, or set pause = \"802.3x\", which stops all of a link")
    )]
    PfcWithoutClasses,
    /// A burst that no full frame passes.
    #[error("must hold at least one full frame, {least} bytes")]
    #[diagnostic(
        code(weir::config::burst_too_small),
        help(
            "a smaller burst would drop every full frame, whatever the rate; leave the key out for a fitting default"
        )
    )]
    BurstTooSmall {
        /// 1,500 bytes of MTU, the Ethernet header and the overhead.
        least: u64,
    },
    /// A burst beyond what a meter can hold.
    #[error("must be at most 2gb")]
    #[diagnostic(code(weir::config::burst_too_large), help("a burst is a few milliseconds of the rate"))]
    BurstTooLarge,
    /// A rule of classes, classification, plans or subscribers.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Policy(PolicyRule),
    /// A rule of what ingress does while a signal stands.
    #[error(transparent)]
    #[diagnostic(transparent)]
    BackOff(BackOffRule),
    /// A time of zero.
    #[error("must be above 0")]
    #[diagnostic(code(weir::config::time_zero), help("for example: {example}"))]
    TimeZero {
        /// A line that would do.
        example: &'static str,
    },
    /// A target that CoDel could never act on.
    #[error("the target must be below the interval ({interval})")]
    #[diagnostic(
        code(weir::config::target_not_below_interval),
        help(
            "RFC 8289 section 4.3: a target of 5 to 10 % of the interval; the interval is a typical round-trip time"
        )
    )]
    TargetNotBelowInterval {
        /// The interval as given, or the default.
        interval: String,
    },
    /// An interval beyond the programs' 32 bits of nanoseconds.
    #[error("must be at most 4.294967295s")]
    #[diagnostic(
        code(weir::config::interval_too_long),
        help("the interval is a typical round-trip time (RFC 8289 section 4.2), 100ms fits the Internet")
    )]
    IntervalTooLong,
    /// A time above an hour.
    #[error("must be at most 1h (3600s)")]
    #[diagnostic(
        code(weir::config::limit_too_long),
        help("a packet that waits for seconds is of no use to anyone")
    )]
    LimitTooLong,
    /// A limit that cuts the queue before the AQM acts.
    #[error("the limit must not be below the target ({target})")]
    #[diagnostic(
        code(weir::config::limit_below_target),
        help("every packet beyond the limit is dropped, so a lower limit would leave the AQM nothing to do")
    )]
    LimitBelowTarget {
        /// The target as given, or the default.
        target: String,
    },
    /// A key of an AQM that is switched off.
    #[error("has no effect while algorithm is \"none\"")]
    #[diagnostic(
        code(weir::config::aqm_key_unused),
        help("remove the key, or choose algorithm = \"codel\" or \"pi2\"")
    )]
    AqmKeyUnused,
    /// A key of another AQM than the one chosen.
    #[error("has no effect while algorithm is \"{algorithm}\"")]
    #[diagnostic(
        code(weir::config::aqm_key_of_another),
        help("remove the key: interval is CoDel's and PI2's, t_update and max_burst are PIE's")
    )]
    AqmKeyOfAnother {
        /// The algorithm chosen.
        algorithm: &'static str,
    },
    /// A VLAN listed twice.
    #[error("the VLAN is listed twice")]
    #[diagnostic(code(weir::config::vlan_duplicate), help("remove one of the two"))]
    VlanDuplicate,
    /// Generic XDP.
    #[error("generic XDP is not supported")]
    #[diagnostic(
        code(weir::config::xdp_generic),
        help(
            "generic XDP runs after the kernel has built its packet buffer: the programs of the device map and the \
             metadata between ingress and egress do not work there on all kernels; use a device with native XDP"
        )
    )]
    XdpGeneric,
    /// Not an address and a port.
    #[error("must be an IP address and a port")]
    #[diagnostic(
        code(weir::config::listen),
        help(
            "for example \"127.0.0.1:9469\" or \"[::1]:9469\"; names are not resolved, the port must not be 0"
        )
    )]
    Listen,
}

fn did_you_mean(nearest: &Option<&'static str>) -> String {
    match nearest {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => "docs/config.md lists every key".to_owned(),
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
