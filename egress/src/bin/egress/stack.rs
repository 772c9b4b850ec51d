//! The TC egress programs of a port: what the kernel's stack sends meets the decision that redirected frames meet, on the
//! same state.
//!
//! They run before the queue discipline, with softirqs off (`sch_handle_egress`, `net/core/dev.c` at v6.18): never between
//! the devmap program and the observer of a batch on the same CPU, so that the per-CPU memory of both is free. TCX from
//! kernel 6.6, `cls_bpf` with direct action before.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC},
    macros::classifier,
    programs::TcContext,
};
use weir_aqm::{Bytes, Colour, Nanos};
use weir_egress::frames::Frames;
use weir_egress::policy::{Action, Cause, Packet};
use weir_egress::{Decision, policer, wire_bytes};
use weir_shared_maps::{
    BATCH_MAX, BatchScratch, ClassCounter, META_MAGIC, MODE_BOTTLENECK, MODE_POLICER, MODE_VIRTUAL,
    PacketMeta, PortConfig, PortCounter,
};

use crate::{
    classes::{self, Outcome},
    maps::{
        CLASSES, FRAMING, MODE, PORT_INDEX, WEIR_DESK, WEIR_PORTS, WEIR_STACK, WEIR_STACK_META, count,
        count_class,
    },
    policy::{Desk, first_of_batch, queue_of},
    program::{begin_batch, by_meter, by_ring, ring_index},
    skb::{capable, frames, mark, remark, traffic_class},
};

/// The next program, or filter, is asked; after the last one the packet goes on. `TCX_NEXT` has the same number.
const ON: i32 = TC_ACT_UNSPEC;
const SHOT: i32 = TC_ACT_SHOT as i32;

/// A port without classes.
#[classifier]
pub fn weir_stack(ctx: TcContext) -> i32 {
    let port = PORT_INDEX.load();
    let frames = frames(&ctx);
    count(port, PortCounter::StackSeen, frames.count.into());
    let (Some(config), Some(scratch)) = (WEIR_PORTS.get_ptr(port), WEIR_STACK.get_ptr_mut(0)) else {
        count(port, PortCounter::FailOpen, 1);
        return ON;
    };
    // SAFETY: map values; the scratch is this CPU's own, the config is written by user space in whole words.
    let (config, scratch) = unsafe { (&*config, &mut *scratch) };
    let ring = ring_index(config);
    begin_batch(config, scratch, ring);
    let decision = match MODE.load() {
        MODE_BOTTLENECK if scratch.free != 0 && frames.count <= BATCH_MAX as u32 => Decision::Accept,
        MODE_BOTTLENECK => by_ring(config, scratch, ring),
        MODE_POLICER | MODE_VIRTUAL => {
            let first = wire_bytes(config, FRAMING.load(), frames.first());
            let rest = frames.rest(config, FRAMING.load());
            let charge = |tat, now| policer::charge_frames(config, tat, now, first, rest);
            by_meter(config, scratch, ring, charge, || capable(&ctx))
        }
        _ => Decision::Accept,
    };
    match decision {
        Decision::Accept => ON,
        Decision::Undecided => {
            count(port, PortCounter::AqmBusy, 1);
            ON
        }
        Decision::Signal { may_mark } => {
            if may_mark && mark(&ctx) {
                count_mark(port, &frames);
                ON
            } else {
                drop_for(port, &frames, PortCounter::DropAqm)
            }
        }
        Decision::Drop(cause) => drop_for(port, &frames, cause),
    }
}

/// A port with classes. `weir_stack_cls` has run before it, on the same packet, and left the packet's metadata.
#[classifier]
pub fn weir_stack_pol(ctx: TcContext) -> i32 {
    let port = PORT_INDEX.load();
    let frames = frames(&ctx);
    count(port, PortCounter::StackSeen, frames.count.into());
    let (Some(config), Some(scratch), Some(desk)) =
        (WEIR_PORTS.get_ptr(port), WEIR_STACK.get_ptr_mut(0), WEIR_DESK.get_ptr_mut(0))
    else {
        count(port, PortCounter::FailOpen, 1);
        return ON;
    };
    // SAFETY: map values; scratch and desk are this CPU's own, the config is written by user space in whole words.
    let (config, scratch, desk) = unsafe { (&*config, &mut *scratch, &mut *desk) };
    if !look_at(&ctx, config, scratch, desk, &frames) {
        count(port, PortCounter::FailOpen, 1);
        return ON;
    }
    // SAFETY: just written.
    let desk = unsafe { desk.assume_init_ref() };
    let Some(work) = classes::memory() else {
        count(port, PortCounter::FailOpen, 1);
        return ON;
    };
    work.follow(frames.rest(config, FRAMING.load()));
    let outcome = classes::judge(config, &desk.queue, &desk.meta, &desk.packet, 0);
    if let Some(work) = classes::memory() {
        work.follow(Bytes::ZERO);
    }
    act(&ctx, desk, &frames, outcome)
}

/// Writes down what is known about the packet; whether the ring's state is there.
#[inline(never)]
fn look_at(
    ctx: &TcContext,
    config: &PortConfig,
    scratch: &mut BatchScratch,
    desk: &mut MaybeUninit<Desk>,
    frames: &Frames,
) -> bool {
    let port = PORT_INDEX.load();
    let ring = ring_index(config);
    first_of_batch(config, scratch, ring);
    let meta = match take_metadata() {
        Some(meta) if u32::from(meta.class) < CLASSES.load() => meta,
        Some(_) | None => {
            count(port, PortCounter::NoMetadata, frames.count.into());
            classes::no_metadata(config)
        }
    };
    count_class(port, meta.class.into(), ClassCounter::Seen, frames.count.into());
    let class = traffic_class(ctx).unwrap_or(0);
    let now = Nanos::from_nanos(scratch.now_ns);
    let cost = wire_bytes(config, FRAMING.load(), frames.first());
    let packet = Packet { now, cost, ecn: class & 3, dscp: class >> 2 };
    let Some(queue) = queue_of(scratch, ring) else { return false };
    desk.write(Desk { meta, queue, packet });
    true
}

/// What `weir_stack_cls` said of this packet. Taken away: what it says next is of the next packet.
#[inline(always)]
fn take_metadata() -> Option<PacketMeta> {
    let slot = WEIR_STACK_META.get_ptr_mut(0)?;
    // SAFETY: this CPU's own value.
    let meta = unsafe { *slot };
    if meta.head.magic != META_MAGIC {
        return None;
    }
    // SAFETY: as above.
    unsafe { (*slot).head.magic = 0 };
    Some(meta)
}

/// The one screen where a packet of a class leaves.
#[inline(never)]
fn act(ctx: &TcContext, desk: &Desk, frames: &Frames, outcome: Outcome) -> i32 {
    let (port, class, by) = (PORT_INDEX.load(), u32::from(desk.meta.class), u64::from(frames.count));
    match outcome {
        Outcome::Ruled | Outcome::Busy => {}
        Outcome::Unjudged => count_class(port, class, ClassCounter::LockBusy, by),
        Outcome::Missing => count(port, PortCounter::FailOpen, 1),
    }
    if outcome != Outcome::Missing
        && let Some(work) = classes::memory()
    {
        let ruling = work.ruling();
        match ruling.colour {
            Some(Colour::Green) => count_class(port, class, ClassCounter::Green, by),
            Some(Colour::Yellow) => count_class(port, class, ClassCounter::Yellow, by),
            Some(Colour::Red) => count_class(port, class, ClassCounter::Red, by),
            None => {}
        }
        if ruling.policer_busy {
            count_class(port, class, ClassCounter::PolicerBusy, by);
        }
        if outcome == Outcome::Busy {
            return drop_of_class(class, frames, Cause::Busy);
        }
        match ruling.action {
            Action::Drop(cause) => return drop_of_class(class, frames, cause),
            // The header said that it could be marked; should that fail now, the packet goes unmarked.
            Action::Mark if mark(ctx) => {
                count_mark(port, frames);
                count_class(port, class, ClassCounter::Marked, by);
            }
            Action::Mark | Action::Accept => {}
        }
        if let Some(code_point) = ruling.dscp
            && remark(ctx, code_point)
        {
            count_class(port, class, ClassCounter::Remarked, by);
        }
    }
    count_class(port, class, ClassCounter::Accepted, by);
    count_class(port, class, ClassCounter::AcceptedBytes, frames.bytes());
    ON
}

#[inline(always)]
fn count_mark(port: u32, frames: &Frames) {
    count(port, PortCounter::Marked, frames.count.into());
    count(port, PortCounter::StackMarked, frames.count.into());
}

#[inline(always)]
fn drop_of_class(class: u32, frames: &Frames, cause: Cause) -> i32 {
    count_class(PORT_INDEX.load(), class, cause.of_class(), frames.count.into());
    drop_for(PORT_INDEX.load(), frames, cause.of_port())
}

#[inline(always)]
fn drop_for(port: u32, frames: &Frames, cause: PortCounter) -> i32 {
    count(port, cause, frames.count.into());
    count(port, PortCounter::StackDropped, frames.count.into());
    SHOT
}
