//! After each batch and each frame of the stack: what the ring says, for egress and ingress to read.

use weir_aqm::{Bytes, Nanos, borrow, gcra};
use weir_egress::{observe, pace_from_map, pace_of_word, stands};
use weir_shared_maps::{
    DRIVER_NONE, HistoryEntry, PRIORITIES, PortConfig, RingHistory, RingRecipe, RingState, ShareState,
    SignalState,
};

use crate::{
    atomics::{load, store, try_lock, unlock},
    events::{RingId, tell_level},
    maps::{WEIR_HISTORY, WEIR_POLICY, WEIR_PORT_STATE, WEIR_PORTS, WEIR_RECIPES, WEIR_RINGS},
    ring::{Location, occupancy},
};

/// Renews drain rate, sojourn and signal of the ring `index`, which belongs to `port`. `refused` is not 0 where the driver
/// has just refused a frame.
///
/// Functions whose names are exported are global ones: the verifier looks at each once, not once for each way to it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn weir_renew(port: u32, index: u32, now: u64, refused: u32) -> u32 {
    let Some(state) = WEIR_RINGS.get_ptr_mut(index) else { return 0 };
    // SAFETY: a map value; drain rate and signal are computed on copies and stored by the holder of the try-lock. A CPU
    // that finds it taken leaves the renewal to the holder.
    unsafe {
        if try_lock(&raw mut (*state).busy) {
            let seen = weir_look(port, index, now);
            weir_raise(port, index, now, refused, seen);
            unlock(&raw mut (*state).busy);
        }
    }
    0
}

/// Reads the ring and renews all but the signal; one of `SEEN`, `UNSEEN`, `UNREADABLE`. The caller holds `busy`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn weir_look(port: u32, index: u32, now: u64) -> u32 {
    let (Some(recipe), Some(state), Some(history)) =
        (WEIR_RECIPES.get(port), WEIR_RINGS.get_ptr_mut(index), WEIR_HISTORY.get_ptr(index))
    else {
        return UNSEEN;
    };
    if recipe.driver == DRIVER_NONE {
        return UNREADABLE;
    }
    // SAFETY: map values, and the caller's lock.
    if unsafe { look(recipe, state, history, now) } { SEEN } else { UNSEEN }
}

/// What [`weir_look`] found: the ring.
const SEEN: u32 = 0;
/// A ring that could not be read this time.
const UNSEEN: u32 = 1;
/// A ring that no recipe reads.
const UNREADABLE: u32 = 2;

/// Renews the signal. The caller holds `busy`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn weir_raise(port: u32, index: u32, now: u64, refused: u32, seen: u32) -> u32 {
    let (Some(config), Some(state)) = (WEIR_PORTS.get(port), WEIR_RINGS.get_ptr_mut(index)) else { return 0 };
    let (now, refused) = (Nanos::from_nanos(now), refused != 0);
    // SAFETY: map values, and the caller's lock.
    unsafe {
        let before = load(&raw const (*state).signal);
        let mut signal = before;
        let backlog = Bytes::new(load(&raw const (*state).backlog_bytes));
        let predicted = Nanos::from_nanos(load(&raw const (*state).predicted_ns));
        if seen == SEEN && observe::meter_speaks(config) {
            let in_ring = if stands(config, backlog) { predicted } else { Nanos::ZERO };
            let wait = Some(in_ring.max(virtual_wait(port, config, now)));
            observe::observe_blind(config, &observe::Blind { now, wait, refused }, &mut signal);
        } else if seen == SEEN {
            let standing = observe::Standing {
                now,
                occupancy: load(&raw const (*state).occupancy_pkts),
                slots: load(&raw const (*state).slots),
                backlog,
                predicted,
                pace: pace_of_word(load(&raw const (*state).drain.pace)),
                refused,
            };
            observe::raise(config, &standing, &mut signal);
        } else {
            let wait = if seen == UNREADABLE { Some(virtual_wait(port, config, now)) } else { None };
            observe::observe_blind(config, &observe::Blind { now, wait, refused }, &mut signal);
        }
        store_signal(&raw mut (*state).signal, &signal);
        let id = RingId { port, ring: index.wrapping_sub(config.ring_base) };
        tell_level(id, &before, &signal, now);
    }
    0
}

/// What an arriving frame would wait in the queue that stands for a ring which nobody can read: the meter's, or what the
/// classes' phantom queues hold. They were brought up to date for the batch that has just ended.
#[inline(always)]
fn virtual_wait(port: u32, config: &PortConfig, now: Nanos) -> Nanos {
    if config.classes == 0 {
        let Some(state) = WEIR_PORT_STATE.get_ptr(port) else { return Nanos::ZERO };
        // SAFETY: a map value; one word.
        let tat = unsafe { load(&raw const (*state).tat_ns) };
        return gcra::virtual_sojourn(Nanos::from_nanos(tat), now);
    }
    let (Some(policy), Some(pace)) = (WEIR_POLICY.get_ptr(port), pace_from_map(config)) else {
        return Nanos::ZERO;
    };
    // SAFETY: a map value, word by word: another CPU may decide meanwhile, which is an error of its packets.
    let held = unsafe {
        let mut held = load(&raw const (*policy).owed);
        for rank in 0..PRIORITIES {
            let share = (&raw const (*policy).shares).cast::<ShareState>().add(rank);
            held = held.saturating_add(load(&raw const (*share).backlog));
        }
        held
    };
    pace.time_for(Bytes::new(held >> borrow::FRACTION))
}

/// Whether the ring could be read.
///
/// # Safety
///
/// Map values; the caller holds `busy`.
#[inline(always)]
unsafe fn look(recipe: &RingRecipe, state: *mut RingState, history: *const RingHistory, now: u64) -> bool {
    // SAFETY: the caller's.
    unsafe {
        let at = Location {
            ring: load(&raw const (*state).ring_addr),
            queue: load(&raw const (*state).queue_addr),
            slots: load(&raw const (*state).slots),
        };
        let Some(frames) = occupancy(recipe.driver, recipe, &at) else {
            store(&raw mut (*state).read_errors, load(&raw const (*state).read_errors).wrapping_add(1));
            // Looked up again with the next batch.
            store(&raw mut (*state).located_ns, 0);
            return false;
        };
        let (sent, sent_bytes) = (load(&raw const (*state).sent), load(&raw const (*state).sent_bytes));
        let head = if frames == 0 {
            None
        } else {
            let slot = observe::head_slot(sent, frames);
            Some(load((&raw const (*history).entries).cast::<HistoryEntry>().add(slot)))
        };
        let look = observe::Look {
            now: Nanos::from_nanos(now),
            occupancy: frames,
            slots: at.slots,
            sent_bytes,
            head,
            refused: false,
        };
        let mut drain = load(&raw const (*state).drain);
        let (measured, predicted) = observe::estimate(&look, &mut drain);
        store(&raw mut (*state).drain, drain);
        store(&raw mut (*state).observed_ns, now);
        store(&raw mut (*state).head_sojourn_ns, measured.head_sojourn.as_nanos());
        store(&raw mut (*state).predicted_ns, predicted.as_nanos());
        store(&raw mut (*state).backlog_bytes, measured.backlog.get());
        store(&raw mut (*state).occupancy_pkts, frames);
        if frames > load(&raw const (*state).occupancy_max_pkts) {
            store(&raw mut (*state).occupancy_max_pkts, frames);
        }
    }
    true
}

/// Stores what an observation says. Until when the port is paused is ingress's to write, from another CPU perhaps.
///
/// # Safety
///
/// `at` is in a map value; the caller holds the ring's `busy`.
#[inline(always)]
unsafe fn store_signal(at: *mut SignalState, signal: &SignalState) {
    let SignalState {
        until_ns,
        since_ns,
        level,
        raised,
        pressure_q32,
        reserved: _,
        paused_until_ns: _,
        held_ns: [clear, congested, full],
    } = *signal;
    // SAFETY: the caller's. The expiry first: a level that is seen with the one before has not begun, or has ended.
    unsafe {
        store(&raw mut (*at).until_ns, until_ns);
        store(&raw mut (*at).since_ns, since_ns);
        store(&raw mut (*at).pressure_q32, pressure_q32);
        store(&raw mut (*at).level, level);
        store(&raw mut (*at).raised, raised);
        store(&raw mut (*at).held_ns, [clear, congested, full]);
    }
}
