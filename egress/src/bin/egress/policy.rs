//! The devmap program of a port with classes.
//!
//! Its steps are functions of their own, called one after the other: BPF's stack has 512 bytes for a chain of calls, and
//! what they hand on lies in a [`Desk`].

use core::mem::MaybeUninit;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use weir_aqm::{Bytes, Colour, Nanos};
use weir_egress::policy::{Action, Cause, Packet, Rings};
use weir_egress::{Queue, batch, pace_of_word, wire_bytes};
use weir_shared_maps::{
    BatchScratch, ClassCounter, DRIVER_NONE, FORGOTTEN_NS, MODE_BOTTLENECK, PacketMeta, PortConfig,
    PortCounter, RINGS_SUMMED,
};

use crate::{
    atomics::{load, store, try_lock, unlock},
    classes::{self, Outcome},
    frame::{mark, policy_metadata, remark, traffic_class},
    maps::{
        CLASSES, DRIVER, FRAMING, MODE, PORT_INDEX, RINGS, WEIR_DESK, WEIR_PORTS, WEIR_RINGS, WEIR_SCRATCH,
        count, count_class,
    },
    program::{accept, begin_batch, drop_for, glance, leave_other, ring_index, situation},
};

/// One frame on its way through the program.
pub struct Desk {
    /// What ingress said.
    pub meta: PacketMeta,
    /// The ring.
    pub queue: Queue,
    /// The packet.
    pub packet: Packet,
}

#[xdp(map = "devmap")]
pub fn weir_policy(ctx: XdpContext) -> u32 {
    let port = PORT_INDEX.load();
    let (Some(config), Some(scratch), Some(desk)) =
        (WEIR_PORTS.get_ptr(port), WEIR_SCRATCH.get_ptr_mut(0), WEIR_DESK.get_ptr_mut(0))
    else {
        count(port, PortCounter::FailOpen, 1);
        return xdp_action::XDP_PASS;
    };
    // SAFETY: map values; scratch and desk are this CPU's own, the config is written by user space in whole words.
    let (config, scratch, desk) = unsafe { (&*config, &mut *scratch, &mut *desk) };
    let ring = ring_index(config);
    if batch::begins(scratch, port) {
        leave_other(scratch, port);
        first_of_batch(config, scratch, ring);
    }
    if !look_at(&ctx, config, scratch, desk, ring) {
        count(port, PortCounter::FailOpen, 1);
        return accept(scratch, (ctx.data_end() - ctx.data()) as u32);
    }
    // SAFETY: just written.
    let desk = unsafe { desk.assume_init_ref() };
    let outcome = classes::judge(config, &desk.queue, &desk.meta, &desk.packet, scratch.accepted);
    act(&ctx, scratch, desk, outcome)
}

/// The batch's look at the ring, and at the port's others where the port has several.
#[inline(never)]
pub fn first_of_batch(config: &PortConfig, scratch: &mut BatchScratch, ring: u32) {
    begin_batch(config, scratch, ring);
    if MODE.load() == MODE_BOTTLENECK && RINGS.load() > 1 && RINGS.load() <= RINGS_SUMMED {
        add_rings(config, scratch, ring);
    }
}

/// Adds up what all rings of the port hold, and renews the rate at which they drain.
#[inline(always)]
fn add_rings(config: &PortConfig, scratch: &mut BatchScratch, own: u32) {
    let mut rings = Rings::default();
    for index in 0..RINGS_SUMMED {
        let ring = config.ring_base.wrapping_add(index);
        if index >= RINGS.load() {
            break;
        }
        let Some(state) = WEIR_RINGS.get_ptr(ring) else { return };
        // SAFETY: a map value, of which one word is read.
        let sent_bytes = unsafe { load(&raw const (*state).sent_bytes) };
        let bytes = if ring == own { scratch.backlog_bytes } else { weir_ring_bytes(ring, scratch.now_ns) };
        rings.add(sent_bytes, Bytes::new(bytes));
    }
    scratch.others_bytes = rings.bytes().get().saturating_sub(scratch.backlog_bytes);
    let Some(state) = WEIR_RINGS.get_ptr_mut(own) else { return };
    // SAFETY: a map value; the estimate is computed on a copy and stored by the holder of the try-lock. Who finds it taken uses the
    // rate as it is, one word.
    unsafe {
        if try_lock(&raw mut (*state).all_busy) {
            let mut drain = load(&raw const (*state).all);
            rings.observe(&mut drain, Nanos::from_nanos(scratch.now_ns));
            store(&raw mut (*state).all, drain);
            unlock(&raw mut (*state).all_busy);
        }
        scratch.all_pace = load(&raw const (*state).all.pace);
    }
}

/// Bytes in a ring that another CPU sends into; 0 where nobody has for long.
///
/// A global function (its name is exported): the verifier looks at it once, not once for each ring.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn weir_ring_bytes(ring: u32, now_ns: u64) -> u64 {
    let Some(state) = WEIR_RINGS.get_ptr(ring) else { return 0 };
    // SAFETY: a map value, of which one word is read.
    let located_ns = unsafe { load(&raw const (*state).located_ns) };
    if now_ns.saturating_sub(located_ns) > FORGOTTEN_NS {
        return 0;
    }
    glance(ring).map_or(0, |seen| seen.bytes)
}

/// Writes down what is known about the frame; whether the ring's state is there.
#[inline(never)]
fn look_at(
    ctx: &XdpContext,
    config: &PortConfig,
    scratch: &BatchScratch,
    desk: &mut MaybeUninit<Desk>,
    ring: u32,
) -> bool {
    let meta = match policy_metadata(ctx) {
        Some(meta) if u32::from(meta.class) < CLASSES.load() => meta,
        Some(_) | None => {
            count(scratch.port, PortCounter::NoMetadata, 1);
            classes::no_metadata(config)
        }
    };
    count_class(scratch.port, u32::from(meta.class), ClassCounter::Seen, 1);
    let len = (ctx.data_end() - ctx.data()) as u32;
    let (dscp, ecn) = traffic_class(ctx).unwrap_or((0, 0));
    let now = Nanos::from_nanos(scratch.now_ns);
    let packet = Packet { now, cost: wire_bytes(config, FRAMING.load(), len), ecn, dscp };
    let Some(queue) = queue_of(scratch, ring) else { return false };
    desk.write(Desk { meta, queue, packet });
    true
}

/// What stands in front of the next frame. `None` where the ring's state is missing.
#[inline(always)]
pub fn queue_of(scratch: &BatchScratch, ring: u32) -> Option<Queue> {
    let (mut queue, _) = situation(scratch, ring)?;
    if MODE.load() == MODE_BOTTLENECK && RINGS.load() > 1 && RINGS.load() <= RINGS_SUMMED {
        queue.others = Bytes::new(scratch.others_bytes);
        queue.all_pace = pace_of_word(scratch.all_pace);
    }
    if DRIVER.load() == DRIVER_NONE {
        queue.slots = 0;
    }
    Some(queue)
}

/// The one screen where a frame of a class leaves.
#[inline(never)]
fn act(ctx: &XdpContext, scratch: &mut BatchScratch, desk: &Desk, outcome: Outcome) -> u32 {
    let (port, class) = (scratch.port, u32::from(desk.meta.class));
    match outcome {
        Outcome::Ruled | Outcome::Busy => {}
        Outcome::Unjudged => count_class(port, class, ClassCounter::LockBusy, 1),
        Outcome::Missing => count(port, PortCounter::FailOpen, 1),
    }
    if outcome != Outcome::Missing
        && let Some(work) = classes::memory()
    {
        let ruling = work.ruling();
        match ruling.colour {
            Some(Colour::Green) => count_class(port, class, ClassCounter::Green, 1),
            Some(Colour::Yellow) => count_class(port, class, ClassCounter::Yellow, 1),
            Some(Colour::Red) => count_class(port, class, ClassCounter::Red, 1),
            None => {}
        }
        if ruling.policer_busy {
            count_class(port, class, ClassCounter::PolicerBusy, 1);
        }
        if outcome == Outcome::Busy {
            return drop_of_class(scratch, class, Cause::Busy);
        }
        match ruling.action {
            Action::Drop(cause) => return drop_of_class(scratch, class, cause),
            // The header said that it could be marked; should that fail now, the frame goes unmarked.
            Action::Mark if mark(ctx) => {
                count(port, PortCounter::Marked, 1);
                count_class(port, class, ClassCounter::Marked, 1);
            }
            Action::Mark | Action::Accept => {}
        }
        if let Some(code_point) = ruling.dscp
            && remark(ctx, code_point)
        {
            count_class(port, class, ClassCounter::Remarked, 1);
        }
    }
    let len = (ctx.data_end() - ctx.data()) as u32;
    count_class(port, class, ClassCounter::Accepted, 1);
    count_class(port, class, ClassCounter::AcceptedBytes, u64::from(len));
    accept(scratch, len)
}

#[inline(always)]
fn drop_of_class(scratch: &mut BatchScratch, class: u32, cause: Cause) -> u32 {
    count_class(scratch.port, class, cause.of_class(), 1);
    drop_for(scratch, scratch.port, cause.of_port())
}
