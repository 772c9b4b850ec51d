//! PAUSE and PFC frames of the link partner of a device that is a port as well.

use aya_ebpf::{helpers::generated::bpf_ktime_get_ns, programs::XdpContext};
use weir_aqm::Nanos;
use weir_ingress::{Heeded, heed};
use weir_shared_maps::{IngressCounter, PortRoute};
use weir_wire::{Pause, RawPacket};

use crate::{
    events::weir_tell_paused,
    maps::{IFINDEX, MAC_HIGH, MAC_LOW, PAUSE_QUANTUM_PS, WEIR_PAUSE, WEIR_RINGS, WEIR_ROUTES},
};

/// Rings of a port that are told; those of a machine with more processors go on.
const RINGS_MAX: u32 = 256;

/// What becomes of a frame that is not forwarded for `reason`: a pause that the port heeds ends here.
#[inline(always)]
pub fn receive(ctx: &XdpContext, reason: IngressCounter) -> IngressCounter {
    let may_be = matches!(reason, IngressCounter::PassNotUnicast | IngressCounter::PassNotIp);
    if !may_be || PAUSE_QUANTUM_PS.load() == 0 {
        return reason;
    }
    let heeded = take(ctx);
    if heeded == NOT_A_PAUSE {
        return reason;
    }
    tell(heeded);
    IngressCounter::PauseReceived
}

/// A frame that is the stack's. A frame that was heeded gives [`HEEDED`], its priorities above bit 32 and the longest pause in
/// nanoseconds below.
const NOT_A_PAUSE: u64 = 0;
const HEEDED: u64 = 1 << 63;

/// Reads the frame and pauses the port.
///
/// A function of its own: a program and what it calls have 512 bytes of stack together.
#[inline(never)]
fn take(ctx: &XdpContext) -> u64 {
    // SAFETY: the context's bounds; no helper that moves them is called.
    let packet = unsafe { RawPacket::new(ctx.data(), ctx.data_end()) };
    let ([a, b, c, d], [e, f, _, _]) = (MAC_LOW.load().to_le_bytes(), MAC_HIGH.load().to_le_bytes());
    let Some(frame) = Pause::parse(&packet, [a, b, c, d, e, f]) else { return NOT_A_PAUSE };
    let Some(route) = port() else { return NOT_A_PAUSE };
    let Some(state) = WEIR_PAUSE.get_ptr_mut(route.port) else { return NOT_A_PAUSE };
    // SAFETY: no arguments, no memory.
    let now = Nanos::from_nanos(unsafe { bpf_ktime_get_ns() });
    // SAFETY: a map value. A link partner's frames arrive one after the other; were two heeded at once, a priority would
    // have the time of either.
    let Heeded { priorities, longest } = heed(unsafe { &mut *state }, &frame, now, PAUSE_QUANTUM_PS.load());
    let longest = u32::try_from(longest.as_nanos()).unwrap_or(u32::MAX);
    HEEDED | u64::from(priorities) << 32 | u64::from(longest)
}

/// The port that the device is.
#[inline(always)]
fn port() -> Option<&'static PortRoute> {
    WEIR_ROUTES.get(IFINDEX.load()).filter(|route| route.rings != 0)
}

/// Lets each ring of the port read until when any priority is paused; how many there are.
///
/// A global function, so that the verifier follows its loop once and not for every frame that may have led there.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn weir_pause_rings(port: u32, ring_base: u32, rings: u32) -> u32 {
    let Some(state) = WEIR_PAUSE.get(port) else { return 0 };
    let until_ns =
        state.until_ns.iter().fold(0, |latest, until| if *until > latest { *until } else { latest });
    for ring in 0..RINGS_MAX {
        if ring >= rings {
            return ring;
        }
        let Some(state) = WEIR_RINGS.get_ptr_mut(ring_base.wrapping_add(ring)) else { return ring };
        // SAFETY: a map value; ingress alone writes the word, observers leave it out.
        unsafe { (&raw mut (*state).signal.paused_until_ns).write_volatile(until_ns) };
    }
    RINGS_MAX
}

/// Tells the rings and the daemon.
#[inline(always)]
fn tell(heeded: u64) {
    let Some(route) = port() else { return };
    weir_pause_rings(route.port, route.ring_base, route.rings);
    weir_tell_paused(route.port, (heeded >> 32) as u32 & 0xff, heeded as u32);
}

/// Until when a priority of a port, 0 to 7, is paused; 0 for any other number.
///
/// A global function: what it needs of the stack is free again when it returns.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn weir_paused_until(port: u32, priority: u32) -> u64 {
    let Some(state) = WEIR_PAUSE.get(port) else { return 0 };
    let mut until_ns = 0;
    for (i, until) in state.until_ns.iter().enumerate() {
        if i as u32 == priority {
            until_ns = *until;
        }
    }
    until_ns
}
