//! Policy as the programs read it: classes, rules, plans and subscribers.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most classes of one port; a port's classes are entries `port * MAX_CLASSES ..` of the class maps.
pub const MAX_CLASSES: u32 = 16;
/// Most rules of one instance: the bits of a word.
pub const MAX_RULES: u32 = 64;
/// Most plans of one instance; a port's entries of the plan-class map are `port * MAX_PLANS ..`.
pub const MAX_PLANS: u32 = 4_096;
/// Most subscribers of one instance.
pub const MAX_SUBSCRIBERS: u32 = 1 << 20;

/// Value of the plan-class map: the plan says nothing about this port's classes.
pub const CLASS_NONE: u32 = u32::MAX;

/// Rules look at the DSCP.
pub const DIM_DSCP: u32 = 1;
/// Rules look at the VLAN that the packet arrived with.
pub const DIM_VLAN: u32 = 1 << 1;
/// Rules look at the source address.
pub const DIM_SOURCE: u32 = 1 << 2;
/// Rules look at the destination address.
pub const DIM_DESTINATION: u32 = 1 << 3;
/// Rules look at the protocol.
pub const DIM_PROTOCOL: u32 = 1 << 4;
/// Rules look at the source port.
pub const DIM_SOURCE_PORT: u32 = 1 << 5;
/// Rules look at the destination port.
pub const DIM_DESTINATION_PORT: u32 = 1 << 6;
/// Rules look at the size of the IP packet.
pub const DIM_SIZE: u32 = 1 << 7;

/// Rules look at the mark of the stack's packets (`skb->mark`).
pub const DIM_MARK: u32 = 1 << 8;
/// Rules look at the device where the stack's packets arrived. At an ingress device that is known when its program is loaded.
pub const DIM_INGRESS: u32 = 1 << 9;

/// Entries of the size map; the last one stands for all larger packets.
pub const SIZE_ENTRIES: u32 = 16_384;

/// Egress wants the hash of the flow.
pub const HASH_FLOW: u32 = 1;
/// Egress wants the hash of the source address.
pub const HASH_SOURCE: u32 = 1 << 1;
/// Egress wants the hash of the destination address.
pub const HASH_DESTINATION: u32 = 1 << 2;

/// [`crate::PortRoute::side`]: packets of this port belong to no subscriber.
pub const SIDE_NONE: u8 = 0;
/// [`crate::PortRoute::side`]: the source address names the subscriber, whose "up" rates hold.
pub const SIDE_SOURCE: u8 = 1;
/// [`crate::PortRoute::side`]: the destination address names the subscriber, whose "down" rates hold.
pub const SIDE_DESTINATION: u8 = 2;

/// [`ClassConfig::fairness`]: packets of the class are treated alike.
pub const FAIRNESS_NONE: u32 = 0;
/// [`ClassConfig::fairness`]: flows share the class.
pub const FAIRNESS_FLOW: u32 = 1;
/// [`ClassConfig::fairness`]: source addresses share the class.
pub const FAIRNESS_SOURCE: u32 = 2;
/// [`ClassConfig::fairness`]: destination addresses share the class.
pub const FAIRNESS_DESTINATION: u32 = 3;
/// [`ClassConfig::fairness`]: source addresses share the class, and the flows of each share its part.
pub const FAIRNESS_SOURCE_FLOW: u32 = 4;
/// [`ClassConfig::fairness`]: destination addresses share the class, and the flows of each share its part.
pub const FAIRNESS_DESTINATION_FLOW: u32 = 5;

/// [`ClassConfig::dscp`], [`ClassConfig::yellow`], [`ClassConfig::red`]: the code point stays. 0 to 63 set it.
pub const DSCP_KEEP: u32 = 64;
/// [`ClassConfig::yellow`], [`ClassConfig::red`]: the packet is dropped.
pub const COLOUR_DROP: u32 = 65;

/// [`ClassConfig::policer`]: none.
pub const POLICER_NONE: u32 = 0;
/// [`ClassConfig::policer`]: its rates and bursts count bytes.
pub const POLICER_BYTES: u32 = 1;
/// [`ClassConfig::policer`]: its rates and bursts count packets, one byte of pace each.
pub const POLICER_PACKETS: u32 = 2;

/// One class of one port. Paces are words, mantissa in the upper and shift in the lower half; 0 is no rate.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ClassConfig {
    /// Guaranteed rate.
    pub rate_pace: u64,
    /// Rate that borrowing may reach; 0 where neither class nor port has one.
    pub ceil_pace: u64,
    /// Burst tolerance at the guaranteed rate.
    pub rate_burst_ns: u64,
    /// Burst tolerance at the ceiling.
    pub ceil_burst_ns: u64,
    /// As [`crate::PortConfig::target_ns`].
    pub target_ns: u64,
    /// As [`crate::PortConfig::interval_ns`].
    pub interval_ns: u64,
    /// As [`crate::PortConfig::limit_ns`].
    pub limit_ns: u64,
    /// As [`crate::PortConfig::t_update_ns`].
    pub t_update_ns: u64,
    /// Policer: committed rate.
    pub cir_pace: u64,
    /// Policer: committed burst size as time at the committed rate.
    pub cbs_ns: u64,
    /// Policer: peak rate; 0 for a single-rate policer, whose packets are green or red.
    pub pir_pace: u64,
    /// Policer: peak burst size as time at the peak rate.
    pub pbs_ns: u64,
    /// 0 is served first, 7 last.
    pub priority: u32,
    /// Share of spare rate within the priority, 1 to 255.
    pub weight: u32,
    /// `FLAG_*`.
    pub flags: u32,
    /// `AQM_*`.
    pub aqm: u32,
    /// As [`crate::PortConfig::alpha`].
    pub alpha: u32,
    /// As [`crate::PortConfig::beta`].
    pub beta: u32,
    /// `FAIRNESS_*`.
    pub fairness: u32,
    /// What becomes of the code point: [`DSCP_KEEP`], or the code point to set (0 washes).
    pub dscp: u32,
    /// `POLICER_*`.
    pub policer: u32,
    /// Non-zero: the policer starts from the colour that the arriving packet's drop precedence gives (RFC 2597
    /// section 6: 1 is green, 2 yellow, 3 red; other code points are green).
    pub colour_aware: u32,
    /// What becomes of yellow packets: [`DSCP_KEEP`], [`COLOUR_DROP`], or the code point to set.
    pub yellow: u32,
    /// What becomes of red packets, alike.
    pub red: u32,
}

const _: () = assert!(size_of::<ClassConfig>() == 12 * 8 + 12 * 4);

/// A plan's rates in one direction.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PlanRates {
    /// Guaranteed rate, a pace word; 0 where this direction is not limited.
    pub rate_pace: u64,
    /// Rate that borrowing may reach, a pace word.
    pub ceil_pace: u64,
    /// Burst tolerance at the guaranteed rate.
    pub rate_burst_ns: u64,
    /// Burst tolerance at the ceiling.
    pub ceil_burst_ns: u64,
}

/// One plan.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PlanConfig {
    /// Towards the subscriber.
    pub down: PlanRates,
    /// From the subscriber.
    pub up: PlanRates,
}
