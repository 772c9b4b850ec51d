//! `csfq`: a plain redirect whose devmap program divides the shaper's rate by core-stateless fair queueing's dropping.
//!
//! The decision is `weir_aqm::csfq`, which the simulator's contender of this name runs, too. What the ring refuses stays charged
//! there and here.

use weir_aqm::Rate;
use weir_shared_maps::{ClassCounter, CounterId as _};

use crate::datapath::rival;
use crate::experiment::{Experiment, FAST_DEVICE, SLOW_DEVICE};
use crate::lab::device;
use crate::lab::error::{Error, Result};
use crate::lab::topology::{Host, Topology};

use super::{Attached, ClassCounters, Contender, Counters, Prepared};

/// The causes among what it counts.
const DROPS: [ClassCounter; 3] = [ClassCounter::DropAqm, ClassCounter::DropFairness, ClassCounter::DropBusy];

/// The rival of weir's fairness.
#[derive(Debug)]
pub(super) struct Csfq;

impl Contender for Csfq {
    fn name(&self) -> &'static str {
        "csfq"
    }

    fn prepare(&self, topology: &Topology, experiment: &Experiment) -> Result<Prepared> {
        let rate = experiment.shaper_rate;
        let pace = Rate::from_bits_per_second(rate.bps()).pace().ok_or_else(|| Error::Contender {
            name: self.name().to_owned(),
            reason: format!("its rate is 64 kbit/s to 400 Gbit/s, and shaper.rate is {rate}"),
        })?;
        let rival = topology.host(Host::Router).run(|| {
            let (fast, slow) = (device::index_of(FAST_DEVICE)?, device::index_of(SLOW_DEVICE)?);
            rival::Csfq::attach(fast, slow, pace).map_err(|error| Error::contender(self.name(), &error))
        })?;
        Ok(Prepared::Ready(Box::new(Running(rival))))
    }
}

struct Running(rival::Csfq);

impl Attached for Running {
    fn snapshot(&self, _topology: &Topology) -> Result<Counters> {
        let counted = self.0.program().counters().map_err(|error| Error::contender(Csfq.name(), &error))?;
        let count = |counter: ClassCounter| counted.get(counter.name()).copied().unwrap_or(0);
        Ok(Counters {
            drops: DROPS.into_iter().map(|cause| (cause.name().to_owned(), count(cause))).collect(),
            marks: count(ClassCounter::Marked),
            // What the ring refuses is nobody's here: the lab's meter counts it.
            ring_drops: None,
            unaccounted: None,
            // It has one class, as the fair class of weir's that it is compared with.
            classes: vec![ClassCounters {
                class: "all".to_owned(),
                counters: counted.into_iter().map(|(name, n)| (name.to_owned(), n)).collect(),
            }],
        })
    }
}
