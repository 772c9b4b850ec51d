//! The rules: from what was typed to what is meant.

use std::time::Duration;

use toml::Spanned;

use super::error::{Context, ExperimentError};
use super::file::{RawEvent, RawExperiment, RawLink};
use super::model::{Action, Event, Experiment, Link, Probe, TcpFlow, UdpFlow};
use super::{contender, units, weir_settings};

/// The slots a tap's ring may have: the kernel allocates it in one piece.
const RING_SLOTS: std::ops::RangeInclusive<u32> = 16..=65_535;
/// The UDP payload sizes that fit an unfragmented frame of MTU 1,500 and hold the lab's header.
const UDP_PAYLOAD: std::ops::RangeInclusive<u16> = 24..=1_452;
const MAX_FLOWS: u32 = 256;
const MAX_DURATION: Duration = Duration::from_secs(3_600);

impl RawExperiment {
    pub(super) fn check(self, context: &Context<'_>) -> Result<Experiment, Box<ExperimentError>> {
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
        let known = contender::LAB;
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
