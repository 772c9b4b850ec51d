//! `kernel`: the kernel forwards, and the slow device keeps its default queueing discipline.

use crate::experiment::{Experiment, SLOW_DEVICE};
use crate::lab::device;
use crate::lab::error::Result;
use crate::lab::topology::{Host, Topology};

use super::qdisc::qdisc_counters;
use super::{Attached, Contender, Counters, Prepared};

/// The cause of a frame that the slow device's driver refused.
pub(super) const DEVICE_RING_FULL: &str = "device_ring_full";

/// The kernel's forwarding, as it comes.
#[derive(Debug)]
pub(super) struct Kernel;

impl Contender for Kernel {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn prepare(&self, _topology: &Topology, _experiment: &Experiment) -> Result<Prepared> {
        Ok(Prepared::Ready(Box::new(KernelForwarding)))
    }
}

/// The kernel's forwarding with whatever queueing discipline the slow device has now.
#[derive(Debug)]
pub(super) struct KernelForwarding;

impl Attached for KernelForwarding {
    fn snapshot(&self, topology: &Topology) -> Result<Counters> {
        let router = topology.host(Host::Router);
        let mut counters = qdisc_counters(topology)?;
        // For frames of the stack tun counts each one that meets a full ring (`tun_net_xmit`).
        let ring = router.run(|| device::counters(SLOW_DEVICE))?.tx_dropped;
        counters.drops.insert(DEVICE_RING_FULL.to_owned(), ring);
        counters.ring_drops = Some(ring);
        Ok(counters)
    }
}
