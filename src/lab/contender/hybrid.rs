//! `weir+htb`, `weir+tbf`, `weir+fq_codel`, `weir+cake`: weir, with the queueing discipline of the contender `kernel+…` behind it.
//!
//! The discipline has the same settings for both, so that one run compares them.

use crate::experiment::Experiment;
use crate::lab::error::Result;
use crate::lab::topology::Topology;

use super::qdisc::{Shaped, qdisc_counters};
use super::weir::Weir;
use super::{Attached, Contender, Counters, Prepared};

/// weir in front of a shaper of the kernel's.
#[derive(Debug)]
pub(super) struct Hybrid {
    pub(super) name: &'static str,
    pub(super) shaped: Shaped,
}

impl Contender for Hybrid {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare(&self, topology: &Topology, experiment: &Experiment) -> Result<Prepared> {
        if let Err(reason) = self.shaped.install(topology, experiment)? {
            return Ok(Prepared::Skip(reason));
        }
        Ok(match Weir(self.name).prepare(topology, experiment)? {
            Prepared::Ready(weir) => Prepared::Ready(Box::new(Both { weir })),
            Prepared::Skip(reason) => Prepared::Skip(reason),
        })
    }
}

/// weir, and the discipline that goes with the topology.
struct Both {
    weir: Box<dyn Attached>,
}

impl Attached for Both {
    fn snapshot(&self, topology: &Topology) -> Result<Counters> {
        let mut counters = self.weir.snapshot(topology)?;
        let Counters { drops, marks, .. } = qdisc_counters(topology)?;
        counters.drops.extend(drops);
        counters.marks += marks;
        Ok(counters)
    }
}
