//! What egress does with a packet.

use weir_shared_maps::PortCounter;

/// The strongest verdict on one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// Hand it to the driver.
    Accept,
    /// The AQM signals congestion: mark the packet if it may be marked and is ECN-capable, else drop it
    /// ([`PortCounter::DropAqm`]).
    Signal {
        /// Marking is allowed: the config wants ECN and the load is one that heeds marks.
        may_mark: bool,
    },
    /// Hand it to the driver: another CPU was deciding at this moment, and nobody waits for it
    /// ([`PortCounter::AqmBusy`]).
    Undecided,
    /// Drop it, for this reason.
    Drop(PortCounter),
}
