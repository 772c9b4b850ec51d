//! The rules: from what was typed to what is meant.

mod flows;
mod link;
mod ports;

use std::ops::RangeInclusive;
use std::time::Duration;

use super::claims::claims;
use super::error::{Context, ExperimentError};
use super::file::{RawEvent, RawExperiment, RawShaper};
use super::model::{Action, Event, Experiment, Seeds, ShaperQueues};
use super::{contender, sweep, units, weir_settings};

const MAX_DURATION: Duration = Duration::from_secs(3_600);
const MAX_SEEDS: u32 = 1_000;
const SHAPER_LIMIT: RangeInclusive<u32> = 1..=65_535;

type Result<T> = std::result::Result<T, Box<ExperimentError>>;

impl RawExperiment {
    pub(super) fn check(self, context: &Context<'_>) -> Result<Experiment> {
        let fail = |span, rule: &str| Err(context.error(span, rule));
        if self.name.get_ref().trim().is_empty() {
            return fail(self.name.span(), "a name may not be empty");
        }
        let duration = self.duration.get_ref().0;
        if duration.is_zero() || duration > MAX_DURATION {
            return fail(self.duration.span(), "the duration is longer than 0 and at most 1 hour");
        }
        let warmup = self.warmup.as_ref().map_or(Duration::ZERO, |w| w.get_ref().0);
        if let Some(spanned) = self.warmup.as_ref().filter(|_| warmup >= duration) {
            return fail(spanned.span(), "the warm-up is shorter than the experiment");
        }
        let contenders = self.check_contenders(context)?;
        let link = self.link.get_ref().check(context, self.link.span())?;
        let ports = ports::Ports::default();
        let flows = flows::Checker { context, duration, delay: link.delay, ports };
        flows.take_ports(&self)?;
        let tcp = flows.tcp(&self.tcp)?;
        let (udp, scripted) = flows.udp(&self.udp)?;
        let short = flows.short(&self.short)?;
        let probes = flows.probes(&self.probe)?;
        if tcp.is_empty() && udp.is_empty() && scripted.is_empty() && short.is_empty() && probes.is_empty() {
            return fail(
                0..0,
                "an experiment has traffic: at least one of [[tcp]], [[udp]], [[short]], [[probe]]",
            );
        }
        let mut events = Vec::new();
        for raw in &self.event {
            events.push(raw.check(context, duration)?);
        }
        events.sort_by_key(|event| event.at);
        let change = self.event.iter().find(|event| event.value.is_some());
        if let Some(change) = change.filter(|_| link.trace.is_some()) {
            return fail(change.action.span(), "a link with a trace has no rate that could change");
        }
        Ok(Experiment {
            name: self.name.get_ref().clone(),
            duration,
            warmup,
            seeds: self.check_seeds(context)?,
            contenders,
            family: self.family.as_ref().map(|family| *family.get_ref()).unwrap_or_default(),
            // 95 % of the link: the kernel's queue forms in the shaper, before the ring.
            shaper_rate: self.shaper.rate.unwrap_or_else(|| link.rate.scaled(95, 100)),
            shaper_queues: self.shaper.queues(context, link.ring)?,
            link,
            tcp,
            udp,
            scripted,
            short,
            probes,
            events,
            weir: weir_settings::config(context.text).map_err(|(span, rule)| context.error(span, &rule))?,
            sweep: sweep::axes(&self.sweep, context)?,
            source: context.text.to_owned(),
            file: context.file.to_owned(),
            claims: claims(&self),
        })
    }

    fn check_seeds(&self, context: &Context<'_>) -> Result<Seeds> {
        let count = self.seeds.as_ref().map_or(1, |count| *count.get_ref());
        if let Some(spanned) = self.seeds.as_ref().filter(|_| !(1..=MAX_SEEDS).contains(&count)) {
            return Err(context.error(spanned.span(), "the number of seeds is between 1 and 1000"));
        }
        Ok(Seeds { first: self.seed.as_ref().map_or(1, |seed| *seed.get_ref()), count })
    }

    fn check_contenders(&self, context: &Context<'_>) -> Result<Vec<String>> {
        let fail = |span, rule: &str| Err(context.error(span, rule));
        let mut contenders: Vec<String> = Vec::new();
        for spanned in self.contenders.get_ref() {
            let name = spanned.get_ref();
            contender::check(name).map_err(|rule| context.error(spanned.span(), &rule))?;
            if contenders.contains(name) {
                return fail(spanned.span(), &format!("the contender `{name}` is named twice"));
            }
            contenders.push(name.clone());
        }
        if contenders.is_empty() {
            return fail(self.contenders.span(), "at least one contender runs");
        }
        Ok(contenders)
    }
}

impl RawShaper {
    fn queues(&self, context: &Context<'_>, ring: u32) -> Result<ShaperQueues> {
        let limit = self.limit.as_ref().map_or(ring, |limit| *limit.get_ref());
        if let Some(spanned) = self.limit.as_ref().filter(|_| !SHAPER_LIMIT.contains(&limit)) {
            return Err(context.error(spanned.span(), "a shaper's queue takes 1 to 65535 packets"));
        }
        if let Some(spanned) = self.priority_dscp.as_ref().filter(|dscp| *dscp.get_ref() > 63) {
            return Err(context.error(spanned.span(), "a code point is between 0 and 63"));
        }
        Ok(ShaperQueues { limit, priority_dscp: self.priority_dscp.as_ref().map(|dscp| *dscp.get_ref()) })
    }
}

impl RawEvent {
    fn check(&self, context: &Context<'_>, duration: Duration) -> Result<Event> {
        let at = self.at.get_ref().0;
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
