//! `redirect`: an XDP program on the fast device redirects to the slow one, and nothing watches the ring.

use crate::datapath::baseline;
use crate::experiment::{Experiment, FAST_DEVICE, SLOW_DEVICE};
use crate::lab::device;
use crate::lab::error::{Error, Result};
use crate::lab::topology::{Host, Topology};

use super::{Attached, Contender, Counters, Prepared};

/// Plain XDP redirect, the baseline.
#[derive(Debug)]
pub(super) struct Redirect;

impl Contender for Redirect {
    fn name(&self) -> &'static str {
        "redirect"
    }

    fn prepare(&self, topology: &Topology, _experiment: &Experiment) -> Result<Prepared> {
        let redirect = topology.host(Host::Router).run(|| {
            let (fast, slow) = (device::index_of(FAST_DEVICE)?, device::index_of(SLOW_DEVICE)?);
            baseline::Redirect::attach(fast, slow).map_err(|error| Error::contender(self.name(), &error))
        })?;
        Ok(Prepared::Ready(Box::new(Redirecting { _redirect: redirect })))
    }
}

/// The attached program. It counts nothing, and so knows of no drop: what a router that does this can say.
struct Redirecting {
    _redirect: baseline::Redirect,
}

impl Attached for Redirecting {
    fn snapshot(&self, _topology: &Topology) -> Result<Counters> {
        Ok(Counters::default())
    }
}
