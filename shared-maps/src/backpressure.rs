//! Backpressure as both sides see it: what ingress does at which level, where its flows have gone, who paused a port, and
//! what the daemon is told.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`BackOff::on_congested`], [`BackOff::on_full`]: ingress sends, egress decides.
pub const ACTION_NONE: u32 = 0;
/// CE for ECN-capable packets, with the signal's probability; always for ECT(1).
pub const ACTION_MARK: u32 = 1;
/// Dropped at ingress, with the signal's probability.
pub const ACTION_DROP: u32 = 2;
/// To the kernel's stack and the device's own qdisc, sticky for each flow.
pub const ACTION_DIVERT: u32 = 3;
/// Out of another port, sticky for each flow.
pub const ACTION_SPILL: u32 = 4;

/// [`BackOff::pfc_priority`] of a port without classes: it is paused while any priority is.
pub const PFC_ANY: u32 = 8;

/// What ingress does with packets of one class of one port while the signal of their ring stands: entry
/// `port * MAX_CLASSES + class`; class 0 stands for the port where it has no classes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BackOff {
    /// `ACTION_*` at [`crate::SIGNAL_CONGESTED`].
    pub on_congested: u32,
    /// `ACTION_*` at [`crate::SIGNAL_FULL`].
    pub on_full: u32,
    /// Where `spill` goes, an interface index; 0 for nowhere.
    pub spill_ifindex: u32,
    /// Rate up to which diverted packets may enter the stack, as time per byte: mantissa; 0 is twice what the ring was
    /// measured to drain.
    pub divert_pace_mult: u32,
    /// Shift belonging to `divert_pace_mult`.
    pub divert_pace_shift: u32,
    /// The priority whose PFC pause stops the class (IEEE 802.1Q clause 36), 0 to 7, or [`PFC_ANY`].
    pub pfc_priority: u32,
    /// Burst tolerance of that bound.
    pub divert_burst_ns: u64,
}

const _: () = assert!(size_of::<BackOff>() == 32);

impl BackOff {
    /// Ingress sends at every level: egress decides. The default of a class.
    pub const NONE: Self = Self {
        on_congested: ACTION_NONE,
        on_full: ACTION_NONE,
        spill_ifindex: 0,
        divert_pace_mult: 0,
        divert_pace_shift: 0,
        pfc_priority: PFC_ANY,
        divert_burst_ns: 0,
    };
    /// Ingress drops what a full ring would refuse. The default of a port without classes.
    pub const DROP_AT_FULL: Self = Self { on_full: ACTION_DROP, ..Self::NONE };
}

/// Buckets for each port in which ingress remembers where flows have gone. A power of two.
pub const STICKY_BUCKETS: u32 = 8_192;

/// Where the flows of one bucket go. Flows that share a bucket go one way together.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct StickyState {
    /// The way in the two lowest bits (`STICKY_*`), and with these bits zero, when the last packet was sent by it
    /// (`CLOCK_MONOTONIC`, ns): one word, so that no reader sees half an update.
    pub word: u64,
}

/// By the port that the route names.
pub const STICKY_STRAIGHT: u64 = 0;
/// Through the kernel's stack.
pub const STICKY_DIVERTED: u64 = 1;
/// By the spill port.
pub const STICKY_SPILLED: u64 = 2;

/// State of one port's flows that leave by other ways than its ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct DivertState {
    /// Theoretical arrival time of the meter that bounds what enters the stack.
    pub tat_ns: u64,
    /// When a flow's change of way was last told of, in units of 2^[`crate::TELL_SHIFT`] ns.
    pub told_tick: u64,
    /// Since when flows are looked at, with the two lowest bits zero; 0 while the port rests: then all go straight, unseen. The
    /// lowest bit is set while it is about to.
    pub awake_ns: u64,
    /// When a signal stood or a packet left by another way for the last time, to within a millisecond.
    pub active_ns: u64,
}

const _: () = assert!(size_of::<DivertState>() == 32);

/// Until when the link partner has paused a port (IEEE 802.3 annex 31B; by priority, IEEE 802.1Q clause 36).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PauseState {
    /// `CLOCK_MONOTONIC` for each priority, 0 where it may send; a plain PAUSE sets all.
    pub until_ns: [u64; 8],
}

const _: () = assert!(size_of::<PauseState>() == 64);

/// Bytes of the ring buffer that carries [`Event`]s.
pub const EVENTS_BYTES: u32 = 1 << 16;

/// [`Event::kind`]: a ring's level changed; `before` and `after` are `SIGNAL_*`, `value` its pressure.
pub const EVENT_LEVEL: u32 = 1;
/// [`Event::kind`]: the driver refused frames; `value` is how many.
pub const EVENT_RING_DROPS: u32 = 2;
/// [`Event::kind`]: a flow's way changed; `before` and `after` are `STICKY_*`, `value` its hash.
pub const EVENT_FLOW: u32 = 3;
/// [`Event::kind`]: a PAUSE or PFC frame arrived; `before` is the vector of priorities, `value` the longest pause in ns.
pub const EVENT_PAUSED: u32 = 4;

/// One thing that happened, as it goes through the ring buffer to the daemon.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Event {
    /// When (`CLOCK_MONOTONIC`).
    pub at_ns: u64,
    /// `EVENT_*`.
    pub kind: u32,
    /// The port.
    pub port: u32,
    /// The ring, counted from the port's first; `u32::MAX` where none is meant.
    pub ring: u32,
    /// See `EVENT_*`.
    pub before: u32,
    /// See `EVENT_*`.
    pub after: u32,
    /// See `EVENT_*`.
    pub value: u32,
}

const _: () = assert!(size_of::<Event>() == 32);
