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
mod ring;
mod shaper;
mod water;
mod weir;

use std::collections::BTreeMap;

use weir_aqm::Nanos;
use weir_egress::Decision;
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
pub use ring::RingQueue;
pub use shaper::Shaped;
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

    /// Frames waiting.
    fn occupancy(&self) -> u32;

    /// Most frames that fit.
    fn slots(&self) -> u32;
}

/// What decides in front of a ring that it cannot reach into: the place of the XDP programs.
///
/// The calls of one batch: [`Controller::admits`] for each frame, [`Controller::begin_batch`], then for each frame
/// [`Controller::judge`] and, if it goes on, [`Controller::accepted`]; last [`Controller::end_batch`], after the driver took
/// what fitted.
pub trait Controller {
    /// Ingress: whether the frame may come at all. Those that may not are lost as backpressure.
    fn admits(&mut self, _now: Nanos) -> bool {
        true
    }

    /// Egress, before the first frame.
    fn begin_batch(&mut self, _now: Nanos, _ring: View) {}

    /// Egress, one frame.
    fn judge(&mut self, packet: &Packet) -> Decision;

    /// The frame goes to the driver.
    fn accepted(&mut self, _packet: &Packet) {}

    /// The driver took the first `taken` of the accepted frames.
    fn end_batch(&mut self, _now: Nanos, _ring: View, _taken: u32) {}
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
