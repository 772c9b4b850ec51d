//! What the daemon is told of, through a ring buffer that programs never wait for.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use weir_shared_maps::{EVENT_FLOW, EVENT_PAUSED, Event, PortCounter, TELL_SHIFT};

use crate::{
    atomics::{load, store},
    maps::{WEIR_DIVERT, WEIR_EVENTS, count},
};

/// Tells that a flow of a port changed its way, about once a millisecond for each port: the counters have all packets.
///
/// A global function, so that the verifier looks at it once and not for everything that may come after it.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn weir_tell_flow(port: u32, flow_hash: u32, before: u32, after: u32) -> u32 {
    let Some(state) = WEIR_DIVERT.get_ptr_mut(port) else { return 0 };
    // SAFETY: no arguments, no memory.
    let tick = unsafe { bpf_ktime_get_ns() } >> TELL_SHIFT;
    // SAFETY: a map value. CPUs may both tell.
    unsafe {
        let told = &raw mut (*state).told_tick;
        if load(told) == tick {
            return 0;
        }
        store(told, tick);
    }
    tell(EVENT_FLOW, port, before, after, flow_hash)
}

/// Tells that the link partner paused a port: the priorities as bits, and the longest pause in nanoseconds.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn weir_tell_paused(port: u32, priorities: u32, longest_ns: u32) -> u32 {
    tell(EVENT_PAUSED, port, priorities, 0, longest_ns)
}

/// A full buffer loses the event, and the port counts it.
#[inline(always)]
fn tell(kind: u32, port: u32, before: u32, after: u32, value: u32) -> u32 {
    // Written where it lies in the buffer: the stack has no room for it.
    let Some(mut event) = WEIR_EVENTS.reserve::<Event>(0) else {
        count(port, PortCounter::EventsLost, None);
        return 0;
    };
    // SAFETY: no arguments, no memory.
    let at_ns = unsafe { bpf_ktime_get_ns() };
    event.write(Event { at_ns, kind, port, ring: u32::MAX, before, after, value });
    event.submit(0);
    1
}
