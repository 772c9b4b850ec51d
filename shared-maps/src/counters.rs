//! Counters: one slot for each way a packet can take. There is no "other".

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A counter that has a place in a per-CPU value and a name that people read.
pub trait CounterId: Copy + Sized + 'static {
    /// Every counter, in the order of the slots.
    const ALL: &'static [Self];
    /// The slot in the per-CPU value.
    fn slot(self) -> usize;
    /// Name in `weir status`, JSON and metrics.
    fn name(self) -> &'static str;
}

macro_rules! counters {
    ($(#[$meta:meta])* $name:ident, $slots:literal, { $($(#[$vmeta:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $($(#[$vmeta])* $variant,)* }

        impl CounterId for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)*];

            #[inline(always)]
            fn slot(self) -> usize {
                self as usize
            }

            fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        const _: () = assert!($name::ALL.len() <= $slots);
    };
}

counters!(
    /// What became of a frame at an ingress device. `Received` is the sum of all others.
    IngressCounter, 32, {
    /// Frames the program saw.
    Received = "received",
    /// Handed to the device map for a managed port.
    Redirected = "redirected",
    /// Dropped early because the target ring's signal is `Full` (also counted at the port).
    DropBackpressure = "backpressure",
    /// To the stack: neither IPv4 nor IPv6 (ARP, LLDP, ...).
    PassNotIp = "pass_not_ip",
    /// To the stack: a header is truncated or contradicts itself.
    PassMalformed = "pass_malformed",
    /// To the stack: a VLAN the config does not list, or more than two tags.
    PassVlan = "pass_vlan",
    /// To the stack: multicast, broadcast, or not addressed to this router's MAC.
    PassNotUnicast = "pass_not_unicast",
    /// To the stack: IPv4 options or an IPv6 hop-by-hop header, which routers must look at.
    PassOptions = "pass_options",
    /// To the stack: TTL or hop limit is 1 or 0; the stack answers with ICMP.
    PassTtl = "pass_ttl",
    /// To the stack: the destination is this router itself, or no route exists.
    PassNotForwarded = "pass_not_forwarded",
    /// To the stack: a blackhole, unreachable or prohibit route.
    PassUnreachable = "pass_unreachable",
    /// To the stack: forwarding is disabled on the device.
    PassForwardingDisabled = "pass_forwarding_disabled",
    /// To the stack: the next hop's address is not resolved; the stack resolves it.
    PassNoNeighbour = "pass_no_neighbour",
    /// To the stack: larger than the route's MTU.
    PassFragNeeded = "pass_frag_needed",
    /// To the stack: the route needs an encapsulation.
    PassEncapsulation = "pass_encapsulation",
    /// To the stack: the kernel found no source address for the neighbour, or refused the lookup.
    PassFibError = "pass_fib_error",
    /// To the stack: the route leaves by a device that is not a managed port.
    PassNotManaged = "pass_not_managed",
    /// To the stack: state of the port is missing (fail open).
    PassNoState = "pass_no_state",
    /// To the stack: a header could not be rewritten or the tag not removed.
    PassRewrite = "pass_rewrite",
    /// To the stack: diverted from a ring whose signal stands (also counted at the port).
    PassDiverted = "pass_diverted",
    /// PAUSE and PFC frames of the link partner, which end here (IEEE 802.3 annex 31B).
    PauseReceived = "pause",
});

counters!(
    /// What became of a frame at a port. Egress counts its verdicts, the observer what the driver did.
    PortCounter, 32, {
    /// Frames the egress program saw.
    Seen = "seen",
    /// Frames it let through to the driver (marked ones among them).
    Accepted = "accepted",
    /// Frames marked CE instead of dropped.
    Marked = "marked",
    /// Dropped by the AQM.
    DropAqm = "aqm",
    /// Dropped because the arriving packet's sojourn was beyond the limit.
    DropLimit = "limit",
    /// Dropped because the ring has no slot left but the reserve.
    DropAdmission = "ring_admission",
    /// Dropped because the meter's rate and burst are exhausted.
    DropPolicer = "policer",
    /// Dropped by ingress while this port's signal was `Full`.
    DropBackpressure = "backpressure",
    /// Frames the driver took (observer).
    Sent = "sent",
    /// Bytes of those frames, without link-layer overhead (observer).
    SentBytes = "sent_bytes",
    /// Frames the driver refused: the ring was full (observer).
    RingDrops = "ring_drops",
    /// Frames lost in the redirect itself, before egress (device down, too long).
    RedirectErrors = "redirect_errors",
    /// Frames let through without a decision because state was missing (fail open).
    FailOpen = "fail_open",
    /// Frames sent through this device by the kernel's stack (observer).
    StackSent = "stack_sent",
    /// Frames of the stack that the driver dropped (observer).
    StackDrops = "stack_drops",
    /// Packets that found the AQM state busy on another CPU and were let through undecided.
    AqmBusy = "aqm_busy",
    /// Frames without ingress's metadata, although classes are configured: taken for the default class.
    NoMetadata = "no_metadata",
    /// Dropped because a class's ceiling is used up.
    DropCeil = "class_ceil",
    /// Dropped because a class has its part of what the port has to spare.
    DropShare = "class_share",
    /// Dropped because a subscriber's ceiling is used up.
    DropSubscriber = "subscriber_ceil",
    /// Dropped because a flow, host or subscriber has had its share of a class.
    DropFairness = "fairness",
    /// Dropped by a class's policer for its colour.
    DropColour = "colour",
    /// Dropped because the port's lock was taken and its account for such frames full.
    DropBusy = "busy",
    /// Charges of refused frames that were not given back, because the port's lock was taken.
    RefundLost = "refund_lost",
    /// Frames that the stack sent and the port's TC program decided on.
    StackSeen = "stack_seen",
    /// Those of them that it marked CE.
    StackMarked = "stack_marked",
    /// Those of them that it dropped.
    StackDropped = "stack_dropped",
    /// Frames that ingress marked CE because of this port's signal.
    IngressMarked = "ingress_marked",
    /// Frames that ingress sent to the stack because of this port's signal.
    Diverted = "diverted",
    /// Frames that ingress sent out of another port because of this port's signal.
    Spilled = "spilled",
    /// Events that the daemon was not told of, because the ring buffer was full.
    EventsLost = "events_lost",
    /// Frames it let through in batches that the observer did not see: whether the driver took them is not known.
    Unobserved = "unobserved",
});

counters!(
    /// What became of the frames of one class. Egress counts them where the port has classes.
    ClassCounter, 32, {
    /// Frames of the class that the egress program saw.
    Seen = "seen",
    /// Frames it let through to the driver (marked ones among them).
    Accepted = "accepted",
    /// Bytes of those frames, without link-layer overhead.
    AcceptedBytes = "accepted_bytes",
    /// Frames marked CE instead of dropped.
    Marked = "marked",
    /// Dropped by the AQM.
    DropAqm = "aqm",
    /// Dropped because the arriving packet's sojourn was beyond the limit.
    DropLimit = "limit",
    /// Dropped because the ring has no slot left for this class.
    DropAdmission = "ring_admission",
    /// Dropped because the class's ceiling is used up.
    DropCeil = "class_ceil",
    /// Dropped because the class has its part of what the port has to spare.
    DropShare = "class_share",
    /// Dropped because the subscriber's ceiling is used up.
    DropSubscriber = "subscriber_ceil",
    /// Dropped because its flow or host has had its share.
    DropFairness = "fairness",
    /// Dropped by the class's policer for its colour.
    DropColour = "colour",
    /// Within the policer's committed rate.
    Green = "green",
    /// Above the committed, within the peak rate.
    Yellow = "yellow",
    /// Above the policer's highest rate.
    Red = "red",
    /// Frames whose code point was changed.
    Remarked = "remarked",
    /// Frames that found the port's lock taken and were let through on the port's account.
    LockBusy = "lock_busy",
    /// Dropped because the lock was taken and the port's account for such frames full.
    DropBusy = "busy",
    /// Dropped by ingress because of the ring's signal; not among `Seen`.
    DropBackpressure = "backpressure",
    /// Marked CE by ingress because of the ring's signal.
    IngressMarked = "ingress_marked",
    /// Sent to the stack by ingress because of the ring's signal; not among `Seen`.
    Diverted = "diverted",
    /// Sent out of another port by ingress because of the ring's signal; not among `Seen` here.
    Spilled = "spilled",
    /// Packets that lost every compare-and-swap of the policer to other CPUs and were coloured a shade darker.
    PolicerBusy = "policer_busy",
});

/// Per-CPU value of one ingress device, indexed by [`IngressCounter`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct IngressCounters {
    /// Frames per counter since the map was made.
    pub slots: [u64; 32],
}

/// Per-CPU value of one port, indexed by [`PortCounter`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PortCounters {
    /// Frames (or bytes, where the name says so) per counter since the map was made.
    pub slots: [u64; 32],
}

/// Per-CPU value of one class, indexed by [`ClassCounter`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ClassCounters {
    /// Frames (or bytes, where the name says so) per counter since the map was made.
    pub slots: [u64; 32],
}
