//! What the programs write: signals, ring history, AQM state, the scratch of one batch.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    FAIRNESS_DESTINATION, FAIRNESS_DESTINATION_FLOW, FAIRNESS_FLOW, FAIRNESS_SOURCE, FAIRNESS_SOURCE_FLOW,
};

/// Frames whose entry time is remembered for each ring; a power of two, above any ring weir manages.
pub const HISTORY_LEN: usize = 4096;
/// Frames in one batch at most (`DEV_MAP_BULK_SIZE`, `kernel/bpf/devmap.c` at v6.18).
pub const BATCH_MAX: usize = 16;

/// How long a ring's address is believed: queues can be detached and attached again while a device lives.
pub const LOCATE_INTERVAL_NS: u64 = 10_000_000;
/// Where a ring was last located this long ago, nobody sends into it, and its address is not trusted for the sum of a port's
/// rings.
pub const FORGOTTEN_NS: u64 = 1_000_000_000;
/// Most rings of a port whose classes share all of them.
pub const RINGS_SUMMED: u32 = 16;

/// Events that may follow each other quickly are told of at most once in 2^20 ns, about a millisecond.
pub const TELL_SHIFT: u32 = 20;

/// [`SignalState::level`]: traffic may come.
pub const SIGNAL_CLEAR: u32 = 0;
/// [`SignalState::level`]: a queue stands.
pub const SIGNAL_CONGESTED: u32 = 1;
/// [`SignalState::level`]: the ring takes no more; ingress drops early.
pub const SIGNAL_FULL: u32 = 2;

/// The backpressure signal of one ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SignalState {
    /// When the signal expires by itself (`CLOCK_MONOTONIC`).
    pub until_ns: u64,
    /// When the level was entered.
    pub since_ns: u64,
    /// `SIGNAL_*`.
    pub level: u32,
    /// How often `Full` was entered; wraps.
    pub raised: u32,
    /// How much the ring holds between its low and high watermarks, Q0.32: the probability with which ingress marks or
    /// drops.
    pub pressure_q32: u32,
    /// Reserved, zero.
    pub reserved: u32,
    /// The link partner has paused the port until then (any priority); 0 if it never did or has let it go on.
    pub paused_until_ns: u64,
    /// Time spent in each level that has ended, by `SIGNAL_*`.
    pub held_ns: [u64; 3],
}

const _: () = assert!(size_of::<SignalState>() == 64);

/// CoDel's per-queue variables (RFC 8289 section 5.3, enqueue form).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct CodelState {
    /// When the sojourn will have been above target for an interval; 0 while below.
    pub first_above_ns: u64,
    /// When the next signal is due.
    pub drop_next_ns: u64,
    /// The last arrival.
    pub last_arrival_ns: u64,
    /// The sojourn of the last arrival.
    pub last_sojourn_ns: u64,
    /// Signals since the dropping state was entered.
    pub count: u32,
    /// `count` when the dropping state was last entered.
    pub last_count: u32,
    /// Non-zero in the dropping state.
    pub dropping: u32,
    /// Reserved, zero.
    pub reserved: u32,
}

/// PI2's per-queue variables; PIE uses all but the probability.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Pi2State {
    /// When the probability is updated next.
    pub next_update_ns: u64,
    /// Queue delay at the last update.
    pub last_delay_ns: u64,
    /// Base probability p, Q0.32; packets are dropped with p squared.
    pub p_q32: u32,
    /// State of the pseudo-random generator.
    pub random: u32,
}

/// What PIE has beside the variables of [`Pi2State`], whose updates, delay and random numbers it shares.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PieState {
    /// Probability of a signal, in 2^-56.
    pub p_q56: u64,
    /// Probability accumulated since the last signal, in 2^-56.
    pub accumulated_q56: u64,
    /// What is left of the burst allowance.
    pub burst_ns: u64,
}

/// The AQM of one queue: a ring (bottleneck mode) or a port (policer and virtual mode).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct AqmState {
    /// CoDel's variables.
    pub codel: CodelState,
    /// PI2's variables.
    pub pi2: Pi2State,
    /// PIE's variables.
    pub pie: PieState,
    /// Non-zero while a CPU updates the variables (compare and swap; never waited for).
    pub busy: u32,
    /// Reserved, zero.
    pub reserved: u32,
}

/// Estimate of a ring's drain rate.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct DrainState {
    /// Start of the running window.
    pub window_start_ns: u64,
    /// Cumulative bytes that had left the ring at the start of the window.
    pub window_head_bytes: u64,
    /// Estimated time per byte, mantissa in the upper and shift in the lower half: one word, so that no reader
    /// sees half an update. 0 while unknown.
    pub pace: u64,
    /// Cumulative bytes that had entered the ring at the last observation.
    pub busy_until_bytes: u64,
    /// Windows that went into the estimate.
    pub samples: u32,
    /// Non-zero while a window runs.
    pub open: u32,
    /// Which side the last window was far off: 0 none, 1 slower, 2 faster.
    pub outlier: u32,
    /// Reserved, zero.
    pub reserved: u32,
}

/// One TX ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RingState {
    /// The signal, first so that ingress reads one cache line.
    pub signal: SignalState,
    /// `CLOCK_MONOTONIC` of the last observation.
    pub observed_ns: u64,
    /// Kernel address of the ring (never written through), 0 before the first observation.
    pub ring_addr: u64,
    /// When the ring was last located; addresses are renewed after [`LOCATE_INTERVAL_NS`].
    pub located_ns: u64,
    /// Kernel address of the `net_device` last verified to be this port's.
    pub dev_addr: u64,
    /// Kernel address of the ring's slots (`ptr_ring.queue`) or of the used ring (virtio).
    pub queue_addr: u64,
    /// Frames that entered the ring: the sequence number of the next one.
    pub sent: u64,
    /// Bytes of those frames.
    pub sent_bytes: u64,
    /// Sojourn of the ring's oldest frame at the last observation.
    pub head_sojourn_ns: u64,
    /// Predicted sojourn of an arriving frame at the last observation; equals the oldest frame's while no drain rate is known.
    pub predicted_ns: u64,
    /// Bytes in the ring at the last observation.
    pub backlog_bytes: u64,
    /// Frames in the ring at the last observation.
    pub occupancy_pkts: u32,
    /// Slots of the ring, read from the driver.
    pub slots: u32,
    /// Most frames seen in the ring.
    pub occupancy_max_pkts: u32,
    /// Observations whose ring could not be read; wraps.
    pub read_errors: u32,
    /// Non-zero while a CPU updates drain rate and signal (compare and swap; never waited for).
    pub busy: u32,
    /// When refused frames were last told of, in units of 2^[`TELL_SHIFT`] ns; wraps.
    pub told_tick: u32,
    /// The same for [`Self::all`].
    pub all_busy: u32,
    /// Reserved, zero.
    pub reserved: u32,
    /// The drain rate.
    pub drain: DrainState,
    /// That of all rings of the port together, as the CPUs of this ring see it; with classes in front of several rings.
    pub all: DrainState,
    /// The AQM in bottleneck mode.
    pub aqm: AqmState,
}

const _: () = assert!(size_of::<RingState>() == 64 + 10 * 8 + 8 * 4 + 2 * 48 + (48 + 24 + 24 + 8));

/// One remembered frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HistoryEntry {
    /// When the frame entered the ring.
    pub enqueued_ns: u64,
    /// Bytes that had entered the ring before this frame.
    pub bytes_before: u64,
}

/// The last [`HISTORY_LEN`] frames of one ring, by sequence number modulo the length.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RingHistory {
    /// The entries.
    pub entries: [HistoryEntry; HISTORY_LEN],
}

const _: () = assert!(size_of::<RingHistory>() == 65_536);

/// State of one port that its rings share.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PortState {
    /// Theoretical arrival time of the meter: the virtual queue is empty at this instant.
    pub tat_ns: u64,
    /// The AQM in policer and virtual mode.
    pub aqm: AqmState,
}

/// What the egress program leaves for the observer on one CPU: one batch, and those before it that the observer did not see.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BatchScratch {
    /// The batch's only clock read; 0 where nothing waits for the observer.
    pub now_ns: u64,
    /// Bytes in the ring when the batch began, plus those accepted since.
    pub backlog_bytes: u64,
    /// Sojourn of the ring's oldest frame when the batch began.
    pub head_sojourn_ns: u64,
    /// Bytes accepted.
    pub accepted_bytes: u64,
    /// With classes in front of several rings: bytes in the other rings when the batch began.
    pub others_bytes: u64,
    /// With classes in front of several rings: the drain rate of all of them, a pace word.
    pub all_pace: u64,
    /// The port the batch belongs to.
    pub port: u32,
    /// Frames in the ring when the batch began, plus those accepted since.
    pub occupancy_pkts: u32,
    /// Frames accepted.
    pub accepted: u32,
    /// Frames dropped.
    pub dropped: u32,
    /// Non-zero if even sixteen full frames leave the queue below every threshold: the batch passes undecided.
    pub free: u32,
    /// Bit `n`: frame `n` (modulo 32, of those accepted and dropped) was dropped. Says nothing of frames before the newest 16.
    pub dropped_at: u32,
    /// Lengths of the newest accepted frames: frame `n` of those accepted is at `n` modulo 16.
    pub lengths: [u32; BATCH_MAX],
}

const _: () = assert!(size_of::<BatchScratch>() == 48 + 24 + 64);

/// [`MetaHead::magic`] of this ABI version.
pub const META_MAGIC: u16 = 0x7702;

/// What ingress tells egress about any frame, in front of its first byte (XDP metadata).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct MetaHead {
    /// [`META_MAGIC`].
    pub magic: u16,
    /// 4 or 6.
    pub ip_version: u8,
    /// Where the IP header starts.
    pub l3_offset: u8,
}

const _: () = assert!(size_of::<MetaHead>() == 4);

/// What ingress tells egress where classes, fairness or subscribers are configured. XDP metadata is a multiple of 4 and
/// at most 32 bytes long.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PacketMeta {
    /// As if it stood alone; whether more follows shows in the length of the metadata.
    pub head: MetaHead,
    /// Class at the port, below its number of classes.
    pub class: u16,
    /// Index of the subscriber's plan; 0 where `subscriber` is 0.
    pub plan: u16,
    /// Index of the subscriber's state; 0 for nobody's packet.
    pub subscriber: u32,
    /// Hash of addresses, protocol and ports; 0 where nobody asks for it (`HASH_FLOW`).
    pub flow_hash: u32,
    /// Hash of the source address, alike (`HASH_SOURCE`).
    pub source_hash: u32,
    /// Hash of the destination address, alike (`HASH_DESTINATION`).
    pub destination_hash: u32,
}

const _: () = assert!(size_of::<PacketMeta>() == 24);

impl PacketMeta {
    /// The hash of the host that shares a class of this fairness (`FAIRNESS_*`).
    #[inline(always)]
    pub const fn host_hash(&self, fairness: u32) -> u32 {
        match fairness {
            FAIRNESS_DESTINATION | FAIRNESS_DESTINATION_FLOW => self.destination_hash,
            _ => self.source_hash,
        }
    }

    /// The hash that names the packet's queue among those of its subscriber; 0 where the subscriber has one.
    #[inline(always)]
    pub const fn queue_hash(&self, fairness: u32) -> u32 {
        match fairness {
            FAIRNESS_FLOW | FAIRNESS_SOURCE_FLOW | FAIRNESS_DESTINATION_FLOW => self.flow_hash,
            FAIRNESS_SOURCE | FAIRNESS_DESTINATION => self.host_hash(fairness),
            _ => 0,
        }
    }
}
const _: () = assert!(crate::MAX_PLANS <= 1 << 16);
