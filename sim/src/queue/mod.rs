//! What stands between the fast link and the slow one: the seam for contenders.

mod bcpqp;
mod cake;
mod cake_rate;
mod chains;
mod classify;
mod cobalt;
mod codel;
mod csfq;
mod drop_tail;
mod dualpi2;
mod fifo;
mod flow_hash;
mod fq_codel;
mod pie;
mod policer;
mod policy;
mod port;
mod priority;
mod ring;
mod router;
mod shaper;
mod stack;
mod subscribers;
mod water;
mod weir;

use std::collections::BTreeMap;

use weir_aqm::{Bytes, Nanos};
use weir_egress::{Decision, policy::Rings};
use weir_shared_maps::{CounterId, PortCounter};

use crate::Packet;

pub use bcpqp::{BcPqp, BcPqpParams, phantom_bytes};
pub use cake::Cake;
pub use cake_rate::CakeRate;
pub use classify::{Prefixes, Rules};
pub use cobalt::{CobaltParams, CobaltVars, CobaltVerdict};
pub use codel::CodelQueue;
pub use csfq::Csfq;
pub use drop_tail::DropTail;
pub use dualpi2::{Credit, DualPi2, DualPi2Params};
pub use flow_hash::FlowHash;
pub use fq_codel::{FqCodel, FqCodelParams};
pub use pie::{Pie, PieParams, PieVars};
pub use policer::Policer;
pub use policy::{PolicyConfig, WeirPolicy};
pub use port::PortSetup;
pub use priority::Priority;
pub use ring::RingQueue;
pub use router::{Router, RouterConfig};
pub use shaper::Shaped;
pub use stack::StackConfig;
pub use subscribers::Subscribers;
pub use water::WaterFilling;
pub use weir::Weir;

/// Most frames that the kernel hands over at once (`DEV_MAP_BULK_SIZE`, `kernel/bpf/devmap.c` at v6.18).
pub const BATCH_MAX: usize = weir_shared_maps::BATCH_MAX;

/// A queue, with whatever decides in front of it or behind it.
pub trait Queue {
    /// Takes a batch of at most [`BATCH_MAX`] frames that arrived together at one CPU of the router; empties it. What is lost
    /// or marked is told to `tally`.
    fn offer(&mut self, now: Nanos, cpu: u32, batch: &mut Vec<Packet>, tally: &mut Tally);

    /// The slow link is free: the next frame, if there is one that may leave now.
    fn take(&mut self, now: Nanos, tally: &mut Tally) -> Option<Packet>;

    /// When frames wait but [`Queue::take`] gave none (a shaper holds them back): when to ask again. Later than `now`.
    fn ready_at(&self, _now: Nanos) -> Option<Nanos> {
        None
    }

    /// When something happens inside though no frame comes and none leaves (the timer of a queueing discipline in front of a
    /// ring): when to call [`Queue::wake`]. Asked after each [`Queue::offer`] and [`Queue::wake`].
    fn wakes_at(&self, _now: Nanos) -> Option<Nanos> {
        None
    }

    /// The time that [`Queue::wakes_at`] gave has come. Frames may wait for the link afterwards.
    fn wake(&mut self, _now: Nanos, _tally: &mut Tally) {}

    /// Frames waiting for the link.
    fn occupancy(&self) -> u32;

    /// Most frames that fit.
    fn slots(&self) -> u32;
}

/// What ingress does with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It comes as it is.
    Free,
    /// It comes with CE.
    Marked,
    /// It is lost as backpressure.
    Refused,
}

/// What decides in front of a ring that it cannot reach into: the place of the XDP programs.
///
/// The calls of one batch: [`Controller::admits`] for each frame, [`Controller::begin_batch`], then for each frame
/// [`Controller::judge`] and, if it goes on, [`Controller::accepted`]; last [`Controller::end_batch`], after the driver took
/// what fitted.
pub trait Controller {
    /// Ingress: how the frame may come.
    fn admits(&mut self, _now: Nanos, _packet: &Packet) -> Entry {
        Entry::Free
    }

    /// Egress, before the first frame.
    fn begin_batch(&mut self, _now: Nanos, _ring: View) {}

    /// Whether a port's rings, up to 16, are one queue for its classes: then [`Controller::add_rings`] follows
    /// [`Controller::begin_batch`].
    const SHARES_RINGS: bool = false;

    /// Bytes that ever entered the ring, and those of them that are in it.
    fn holds(&self, _now: Nanos, _ring: View) -> (u64, Bytes) {
        (0, Bytes::ZERO)
    }

    /// Egress, before the first frame: what all rings of the port hold.
    fn add_rings(&mut self, _rings: &Rings) {}

    /// Egress, one frame.
    fn judge(&mut self, packet: &Packet) -> Decision;

    /// The frame goes to the driver.
    fn accepted(&mut self, _packet: &Packet) {}

    /// The driver took the first `taken` of the accepted frames.
    fn end_batch(&mut self, _now: Nanos, _ring: View, _taken: u32) {}

    /// The driver took a frame of the kernel's stack, which is in the ring now.
    fn stack_sent(&mut self, _now: Nanos, _ring: View, _packet: &Packet) {}
}

/// A ring from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Frames in it.
    pub occupancy: u32,
    /// Slots.
    pub slots: u32,
}

/// Losses by cause, and marks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames lost. Causes have the name of the counter the datapath uses, where it has one.
    pub drops: BTreeMap<&'static str, u64>,
    /// Frames marked.
    pub marks: u64,
    /// Frames that ingress gave to the kernel's stack.
    pub diverted: u64,
    /// Frames that ingress sent out of the spill port.
    pub spilled: u64,
}

impl Tally {
    /// One frame is lost, for a cause that the datapath counts.
    pub fn drop(&mut self, cause: PortCounter) {
        self.lost(cause.name());
    }

    /// One frame is lost.
    pub fn lost(&mut self, cause: &'static str) {
        let count = self.drops.entry(cause).or_default();
        *count = count.saturating_add(1);
    }

    /// All losses.
    pub fn dropped(&self) -> u64 {
        self.drops.values().sum()
    }
}
