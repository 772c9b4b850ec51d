//! What the daemon is told of, through a ring buffer that programs never wait for.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use weir_aqm::Nanos;
use weir_egress::transition;
use weir_shared_maps::{EVENT_RING_DROPS, Event, PortCounter, RingState, SignalState, TELL_SHIFT};

use crate::{
    atomics::{load, store},
    maps::{WEIR_EVENTS, count},
};

/// A ring by its port and its number there.
#[derive(Clone, Copy)]
pub struct RingId {
    pub port: u32,
    pub ring: u32,
}

/// Tells of a level that an observation at `now` changed.
#[inline(always)]
pub fn tell_level(id: RingId, before: &SignalState, after: &SignalState, now: Nanos) {
    if let Some(Event { kind, port, ring, before, after, value, .. }) =
        transition(before, after, now, id.port, id.ring)
    {
        weir_tell(kind, port, ring, before << 16 | after, value);
    }
}

/// Tells that the driver refused frames, about once a millisecond while it does: the counter has them all.
///
/// # Safety
///
/// `state` must point to a map value. CPUs that share the ring may both tell.
#[inline(always)]
pub unsafe fn tell_refused(id: RingId, state: *mut RingState, refused: u32, now: u64) {
    let tick = (now >> TELL_SHIFT) as u32;
    // SAFETY: the caller's.
    unsafe {
        let told = &raw mut (*state).told_tick;
        if load(told) == tick {
            return;
        }
        store(told, tick);
    }
    weir_tell(EVENT_RING_DROPS, id.port, id.ring, 0, refused);
}

/// Tells an event; `levels` is `before` in the upper and `after` in the lower half. A full buffer loses it, and the port
/// counts it.
///
/// A global function, so that the verifier looks at it once and not for everything that may come after it.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn weir_tell(kind: u32, port: u32, ring: u32, levels: u32, value: u32) -> u32 {
    // SAFETY: no arguments, no memory.
    let at_ns = unsafe { bpf_ktime_get_ns() };
    let event = Event { at_ns, kind, port, ring, before: levels >> 16, after: levels & 0xffff, value };
    if WEIR_EVENTS.output::<Event>(&event, 0).is_err() {
        count(port, PortCounter::EventsLost, 1);
        return 0;
    }
    1
}
