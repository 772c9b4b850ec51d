//! A rival of weir's fairness between flows on the real kernel: core-stateless fair queueing's dropping on a phantom queue
//! (`weir_aqm::csfq`), as the devmap program of one port. The lab compares the two; no configuration of weir runs it.
//!
//! It reads the flow from the headers and needs no ingress program of weir's. It stands in this package because it hashes
//! flows as ingress does. What the driver refuses stays charged: there is no observer to say so. Minimum kernel 5.8.
#![no_std]
#![no_main]
#![allow(missing_docs, reason = "the program macros expand to undocumented functions")]
#![feature(core_intrinsics)]
#![allow(internal_features, reason = "the BPF target has no other atomics")]

#[path = "../../../egress/src/bin/egress/atomics.rs"]
#[allow(dead_code, reason = "egress uses more of them")]
mod atomics;

use aya_ebpf::{
    Global,
    bindings::xdp_action,
    helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_ns},
    macros::{map, xdp},
    maps::{Array, PerCpuArray},
    programs::XdpContext,
};
use weir_aqm::csfq::{CsfqParams, CsfqVars, RateVars};
use weir_aqm::{Bytes, FairnessVerdict, Nanos, Pace};
use weir_ingress::{hash::flow_hash, key::transport};
use weir_shared_maps::{ClassCounter, ClassCounters, CounterId as _, FLOW_BUCKETS};
use weir_wire::{L3, RawPacket, parse};

use atomics::{try_lock, unlock};

#[unsafe(no_mangle)]
static RIVAL_PACE_MULT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static RIVAL_PACE_SHIFT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static HASH_SEED: Global<u32> = Global::new(0);

/// The drain, and the lock in front of it and of all flows.
#[repr(C)]
struct Drain {
    busy: u32,
    vars: CsfqVars,
}

#[map]
static RIVAL_DRAIN: Array<Drain> = Array::with_max_entries(1, 0);
#[map]
static RIVAL_FLOWS: Array<RateVars> = Array::with_max_entries(FLOW_BUCKETS, 0);
#[map]
static RIVAL_COUNT: PerCpuArray<ClassCounters> = PerCpuArray::with_max_entries(1, 0);

/// How often a taken lock is tried, as a port's of weir's.
const LOCK_ATTEMPTS: usize = 128;

/// What becomes of a frame.
enum Outcome {
    Accept,
    Mark,
    Drop(ClassCounter),
}

#[xdp(map = "devmap")]
pub fn rival_csfq(ctx: XdpContext) -> u32 {
    // A copy without a pace or without state is nothing that could be compared: its frames are lost, and the report says
    // that they were lost silently.
    let (Some(counters), Some(outcome)) = (RIVAL_COUNT.get_ptr_mut(0), decide(&ctx)) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: a per-CPU value; nothing else on this CPU runs between load and store.
    let slots = unsafe { &mut (*counters).slots };
    add(slots, ClassCounter::Seen, 1);
    match outcome {
        Outcome::Accept => accept(&ctx, slots),
        Outcome::Mark => {
            add(slots, ClassCounter::Marked, 1);
            accept(&ctx, slots)
        }
        Outcome::Drop(cause) => {
            add(slots, cause, 1);
            xdp_action::XDP_DROP
        }
    }
}

#[inline(always)]
fn accept(ctx: &XdpContext, slots: &mut [u64; 32]) -> u32 {
    add(slots, ClassCounter::Accepted, 1);
    add(slots, ClassCounter::AcceptedBytes, (ctx.data_end() - ctx.data()) as u64);
    xdp_action::XDP_PASS
}

#[inline(always)]
fn add(slots: &mut [u64; 32], counter: ClassCounter, by: u64) {
    if let Some(slot) = slots.get_mut(counter.slot()) {
        *slot = slot.wrapping_add(by);
    }
}

/// Judges and charges one frame; `None` where pace or state is missing.
#[inline(always)]
fn decide(ctx: &XdpContext) -> Option<Outcome> {
    let pace = Pace::from_parts(RIVAL_PACE_MULT.load(), RIVAL_PACE_SHIFT.load())?;
    let params = CsfqParams::as_compared(pace);
    // SAFETY: the context's bounds; no helper below moves them.
    let mut packet = unsafe { RawPacket::new(ctx.data(), ctx.data_end()) };
    // Only IP is redirected. What cannot be read is one flow together.
    let mut l3 = parse(&packet).map_or(L3::Other, |parsed| parsed.l3);
    let hash = flow_hash(&l3, &transport(&l3, &packet), HASH_SEED.load());
    let (drain, flow) = (RIVAL_DRAIN.get_ptr_mut(0)?, RIVAL_FLOWS.get_ptr_mut(hash & (FLOW_BUCKETS - 1))?);
    let length = Bytes::new((ctx.data_end() - ctx.data()) as u64);
    // SAFETY: the helpers take no arguments.
    let (now, random) = unsafe { (Nanos::from_nanos(bpf_ktime_get_ns()), bpf_get_prandom_u32()) };
    // SAFETY: map values; all that the references reach is behind the lock, which is given back below.
    let verdict = unsafe {
        if !lock(&raw mut (*drain).busy) {
            // Closed, so that the rate is never exceeded.
            return Some(Outcome::Drop(ClassCounter::DropBusy));
        }
        let outcome =
            judge(&params, &mut (*drain).vars, &mut *flow, (now, length, random), l3.ecn().is_capable());
        unlock(&raw mut (*drain).busy);
        outcome
    };
    if matches!(verdict, Outcome::Mark) {
        // The header said that it could be marked; should that fail now, the frame goes unmarked.
        let _marked = l3.set_ecn_ce(&mut packet);
    }
    Some(verdict)
}

/// The verdict, and the charge for what passes.
#[inline(always)]
fn judge(
    params: &CsfqParams,
    drain: &mut CsfqVars,
    flow: &mut RateVars,
    (now, length, random): (Nanos, Bytes, u32),
    capable: bool,
) -> Outcome {
    let outcome = match drain.judge(params, flow, now, length, random) {
        FairnessVerdict::Accept => Outcome::Accept,
        FairnessVerdict::Signal if capable => Outcome::Mark,
        FairnessVerdict::Signal => return Outcome::Drop(ClassCounter::DropAqm),
        FairnessVerdict::OverShare | FairnessVerdict::OverLimit => {
            return Outcome::Drop(ClassCounter::DropFairness);
        }
    };
    drain.charge(params, now, length);
    outcome
}

/// Tries the lock a bounded number of times.
///
/// # Safety
///
/// As [`try_lock`].
#[inline(always)]
unsafe fn lock(at: *mut u32) -> bool {
    for _ in 0..LOCK_ATTEMPTS {
        // SAFETY: the caller's.
        if unsafe { try_lock(at) } {
            return true;
        }
    }
    false
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
