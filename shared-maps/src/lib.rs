//! Every byte layout and every name that weir's kernel side and user side share.
//!
//! The eBPF objects (`ingress/`, `egress/`) and the daemon are built apart and meet in pinned maps, so what
//! stands here is an ABI: any change of a layout, a name or a meaning raises [`ABI_VERSION`], which is part of
//! the pin path. Fields are raw integers with their unit in the name; no `bool`, `enum` or `Option` enters a map.
//! Padding is rejected at compile time by the `zerocopy` derives, and sizes are asserted.
//!
//! Minimum kernel for the maps used: 5.9 (`BPF_MAP_TYPE_DEVMAP_HASH` values that name a program).
#![no_std]
#![deny(unsafe_op_in_unsafe_fn)]

mod backpressure;
mod config;
mod counters;
mod decide;
pub mod names;
#[cfg(feature = "user")]
mod pod;
mod policy;
mod state;
mod subscriber;

pub use backpressure::{
    ACTION_DIVERT, ACTION_DROP, ACTION_MARK, ACTION_NONE, ACTION_SPILL, BackOff, DivertState, EVENT_FLOW,
    EVENT_LEVEL, EVENT_PAUSED, EVENT_RING_DROPS, EVENTS_BYTES, Event, PFC_ANY, PauseState, STICKY_BUCKETS,
    STICKY_DIVERTED, STICKY_SPILLED, STICKY_STRAIGHT, StickyState,
};
pub use config::{
    AQM_CODEL, AQM_L4S, AQM_NONE, AQM_PI2, AQM_PIE, DRIVER_NONE, DRIVER_TUN, DRIVER_VETH, DRIVER_VIRTIO,
    FLAG_DIVERTS, FLAG_ECN, FLAG_HEAD_SOJOURN, FLAG_TC, FRAMING_ATM, FRAMING_NONE, FRAMING_PTM,
    IngressConfig, MODE_BOTTLENECK, MODE_METER, MODE_NONE, MODE_POLICER, MODE_VIRTUAL, PAUSE_LINK, PAUSE_OFF,
    PAUSE_PRIORITY, PortConfig, PortRoute, ROUTE_SHARED_RING, RingRecipe, STACK_CHARGE, STACK_DECIDE,
    STACK_IGNORE, VLAN_WORDS,
};
pub use counters::{
    ClassCounter, ClassCounters, CounterId, IngressCounter, IngressCounters, PortCounter, PortCounters,
};
pub use decide::{
    BatchCharges, CHARGE_BORROWED, CHARGE_GUARANTEED, CHARGE_NONE, CHARGE_UNJUDGED, Charge, ClaimsState,
    ClassPlace, ClassState, FLOW_BUCKETS, FlowState, HostState, PRIORITIES, PolicyState, ResponseState,
    SHARE_BUCKETS, SUBSCRIBER_BUCKETS_MAX, ShareBucket, ShareState, TagState,
};
pub use policy::{
    CLASS_NONE, COLOUR_DROP, ClassConfig, DIM_DESTINATION, DIM_DESTINATION_PORT, DIM_DSCP, DIM_INGRESS,
    DIM_MARK, DIM_PROTOCOL, DIM_SIZE, DIM_SOURCE, DIM_SOURCE_PORT, DIM_VLAN, DSCP_KEEP, FAIRNESS_DESTINATION,
    FAIRNESS_DESTINATION_FLOW, FAIRNESS_FLOW, FAIRNESS_NONE, FAIRNESS_SOURCE, FAIRNESS_SOURCE_FLOW,
    HASH_DESTINATION, HASH_FLOW, HASH_SOURCE, MAX_CLASSES, MAX_PLANS, MAX_RULES, MAX_SUBSCRIBERS,
    POLICER_BYTES, POLICER_NONE, POLICER_PACKETS, PlanConfig, PlanRates, SIDE_DESTINATION, SIDE_NONE,
    SIDE_SOURCE, SIZE_ENTRIES,
};
pub use state::{
    AqmState, BATCH_MAX, BatchScratch, CodelState, DrainState, FORGOTTEN_NS, HISTORY_LEN, HistoryEntry,
    LOCATE_INTERVAL_NS, META_MAGIC, MetaHead, PacketMeta, Pi2State, PieState, PortState, RINGS_SUMMED,
    RingHistory, RingState, SIGNAL_CLEAR, SIGNAL_CONGESTED, SIGNAL_FULL, SignalState, TELL_SHIFT,
};
pub use subscriber::{
    BUCKET_WORDS, ENTRY_EMPTY, ENTRY_GONE, ENTRY_SHIFT, ENTRY_SUBSCRIBER, ENTRY4_WORDS, ENTRY6_WORDS,
    MAX_PREFIX_LENGTHS, PAGE_BUCKETS, PrefixMask4, PrefixMask6, PrefixMasks, SubscriberBucket,
    SubscriberCodel, SubscriberControl, SubscriberMeter,
};

/// Version of everything in this crate; the directory of the pins carries it.
pub const ABI_VERSION: u32 = 3;
/// Most ports (managed egress devices) of one instance.
pub const MAX_PORTS: u32 = 64;
/// Most ingress devices of one instance.
pub const MAX_INGRESS: u32 = 64;
