//! How much of the ring a class may fill.

use weir_shared_maps::{MODE_BOTTLENECK, PRIORITIES, PortConfig};

use super::Cause;
use crate::{Queue, limits, slots_admitted};

/// Each priority gives up this part of ring and limit to the one before it: the eighth in use has nine sixteenths.
const PARTS: u64 = 2 * PRIORITIES as u64;

/// Why the ring has no room for a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Full {
    /// For any packet.
    pub for_all: Option<Cause>,
    /// For one that borrows.
    pub for_borrowed: Option<Cause>,
}

/// Whether the ring has room for a packet of a class with `rank` priorities in use before its own.
///
/// A FIFO cannot serve one class first: priority decides who finds room in it. What is guaranteed finds as much as the
/// first priority does.
#[inline(always)]
pub(super) fn full(config: &PortConfig, rank: u32, queue: &Queue) -> Full {
    let admitted = u64::from(slots_admitted(queue.slots, config.reserve_slots));
    let (occupancy, bounded) = (u64::from(queue.occupancy), queue.slots > 0);
    let (sojourn, limit) = if config.mode == MODE_BOTTLENECK && queue.occupancy > 0 {
        let limits = limits(config, queue.pace, queue.slots);
        (queue.sojourn(false).as_nanos(), limits.limit.as_nanos())
    } else {
        (0, u64::MAX)
    };
    let asked = |parts: u64| {
        if bounded && occupancy >= admitted.wrapping_mul(parts) / PARTS {
            Some(Cause::Admission)
        } else if sojourn >= (limit / PARTS).wrapping_mul(parts) {
            Some(Cause::Limit)
        } else {
            None
        }
    };
    Full { for_all: asked(PARTS), for_borrowed: asked(PARTS.saturating_sub(u64::from(rank))) }
}
