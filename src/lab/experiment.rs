//! The experiment file: what is run, over what link, with what traffic.
//!
//! Two layers: the structs here mirror the file, strictly (an unknown key is an error) and with the place of every
//! value that a rule may refuse; [`Experiment`] is what is meant, checked. An error names the file, the line, the
//! key and the rule.

use std::path::Path;
use std::time::Duration;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use serde::Deserialize;
use toml::Spanned;

use super::topology::Family;
use super::units::{self, BitRate};
use super::weir_settings;
use crate::config::Config;

/// The slots a tap's ring may have: the kernel allocates it in one piece.
const RING_SLOTS: std::ops::RangeInclusive<u32> = 16..=65_535;
/// The UDP payload sizes that fit an unfragmented frame of MTU 1,500 and hold the lab's header.
const UDP_PAYLOAD: std::ops::RangeInclusive<u16> = 24..=1_452;
const MAX_FLOWS: u32 = 256;
const MAX_DURATION: Duration = Duration::from_secs(3_600);

/// A checked experiment.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// Its name, for the report.
    pub name: String,
    /// How long the traffic runs.
    pub duration: Duration,
    /// The contenders in the order they run.
    pub contenders: Vec<String>,
    /// The family of all traffic.
    pub family: Family,
    /// The slow link.
    pub link: Link,
    /// TCP flows, one entry per flow.
    pub tcp: Vec<TcpFlow>,
    /// UDP flows of a constant rate.
    pub udp: Vec<UdpFlow>,
    /// Delay probes.
    pub probes: Vec<Probe>,
    /// What happens to the link while it runs, by time.
    pub events: Vec<Event>,
    /// The rate the kernel's shapers (`kernel+htb`, `+tbf`, `+fq_codel`, `+cake`) are given.
    pub shaper_rate: BitRate,
    /// The configuration that the `weir` contender runs: the fast device, and the slow one with the file's `[weir]`.
    pub weir: Config,
    /// The file's text, for the report.
    pub source: String,
}

/// The slow link of an experiment.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// What the emulator drains.
    pub rate: BitRate,
    /// One way, in each direction.
    pub delay: Duration,
    /// Slots of the TX ring in front of it.
    pub ring: u32,
    /// Bytes added to each frame's length.
    pub overhead: u32,
    /// A limit of the way back.
    pub reverse_rate: Option<BitRate>,
}

/// One TCP bulk flow.
#[derive(Debug, Clone)]
pub struct TcpFlow {
    /// The kernel's name of its congestion control.
    pub congestion: String,
    /// When it starts.
    pub start: Duration,
    /// When it stops.
    pub stop: Duration,
    /// Whether it offers ECN (a setting of both hosts, so the same for every flow).
    pub ecn: bool,
}

/// One UDP flow.
#[derive(Debug, Clone, Copy)]
pub struct UdpFlow {
    /// Of the payload's IP packets plus Ethernet headers: the rate the link would see.
    pub rate: BitRate,
    /// Payload bytes per packet.
    pub size: u16,
    /// When it starts.
    pub start: Duration,
    /// When it stops.
    pub stop: Duration,
}

/// One stream of delay probes.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// Between two probes.
    pub interval: Duration,
    /// Payload bytes per probe.
    pub size: u16,
}

/// Something that happens to the link.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// When, from the start of the run.
    pub at: Duration,
    /// What.
    pub action: Action,
}

/// What can happen to the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It stops draining the ring.
    Pause,
    /// It drains again.
    Resume,
    /// It drains at another rate.
    Rate(BitRate),
}

impl Experiment {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// [`ExperimentError`] that names the file, the line, the key and the rule.
    pub fn load(path: &Path) -> Result<Self, Box<ExperimentError>> {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&name, &text),
            Err(source) => Err(Box::new(ExperimentError::Read { path: name, source })),
        }
    }

    /// Checks `text`; `file` is what errors call it.
    ///
    /// # Errors
    /// [`ExperimentError`] that names the file, the line, the key and the rule.
    pub fn parse(file: &str, text: &str) -> Result<Self, Box<ExperimentError>> {
        let context = Context { file, text };
        let raw: RawExperiment = toml::from_str(text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            context.error(span, error.message())
        })?;
        raw.check(&context)
    }

    /// Whether any flow asks for ECN.
    #[must_use]
    pub fn ecn(&self) -> bool {
        self.tcp.iter().any(|flow| flow.ecn)
    }

    /// Cuts (or extends) the run to `duration`: what would start later does not run, what would stop later stops then,
    /// and flows that ran to the end still do.
    pub fn set_duration(&mut self, duration: Duration) {
        let was = self.duration;
        let adjust = |stop: Duration| if stop >= was { duration } else { stop.min(duration) };
        for flow in &mut self.tcp {
            flow.stop = adjust(flow.stop);
        }
        for flow in &mut self.udp {
            flow.stop = adjust(flow.stop);
        }
        self.tcp.retain(|flow| flow.start < duration);
        self.udp.retain(|flow| flow.start < duration);
        self.events.retain(|event| event.at < duration);
        self.duration = duration;
    }
}

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
        span: std::ops::Range<usize>,
    },
}

impl Diagnostic for ExperimentError {
    fn code<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        Some(Box::new("weir::lab::experiment"))
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
struct Context<'a> {
    file: &'a str,
    text: &'a str,
}

impl Context<'_> {
    fn error(&self, span: std::ops::Range<usize>, rule: &str) -> Box<ExperimentError> {
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExperiment {
    name: Spanned<String>,
    #[serde(deserialize_with = "spanned_duration")]
    duration: Spanned<Duration>,
    contenders: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    family: Family,
    link: RawLink,
    #[serde(default)]
    tcp: Vec<RawTcp>,
    #[serde(default)]
    udp: Vec<RawUdp>,
    #[serde(default)]
    probe: Vec<RawProbe>,
    #[serde(default)]
    event: Vec<RawEvent>,
    #[serde(default)]
    shaper: RawShaper,
    /// Read by [`super::weir_settings`], with the rules of the configuration file.
    #[serde(default, rename = "weir")]
    _weir: toml::Table,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLink {
    rate: BitRate,
    #[serde(deserialize_with = "spanned_duration")]
    delay: Spanned<Duration>,
    ring: Spanned<u32>,
    #[serde(default)]
    overhead: Option<Spanned<u32>>,
    reverse_rate: Option<BitRate>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTcp {
    count: Option<Spanned<u32>>,
    congestion: Spanned<String>,
    #[serde(default, deserialize_with = "optional_spanned_duration")]
    start: Option<Spanned<Duration>>,
    #[serde(default, deserialize_with = "optional_spanned_duration")]
    stop: Option<Spanned<Duration>>,
    ecn: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUdp {
    rate: BitRate,
    size: Option<Spanned<u16>>,
    #[serde(default, deserialize_with = "optional_spanned_duration")]
    start: Option<Spanned<Duration>>,
    #[serde(default, deserialize_with = "optional_spanned_duration")]
    stop: Option<Spanned<Duration>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProbe {
    #[serde(deserialize_with = "spanned_duration")]
    interval: Spanned<Duration>,
    size: Option<Spanned<u16>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEvent {
    #[serde(deserialize_with = "spanned_duration")]
    at: Spanned<Duration>,
    #[serde(rename = "do")]
    action: Spanned<String>,
    value: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawShaper {
    rate: Option<BitRate>,
}

fn spanned_duration<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Spanned<Duration>, D::Error> {
    let text = Spanned::<DurationText>::deserialize(d)?;
    let span = text.span();
    Ok(Spanned::new(span, text.into_inner().0))
}

fn optional_spanned_duration<'de, D: serde::Deserializer<'de>>(
    d: D,
) -> Result<Option<Spanned<Duration>>, D::Error> {
    spanned_duration(d).map(Some)
}

struct DurationText(Duration);

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        units::duration(d).map(Self)
    }
}

impl RawExperiment {
    fn check(self, context: &Context<'_>) -> Result<Experiment, Box<ExperimentError>> {
        let fail = |span, rule: &str| Err(context.error(span, rule));
        if self.name.get_ref().trim().is_empty() {
            return fail(self.name.span(), "a name may not be empty");
        }
        let duration = *self.duration.get_ref();
        if duration.is_zero() || duration > MAX_DURATION {
            return fail(self.duration.span(), "the duration is longer than 0 and at most 1 hour");
        }
        let contenders = self.check_contenders(context)?;
        let link = self.link.check(context)?;

        let window = |start: &Option<Spanned<Duration>>, stop: &Option<Spanned<Duration>>| {
            let fail = |span, rule: &str| Err(context.error(span, rule));
            let from = start.as_ref().map_or(Duration::ZERO, |s| *s.get_ref());
            let until = stop.as_ref().map_or(duration, |s| *s.get_ref());
            match (start, stop) {
                (_, Some(stop)) if until > duration => {
                    fail(stop.span(), "a flow stops at the end of the experiment at the latest")
                }
                (_, Some(stop)) if until <= from => fail(stop.span(), "a flow stops after it starts"),
                (Some(start), None) if from >= duration => {
                    fail(start.span(), "a flow starts before the experiment ends")
                }
                _ => Ok((from, until)),
            }
        };
        let mut tcp = Vec::new();
        for raw in &self.tcp {
            let (start, stop) = window(&raw.start, &raw.stop)?;
            let count = raw.count.as_ref().map_or(1, |c| *c.get_ref());
            if let Some(spanned) = raw.count.as_ref().filter(|_| !(1..=MAX_FLOWS).contains(&count)) {
                return fail(spanned.span(), "the number of flows is between 1 and 256");
            }
            let congestion = raw.congestion.get_ref();
            if congestion.is_empty() || congestion.len() > 15 || !congestion.is_ascii() {
                return fail(raw.congestion.span(), "a congestion control is named by 1 to 15 letters");
            }
            let flow = TcpFlow { congestion: congestion.clone(), start, stop, ecn: raw.ecn.unwrap_or(false) };
            tcp.extend((0..count).map(|_| flow.clone()));
        }
        let mut udp = Vec::new();
        for raw in &self.udp {
            let (start, stop) = window(&raw.start, &raw.stop)?;
            let size = payload(context, raw.size.as_ref(), 1_200)?;
            udp.push(UdpFlow { rate: raw.rate, size, start, stop });
        }
        let mut probes = Vec::new();
        for raw in &self.probe {
            let interval = *raw.interval.get_ref();
            if interval < Duration::from_micros(100) || interval > Duration::from_secs(10) {
                return fail(raw.interval.span(), "the interval of probes is between 100us and 10s");
            }
            probes.push(Probe { interval, size: payload(context, raw.size.as_ref(), 64)? });
        }
        if tcp.is_empty() && udp.is_empty() && probes.is_empty() {
            return fail(0..0, "an experiment has traffic: at least one of [[tcp]], [[udp]], [[probe]]");
        }
        let mut events = Vec::new();
        for raw in &self.event {
            events.push(raw.check(context, duration)?);
        }
        events.sort_by_key(|event| event.at);
        Ok(Experiment {
            name: self.name.get_ref().clone(),
            duration,
            contenders,
            family: self.family,
            // 95 % of the link: the kernel's queue forms in the shaper, before the ring.
            shaper_rate: self.shaper.rate.unwrap_or_else(|| link.rate.scaled(95, 100)),
            link,
            tcp,
            udp,
            probes,
            events,
            weir: weir_settings::config(context.text).map_err(|(span, rule)| context.error(span, &rule))?,
            source: context.text.to_owned(),
        })
    }

    fn check_contenders(&self, context: &Context<'_>) -> Result<Vec<String>, Box<ExperimentError>> {
        let fail = |span, rule: &str| Err(context.error(span, rule));
        let known = super::contender::NAMES;
        let mut contenders: Vec<String> = Vec::new();
        for contender in self.contenders.get_ref() {
            let name = contender.get_ref();
            if !known.contains(&name.as_str()) {
                let rule = format!("`{name}` is no contender; the contenders are {}", known.join(", "));
                return fail(contender.span(), &rule);
            }
            if contenders.contains(name) {
                return fail(contender.span(), &format!("the contender `{name}` is named twice"));
            }
            contenders.push(name.clone());
        }
        if contenders.is_empty() {
            return fail(self.contenders.span(), "at least one contender runs");
        }
        Ok(contenders)
    }
}

fn payload(
    context: &Context<'_>,
    size: Option<&Spanned<u16>>,
    default: u16,
) -> Result<u16, Box<ExperimentError>> {
    match size {
        None => Ok(default),
        Some(size) if UDP_PAYLOAD.contains(size.get_ref()) => Ok(*size.get_ref()),
        Some(size) => Err(context.error(size.span(), "a payload has 24 to 1452 bytes")),
    }
}

impl RawLink {
    fn check(&self, context: &Context<'_>) -> Result<Link, Box<ExperimentError>> {
        if !RING_SLOTS.contains(self.ring.get_ref()) {
            return Err(context.error(self.ring.span(), "a ring has 16 to 65535 slots"));
        }
        let delay = *self.delay.get_ref();
        if delay > Duration::from_secs(2) {
            return Err(context.error(self.delay.span(), "the one-way delay is at most 2s"));
        }
        if let Some(overhead) = self.overhead.as_ref().filter(|o| *o.get_ref() > 256) {
            return Err(context.error(overhead.span(), "the overhead is at most 256 bytes per frame"));
        }
        Ok(Link {
            rate: self.rate,
            delay,
            ring: *self.ring.get_ref(),
            overhead: self.overhead.as_ref().map_or(0, |o| *o.get_ref()),
            reverse_rate: self.reverse_rate,
        })
    }
}

impl RawEvent {
    fn check(&self, context: &Context<'_>, duration: Duration) -> Result<Event, Box<ExperimentError>> {
        let at = *self.at.get_ref();
        if at >= duration {
            return Err(context.error(self.at.span(), "an event happens before the experiment ends"));
        }
        let action = match (self.action.get_ref().as_str(), &self.value) {
            ("pause", None) => Action::Pause,
            ("resume", None) => Action::Resume,
            ("rate", Some(value)) => Action::Rate(
                units::parse_rate(value.get_ref()).map_err(|rule| context.error(value.span(), &rule))?,
            ),
            ("rate", None) => {
                return Err(context.error(self.action.span(), "the event `rate` has a `value`, the new rate"));
            }
            ("pause" | "resume", Some(value)) => {
                return Err(context.error(value.span(), "only the event `rate` has a value"));
            }
            (other, _) => {
                let rule = format!("`{other}` is no event; the events are pause, resume, rate");
                return Err(context.error(self.action.span(), &rule));
            }
        };
        Ok(Event { at, action })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "t"
duration = "3s"
contenders = ["kernel", "weir"]
[link]
rate = "10mbit"
delay = "10ms"
ring = 1000
[[tcp]]
count = 2
congestion = "cubic"
[[udp]]
rate = "30mbit"
start = "1s"
stop = "2s"
[[probe]]
interval = "10ms"
[[event]]
at = "1s"
do = "rate"
value = "1mbit"
[weir.aqm]
target = "5ms"
"#;

    #[test]
    fn a_good_file_is_read_with_its_defaults() {
        let e = Experiment::parse("t.toml", GOOD).unwrap();
        assert_eq!(e.tcp.len(), 2);
        assert_eq!(e.tcp[1].stop, Duration::from_secs(3));
        assert_eq!(e.udp[0].size, 1_200);
        assert_eq!(e.shaper_rate.bps(), 9_500_000);
        assert_eq!(e.events[0].action, Action::Rate(BitRate::from_bps(1_000_000)));
        assert_eq!(e.family, Family::Ipv4);
        assert_eq!(e.weir.ports[0].aqm.target.map(|t| t.as_nanos()), Some(5_000_000));
    }

    #[test]
    fn every_bad_file_is_refused_with_its_line_its_key_and_its_rule() {
        // What is replaced, by what, the line and the key that the error must name, and a word of the rule.
        let table = [
            ("name = \"t\"", "name = \"\"", 2, "name", "empty"),
            ("name = \"t\"", "nam = \"t\"", 2, "nam", "unknown field"),
            ("\"3s\"", "\"3\"", 3, "duration", "the duration"),
            ("\"3s\"", "\"0s\"", 3, "duration", "longer than 0"),
            ("\"3s\"", "\"2h\"", 3, "duration", "unknown unit"),
            ("\"kernel\", \"weir\"", "\"kernal\"", 4, "contenders", "no contender"),
            ("\"kernel\", \"weir\"", "\"weir\", \"weir\"", 4, "contenders", "twice"),
            ("\"kernel\", \"weir\"", "", 4, "contenders", "at least one"),
            ("rate = \"10mbit\"", "rate = \"10\"", 6, "link.rate", "the rate"),
            ("rate = \"10mbit\"", "rate = 10", 6, "link.rate", "invalid type"),
            ("rate = \"10mbit\"", "rate = \"0mbit\"", 6, "link.rate", "out of range"),
            ("delay = \"10ms\"", "delay = \"3s\"", 7, "link.delay", "at most 2s"),
            ("ring = 1000", "ring = 1", 8, "link.ring", "16 to 65535"),
            ("ring = 1000", "ring = 1000\nslots = 1", 9, "link.slots", "unknown field"),
            ("ring = 1000", "", 5, "link", "missing field `ring`"),
            ("count = 2", "count = 0", 10, "tcp.count", "between 1 and 256"),
            ("count = 2", "count = -1", 10, "tcp.count", "invalid value"),
            ("congestion = \"cubic\"", "congestion = \"\"", 11, "tcp.congestion", "1 to 15"),
            ("congestion = \"cubic\"", "congestion = \"cubic\"\nstart = \"3s\"", 12, "tcp.start", "before"),
            ("rate = \"30mbit\"", "rate = \"30mbit\"\nsize = 1500", 14, "udp.size", "24 to 1452"),
            ("stop = \"2s\"", "stop = \"1s\"", 15, "udp.stop", "after it starts"),
            ("stop = \"2s\"", "stop = \"4s\"", 15, "udp.stop", "at the latest"),
            ("interval = \"10ms\"", "interval = \"1us\"", 17, "probe.interval", "between 100us"),
            ("at = \"1s\"", "at = \"3s\"", 19, "event.at", "before the experiment ends"),
            ("do = \"rate\"", "do = \"stop\"", 20, "event.do", "no event"),
            ("do = \"rate\"", "do = \"pause\"", 21, "event.value", "only the event"),
            ("value = \"1mbit\"", "value = \"1m\"", 21, "event.value", "the rate"),
            ("value = \"1mbit\"", "", 20, "event.do", "has a `value`"),
            ("target = \"5ms\"", "target = \"5 parsecs\"", 23, "weir.aqm.target", "unknown unit"),
            ("target = \"5ms\"", "goal = \"5ms\"", 23, "weir.aqm.goal", ""),
            ("[weir.aqm]", "[weir]\nmode = \"bottle\"\n[weir.aqm]", 23, "weir.mode", ""),
            ("[weir.aqm]", "[weir]\ndevice = \"eth0\"\n[weir.aqm]", 23, "weir.device", "slow device"),
            ("[link]", "[link", 5, "link", ""),
            ("[link]", "family = \"ipx\"\n[link]", 5, "family", "unknown variant"),
        ];
        for (from, to, want_line, want_key, word) in table {
            assert!(GOOD.contains(from), "{from}");
            let text = GOOD.replacen(from, to, 1);
            let error = *Experiment::parse("t.toml", &text).expect_err(to);
            let ExperimentError::Rule { file, line, key, rule, .. } = &error else { panic!("{error}") };
            assert_eq!(file, "t.toml");
            assert_eq!((*line, key.as_str()), (want_line, want_key), "{to:?}: {error}");
            assert!(rule.contains(word), "{to:?}: {rule}");
        }
    }

    #[test]
    fn a_file_without_traffic_is_refused() {
        let text = GOOD.split("[[tcp]]").next().unwrap();
        let error = Experiment::parse("t.toml", text).unwrap_err();
        assert!(error.to_string().contains("has traffic"), "{error}");
    }

    #[test]
    fn a_shorter_duration_cuts_flows_and_events() {
        let mut e = Experiment::parse("t.toml", GOOD).unwrap();
        e.set_duration(Duration::from_secs(1));
        assert_eq!(e.tcp.len(), 2);
        assert_eq!(e.tcp[0].stop, Duration::from_secs(1));
        assert!(e.udp.is_empty());
        assert!(e.events.is_empty());
    }
}
