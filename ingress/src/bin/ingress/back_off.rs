//! The step between policy and sending: what the signal of the ring asks, and which way the flow goes.

use aya_ebpf::{
    helpers::generated::{bpf_get_prandom_u32, bpf_get_smp_processor_id, bpf_ktime_get_ns},
    programs::XdpContext,
};
use weir_aqm::{
    Bytes, Conformance, GcraParams, Level, Nanos, StickyVars, Way, gcra,
    sticky::{active_at, may_rest},
};
use weir_ingress::{Backing, Pressure, Ways, back_off, is_sticky, stack_meter, way_of};
use weir_shared_maps::{
    ACTION_DIVERT, ACTION_SPILL, BackOff, DivertState, HASH_FLOW, IngressCounter, MAX_CLASSES, PFC_ANY,
    PacketMeta, PortRoute, ROUTE_SHARED_RING, RingState, SIGNAL_CLEAR, STICKY_BUCKETS, SignalState,
};
use weir_wire::Ecn;

use crate::{
    atomics::{load, store, swap_if},
    events::weir_tell_flow,
    maps::{ACTIONS, HASHES, WEIR_BACK_OFF, WEIR_DIVERT, WEIR_RINGS, WEIR_ROUTES, WEIR_STICKY},
    pause::weir_paused_until,
    policy,
    queues::{weir_qdisc_is_empty, weir_ring_passed},
    route::{Routed, leave_by},
};

/// [`ACTIONS`] that move flows.
const MOVES: u32 = 1 << ACTION_DIVERT | 1 << ACTION_SPILL;
/// Compare-and-swap attempts of the meter. A packet that loses them all does not enter the stack: the bound holds.
const CAS_ATTEMPTS: usize = 4;

/// Whether a class of this configuration moves flows.
#[inline(always)]
pub fn moves() -> bool {
    ACTIONS.load() & MOVES != 0
}

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
    if is_quiet(ring) {
        return Ok(Backing::Go);
    }
    let actions = actions_of(port, class)?;
    let pressure = pressure(ring, paused_until(port, actions, ring), now());
    Ok(pressure.on_packet(pressure.action(actions), ecn, random()))
}

/// No signal stands, and the port was never paused.
#[inline(always)]
fn is_quiet(ring: *const RingState) -> bool {
    // SAFETY: a map value lives as long as the program; volatile reads, since other CPUs write it.
    unsafe {
        load(&raw const (*ring).signal.level) == SIGNAL_CLEAR
            && load(&raw const (*ring).signal.paused_until_ns) == 0
    }
}

/// Whether a port rests: no signal stands, and nobody's flows are elsewhere. All its packets go straight.
///
/// None rests where flows spill. A flow that nobody looked at may have packets in the ring, and would stay with a link that has just come
/// to a halt; to the spill port it may go at once only if it is known to have none.
#[inline(always)]
pub fn rests(port: &PortRoute) -> Result<bool, IngressCounter> {
    if spills() {
        return Ok(false);
    }
    let (_, ring) = ring_of(port)?;
    let Some(watch) = WEIR_DIVERT.get(port.port) else { return Err(IngressCounter::PassNoState) };
    // SAFETY: a map value, read as one word.
    Ok(is_quiet(ring) && unsafe { load(&raw const watch.awake_ns) } == 0)
}

/// What class and flow decide, where a class moves flows. While the port rests no flow is looked at: a signal wakes it.
#[inline(always)]
pub fn by_class(ctx: &XdpContext, routed: &mut Routed, meta: &PacketMeta) -> Result<Backing, IngressCounter> {
    let Some(port) = WEIR_ROUTES.get(routed.target) else { return Err(IngressCounter::PassNotManaged) };
    let class = u32::from(meta.class);
    if !moves() {
        return by_packet(port, class, Ecn::of(routed.ecn as u8));
    }
    if rests(port)? {
        return Ok(Backing::Go);
    }
    let actions = actions_of(port, class)?;
    if !is_sticky(actions) {
        return by_packet(port, class, Ecn::of(routed.ecn as u8));
    }
    let flow_hash = if HASHES.load() & HASH_FLOW != 0 {
        meta.flow_hash
    } else {
        policy::flow(ctx.data(), ctx.data_end(), routed.version, routed.vlan)
    };
    by_flow(ctx, routed, class, flow_hash)?;
    let backing = routed.backing;
    // The kernel's routes are asked from here and not from within the decision, whose stack would not hold the question.
    let backing = if spills() && backing == Backing::Spill && !leave_by(ctx, routed, actions.spill_ifindex) {
        straighten(bucket_of(port, flow_hash));
        Backing::Go
    } else {
        backing
    };
    if let Some(after) = way_of(backing)
        && after.as_u64() as u32 != routed.before
    {
        weir_tell_flow(port.port, flow_hash, routed.before, after.as_u64() as u32);
    }
    Ok(backing)
}

/// The decision for a packet whose flow may move, and what is remembered of it: when a signal rises again, the time of each
/// flow's last packet says whether the flow may move.
#[inline(never)]
fn by_flow(ctx: &XdpContext, routed: &mut Routed, class: u32, flow_hash: u32) -> Result<(), IngressCounter> {
    let Some(port) = WEIR_ROUTES.get(routed.target) else { return Err(IngressCounter::PassNotManaged) };
    let (index, ring) = ring_of(port)?;
    let actions = actions_of(port, class)?;
    let Some(flow) = WEIR_STICKY.get_ptr_mut(bucket_of(port, flow_hash)) else {
        return Err(IngressCounter::PassNoState);
    };
    // SAFETY: a map value; the word changes by compare and swap alone.
    let (at, word) = unsafe { (&raw mut (*flow).word, load(&raw const (*flow).word)) };
    let now = now();
    let facts = (Ecn::of(routed.ecn as u8), random());
    let length = Bytes::new((ctx.data_end() - ctx.data()) as u64);
    let mut ways = Live { port, ring: index, actions, now, length };
    let Some(watch) = WEIR_DIVERT.get_ptr_mut(port.port) else { return Err(IngressCounter::PassNoState) };
    let since = if spills() { Nanos::ZERO } else { wake(watch, now) };
    let flow = StickyVars::from_word(word);
    let flow = if spills() { flow } else { flow.awake_since(since) };
    routed.before = flow.way.as_u64() as u32;
    let pressure = pressure(ring, paused_until(port, actions, ring), now);
    let backing = back_off(&pressure, now, actions, facts, &flow, &mut ways);
    let away = matches!(backing, Backing::Divert | Backing::Spill);
    if !spills() && (away || pressure.level != Level::Clear) {
        note_activity(watch, now);
    }
    if let Some(way) = way_of(backing) {
        // Lost to another CPU's packet, of the same flow or of one that shares its bucket: that one has decided for both.
        // SAFETY: as above.
        unsafe { swap_if(at, word, StickyVars::sent_by(way, now).to_word()) };
    }
    if away && !spills() {
        keep_awake(watch, now);
    } else if !spills() && pressure.level == Level::Clear {
        rest(watch, since, now);
    }
    routed.backing = backing;
    Ok(())
}

/// [`DivertState::awake_ns`]: about to rest.
const DOZING: u64 = 1;
/// Its bits that are no time.
const AWAKE_MASK: u64 = 3;

/// Since when the port is awake; from now on, if it rested.
#[inline(always)]
fn wake(watch: *mut DivertState, now: Nanos) -> Nanos {
    // SAFETY: a map value; the word changes by compare and swap alone.
    let since = unsafe { load(&raw const (*watch).awake_ns) } & !AWAKE_MASK;
    if since != 0 {
        return Nanos::from_nanos(since);
    }
    // Rounded up: what this CPU let pass unseen was before. Lost to another CPU, its time is as good.
    let now = now.as_nanos().saturating_add(AWAKE_MASK) & !AWAKE_MASK;
    // SAFETY: as above.
    unsafe { swap_if(&raw mut (*watch).awake_ns, 0, now) };
    Nanos::from_nanos(now)
}

/// A signal stands, or a packet is about to leave by another way.
#[inline(always)]
fn note_activity(watch: *mut DivertState, now: Nanos) {
    // SAFETY: a map value; whole words.
    unsafe {
        let at = &raw mut (*watch).active_ns;
        if let Some(active) = active_at(Nanos::from_nanos(load(at)), now) {
            store(at, active.as_nanos());
        }
    }
}

/// After a packet went another way and its flow's word says so: the port is awake when the flow's next packet comes.
///
/// Between the activity and this look lies the swap of the flow's word, a full barrier. So either this sees that another CPU lays
/// the port to rest, or that CPU sees the activity ([`rest`]).
#[inline(always)]
fn keep_awake(watch: *mut DivertState, now: Nanos) {
    // SAFETY: a map value; the word changes by compare and swap alone.
    unsafe {
        let at = &raw mut (*watch).awake_ns;
        let seen = load(at);
        let awake = match seen {
            0 => now.as_nanos().saturating_add(AWAKE_MASK) & !AWAKE_MASK,
            since => since & !DOZING,
        };
        // Lost, the other CPU has laid it to rest between the look and the swap.
        if awake != seen && !swap_if(at, seen, awake) {
            swap_if(at, 0, awake);
        }
    }
}

/// Lays a port to rest that has been quiet for long.
#[inline(always)]
fn rest(watch: *mut DivertState, since: Nanos, now: Nanos) {
    // SAFETY: a map value; `awake_ns` changes by compare and swap alone.
    unsafe {
        let at = &raw mut (*watch).awake_ns;
        let active = load(&raw const (*watch).active_ns);
        let (awake, dozing) = (since.as_nanos(), since.as_nanos() | DOZING);
        if !may_rest(Nanos::from_nanos(active), now) || !swap_if(at, awake, dozing) {
            return;
        }
        let quiet = load(&raw const (*watch).active_ns) == active;
        swap_if(at, dozing, if quiet { 0 } else { awake });
    }
}

/// The bucket of a flow of the port.
#[inline(always)]
fn bucket_of(port: &PortRoute, flow_hash: u32) -> u32 {
    port.port * STICKY_BUCKETS + (flow_hash & (STICKY_BUCKETS - 1))
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

    /// The meter of what enters the stack.
    #[inline(always)]
    fn meter(&self) -> Option<GcraParams> {
        // SAFETY: a map value; mantissa and shift are one word.
        let drain =
            || WEIR_RINGS.get_ptr(self.ring).map(|ring| unsafe { load(&raw const (*ring).drain.pace) });
        stack_meter(self.actions, drain)
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
