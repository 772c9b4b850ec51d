//! What has left a queue: read from the driver's ring and the device's queueing discipline, never written.
//!
//! Global functions (their names are exported): the verifier looks at each once, not at each place that calls it.

use weir_aqm::{history, sticky::IDLE};
use weir_shared_maps::{DRIVER_NONE, HistoryEntry};

use crate::{
    atomics::load,
    maps::{WEIR_HISTORY, WEIR_PORTS, WEIR_RECIPES, WEIR_RINGS},
    ring::{Location, occupancy, read},
};

/// TX queues of a device whose queueing disciplines are looked at.
const TXQS_MAX: u32 = 8;
/// `TCQ_F_NOLOCK` (`include/net/sch_generic.h` at v6.18): the discipline keeps its length for each CPU apart.
const NOLOCK: u32 = 0x100;
/// `QDISC_STATE_NON_EMPTY` of the same file (5.14): `MISSED` or `DRAINING`. While neither is set the kernel itself lets
/// packets pass such a discipline by.
const NON_EMPTY: u64 = 1 << 2 | 1 << 3;

/// What entered a ring before the answer has left it: the entry of its oldest frame, `now` where it is empty.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn weir_ring_passed(port: u32, ring: u32, now: u64) -> u64 {
    match passed(port, ring, now) {
        Some(passed) => passed,
        None => now.saturating_sub(longest(port)),
    }
}

#[inline(always)]
fn passed(port: u32, ring: u32, now: u64) -> Option<u64> {
    let (recipe, state) = (WEIR_RECIPES.get(port)?, WEIR_RINGS.get_ptr(ring)?);
    // SAFETY: a map value, read word by word. The number of frames sent is read before the ring: what enters or leaves in between
    // makes the head look older, not younger.
    let (sent, at) = unsafe {
        let sent = load(&raw const (*state).sent);
        let at = Location {
            ring: load(&raw const (*state).ring_addr),
            queue: load(&raw const (*state).queue_addr),
            slots: load(&raw const (*state).slots),
        };
        (sent, at)
    };
    let frames = occupancy(recipe.driver, recipe, &at)?;
    if frames == 0 {
        return Some(now);
    }
    let entries = WEIR_HISTORY.get_ptr(ring)?;
    let slot = history::slot(history::head_sequence(sent, u64::from(frames)));
    // SAFETY: `slot` is below the length of the array.
    Some(unsafe { load((&raw const (*entries).entries).cast::<HistoryEntry>().add(slot)).enqueued_ns })
}

/// How long a packet may be in a ring that cannot be read: the limit of the virtual queue that stands for it, at most [`IDLE`].
#[inline(always)]
fn longest(port: u32) -> u64 {
    let idle = IDLE.as_nanos();
    match (WEIR_RECIPES.get(port), WEIR_PORTS.get(port)) {
        (Some(recipe), Some(config)) if recipe.driver == DRIVER_NONE && config.limit_ns < idle => {
            config.limit_ns
        }
        (Some(_) | None, Some(_) | None) => idle,
    }
}

/// Non-zero if nothing waits in the queueing disciplines of the device of a port; zero where they cannot be read.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn weir_qdisc_is_empty(port: u32, ring: u32) -> u32 {
    u32::from(qdisc_is_empty(port, ring) == Some(true))
}

#[inline(always)]
fn qdisc_is_empty(port: u32, ring: u32) -> Option<bool> {
    let (recipe, state) = (WEIR_RECIPES.get(port)?, WEIR_RINGS.get_ptr(ring)?);
    // SAFETY: a map value.
    let dev = unsafe { load(&raw const (*state).dev_addr) };
    if recipe.dev_tx == 0 || dev == 0 {
        return None;
    }
    let txqs: u32 = read(dev, recipe.dev_txqs)?;
    if txqs == 0 || txqs > TXQS_MAX {
        return None;
    }
    let mut txq: u64 = read(dev, recipe.dev_tx)?;
    // Each queue names its discipline: its own below an `mq`, else the root of all.
    for i in 0..TXQS_MAX {
        if i >= txqs {
            break;
        }
        let qdisc: u64 = read(txq, recipe.txq_qdisc)?;
        let flags: u32 = read(qdisc, recipe.qdisc_flags)?;
        let waits = if flags & NOLOCK != 0 {
            read::<u64>(qdisc, recipe.qdisc_state)? & NON_EMPTY != 0
        } else {
            read::<u32>(qdisc, recipe.qdisc_qlen)? != 0
        };
        if waits {
            return Some(false);
        }
        txq = txq.wrapping_add(u64::from(recipe.txq_stride));
    }
    Some(true)
}
