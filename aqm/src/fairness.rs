//! Fairness between flows where packets can only be let through or not: a phantom queue and a CoDel for each flow.
//!
//! Each flow has a phantom queue on a shared drain ([`crate::share`]). Its sojourn time, backlog over its part of the
//! drain's rate, is what a packet would have waited in a fair queueing scheduler, and CoDel signals on it as
//! FQ-CoDel does on a real one (RFC 8290). A hard cap bounds what an unresponsive flow can hold. A flow whose queue
//! is empty is never signalled and, below [`FairnessParams::limit`], never refused: sparse flows lose nothing.
//!
//! What one FIFO behind the verdicts cannot give is the sparse flow's place ahead of the others: it waits with them.
//!
//! In front of a plan's rate drain with [`ShareVars::drain_timed`]; in front of a real queue with
//! [`ShareVars::drain_anchored`]. Then [`judge`], and [`ShareVars::charge`] for what is let through.

use crate::codel::{CodelParams, CodelVars};
use crate::share::{ShareParams, ShareVars, TagVars};
use crate::units::{Bytes, Nanos, Pace};
use crate::unresponsive::ResponseVars;
use crate::verdict::Verdict;

/// Configuration of fair flows on one drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FairnessParams {
    /// The wheel; its horizon holds `cap` at the drain's rate for the flow of smallest weight.
    pub share: ShareParams,
    /// The controller of each flow. Queues of up to `max_packet`, two full-sized packets, are left alone: at many
    /// flows a packet alone takes longer than any target (as in net/sched/sch_cake.c, `cobalt_should_drop`).
    pub codel: CodelParams,
    /// Sojourn time of a flow's queue from which its packets are refused.
    pub cap: Nanos,
    /// Sojourn time of all queues together from which only flows with an empty queue get a packet through, and at
    /// twice of which nobody does. Flows that come to stand at `cap` one after the other add up to `cap` times a
    /// harmonic number; beyond are more flows than the rate has packets for, and floods of new flows, each too short
    /// to be told from a sparse one.
    pub limit: Nanos,
}

impl FairnessParams {
    /// CoDel's internet defaults with a cap of `cap` on a drain of at most `pace`.
    pub fn new(pace: Pace, cap: Nanos, max_packet: Bytes) -> Self {
        let room = pace.bytes_in(cap).saturating_add(max_packet.saturating_mul(4));
        Self {
            share: ShareParams::for_horizon(room.get()),
            codel: CodelParams::internet(max_packet.saturating_mul(2)),
            cap,
            limit: cap.saturating_mul(4),
        }
    }
}

/// State of one flow: 64 bytes. The default is an idle flow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowVars {
    /// Its phantom queue.
    pub tag: TagVars,
    /// [`CodelVars::first_above`].
    pub first_above: Nanos,
    /// [`CodelVars::drop_next`].
    pub drop_next: Nanos,
    /// [`CodelVars::count`], which stops at 65,535.
    pub count: u16,
    /// [`CodelVars::last_count`].
    pub last_count: u16,
    /// 1 while an episode of signalling is on, else 0.
    pub dropping: u16,
    /// Nobody reads it: for who writes to a flow to have its cache line fetched.
    pub ahead: u16,
    /// How it reacts to losses.
    pub response: ResponseVars,
}

/// What fairness says about one packet.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FairnessVerdict {
    /// Within its share.
    Accept,
    /// Signal congestion with this packet: mark it if it may be marked, else drop it.
    Signal,
    /// The flow is far above its share: drop, whatever the packet's ECN field says.
    OverShare,
    /// Too many flows for the rate: drop.
    OverLimit,
}

/// Judges one arriving packet of a flow, on a share that has been drained up to `now`.
///
/// Nothing is charged: the caller charges what it lets through, so that a dropped packet costs its flow nothing.
#[inline(always)]
pub fn judge(
    params: &FairnessParams,
    share: &ShareVars,
    flow: &mut FlowVars,
    pace: Pace,
    now: Nanos,
) -> FairnessVerdict {
    let queue = share.queue(&params.share, &flow.tag);
    let total = pace.time_for(share.backlog());
    if total >= params.limit && (queue > Bytes::ZERO || total >= params.limit.saturating_mul(2)) {
        return FairnessVerdict::OverLimit;
    }
    if queue <= params.codel.max_packet {
        flow.end_episode();
        return FairnessVerdict::Accept;
    }
    let sojourn = pace.time_for(share.ahead(&params.share, &flow.tag));
    if sojourn >= params.cap {
        return FairnessVerdict::OverShare;
    }
    match flow.control(&params.codel, now, sojourn, queue) {
        Verdict::Pass => FairnessVerdict::Accept,
        Verdict::Signal => FairnessVerdict::Signal,
    }
}

impl FlowVars {
    #[inline(always)]
    fn end_episode(&mut self) {
        self.first_above = Nanos::ZERO;
        self.dropping = 0;
    }

    #[inline(always)]
    fn control(&mut self, params: &CodelParams, now: Nanos, sojourn: Nanos, queue: Bytes) -> Verdict {
        let mut codel = CodelVars {
            first_above: self.first_above,
            drop_next: self.drop_next,
            // The queue is not empty, so it has not emptied since: CoDel need not find out from the times.
            last_arrival: now,
            last_sojourn: Nanos::MAX,
            count: u32::from(self.count),
            last_count: u32::from(self.last_count),
            dropping: self.dropping != 0,
        };
        let verdict = codel.on_enqueue(params, now, sojourn, queue);
        self.first_above = codel.first_above;
        self.drop_next = codel.drop_next;
        self.count = codel.count as u16;
        self.last_count = codel.last_count as u16;
        self.dropping = u16::from(codel.dropping);
        verdict
    }
}
