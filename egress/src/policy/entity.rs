//! Who shares a class: flows, hosts, subscribers, or the flows of hosts and subscribers.
//!
//! All of them are phantom queues of one share, found by hash. Where flows share the part of their host or subscriber (a group),
//! the group's weight is divided among its flows that have a queue, as CAKE divides a host's (net/sched/sch_cake.c,
//! `cake_get_flow_quantum`, v6.18): water-filling then gives each group its part, however many flows it has. The flows
//! are counted as bits of their hashes over the last [`WINDOW`] to two of them.

use weir_aqm::Nanos;
use weir_shared_maps::{
    ClassPlace, FAIRNESS_DESTINATION_FLOW, FAIRNESS_NONE, FAIRNESS_SOURCE_FLOW, HostState, PacketMeta,
};

/// How long a flow counts as one of its group's after its last packet that found a queue.
const WINDOW: Nanos = Nanos::from_millis(50);
/// Weight of a host, divided among its flows: 60 divides well. Above 60 flows a host gets more than its part.
const HOST_WEIGHT: u32 = 60;
/// Packets of no subscriber share a class as one of about 8 Mbit/s would.
const NOBODY_WEIGHT: u32 = 64;

/// No bucket.
pub const NOWHERE: u32 = u32::MAX;

/// Which phantom queue a packet belongs to. Plain numbers: BPF's verifier does not take what is undefined in an `Option`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKey {
    /// The queue's bucket; [`NOWHERE`] where nothing shares the class.
    pub flow: u32,
    /// Bucket of its group; [`NOWHERE`] where it has none.
    pub group: u32,
    /// Bit that stands for the flow in its group.
    pub bit: u32,
    /// The flow's weight, or its group's.
    pub weight: u32,
}

impl FlowKey {
    /// Nothing shares the class.
    pub const NONE: Self = Self { flow: NOWHERE, group: NOWHERE, bit: 0, weight: 1 };
}

/// Where a packet finds its queue. `subscriber` is its subscriber's weight, 0 where it has none that is limited.
#[inline(always)]
pub(super) fn flow_key(fairness: u32, place: &ClassPlace, meta: &PacketMeta, subscriber: u32) -> FlowKey {
    if place.flow_mask == u32::MAX {
        return FlowKey::NONE;
    }
    let (host, own) = (meta.host_hash(fairness), meta.queue_hash(fairness));
    // The bits that choose the bucket are the low ones.
    let mut key = FlowKey { flow: place.bucket(own), group: NOWHERE, bit: own >> 26, weight: 1 };
    if subscriber != 0 {
        key.weight = subscriber;
        key.flow = place.bucket(own.wrapping_add(meta.subscriber));
        if fairness != FAIRNESS_NONE {
            key.group = place.bucket(meta.subscriber);
        }
    } else if fairness == FAIRNESS_SOURCE_FLOW || fairness == FAIRNESS_DESTINATION_FLOW {
        (key.group, key.weight) = (place.bucket(host), HOST_WEIGHT);
    } else if fairness == FAIRNESS_NONE {
        key.weight = NOBODY_WEIGHT;
    }
    key
}

/// The weight that a queue is charged with: its own, or its part of its group's.
#[inline(always)]
pub(super) fn weight(key: &FlowKey, group: Option<&mut HostState>, queued: bool, now: Nanos) -> u32 {
    match group {
        None => key.weight,
        Some(group) => {
            let flows = seen(group, key.bit, queued, now);
            key.weight.wrapping_add(flows / 2).checked_div(flows).unwrap_or(1).max(1)
        }
    }
}

/// Notes a flow with a queue and gives the number of such flows, at least 1.
#[inline(always)]
fn seen(host: &mut HostState, bit: u32, queued: bool, now: Nanos) -> u32 {
    let age = now.saturating_sub(Nanos::from_nanos(host.since_ns));
    if age >= WINDOW {
        host.before = if age >= WINDOW.saturating_mul(2) { 0 } else { host.now };
        host.now = 0;
        host.since_ns = now.as_nanos();
    }
    if queued {
        host.now |= 1 << (bit & 63);
    }
    let flows = (host.now | host.before).count_ones();
    if flows > 0 { flows } else { 1 }
}
