//! The step between policy and sending: what the signal of the ring asks, and which way the flow goes.

use aya_ebpf::{
    helpers::generated::{bpf_get_prandom_u32, bpf_get_smp_processor_id, bpf_ktime_get_ns},
    programs::XdpContext,
};
use weir_aqm::{Bytes, Conformance, GcraParams, Level, Nanos, Pace, StickyVars, Way, gcra};
use weir_ingress::{Backing, Pressure, Ways, back_off, is_sticky, way_of};
use weir_shared_maps::{
    ACTION_DIVERT, ACTION_SPILL, BackOff, IngressCounter, MAX_CLASSES, PFC_ANY, PacketMeta, PortRoute,
    ROUTE_SHARED_RING, RingState, SIGNAL_CLEAR, STICKY_BUCKETS, STICKY_STRAIGHT, SignalState,
};
use weir_wire::Ecn;

use crate::{
    atomics::{load, swap_if},
    events::weir_tell_flow,
    maps::{ACTIONS, WEIR_BACK_OFF, WEIR_DIVERT, WEIR_RINGS, WEIR_ROUTES, WEIR_STICKY},
    pause::weir_paused_until,
    queues::{weir_qdisc_is_empty, weir_ring_passed},
    route::{Routed, leave_by},
};

/// [`ACTIONS`] that move flows.
const MOVES: u32 = 1 << ACTION_DIVERT | 1 << ACTION_SPILL;
/// Compare-and-swap attempts of the meter. A packet that loses them all does not enter the stack: the bound holds.
const CAS_ATTEMPTS: usize = 4;

/// Whether a class of this configuration spills.
#[inline(always)]
pub fn spills() -> bool {
    ACTIONS.load() & 1 << ACTION_SPILL != 0
}

/// What the packet alone decides. The clock is read only while a signal stands.
#[inline(always)]
pub fn by_packet(port: &PortRoute, class: u32, ecn: Ecn) -> Result<Backing, IngressCounter> {
    if ACTIONS.load() == 0 {
        return Ok(Backing::Go);
    }
    let (_, ring) = ring_of(port)?;
    // SAFETY: a map value lives as long as the program; volatile reads, since other CPUs write it.
    let quiet = unsafe {
        load(&raw const (*ring).signal.level) == SIGNAL_CLEAR
            && load(&raw const (*ring).signal.paused_until_ns) == 0
    };
    if quiet {
        return Ok(Backing::Go);
    }
    let actions = actions_of(port, class)?;
    let pressure = pressure(ring, paused_until(port, actions, ring), now());
    Ok(pressure.on_packet(pressure.action(actions), ecn, random()))
}

/// What class and flow decide, where a class moves flows.
#[inline(always)]
pub fn by_class(
    ctx: &XdpContext,
    port: &PortRoute,
    routed: &mut Routed,
    meta: &PacketMeta,
) -> Result<Backing, IngressCounter> {
    let class = u32::from(meta.class);
    if ACTIONS.load() & MOVES == 0 {
        return by_packet(port, class, Ecn::of(routed.ecn as u8));
    }
    let actions = actions_of(port, class)?;
    if !is_sticky(actions) {
        return by_packet(port, class, Ecn::of(routed.ecn as u8));
    }
    let bucket = port.port * STICKY_BUCKETS + (meta.flow_hash & (STICKY_BUCKETS - 1));
    let before = way_in(bucket);
    let backing = by_flow(ctx, routed, class, bucket)?;
    // The kernel's routes are asked from here and not from within the decision, whose stack would not hold the question.
    let backing = if spills() && backing == Backing::Spill && !leave_by(ctx, routed, actions.spill_ifindex) {
        straighten(bucket);
        Backing::Go
    } else {
        backing
    };
    if let Some(after) = way_of(backing)
        && after.as_u64() != before
    {
        weir_tell_flow(port.port, meta.flow_hash, before as u32, after.as_u64() as u32);
    }
    Ok(backing)
}

/// The decision for a packet whose flow may move, and what is remembered of it.
///
/// Clock and flow are looked at even while no signal stands: when one rises, the time of each flow's last packet says whether
/// the flow may move.
#[inline(never)]
fn by_flow(ctx: &XdpContext, routed: &Routed, class: u32, bucket: u32) -> Result<Backing, IngressCounter> {
    let Some(port) = WEIR_ROUTES.get(routed.target) else { return Err(IngressCounter::PassNotManaged) };
    let (index, ring) = ring_of(port)?;
    let actions = actions_of(port, class)?;
    let Some(flow) = WEIR_STICKY.get_ptr_mut(bucket) else { return Err(IngressCounter::PassNoState) };
    // SAFETY: a map value; the word changes by compare and swap alone.
    let (at, word) = unsafe { (&raw mut (*flow).word, load(&raw const (*flow).word)) };
    let now = now();
    let facts = (Ecn::of(routed.ecn as u8), random());
    let length = Bytes::new((ctx.data_end() - ctx.data()) as u64);
    let mut ways = Live { port, ring: index, actions, now, length };
    let flow = StickyVars::from_word(word);
    let backing = back_off(
        &pressure(ring, paused_until(port, actions, ring), now),
        now,
        actions,
        facts,
        &flow,
        &mut ways,
    );
    if let Some(way) = way_of(backing) {
        // Lost to another CPU's packet, of the same flow or of one that shares its bucket: that one has decided for both.
        // SAFETY: as above.
        unsafe { swap_if(at, word, StickyVars::sent_by(way, now).to_word()) };
    }
    Ok(backing)
}

/// `STICKY_*` of a bucket's last packet.
#[inline(always)]
fn way_in(bucket: u32) -> u64 {
    // SAFETY: a map value, read as one word.
    WEIR_STICKY.get_ptr(bucket).map_or(STICKY_STRAIGHT, |flow| unsafe { load(&raw const (*flow).word) } & 3)
}

/// The flow's last packet went straight after all.
#[inline(always)]
fn straighten(bucket: u32) {
    if let Some(flow) = WEIR_STICKY.get_ptr_mut(bucket) {
        // SAFETY: as in `by_flow`.
        unsafe {
            let at = &raw mut (*flow).word;
            let word = load(at);
            let StickyVars { sent, .. } = StickyVars::from_word(word);
            swap_if(at, word, StickyVars::sent_by(Way::Straight, sent).to_word());
        }
    }
}

/// The ways as they are now.
struct Live {
    port: &'static PortRoute,
    ring: u32,
    actions: &'static BackOff,
    now: Nanos,
    /// Of the frame.
    length: Bytes,
}

impl Live {
    /// The spill port.
    #[inline(always)]
    fn spill(&self) -> Option<&'static PortRoute> {
        WEIR_ROUTES.get(self.actions.spill_ifindex).filter(|port| port.rings != 0)
    }

    /// The meter of what enters the stack: the configured rate, or twice what the ring drains.
    #[inline(always)]
    fn meter(&self) -> Option<GcraParams> {
        let BackOff { divert_pace_mult, divert_pace_shift, divert_burst_ns, .. } = *self.actions;
        let pace = match Pace::from_parts(divert_pace_mult, divert_pace_shift) {
            Some(pace) => pace,
            None => {
                let ring = WEIR_RINGS.get_ptr(self.ring)?;
                // SAFETY: a map value; mantissa and shift are one word.
                let word = unsafe { load(&raw const (*ring).drain.pace) };
                Pace::from_parts((word >> 32) as u32, (word as u32).saturating_add(1))?
            }
        };
        Some(GcraParams { pace, tolerance: Nanos::from_nanos(divert_burst_ns) })
    }
}

impl Ways for Live {
    #[inline(always)]
    fn ring_is_shared(&self) -> bool {
        self.port.flags & ROUTE_SHARED_RING != 0
    }

    #[inline(always)]
    fn ring_passed(&mut self) -> Nanos {
        Nanos::from_nanos(weir_ring_passed(self.port.port, self.ring, self.now.as_nanos()))
    }

    #[inline(always)]
    fn spill_passed(&mut self) -> Nanos {
        match self.spill() {
            Some(port) if spills() => {
                Nanos::from_nanos(weir_ring_passed(port.port, index_of(port), self.now.as_nanos()))
            }
            Some(_) | None => self.now,
        }
    }

    #[inline(always)]
    fn qdisc_is_empty(&mut self) -> bool {
        weir_qdisc_is_empty(self.port.port, self.ring) != 0
    }

    #[inline(always)]
    fn spill_has_route(&mut self) -> bool {
        // Whether the kernel has one is asked when the decision hangs on nothing else (`by_class`).
        spills() && self.spill().is_some()
    }

    #[inline(always)]
    fn spill_is_clear(&mut self) -> bool {
        let ring = self.spill().and_then(|port| WEIR_RINGS.get_ptr(index_of(port)));
        ring.is_some_and(|ring| {
            // SAFETY: a map value, as above.
            let paused_until_ns = unsafe { load(&raw const (*ring).signal.paused_until_ns) };
            pressure(ring, paused_until_ns, self.now).level == Level::Clear
        })
    }

    #[inline(always)]
    fn stack_takes(&mut self) -> bool {
        let (Some(meter), Some(state)) = (self.meter(), WEIR_DIVERT.get_ptr_mut(self.port.port)) else {
            return false;
        };
        for _ in 0..CAS_ATTEMPTS {
            // SAFETY: a map value; the TAT changes by compare and swap alone.
            let tat = unsafe { load(&raw const (*state).tat_ns) };
            match gcra::conform(&meter, Nanos::from_nanos(tat), self.now, self.length) {
                Conformance::Exceed { .. } => return false,
                Conformance::Conform { tat: new } => {
                    // SAFETY: as above.
                    if unsafe { swap_if(&raw mut (*state).tat_ns, tat, new.as_nanos()) } {
                        return true;
                    }
                }
            }
        }
        false
    }
}

/// The ring that this CPU's frames would enter.
#[inline(always)]
fn ring_of(port: &PortRoute) -> Result<(u32, *const RingState), IngressCounter> {
    let index = index_of(port);
    WEIR_RINGS.get_ptr(index).map(|ring| (index, ring)).ok_or(IngressCounter::PassNoState)
}

#[inline(always)]
fn index_of(port: &PortRoute) -> u32 {
    // SAFETY: no arguments, no memory.
    let cpu = if port.rings > 1 { unsafe { bpf_get_smp_processor_id() } } else { 0 };
    let ring = if cpu < port.rings { cpu } else { cpu % port.rings.max(1) };
    port.ring_base.wrapping_add(ring)
}

#[inline(always)]
fn actions_of(port: &PortRoute, class: u32) -> Result<&'static BackOff, IngressCounter> {
    WEIR_BACK_OFF.get(port.port * MAX_CLASSES + class).ok_or(IngressCounter::PassNoState)
}

#[inline(always)]
fn pressure(ring: *const RingState, paused_until_ns: u64, now: Nanos) -> Pressure {
    // SAFETY: a map value, as above. Field by field: all of it would lie on the stack.
    let signal = unsafe {
        SignalState {
            level: load(&raw const (*ring).signal.level),
            since_ns: load(&raw const (*ring).signal.since_ns),
            until_ns: load(&raw const (*ring).signal.until_ns),
            pressure_q32: load(&raw const (*ring).signal.pressure_q32),
            paused_until_ns,
            raised: 0,
            reserved: 0,
            held_ns: [0; 3],
        }
    };
    Pressure::at(&signal, now)
}

/// Until when a class of the port is paused: by its own priority, where it has one.
#[inline(always)]
fn paused_until(port: &PortRoute, actions: &BackOff, ring: *const RingState) -> u64 {
    // SAFETY: a map value, as above.
    let by_any = unsafe { load(&raw const (*ring).signal.paused_until_ns) };
    if by_any == 0 || actions.pfc_priority == PFC_ANY {
        return by_any;
    }
    weir_paused_until(port.port, actions.pfc_priority)
}

#[inline(always)]
fn now() -> Nanos {
    // SAFETY: no arguments, no memory.
    Nanos::from_nanos(unsafe { bpf_ktime_get_ns() })
}

#[inline(always)]
fn random() -> u32 {
    // SAFETY: no arguments, no memory.
    unsafe { bpf_get_prandom_u32() }
}
