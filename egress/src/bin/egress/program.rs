//! The devmap program: police, share, mark or drop, right before the TX ring.

use aya_ebpf::{
    bindings::xdp_action,
    helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns},
    macros::xdp,
    programs::XdpContext,
};
use weir_aqm::{Bytes, Nanos};
use weir_egress::{
    Decision, Queue,
    batch::{self, Unseen},
    bottleneck, pace_of_word, policer, wire_bytes,
};
use weir_shared_maps::{
    BATCH_MAX, BatchScratch, DRIVER_NONE, MODE_BOTTLENECK, MODE_METER, MODE_POLICER, MODE_VIRTUAL,
    PortConfig, PortCounter, RingState,
};

use crate::{
    atomics::{CAS_ATTEMPTS, load, store, swap_if},
    cell::MapCell,
    frame::{capable, mark},
    maps::{
        AQM, DRIVER, FRAMING, MODE, PORT_INDEX, RINGS, WEIR_HISTORY, WEIR_PORT_STATE, WEIR_PORTS,
        WEIR_RECIPES, WEIR_RINGS, WEIR_SCRATCH, count, count_all,
    },
    ring::{Location, occupancy},
};

#[xdp(map = "devmap")]
pub fn weir_egress(ctx: XdpContext) -> u32 {
    let port = PORT_INDEX.load();
    let (Some(config), Some(scratch)) = (WEIR_PORTS.get_ptr(port), WEIR_SCRATCH.get_ptr_mut(0)) else {
        count(port, PortCounter::FailOpen, 1);
        return xdp_action::XDP_PASS;
    };
    // SAFETY: map values; the scratch is this CPU's own, the config is written by user space in whole words.
    let (config, scratch) = unsafe { (&*config, &mut *scratch) };
    if MODE.load() == MODE_METER {
        return xdp_action::XDP_PASS;
    }
    let ring = ring_index(config);
    if batch::begins(scratch, port) {
        leave_other(scratch, port);
        begin_batch(config, scratch, ring);
    }
    let len = (ctx.data_end() - ctx.data()) as u32;
    if MODE.load() == MODE_BOTTLENECK && scratch.free != 0 {
        return accept(scratch, len);
    }
    let decision = match MODE.load() {
        MODE_BOTTLENECK => by_ring(config, scratch, ring),
        MODE_POLICER | MODE_VIRTUAL => {
            let cost = wire_bytes(config, FRAMING.load(), len);
            let charge = |tat, now| policer::charge(config, tat, now, cost);
            by_meter(config, scratch, ring, charge, || capable(&ctx))
        }
        _ => Decision::Accept,
    };
    match decision {
        Decision::Accept => accept(scratch, len),
        Decision::Undecided => {
            count(port, PortCounter::AqmBusy, 1);
            accept(scratch, len)
        }
        Decision::Signal { may_mark } => {
            if may_mark && mark(&ctx) {
                count(port, PortCounter::Marked, 1);
                accept(scratch, len)
            } else {
                drop_for(scratch, port, PortCounter::DropAqm)
            }
        }
        Decision::Drop(cause) => drop_for(scratch, port, cause),
    }
}

/// Index of the ring that this CPU's frames enter.
#[inline(always)]
pub fn ring_index(config: &PortConfig) -> u32 {
    if RINGS.load() <= 1 {
        return config.ring_base;
    }
    // SAFETY: no arguments, no memory.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    // Those in use: the daemon follows a device whose queues change.
    config.ring_base.wrapping_add(cpu % config.rings.max(1))
}

/// Frames of another port that still wait for the observer: it has not seen their batch, and never will.
#[inline(always)]
pub fn leave_other(scratch: &mut BatchScratch, port: u32) {
    if scratch.port != port && batch::frames(scratch) != 0 {
        count_unseen(scratch.port, Unseen { accepted: scratch.accepted, dropped: scratch.dropped });
        close(scratch);
    }
}

/// Counts frames of batches that the observer did not see.
#[inline(always)]
pub fn count_unseen(port: u32, unseen: Unseen) {
    let Unseen { accepted, dropped } = unseen;
    count_all(
        port,
        [
            (PortCounter::Seen, accepted.wrapping_add(dropped).into()),
            (PortCounter::Accepted, accepted.into()),
            (PortCounter::Unobserved, accepted.into()),
        ],
    );
}

/// Nothing waits for the observer any more.
#[inline(always)]
pub fn close(scratch: &mut BatchScratch) {
    scratch.now_ns = 0;
    scratch.accepted_bytes = 0;
    scratch.accepted = 0;
    scratch.dropped = 0;
}

/// The first frame of a batch reads the clock and the ring, for all of it.
#[inline(always)]
pub fn begin_batch(config: &PortConfig, scratch: &mut BatchScratch, ring: u32) {
    // Volatile: neighbouring zeroes would become a call of memset.
    // SAFETY: the helper has no arguments; the stores go to this CPU's own map value.
    unsafe {
        store(&raw mut scratch.now_ns, bpf_ktime_get_ns());
        store(&raw mut scratch.port, PORT_INDEX.load());
        store(&raw mut scratch.dropped_at, batch::forget(scratch));
        store(&raw mut scratch.occupancy_pkts, 0);
        store(&raw mut scratch.backlog_bytes, 0);
        store(&raw mut scratch.head_sojourn_ns, 0);
        store(&raw mut scratch.free, 0);
    }
    look(scratch, ring);
    if MODE.load() == MODE_BOTTLENECK
        && let Some((queue, cell)) = situation(scratch, ring)
    {
        scratch.free =
            u32::from(bottleneck::batch_passes(config, AQM.load(), &queue, BATCH_MAX as u32, &cell));
    }
}

/// Reads the ring: frames, bytes and the oldest frame's wait.
#[inline(always)]
fn look(scratch: &mut BatchScratch, ring: u32) {
    if DRIVER.load() == DRIVER_NONE {
        return;
    }
    let Some(seen) = glance(ring) else { return };
    scratch.occupancy_pkts = seen.frames;
    if seen.frames == 0 {
        return;
    }
    scratch.backlog_bytes = seen.bytes;
    scratch.head_sojourn_ns = scratch.now_ns.saturating_sub(seen.enqueued_ns);
}

/// What a ring holds.
pub struct Glance {
    frames: u32,
    /// Their bytes; 0 where the history is missing.
    pub bytes: u64,
    /// When the oldest of them entered.
    enqueued_ns: u64,
}

/// Reads a ring; `None` where it cannot be read.
#[inline(always)]
pub fn glance(ring: u32) -> Option<Glance> {
    let (state, recipe) = (WEIR_RINGS.get_ptr(ring)?, WEIR_RECIPES.get(PORT_INDEX.load())?);
    // SAFETY: a map value, read word by word.
    let (at, sent, sent_bytes) = unsafe {
        (
            Location {
                ring: load(&raw const (*state).ring_addr),
                queue: load(&raw const (*state).queue_addr),
                slots: load(&raw const (*state).slots),
            },
            load(&raw const (*state).sent),
            load(&raw const (*state).sent_bytes),
        )
    };
    let frames = occupancy(DRIVER.load(), recipe, &at)?;
    if frames == 0 {
        return Some(Glance { frames, bytes: 0, enqueued_ns: u64::MAX });
    }
    let history = WEIR_HISTORY.get_ptr(ring)?;
    let slot = weir_egress::observe::head_slot(sent, frames);
    // SAFETY: `head_slot` is below the length of the array; the entry may be one lap old at worst.
    let head =
        unsafe { load((&raw const (*history).entries).cast::<weir_shared_maps::HistoryEntry>().add(slot)) };
    let bytes = sent_bytes.saturating_sub(head.bytes_before);
    Some(Glance { frames, bytes, enqueued_ns: head.enqueued_ns })
}

/// Bottleneck mode.
#[inline(always)]
pub fn by_ring(config: &PortConfig, scratch: &BatchScratch, ring: u32) -> Decision {
    let Some((queue, mut cell)) = situation(scratch, ring) else {
        count(scratch.port, PortCounter::FailOpen, 1);
        return Decision::Accept;
    };
    bottleneck::decide(config, AQM.load(), &queue, &mut cell)
}

/// What stands in front of the next frame, and the ring's AQM.
#[inline(always)]
pub fn situation(scratch: &BatchScratch, ring: u32) -> Option<(Queue, MapCell)> {
    let state = WEIR_RINGS.get_ptr_mut(ring)?;
    // SAFETY: a map value, read word by word; its AQM state is written by cells alone.
    let (slots, pace, cell) = unsafe {
        let state: *mut RingState = state;
        (
            load(&raw const (*state).slots),
            pace_of_word(load(&raw const (*state).drain.pace)),
            MapCell::new(&raw mut (*state).aqm),
        )
    };
    let queue = Queue {
        now: Nanos::from_nanos(scratch.now_ns),
        backlog: Bytes::new(scratch.backlog_bytes),
        occupancy: scratch.occupancy_pkts,
        slots,
        head_sojourn: Nanos::from_nanos(scratch.head_sojourn_ns),
        pace,
        ..Queue::NONE
    };
    Some((queue, cell))
}

/// Policer and virtual mode: the verdict on the virtual queue, then the charge, committed by compare and swap. `charge` is
/// what the meter would charge at a TAT, `capable` whether the packet can bear a mark.
#[inline(always)]
pub fn by_meter(
    config: &PortConfig,
    scratch: &BatchScratch,
    ring: u32,
    charge: impl Fn(Nanos, Nanos) -> policer::Charge,
    capable: impl Fn() -> bool,
) -> Decision {
    let Some(state) = WEIR_PORT_STATE.get_ptr_mut(scratch.port) else {
        count(scratch.port, PortCounter::FailOpen, 1);
        return Decision::Accept;
    };
    let now = Nanos::from_nanos(scratch.now_ns);
    // SAFETY: a map value; the TAT changes by compare and swap alone, the AQM state through cells alone.
    let (tat_at, mut cell) = unsafe { (&raw mut (*state).tat_ns, MapCell::new(&raw mut (*state).aqm)) };
    if let Some(full) = ring_full(config, scratch, ring) {
        return Decision::Drop(full);
    }
    let mut decision = None;
    for _ in 0..CAS_ATTEMPTS {
        // SAFETY: as above.
        let tat = unsafe { load(tat_at) };
        let new = match charge(Nanos::from_nanos(tat), now) {
            policer::Charge::Conform { tat } => tat,
            policer::Charge::Exceed(cause) => return Decision::Drop(cause),
            policer::Charge::NoRate => {
                count(scratch.port, PortCounter::FailOpen, 1);
                return Decision::Accept;
            }
        };
        // The controller is asked once, however often the swap is tried.
        let verdict = match decision {
            Some(verdict) => verdict,
            None => policer::decide(config, AQM.load(), Nanos::from_nanos(tat), now, &mut cell),
        };
        // Charged on accept only: what cannot be marked is about to be dropped.
        match verdict {
            Decision::Signal { may_mark } if !(may_mark && capable()) => {
                return Decision::Signal { may_mark: false };
            }
            Decision::Drop(_) => return verdict,
            Decision::Accept | Decision::Undecided | Decision::Signal { .. } => {}
        }
        decision = Some(verdict);
        // SAFETY: as above.
        if unsafe { swap_if(tat_at, tat, new.as_nanos()) } {
            return verdict;
        }
    }
    Decision::Drop(PortCounter::DropPolicer)
}

/// The ring may be full below a policed rate too (a slower device, a paused receiver).
#[inline(always)]
fn ring_full(config: &PortConfig, scratch: &BatchScratch, ring: u32) -> Option<PortCounter> {
    if DRIVER.load() == DRIVER_NONE {
        return None;
    }
    // SAFETY: a map value; one word, which the observer writes.
    let slots = WEIR_RINGS.get_ptr(ring).map_or(0, |state| unsafe { load(&raw const (*state).slots) });
    let admitted = weir_egress::slots_admitted(slots, config.reserve_slots);
    (slots > 0 && scratch.occupancy_pkts >= admitted).then_some(PortCounter::DropAdmission)
}

#[inline(always)]
pub fn accept(scratch: &mut BatchScratch, len: u32) -> u32 {
    if let Some(slot) = scratch.lengths.get_mut(scratch.accepted as usize & (BATCH_MAX - 1)) {
        *slot = len;
    }
    scratch.accepted = scratch.accepted.wrapping_add(1);
    scratch.accepted_bytes = scratch.accepted_bytes.wrapping_add(u64::from(len));
    scratch.occupancy_pkts = scratch.occupancy_pkts.wrapping_add(1);
    scratch.backlog_bytes = scratch.backlog_bytes.wrapping_add(u64::from(len));
    xdp_action::XDP_PASS
}

#[inline(always)]
pub fn drop_for(scratch: &mut BatchScratch, port: u32, cause: PortCounter) -> u32 {
    scratch.dropped_at = batch::drop_next(scratch);
    scratch.dropped = scratch.dropped.wrapping_add(1);
    count(port, cause, 1);
    xdp_action::XDP_DROP
}
