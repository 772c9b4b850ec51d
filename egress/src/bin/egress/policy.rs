//! The devmap program of a port with classes.
//!
//! Its steps are functions of their own, called one after the other: BPF's stack has 512 bytes for a chain of calls, and
//! what they hand on lies in a [`Desk`].

use core::mem::MaybeUninit;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use weir_aqm::{Colour, Nanos};
use weir_egress::policy::{Action, Cause, Packet};
use weir_egress::{Queue, wire_bytes};
use weir_shared_maps::{
    BatchScratch, ClassCounter, DRIVER_NONE, MODE_BOTTLENECK, PacketMeta, PortConfig, PortCounter,
};

use crate::{
    classes::{self, Outcome},
    frame::{mark, policy_metadata, remark, traffic_class},
    maps::{
        CLASSES, DRIVER, FRAMING, MODE, PORT_INDEX, WEIR_DESK, WEIR_PORTS, WEIR_SCRATCH, count, count_class,
    },
    program::{accept, begin_batch, drop_for, ring_index, situation},
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
    if scratch.now_ns == 0 || scratch.port != port {
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

#[inline(never)]
fn first_of_batch(config: &PortConfig, scratch: &mut BatchScratch, ring: u32) {
    begin_batch(config, scratch, ring);
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
    let Some(queue) = queue_of(config, scratch, ring) else { return false };
    desk.write(Desk { meta, queue, packet });
    true
}

/// What stands in front of the next frame. `None` where the ring's state is missing.
#[inline(always)]
pub fn queue_of(config: &PortConfig, scratch: &BatchScratch, ring: u32) -> Option<Queue> {
    if MODE.load() == MODE_BOTTLENECK {
        return situation(scratch, ring).map(|(queue, _)| queue);
    }
    // The ring may be full below a policed rate too (a slower device, a paused receiver).
    let slots = if DRIVER.load() == DRIVER_NONE { 0 } else { config.ring_slots };
    let now = Nanos::from_nanos(scratch.now_ns);
    Some(Queue { now, occupancy: scratch.occupancy_pkts, slots, ..Queue::NONE })
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
