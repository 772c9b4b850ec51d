//! The configured times, bent to what the link and the ring can do.

use weir_aqm::{Bytes, LinkLayer, Nanos, Pace, overhead::Framing};
use weir_shared_maps::{FRAMING_ATM, FRAMING_NONE, FRAMING_PTM, PortConfig};

/// Times the decision compares sojourns with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The AQM's target.
    pub target: Nanos,
    /// CoDel's interval.
    pub interval: Nanos,
    /// Beyond this every packet is dropped.
    pub limit: Nanos,
}

/// Packet times below which a target means an idle link (RFC 8289 section 4.4 asks for one; CAKE takes 1.5).
const TARGET_PACKETS: u64 = 2;
/// Packet times that the limit leaves at least, or a window of a few packets could not be sent at all.
const LIMIT_PACKETS: u64 = 8;

/// The port's times, bent to its drain rate: see [`Limits::bent`].
#[inline(always)]
pub fn limits(config: &PortConfig, pace: Option<Pace>, slots: u32) -> Limits {
    let configured = Limits {
        target: Nanos::from_nanos(config.target_ns),
        interval: Nanos::from_nanos(config.interval_ns),
        limit: Nanos::from_nanos(config.limit_ns),
    };
    configured.bent(config.max_packet_bytes, pace, slots)
}

impl Limits {
    /// Bends target, interval and limit to the drain rate.
    ///
    /// On a slow link the target is at least two packet times and the interval grows by as much; the limit is at least
    /// eight. On a fast link with a short ring the target is at most half the time the ring can hold, since an AQM whose
    /// target lies beyond the ring is tail drop.
    #[inline(always)]
    pub fn bent(self, max_packet_bytes: u32, pace: Option<Pace>, slots: u32) -> Self {
        let Self { mut target, mut interval, mut limit } = self;
        let Some(pace) = pace else {
            return self;
        };
        let packet = pace.time_for(Bytes::new(u64::from(max_packet_bytes)));
        let floor = packet.saturating_mul(TARGET_PACKETS);
        if target < floor {
            interval = interval.saturating_add(floor.saturating_sub(target));
            target = floor;
        }
        let least = packet.saturating_mul(LIMIT_PACKETS);
        if limit < least {
            limit = least;
        }
        let half_ring = Nanos::from_nanos(packet.saturating_mul(u64::from(slots)).as_nanos() >> 1);
        if slots > 0 && target > half_ring {
            target = half_ring;
        }
        Self { target, interval, limit }
    }
}

/// Slots that may be occupied: all but the reserve, of which a small ring keeps half of its slots at most.
///
/// The reserve covers what enters between a CPU's look at the ring and its batch, which is a batch of sixteen from each other
/// CPU, and the slots that a `ptr_ring`'s consumer frees lazily (up to 16, `include/linux/ptr_ring.h` at v6.18): sixteen for
/// each CPU that may send.
#[inline(always)]
pub const fn slots_admitted(slots: u32, reserve: u32) -> u32 {
    let half = slots >> 1;
    let reserve = if reserve < half { reserve } else { half };
    slots.saturating_sub(reserve)
}

/// Whether a queue stands: more than one full frame waits.
///
/// Less is left alone however old it is: a drop cannot shorten it, and the link would be left with less than a frame to
/// send (RFC 8289 section 4.4). One frame that waits while a link is paused says nothing of those that come after it.
#[inline(always)]
pub const fn stands(config: &PortConfig, backlog: Bytes) -> bool {
    backlog.get() > config.max_packet_bytes as u64
}

/// The size a frame takes on the wire: its length and the configured overhead, at least the configured minimum, cut up as
/// `framing` (`FRAMING_*`, that of the port; a constant where the caller has one) says.
#[inline(always)]
pub fn wire_bytes(config: &PortConfig, framing: u32, len: u32) -> Bytes {
    let with_overhead = len.saturating_add_signed(config.overhead_bytes);
    let size = if with_overhead > config.mpu_bytes { with_overhead } else { config.mpu_bytes };
    let size = Bytes::new(size as u64);
    if framing == FRAMING_NONE {
        return size;
    }
    let framing = framing_of(framing);
    LinkLayer { framing, ..LinkLayer::RAW }.adjusted(size)
}

/// What a `FRAMING_*` value stands for.
#[inline(always)]
pub const fn framing_of(framing: u32) -> Framing {
    match framing {
        FRAMING_ATM => Framing::Atm,
        FRAMING_PTM => Framing::Ptm,
        _ => Framing::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bottleneck::tests::config;

    fn pace(bps: u64) -> Option<Pace> {
        Pace::from_bits_per_second(bps)
    }

    #[test]
    fn a_slow_link_gets_a_target_of_two_packets_and_a_limit_of_eight() {
        let l = limits(&config(), pace(2_000_000), 1000);
        assert_eq!(l.target.as_nanos() / 1000, 12_112);
        assert_eq!(l.interval.as_nanos() / 1000, 107_112);
        assert_eq!(l.limit.as_nanos() / 1000, 48_448);
    }

    #[test]
    fn the_target_never_exceeds_half_of_what_the_ring_can_hold() {
        // 256 slots at 10 Gbit/s hold 310 us.
        let l = limits(&config(), pace(10_000_000_000), 256);
        assert!(l.target <= Nanos::from_micros(156), "{:?}", l.target);
        let l = limits(&config(), pace(10_000_000), 1000);
        assert_eq!(l.target, Nanos::from_millis(5));
    }

    #[test]
    fn an_unknown_rate_leaves_the_configured_times() {
        let l = limits(&config(), None, 1000);
        assert_eq!((l.target, l.interval), (Nanos::from_millis(5), Nanos::from_millis(100)));
    }

    #[test]
    fn the_reserve_is_64_slots_and_half_of_a_small_ring() {
        assert_eq!(slots_admitted(1000, 64), 936);
        assert_eq!(slots_admitted(64, 64), 32);
        assert_eq!(slots_admitted(0, 64), 0);
    }

    #[test]
    fn overhead_may_be_negative_and_never_wraps() {
        let mut c = config();
        (c.overhead_bytes, c.mpu_bytes) = (-64, 0);
        assert_eq!(wire_bytes(&c, FRAMING_NONE, 60), Bytes::ZERO);
        (c.overhead_bytes, c.mpu_bytes) = (24, 84);
        assert_eq!(wire_bytes(&c, FRAMING_NONE, 42), Bytes::new(84));
        assert_eq!(wire_bytes(&c, FRAMING_NONE, 1514), Bytes::new(1538));
    }

    #[test]
    fn cells_and_ptm_blocks_are_counted_after_overhead_and_smallest_size() {
        let mut c = config();
        // PPPoE over LLC/SNAP: 40 bytes on the IP packet, of which XDP's frame has 14.
        c.overhead_bytes = 26;
        assert_eq!(wire_bytes(&c, FRAMING_ATM, 1514), Bytes::new(33 * 53));
        assert_eq!(wire_bytes(&c, FRAMING_ATM, 54), Bytes::new(2 * 53));
        c.overhead_bytes = 16;
        assert_eq!(wire_bytes(&c, FRAMING_PTM, 1514), Bytes::new(1530 + 24));
    }
}
