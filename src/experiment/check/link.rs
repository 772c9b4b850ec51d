//! The rules of `[link]`.

use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use weir_sim::trace::{Trace, TraceError};

use super::Result;
use crate::experiment::error::Context;
use crate::experiment::file::{Key, RawLink, RawSpillLink, Time};
use crate::experiment::model::{Link, SimulatedLink, SpillLink};
use crate::experiment::units::BitRate;

/// The slots a tap's ring may have: the kernel allocates it in one piece.
const RING_SLOTS: RangeInclusive<u32> = 16..=65_535;
const RING_RULE: &str = "a ring has 16 to 65535 slots";
const MAX_DELAY: Duration = Duration::from_secs(2);
const DELAY_RULE: &str = "the one-way delay is at most 2s";
const CPUS: RangeInclusive<u32> = 1..=64;
/// The rate of the fast links where the file gives none.
const FAST_RATE: BitRate = BitRate::from_bps(10_000_000_000);
/// How long interrupts are coalesced where the file says nothing.
const POLL: Duration = Duration::from_micros(20);

impl RawLink {
    pub(super) fn check(&self, context: &Context<'_>, table: Range<usize>) -> Result<Link> {
        if !RING_SLOTS.contains(self.ring.get_ref()) {
            return Err(context.error(self.ring.span(), RING_RULE));
        }
        let delay = self.delay.get_ref().0;
        if delay > MAX_DELAY {
            return Err(context.error(self.delay.span(), DELAY_RULE));
        }
        if let Some(overhead) = self.overhead.as_ref().filter(|o| *o.get_ref() > 256) {
            return Err(context.error(overhead.span(), "the overhead is at most 256 bytes per frame"));
        }
        let trace = self.trace(context)?;
        let rate = match (&self.rate, &trace) {
            (Some(rate), _) => *rate.get_ref(),
            (None, Some(trace)) => mean_rate(trace),
            (None, None) => return Err(context.error(table, "a link has a `rate` or a `trace`")),
        };
        Ok(Link {
            rate,
            trace,
            delay,
            ring: *self.ring.get_ref(),
            overhead: self.overhead.as_ref().map_or(0, |o| *o.get_ref()),
            reverse_rate: self.reverse_rate,
            simulated: self.simulated(context)?,
        })
    }

    fn simulated(&self, context: &Context<'_>) -> Result<SimulatedLink> {
        let ring = *self.ring.get_ref();
        let cpus = self.cpus.as_ref().map_or(1, |cpus| *cpus.get_ref());
        if let Some(spanned) = self.cpus.as_ref().filter(|_| !CPUS.contains(&cpus)) {
            return Err(context.error(spanned.span(), "a router has 1 to 64 CPUs"));
        }
        let reclaim = self.reclaim.as_ref().map_or(1, |reclaim| *reclaim.get_ref());
        if let Some(spanned) = self.reclaim.as_ref().filter(|_| reclaim == 0 || reclaim > ring / 2) {
            let rule = "slots are given back in groups of 1 to half of the ring";
            return Err(context.error(spanned.span(), rule));
        }
        Ok(SimulatedLink {
            jitter: at_most(context, &self.jitter, Duration::ZERO, "1s", Duration::from_secs(1))?,
            loss_ppm: millionths(context, &self.loss)?,
            reverse_loss_ppm: millionths(context, &self.reverse_loss)?,
            fast_rate: self.fast_rate.as_ref().map_or(FAST_RATE, |rate| *rate.get_ref()),
            cpus,
            poll: at_most(context, &self.poll, POLL, "10ms", Duration::from_millis(10))?,
            ring_per_cpu: self.ring_per_cpu.as_ref().is_some_and(|key| *key.get_ref()),
            reclaim,
            spill: self.spill.as_ref().map(|spill| spill.get_ref().check(context)).transpose()?,
        })
    }

    fn trace(&self, context: &Context<'_>) -> Result<Option<Arc<Trace>>> {
        let Some(spanned) = &self.trace else { return Ok(None) };
        let path = beside(context.file, spanned.get_ref());
        let fail = |reason: &str| context.error(spanned.span(), &format!("{}: {reason}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|error| fail(&error.to_string()))?;
        let trace: Trace = text.parse().map_err(|error: TraceError| fail(&error.to_string()))?;
        Ok(Some(Arc::new(trace)))
    }
}

impl RawSpillLink {
    fn check(&self, context: &Context<'_>) -> Result<SpillLink> {
        let Self { rate, delay, ring } = self;
        if !RING_SLOTS.contains(ring.get_ref()) {
            return Err(context.error(ring.span(), RING_RULE));
        }
        if delay.get_ref().0 > MAX_DELAY {
            return Err(context.error(delay.span(), DELAY_RULE));
        }
        Ok(SpillLink { rate: *rate.get_ref(), delay: delay.get_ref().0, ring: *ring.get_ref() })
    }
}

/// The path of a file that an experiment file names: beside it.
pub(super) fn beside(experiment: &str, named: &str) -> PathBuf {
    Path::new(experiment).parent().unwrap_or(Path::new("")).join(named)
}

/// The mean over one period.
fn mean_rate(trace: &Trace) -> BitRate {
    let opportunities = trace.opportunities();
    let period = opportunities.last().map_or(1, |last| last.as_nanos()).max(1);
    let bits = 8 * u128::from(Trace::OPPORTUNITY_BYTES) * opportunities.len() as u128;
    let bps = bits * 1_000_000_000 / u128::from(period);
    BitRate::from_bps(u64::try_from(bps).unwrap_or(BitRate::MAX_BPS))
}

/// A duration of at most `most`.
pub(super) fn at_most(
    context: &Context<'_>,
    key: &Key<Time>,
    default: Duration,
    most_text: &str,
    most: Duration,
) -> Result<Duration> {
    match key {
        None => Ok(default),
        Some(spanned) if spanned.get_ref().0 <= most => Ok(spanned.get_ref().0),
        Some(spanned) => Err(context.error(spanned.span(), &format!("it is at most {most_text}"))),
    }
}

/// A share of at most a half, in millionths.
fn millionths(context: &Context<'_>, key: &Key<f64>) -> Result<u32> {
    match key {
        None => Ok(0),
        Some(share) if (0.0..=0.5).contains(share.get_ref()) => Ok((share.get_ref() * 1e6).round() as u32),
        Some(share) => Err(context.error(share.span(), "the share of frames lost is between 0 and 0.5")),
    }
}
