//! `stack = "charge"`: what left a port's qdisc is charged to the port's rate, though nobody was asked about it.

use weir_aqm::borrow::FRACTION;
use weir_aqm::{Bytes, Nanos};
use weir_egress::{policer, wire_bytes};
use weir_shared_maps::{MODE_POLICER, MODE_VIRTUAL, PortConfig, STACK_CHARGE};

use crate::atomics::{CAS_ATTEMPTS, fetch_add, load, swap_if};
use crate::maps::{WEIR_POLICY, WEIR_PORT_STATE};

/// Charges one frame of the stack that the driver took. The debt stays within what the port's meter tolerates, so that
/// redirected frames are not locked out for longer than a burst.
#[inline(always)]
pub fn charge_sent(config: &PortConfig, port: u32, len: u32, now: u64) {
    let metered = config.mode == MODE_POLICER || config.mode == MODE_VIRTUAL;
    if config.stack != STACK_CHARGE || !metered {
        return;
    }
    let cost = wire_bytes(config, config.framing, len);
    if config.classes > 0 { to_account(config, port, cost) } else { to_meter(config, port, cost, now) }
}

/// The meter. A frame that loses all swaps goes uncharged: it has left.
#[inline(always)]
fn to_meter(config: &PortConfig, port: u32, cost: Bytes, now: u64) {
    let Some(state) = WEIR_PORT_STATE.get_ptr_mut(port) else { return };
    for _ in 0..CAS_ATTEMPTS {
        // SAFETY: a map value; the TAT changes by compare and swap alone.
        let done = unsafe {
            let at = &raw mut (*state).tat_ns;
            let tat = load(at);
            let new = policer::charge_sent(config, Nanos::from_nanos(tat), Nanos::from_nanos(now), cost);
            swap_if(at, tat, new.as_nanos())
        };
        if done {
            return;
        }
    }
}

/// The port's account, which is paid before its classes get anything.
#[inline(always)]
fn to_account(config: &PortConfig, port: u32, cost: Bytes) {
    let Some(policy) = WEIR_POLICY.get_ptr_mut(port) else { return };
    // SAFETY: a map value; single words are read, and the account changes by atomic additions alone.
    unsafe {
        let account = &raw mut (*policy).unjudged_bytes;
        let owed = (load(&raw const (*policy).owed) >> FRACTION).saturating_add(load(account));
        if owed < policer::owed_most(config).get() {
            fetch_add(account, cost.get());
        }
    }
}
