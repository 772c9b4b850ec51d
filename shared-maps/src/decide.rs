//! What deciding on classes needs beside their configuration: where a class stands, and its state.
//!
//! The layouts of [`ShareState`], [`TagState`], [`FlowState`] and what they hold are those of `weir-aqm`'s share, tag and flow, which egress works on in place
//! (a share is a kilobyte, and BPF's stack half of one); `egress/src/policy/state.rs` proves that they agree.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{AqmState, BATCH_MAX};

/// Priorities of classes.
pub const PRIORITIES: usize = 8;
/// Buckets of a share's wheel.
pub const SHARE_BUCKETS: usize = 64;
/// Flow buckets of a class that asks for fairness; its hosts have as many. A power of two.
pub const FLOW_BUCKETS: u32 = 1024;
/// Flow buckets of a class of a port with subscribers, at most. A power of two.
pub const SUBSCRIBER_BUCKETS_MAX: u32 = 16_384;

/// What follows from all classes of a port for one of them. User space computes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ClassPlace {
    /// How many priorities in use come before the class's.
    pub rank: u32,
    /// Priorities in use at the port.
    pub ranks: u32,
    /// Width of the finest buckets of the port's shares, a shift.
    pub port_grain: u32,
    /// The same of the class's own share.
    pub grain: u32,
    /// First flow bucket, and first host bucket, of the class.
    pub flow_base: u32,
    /// Number of its buckets less one; `u32::MAX` where nothing shares the class.
    pub flow_mask: u32,
}

const _: () = assert!(size_of::<ClassPlace>() == 24);

impl ClassPlace {
    /// The bucket of a hash, among the flows or the hosts.
    #[inline(always)]
    pub const fn bucket(&self, hash: u32) -> u32 {
        self.flow_base.wrapping_add(hash & self.flow_mask)
    }
}

/// Tags in one bucket of a share's wheel.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ShareBucket {
    /// Sum of their weights.
    pub weight: u64,
    /// Sum of weight times distance to the bucket's end.
    pub slack: u64,
}

/// One drain that phantom queues share. Fixed-point numbers have 16 bits of fraction.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ShareState {
    /// Virtual service.
    pub service: u64,
    /// Bytes in all queues, fixed point.
    pub backlog: u64,
    /// Drain not yet handed out, fixed point.
    pub credit: u64,
    /// Until when the drain has been counted.
    pub drained_until_ns: u64,
    /// Weights of all queues in the wheel.
    pub weight: u64,
    /// Which buckets hold tags.
    pub occupied: u64,
    /// The wheel.
    pub buckets: [ShareBucket; SHARE_BUCKETS],
}

/// A phantom queue's place in a share.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct TagState {
    /// Virtual service at which the queue will be empty.
    pub finish: u64,
    /// Weight it was put into the wheel with.
    pub weight: u32,
    /// Level of the wheel it was put into.
    pub level: u32,
}

/// What the classes of one port share.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PolicyState {
    /// Non-zero while a CPU decides (compare and swap, bounded attempts): guards this, the port's classes and their flows.
    pub busy: u32,
    /// Reserved, zero.
    pub reserved: u32,
    /// Bytes within guarantees, and of packets that found the lock taken, that the rate has yet to pay for; fixed point. The
    /// lock's holder alone writes it.
    pub owed: u64,
    /// The classes' phantom queues, by rank.
    pub shares: [ShareState; PRIORITIES],
    /// Wire bytes that were let through without the lock, to be owed; any CPU adds, the lock's holder takes away.
    pub unjudged_bytes: u64,
}

/// One class of one port. The policer's words change by compare and swap, the rest behind the port's lock.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ClassState {
    /// Policer: theoretical arrival time at the peak rate.
    pub peak_tat_ns: u64,
    /// Policer: theoretical arrival time at the committed rate.
    pub committed_tat_ns: u64,
    /// Theoretical arrival time at the guaranteed rate.
    pub rate_tat_ns: u64,
    /// Theoretical arrival time at the ceiling.
    pub ceil_tat_ns: u64,
    /// The class's phantom queue at the port.
    pub tag: TagState,
    /// The class's controller.
    pub aqm: AqmState,
    /// The phantom queues of its flows, hosts or subscribers.
    pub share: ShareState,
    /// Who of them has a claim to the class.
    pub claims: ClaimsState,
}

/// Claims to what flows, hosts or subscribers share.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ClaimsState {
    /// Start of the running window.
    pub since_ns: u64,
    /// Weight of the claims of the running window.
    pub now: u64,
    /// Weight of the claims of the window before.
    pub before: u64,
    /// Number of the running window.
    pub window: u32,
    /// Reserved, zero.
    pub reserved: u32,
}

/// How a flow reacts to losses (aqm/src/unresponsive.rs).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ResponseState {
    /// Theoretical arrival time of the meter at its share.
    pub tat_ns: u64,
    /// The window that `used_ns` and `claimed` are of.
    pub window: u32,
    /// Time at its share that was accepted in the window.
    pub used_ns: u32,
    /// Time at its share that was refused beyond what responsive senders lose.
    pub excess_ns: u32,
    /// 1 once its claim is counted in the window.
    pub claimed: u16,
    /// Windows for which a signal to slow down is remembered.
    pub told: u16,
}

/// One flow bucket: a phantom queue, its CoDel, and how the flow reacts.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FlowState {
    /// Its place in the class's share.
    pub tag: TagState,
    /// CoDel's variables.
    pub first_above_ns: u64,
    /// CoDel's variables.
    pub drop_next_ns: u64,
    /// CoDel's variables.
    pub count: u16,
    /// CoDel's variables.
    pub last_count: u16,
    /// CoDel's variables.
    pub dropping: u16,
    /// As [`crate::SubscriberMeter::ahead`].
    pub ahead: u16,
    /// How it reacts to losses.
    pub response: ResponseState,
}

/// One host bucket: which of its flows had a queue, as bits of their hashes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HostState {
    /// Flows of the running window.
    pub now: u64,
    /// Flows of the window before.
    pub before: u64,
    /// Start of the running window.
    pub since_ns: u64,
}

const _: () = assert!(size_of::<ShareState>() == 48 + 16 * SHARE_BUCKETS);
const _: () = assert!(size_of::<PolicyState>() == 24 + PRIORITIES * size_of::<ShareState>());
const _: () = assert!(
    size_of::<ClassState>()
        == 48 + size_of::<AqmState>() + size_of::<ShareState>() + size_of::<ClaimsState>()
);
const _: () = assert!(size_of::<ClaimsState>() == 32 && size_of::<ResponseState>() == 24);
const _: () = assert!(size_of::<FlowState>() == 64 && size_of::<HostState>() == 24);

/// [`Charge::kind`]: nothing was charged beyond [`Charge::class`]'s count.
pub const CHARGE_NONE: u32 = 0;
/// [`Charge::kind`]: within the class's guaranteed rate.
pub const CHARGE_GUARANTEED: u32 = 1;
/// [`Charge::kind`]: borrowed from the port.
pub const CHARGE_BORROWED: u32 = 2;
/// [`Charge::kind`]: let through without the port's lock.
pub const CHARGE_UNJUDGED: u32 = 3;

/// What one accepted frame was charged to, so that it can be given back.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Charge {
    /// The class at the port.
    pub class: u32,
    /// `CHARGE_*`.
    pub kind: u32,
    /// Bytes on the wire.
    pub cost_bytes: u32,
    /// Flow bucket; `u32::MAX` for none.
    pub flow: u32,
    /// Subscriber; 0 for none.
    pub subscriber: u32,
    /// The subscriber's plan.
    pub plan: u32,
}

/// The charges of a batch's accepted frames, in order. One CPU's.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BatchCharges {
    /// The frames' charges.
    pub frames: [Charge; BATCH_MAX],
}
