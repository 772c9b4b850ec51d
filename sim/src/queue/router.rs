//! Ingress where classes move flows: the port, the kernel's stack beside it, and a second port that flows spill to.
//!
//! The decision is [`weir_ingress::back_off`], unchanged; what it asks about the ways is read from the simulated rings and the
//! simulated queueing discipline as `ingress/src/bin/ingress/back_off.rs` reads it from the kernel's.

use std::{cell::RefCell, rc::Rc};

use weir_aqm::{
    Bytes, Conformance, Level, Nanos, StickyVars, gcra,
    sticky::{active_at, may_rest},
};
use weir_egress::Decision;
use weir_ingress::{Backing, Ways, back_off, is_sticky, stack_meter, way_of};
use weir_shared_maps::{ACTION_SPILL, BackOff, DivertState, PacketMeta, PortCounter, STICKY_BUCKETS};
use weir_wire::Ecn;
use zerocopy::FromZeros;

use super::{
    Queue, RingQueue, Tally, View,
    classify::ecn_bits,
    flow_hash::FlowHash,
    port::{PortRing, PortSetup},
    stack::{Stack, StackConfig},
    weir::clock,
};
use crate::{Packet, Random, Rings};

/// What ingress sends to, and what it does about the signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterConfig {
    /// The port that the routes name.
    pub port: PortSetup,
    /// Its entries of the back-off map: one for each class, or one.
    pub back_off: Vec<BackOff>,
    /// The kernel's way out of it.
    pub stack: StackConfig,
    /// The port that flows spill to; every packet has a route there, too.
    pub spill: Option<PortSetup>,
}

/// A port with ingress in front of it and the kernel's stack beside it.
pub struct Router {
    port: RingQueue<PortRing>,
    back_off: Vec<BackOff>,
    /// Whether a class spills: then the port never rests.
    spills: bool,
    /// Entries of `WEIR_STICKY`.
    flows: Vec<u64>,
    /// Entry of `WEIR_DIVERT`.
    watch: DivertState,
    stack: Stack,
    spill: Option<SpillPort>,
    /// Which of several rings a flow's frames enter from the stack (`skb_tx_hash`, `net/core/dev.c` at v6.18).
    queues: FlowHash,
    random: Random,
    straight: Vec<Packet>,
    spilled: Vec<Packet>,
}

/// The ring of the port that flows spill to. The second link takes from it.
#[derive(Clone)]
pub struct SpillPort(Rc<RefCell<RingQueue<PortRing>>>);

impl Router {
    /// Empty, with `count` rings for the port, and as many of its own for the one that flows spill to.
    pub fn new(
        config: &RouterConfig,
        rings: Rings,
        spill_rings: Option<Rings>,
        count: u32,
        mut random: Random,
    ) -> Self {
        let spill = config.spill.as_ref().zip(spill_rings).map(|(port, rings)| {
            let count = if rings.per_cpu { count } else { 1 };
            SpillPort(Rc::new(RefCell::new(port.build(rings, count, random.split()))))
        });
        Self {
            port: config.port.build(rings, if rings.per_cpu { count } else { 1 }, random.split()),
            back_off: config.back_off.clone(),
            spills: config
                .back_off
                .iter()
                .any(|level| [level.on_congested, level.on_full].contains(&ACTION_SPILL)),
            flows: vec![0; STICKY_BUCKETS as usize],
            watch: DivertState::new_zeroed(),
            stack: Stack::new(&config.stack, random.split()),
            spill,
            queues: FlowHash::new(&mut random),
            random,
            straight: Vec::new(),
            spilled: Vec::new(),
        }
    }

    /// The port that flows spill to.
    pub fn spill_port(&self) -> Option<SpillPort> {
        self.spill.clone()
    }

    /// `by_class` of `ingress/src/bin/ingress/back_off.rs`.
    fn by_class(&mut self, now: Nanos, cpu: u32, packet: &Packet) -> Backing {
        let Some((ring, view)) = self.port.of_cpu(cpu) else { return Backing::Go };
        let meta = ring.meta(packet);
        let Some(actions) = self.back_off.get(usize::from(meta.class)).copied() else { return Backing::Go };
        let pressure = ring.weir().pressure(now);
        let facts = (Ecn::of(ecn_bits(packet)), self.random.bits() as u32);
        if !is_sticky(&actions) {
            return pressure.on_packet(pressure.action(&actions), facts.0, facts.1);
        }
        let rests = !self.spills && self.watch.awake_ns == 0;
        if rests && ring.weir().is_quiet() {
            // The port rests: nobody looks at its flows.
            return Backing::Go;
        }
        let Some(word) = self.flows.get_mut(bucket(&meta)) else { return Backing::Go };
        let mut ways = Live {
            port: &self.port,
            ring: (ring, view),
            actions: &actions,
            stack: &self.stack,
            tat_ns: &mut self.watch.tat_ns,
            spill: self.spill.as_ref(),
            now,
            cpu,
            length: Bytes::new(packet.bytes.into()),
        };
        if rests {
            self.watch.awake_ns = clock(now).as_nanos().saturating_add(AWAKE_MASK) & !AWAKE_MASK;
        }
        let flow = StickyVars::from_word(*word);
        let since = Nanos::from_nanos(self.watch.awake_ns);
        let flow = if self.spills { flow } else { flow.awake_since(since) };
        let backing = back_off(&pressure, clock(now), &actions, facts, &flow, &mut ways);
        let away = matches!(backing, Backing::Divert | Backing::Spill);
        let active = Nanos::from_nanos(self.watch.active_ns);
        if away || pressure.level != Level::Clear {
            self.watch.active_ns = active_at(active, clock(now)).unwrap_or(active).as_nanos();
        } else if may_rest(active, clock(now)) {
            self.watch.awake_ns = 0;
        }
        if let Some(way) = way_of(backing) {
            *word = StickyVars::sent_by(way, clock(now)).to_word();
        }
        backing
    }

    /// A packet of the stack comes to the queueing discipline, past the decision where the port asks for that:
    /// `weir_stack` and `weir_stack_pol` of `egress/src/bin/egress/stack.rs`.
    fn pass_to_qdisc(&mut self, now: Nanos, mut packet: Packet, tally: &mut Tally) {
        let ring = self.queues.bucket(packet.flow, self.port.count());
        let decides = self.port.of_cpu(ring).is_some_and(|(ring, _)| ring.weir().decides_on_stack());
        if decides {
            match self.port.judge_alone(now, ring, &packet) {
                Decision::Accept | Decision::Undecided => {}
                Decision::Signal { may_mark } if may_mark && packet.mark() => {
                    tally.marks = tally.marks.saturating_add(1);
                }
                Decision::Signal { .. } => return tally.drop(PortCounter::DropAqm),
                Decision::Drop(cause) => return tally.drop(cause),
            }
        }
        self.stack.enqueue(now, packet, tally);
    }
}

/// The bits of `DivertState::awake_ns` that are no time.
const AWAKE_MASK: u64 = 3;

/// Where a flow's word lies.
const fn bucket(meta: &PacketMeta) -> usize {
    (meta.flow_hash & (STICKY_BUCKETS - 1)) as usize
}

/// The ways as they are now: `Live` of the same file.
struct Live<'a> {
    port: &'a RingQueue<PortRing>,
    ring: (&'a PortRing, View),
    actions: &'a BackOff,
    stack: &'a Stack,
    tat_ns: &'a mut u64,
    spill: Option<&'a SpillPort>,
    now: Nanos,
    cpu: u32,
    length: Bytes,
}

impl Live<'_> {
    /// Looks at the ring of the spill port that this CPU's frames would enter.
    fn of_spill<T>(&self, look: impl FnOnce(&PortRing, View) -> T) -> Option<T> {
        let port = self.spill?.0.borrow();
        port.of_cpu(self.cpu).map(|(ring, view)| look(ring, view))
    }
}

impl Ways for Live<'_> {
    fn ring_is_shared(&self) -> bool {
        self.port.count() == 1
    }

    fn ring_passed(&mut self) -> Nanos {
        let (ring, view) = self.ring;
        ring.weir().passed(self.now, view)
    }

    fn spill_passed(&mut self) -> Nanos {
        self.of_spill(|ring, view| ring.weir().passed(self.now, view)).unwrap_or(clock(self.now))
    }

    fn qdisc_is_empty(&mut self) -> bool {
        self.stack.qdisc_is_empty()
    }

    fn spill_has_route(&mut self) -> bool {
        self.spill.is_some()
    }

    fn spill_is_clear(&mut self) -> bool {
        self.of_spill(|ring, _| ring.weir().pressure(self.now).level == Level::Clear).unwrap_or(false)
    }

    fn stack_takes(&mut self) -> bool {
        let drain = || Some(self.ring.0.weir().drain_pace());
        let Some(meter) = stack_meter(self.actions, drain) else { return false };
        match gcra::conform(&meter, Nanos::from_nanos(*self.tat_ns), clock(self.now), self.length) {
            Conformance::Exceed { .. } => false,
            Conformance::Conform { tat } => {
                *self.tat_ns = tat.as_nanos();
                true
            }
        }
    }
}

impl Queue for Router {
    fn offer(&mut self, now: Nanos, cpu: u32, batch: &mut Vec<Packet>, tally: &mut Tally) {
        self.straight.clear();
        self.spilled.clear();
        for mut packet in batch.drain(..) {
            match self.by_class(now, cpu, &packet) {
                Backing::Go => self.straight.push(packet),
                Backing::Mark => {
                    tally.marks = tally.marks.saturating_add(u64::from(packet.mark()));
                    self.straight.push(packet);
                }
                Backing::Drop => tally.drop(PortCounter::DropBackpressure),
                Backing::Divert => {
                    tally.diverted = tally.diverted.saturating_add(1);
                    self.stack.pass(now, packet);
                }
                Backing::Spill => {
                    tally.spilled = tally.spilled.saturating_add(1);
                    self.spilled.push(packet);
                }
            }
        }
        if !self.straight.is_empty() {
            self.port.offer(now, cpu, &mut self.straight, tally);
        }
        if let Some(SpillPort(spill)) = self.spill.as_ref().filter(|_| !self.spilled.is_empty()) {
            spill.borrow_mut().offer(now, cpu, &mut self.spilled, tally);
        }
    }

    fn take(&mut self, now: Nanos, tally: &mut Tally) -> Option<Packet> {
        self.port.take(now, tally)
    }

    fn wakes_at(&self, now: Nanos) -> Option<Nanos> {
        self.stack.wakes_at(now)
    }

    fn wake(&mut self, now: Nanos, tally: &mut Tally) {
        while let Some(packet) = self.stack.next(now) {
            self.pass_to_qdisc(now, packet, tally);
            self.run_qdisc(now, tally);
        }
        self.run_qdisc(now, tally);
    }

    fn occupancy(&self) -> u32 {
        self.port.occupancy()
    }

    fn slots(&self) -> u32 {
        self.port.slots()
    }
}

impl Router {
    /// Everything that the discipline lets go goes to the driver (`qdisc_run`, `net/sched/sch_generic.c` at v6.18). A tap takes
    /// what it is given, and loses what its ring has no room for (`tun_net_xmit`, `drivers/net/tun.c`).
    fn run_qdisc(&mut self, now: Nanos, tally: &mut Tally) {
        while let Some(packet) = self.stack.dequeue(now, tally) {
            let ring = self.queues.bucket(packet.flow, self.port.count());
            self.port.enter_from_stack(now, ring, packet, tally);
        }
    }
}

impl Queue for SpillPort {
    fn offer(&mut self, now: Nanos, cpu: u32, batch: &mut Vec<Packet>, tally: &mut Tally) {
        self.0.borrow_mut().offer(now, cpu, batch, tally);
    }

    fn take(&mut self, now: Nanos, tally: &mut Tally) -> Option<Packet> {
        self.0.borrow_mut().take(now, tally)
    }

    fn occupancy(&self) -> u32 {
        self.0.borrow().occupancy()
    }

    fn slots(&self) -> u32 {
        self.0.borrow().slots()
    }
}
