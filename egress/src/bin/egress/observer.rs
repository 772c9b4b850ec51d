//! The ring observer: sees what the driver took of each batch, keeps the ring's history, renews rate and signal.

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns},
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use weir_aqm::{Bytes, Nanos};
use weir_egress::{batch, policer, wire_bytes};
use weir_shared_maps::{
    BATCH_MAX, BatchScratch, HISTORY_LEN, HistoryEntry, LOCATE_INTERVAL_NS, MODE_POLICER, MODE_VIRTUAL,
    PortConfig, PortCounter, PortRoute, RingHistory, RingRecipe, RingState,
};

use crate::{
    atomics::{CAS_ATTEMPTS, fetch_add, load, store, swap_if},
    charge::charge_sent,
    classes::weir_give_back,
    events::{RingId, tell_refused},
    maps::{
        CLASSES, WEIR_HISTORY, WEIR_PORT_STATE, WEIR_PORTS, WEIR_RECIPES, WEIR_RINGS, WEIR_ROUTES,
        WEIR_SCRATCH, count, count_all,
    },
    program::{close, count_unseen},
    renew::weir_renew,
    ring::{Location, locate, read},
};

/// Arguments of `xdp_devmap_xmit` (`include/trace/events/xdp.h` at v6.18), the same for both program types.
#[derive(Clone, Copy)]
struct Batch {
    dev: u64,
    sent: u32,
    drops: u32,
}

#[btf_tracepoint(function = "xdp_devmap_xmit")]
pub fn weir_observer(ctx: BtfTracePointContext) -> i32 {
    after_batch(Batch { dev: ctx.arg(1), sent: ctx.arg(2), drops: ctx.arg(3) })
}

#[raw_tracepoint(tracepoint = "xdp_devmap_xmit")]
pub fn weir_observer_raw(ctx: RawTracePointContext) -> i32 {
    after_batch(Batch {
        dev: raw_arg(&ctx, 1),
        sent: raw_arg(&ctx, 2) as u32,
        drops: raw_arg(&ctx, 3) as u32,
    })
}

/// Frames that the stack sent on a managed port share its ring on most drivers: they enter its history.
///
/// Arguments of `net_dev_xmit` (`include/trace/events/net.h` at v6.18): skb, rc, dev, length.
#[raw_tracepoint(tracepoint = "net_dev_xmit")]
pub fn weir_stack_obs(ctx: RawTracePointContext) -> i32 {
    let dev = raw_arg(&ctx, 2);
    let Some(Port { route, recipe, config }) = managed(dev) else { return 0 };
    let queue = if route.rings > 1 && recipe.skb_queue != 0 {
        read::<u16>(raw_arg(&ctx, 0), recipe.skb_queue).map_or(0, u32::from)
    } else {
        0
    };
    let id = RingId { port: route.port, ring: queue % route.rings.max(1) };
    let index = route.ring_base.wrapping_add(id.ring);
    // SAFETY: no arguments, no memory.
    let now = unsafe { bpf_ktime_get_ns() };
    let Some((state, history)) = ring_of(config, recipe, dev, index, queue, (now, LOCATE_INTERVAL_NS)) else {
        return 0;
    };
    match raw_arg(&ctx, 1) as i32 {
        0 => count(route.port, PortCounter::StackSent, 1),
        // NETDEV_TX_BUSY: the stack keeps the frame and comes again.
        0x10 => return 0,
        _ => {
            count(route.port, PortCounter::StackDrops, 1);
            return 0;
        }
    }
    let len = raw_arg(&ctx, 3);
    // SAFETY: map values from `ring_of`.
    unsafe {
        let sequence = fetch_add(&raw mut (*state).sent, 1);
        let before = fetch_add(&raw mut (*state).sent_bytes, len);
        remember(history, sequence, now, before);
    }
    charge_sent(config, route.port, len as u32, now);
    weir_renew(route.port, index, now, 0);
    0
}

/// Redirects that the kernel refused before the frame got to egress: `xdp_redirect_err` (dev, xdp, target, err,
/// map type, map id, index); index is the device map's key, an ifindex.
#[raw_tracepoint(tracepoint = "xdp_redirect_err")]
pub fn weir_redir_err(ctx: RawTracePointContext) -> i32 {
    let index = raw_arg(&ctx, 6) as u32;
    if let Some(route) = WEIR_ROUTES.get(index)
        && route.rings != 0
        && from_our_namespace(raw_arg(&ctx, 0), route.port)
    {
        count(route.port, PortCounter::RedirectErrors, 1);
    }
    0
}

/// Whether the device a frame came from is in the namespace of `port`: redirects do not leave it.
#[inline(always)]
fn from_our_namespace(dev: u64, port: u32) -> bool {
    let (Some(recipe), Some(config)) = (WEIR_RECIPES.get(port), WEIR_PORTS.get(port)) else { return false };
    namespace(recipe, dev) == Some(config.netns_inum)
}

/// Inode number of a device's network namespace.
#[inline(always)]
fn namespace(recipe: &RingRecipe, dev: u64) -> Option<u32> {
    read(read::<u64>(dev, recipe.dev_net)?, recipe.net_inum)
}

#[inline(always)]
fn raw_arg(ctx: &RawTracePointContext, n: usize) -> u64 {
    // SAFETY: the context is an array of the tracepoint's arguments, each widened to 64 bits.
    unsafe { *ctx.as_ptr().cast::<u64>().add(n) }
}

/// A device that this instance manages.
struct Port {
    route: &'static PortRoute,
    recipe: &'static RingRecipe,
    config: &'static PortConfig,
}

/// Whether `dev` has the ifindex of a managed port; the namespace is compared in [`ring_of`].
#[inline(always)]
fn managed(dev: u64) -> Option<Port> {
    // All recipes agree on the fields of `net_device`; entry 0 always exists.
    let ifindex: u32 = read(dev, WEIR_RECIPES.get(0)?.dev_ifindex)?;
    let route = WEIR_ROUTES.get(ifindex).filter(|route| route.rings != 0)?;
    Some(Port { route, recipe: WEIR_RECIPES.get(route.port)?, config: WEIR_PORTS.get(route.port)? })
}

#[inline(always)]
fn after_batch(batch: Batch) -> i32 {
    let Some(Port { route, recipe, config }) = managed(batch.dev) else { return 0 };
    let Some(scratch) = WEIR_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: no arguments, no memory.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let queue = if route.rings > 1 { cpu % route.rings } else { 0 };
    // SAFETY: no arguments, no memory.
    let now = unsafe { bpf_ktime_get_ns() };
    let id = RingId { port: route.port, ring: queue };
    let index = route.ring_base.wrapping_add(queue);
    // SAFETY: this CPU's own value; egress of the same batch ran before, nothing of it runs meanwhile.
    let (ours, counted, dropped) = unsafe {
        let scratch = &*scratch;
        // Without a batch of our egress program (a port that is only measured) the kernel's numbers are all there is.
        let ours = scratch.now_ns != 0 && scratch.port == route.port;
        if ours { (ours, batch::frames(scratch), scratch.dropped) } else { (ours, 0, 0) }
    };
    // A ring that refuses may have been made smaller, or its device have lost it.
    let trusted = if batch.drops > dropped { 0 } else { LOCATE_INTERVAL_NS };
    let Some((state, history)) = ring_of(config, recipe, batch.dev, index, queue, (now, trusted)) else {
        return 0;
    };
    let frames = batch.sent.wrapping_add(batch.drops);
    let skip = if frames < counted { weir_unseen(frames) } else { 0 };
    // SAFETY: as above.
    let scratch = unsafe { &*scratch };
    // What egress let through without counting it (fail open) may be among what the driver refused, too.
    let (accepted, refused) =
        if ours { (scratch.accepted, batch.drops.saturating_sub(scratch.dropped)) } else { (0, batch.drops) };
    let seen = if ours { accepted.wrapping_add(scratch.dropped) } else { 0 };
    let lengths =
        Lengths { scratch: if ours { Some(scratch) } else { None }, else_len: config.max_packet_bytes };
    let bytes = enter(state, history, &lengths, batch.sent, accepted, now);
    count_all(
        route.port,
        [
            (PortCounter::Seen, u64::from(seen)),
            (PortCounter::Accepted, u64::from(accepted)),
            (PortCounter::Sent, u64::from(batch.sent)),
            (PortCounter::SentBytes, bytes),
        ],
    );
    if refused > 0 {
        count(route.port, PortCounter::RingDrops, u64::from(refused));
        if CLASSES.load() > 0 && ours && config.classes > 0 {
            give_back_classes(route.port, skip, batch.sent, accepted);
        } else {
            give_back(config, route.port, &lengths, batch.sent, accepted, now);
        }
        // SAFETY: a map value from `ring_of`.
        unsafe { tell_refused(id, state, refused, now) };
    }
    weir_renew(route.port, index, now, refused);
    if ours {
        scratch_end(WEIR_SCRATCH.get_ptr_mut(0));
    }
    0
}

/// Counts frames of this CPU's batches that ended unseen, and leaves the newest batch, of `frames` frames; how many were accepted before
/// it.
///
/// A global function (its name is exported): the verifier looks at it once, not once for everything that may come after it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn weir_unseen(frames: u32) -> u32 {
    let Some(scratch) = WEIR_SCRATCH.get_ptr_mut(0) else { return 0 };
    // SAFETY: this CPU's own value, and the caller has no reference to it.
    let scratch = unsafe { &mut *scratch };
    let unseen = batch::settle(scratch, frames);
    count_unseen(scratch.port, unseen);
    unseen.accepted
}

/// The batch is over: the next frame reads clock and ring anew.
#[inline(always)]
fn scratch_end(scratch: Option<*mut BatchScratch>) {
    if let Some(scratch) = scratch {
        // SAFETY: this CPU's own value.
        close(unsafe { &mut *scratch });
    }
}

/// Lengths of the batch's accepted frames; a full frame where egress did not record them.
struct Lengths<'a> {
    scratch: Option<&'a BatchScratch>,
    else_len: u32,
}

impl Lengths<'_> {
    /// Bytes of the first `sent` frames; all of the batch's where the driver took all.
    #[inline(always)]
    fn sum(&self, sent: u32, accepted: u32) -> u64 {
        match self.scratch {
            Some(scratch) if sent == accepted => scratch.accepted_bytes,
            Some(_) | None => {
                let mut bytes = 0u64;
                // A batch has at most 16 frames (DEV_MAP_BULK_SIZE).
                for i in 0..BATCH_MAX {
                    if i as u32 >= sent {
                        break;
                    }
                    bytes = bytes.wrapping_add(u64::from(self.get(i)));
                }
                bytes
            }
        }
    }

    #[inline(always)]
    fn get(&self, i: usize) -> u32 {
        match self.scratch {
            Some(scratch) => scratch.lengths.get(i & (BATCH_MAX - 1)).copied().unwrap_or(0),
            None => self.else_len,
        }
    }
}

/// Enters `sent` frames into the ring's history; returns their bytes.
#[inline(always)]
fn enter(
    state: *mut RingState,
    history: *mut RingHistory,
    lengths: &Lengths<'_>,
    sent: u32,
    accepted: u32,
    now: u64,
) -> u64 {
    let bytes = lengths.sum(sent, accepted);
    // SAFETY: map values from `ring_of`; both counters advance atomically, since CPUs may share the ring.
    unsafe {
        let first = fetch_add(&raw mut (*state).sent, u64::from(sent));
        let mut before = fetch_add(&raw mut (*state).sent_bytes, bytes);
        for i in 0..BATCH_MAX {
            if i as u32 >= sent {
                break;
            }
            remember(history, first.wrapping_add(i as u64), now, before);
            before = before.wrapping_add(u64::from(lengths.get(i)));
        }
    }
    bytes
}

/// # Safety
///
/// `history` must point to a map value.
#[inline(always)]
unsafe fn remember(history: *mut RingHistory, sequence: u64, now: u64, bytes_before: u64) {
    let slot = sequence as usize & (HISTORY_LEN - 1);
    // SAFETY: the caller's, and the slot is masked to the array's length.
    unsafe {
        let entry = (&raw mut (*history).entries).cast::<HistoryEntry>().add(slot);
        store(entry, HistoryEntry { enqueued_ns: now, bytes_before });
    }
}

/// What the driver refused was charged to the meter: give it back. The refused frames are the batch's tail.
#[inline(always)]
fn give_back(config: &PortConfig, port: u32, lengths: &Lengths<'_>, sent: u32, accepted: u32, now: u64) {
    if config.mode != MODE_POLICER && config.mode != MODE_VIRTUAL {
        return;
    }
    let mut cost = Bytes::ZERO;
    for i in 0..BATCH_MAX {
        if i as u32 >= sent && (i as u32) < accepted {
            cost = cost.saturating_add(wire_bytes(config, config.framing, lengths.get(i)));
        }
    }
    let Some(state) = WEIR_PORT_STATE.get_ptr_mut(port) else { return };
    for _ in 0..CAS_ATTEMPTS {
        // SAFETY: a map value; the TAT changes by compare and swap alone.
        let done = unsafe {
            let at = &raw mut (*state).tat_ns;
            let tat = load(at);
            let mut new = policer::refund(config, Nanos::from_nanos(tat), cost);
            if config.mode == MODE_VIRTUAL {
                new = policer::anchor_full(config, new, Nanos::from_nanos(now));
            }
            swap_if(at, tat, new.as_nanos())
        };
        if done {
            return;
        }
    }
}

/// The same for a port with classes: each refused frame's charge is undone where it was made. The batch's first accepted frame has
/// `skip` before it.
#[inline(always)]
fn give_back_classes(port: u32, skip: u32, sent: u32, accepted: u32) {
    for i in 0..BATCH_MAX as u32 {
        if i >= sent && i < accepted && weir_give_back(port, skip.wrapping_add(i)) == 0 {
            count(port, PortCounter::RefundLost, 1);
        }
    }
}

/// State and history of a ring, with its address renewed if it is older than is trusted (now, how long). `None` if `dev` is another namespace's device.
#[inline(always)]
fn ring_of(
    config: &PortConfig,
    recipe: &RingRecipe,
    dev: u64,
    index: u32,
    queue: u32,
    (now, trusted): (u64, u64),
) -> Option<(*mut RingState, *mut RingHistory)> {
    let state = WEIR_RINGS.get_ptr_mut(index)?;
    let history = WEIR_HISTORY.get_ptr_mut(index)?;
    // SAFETY: a map value, read and written word by word.
    unsafe {
        let same = load(&raw const (*state).dev_addr) == dev;
        if same && now.wrapping_sub(load(&raw const (*state).located_ns)) < trusted {
            return Some((state, history));
        }
        if !same {
            if namespace(recipe, dev)? != config.netns_inum {
                return None;
            }
            store(&raw mut (*state).dev_addr, dev);
        }
        let at = locate(recipe, dev, queue).unwrap_or(Location { ring: 0, queue: 0, slots: 0 });
        store(&raw mut (*state).ring_addr, at.ring);
        store(&raw mut (*state).queue_addr, at.queue);
        store(&raw mut (*state).slots, at.slots);
        store(&raw mut (*state).located_ns, now);
    }
    Some((state, history))
}
