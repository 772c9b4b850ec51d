//! weir on a port with classes: the steps of the program `weir_policy`, on the programs' layouts, with a virtual clock.
//!
//! The decision is [`weir_egress::policy`], unchanged. Batches happen one after the other: no lock is found taken, and nothing
//! passes on the port's account but what the stack has sent.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use weir_aqm::{Bytes, FlowVars, Nanos, borrow};
use weir_egress::policy::{self, Action, ClassVars, Direct, NOWHERE, Policy, Situation, Work};
use weir_egress::{Decision, Queue as Front, pace_from_map, policer, wire_bytes};
use weir_shared_maps::{
    AqmState, BATCH_MAX, CHARGE_BORROWED, CHARGE_GUARANTEED, CHARGE_NONE, Charge, ClassConfig, ClassPlace,
    HostState, MODE_BOTTLENECK, PacketMeta, PortConfig,
};
use zerocopy::FromZeros;

use super::classify::{Rules, ecn_bits};
use super::subscribers::{Limited, Members, Subscribers};
use super::weir::Weir;
use super::{Controller, Entry, View};
use crate::{Packet, Random, Rings};

/// A port with classes, as it lies in the maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyConfig {
    /// The port's entry; `default_class` is the class of what no rule matches.
    pub port: PortConfig,
    /// Its classes.
    pub classes: Vec<ClassConfig>,
    /// What follows from all of them for each.
    pub places: Vec<ClassPlace>,
    /// How packets find their class.
    pub rules: Rules,
    /// `HASH_*` of what the classes ask for.
    pub hashes: u32,
    /// Who sends or receives, as `side` of the port's entry says.
    pub subscribers: Subscribers,
}

impl PolicyConfig {
    /// Flow buckets, and as many for hosts, that the classes have together.
    fn buckets(&self) -> usize {
        let sharing = self.places.iter().filter(|place| place.flow_mask != u32::MAX);
        sharing.map(|place| (place.flow_base + place.flow_mask + 1) as usize).max().unwrap_or(0)
    }
}

/// The decision in front of one ring.
pub struct WeirPolicy {
    /// What a port with classes does as one without: batches, the ring's history, observation, back-off.
    weir: Weir,
    port: Rc<RefCell<Port>>,
    charges: [Charge; BATCH_MAX],
    work: Work,
}

/// What the port's rings share.
struct Port {
    config: PolicyConfig,
    hash_seed: u32,
    policy: Policy,
    classes: Vec<ClassVars>,
    /// The classes' policers: peak and committed word.
    policers: Vec<[Cell<Nanos>; 2]>,
    flows: Vec<FlowVars>,
    hosts: Vec<HostState>,
    members: Members,
}

impl WeirPolicy {
    /// One for each of a port's `count` rings, on maps as user space leaves them.
    pub fn of_port(config: &PolicyConfig, rings: Rings, count: u32, mut random: Random) -> Vec<Self> {
        let hash_seed = random.bits() as u32;
        let class = |_: &ClassConfig| {
            let mut aqm = AqmState::new_zeroed();
            aqm.pi2.random = random.bits() as u32 | 1;
            ClassVars { node: Default::default(), aqm, share: Default::default(), claims: Default::default() }
        };
        let classes = config.classes.iter().map(class).collect();
        let port = Port {
            config: config.clone(),
            hash_seed,
            policy: Policy::default(),
            classes,
            policers: vec![Default::default(); config.classes.len()],
            flows: vec![FlowVars::default(); config.buckets()],
            hosts: vec![HostState::new_zeroed(); config.buckets()],
            members: Members::new(&config.subscribers, config.port.side),
        };
        let port = Rc::new(RefCell::new(port));
        let rings = Weir::of_port(&config.port, rings, count, random).into_iter();
        let ring = |weir| Self {
            weir,
            port: Rc::clone(&port),
            charges: [Charge::new_zeroed(); BATCH_MAX],
            work: Work::default(),
        };
        rings.map(ring).collect()
    }

    /// What a port without classes has, too.
    pub(super) const fn weir(&self) -> &Weir {
        &self.weir
    }

    /// What ingress finds out about a packet.
    pub(super) fn meta(&self, packet: &Packet) -> PacketMeta {
        self.port.borrow().meta(packet)
    }

    /// A frame of the stack has left: `to_account` of `egress/src/bin/egress/charge.rs`, and the rest of `weir_stack_obs`.
    pub(super) fn stack_sent(&mut self, now: Nanos, ring: View, packet: &Packet) {
        if let Some(cost) = self.weir.stack_cost(packet) {
            let policy = &mut self.port.borrow_mut().policy;
            let owed = (policy.vars.owed >> borrow::FRACTION).saturating_add(policy.unjudged_bytes);
            if owed < policer::owed_most(&self.weir.config).get() {
                policy.unjudged_bytes = policy.unjudged_bytes.saturating_add(cost.get());
            }
        }
        let wait = self.port.borrow().virtual_wait();
        self.weir.remember_stack(now, ring, packet.bytes, wait);
    }

    /// The ring as `look_at` of `egress/src/bin/egress/policy.rs` writes it down.
    fn front(&self) -> Front {
        let front = self.weir.front();
        if self.weir.config.mode == MODE_BOTTLENECK {
            let (others, all_pace) = self.weir.others();
            return Front { others, all_pace, ..front };
        }
        // Without slots where the ring cannot be read.
        Front { now: front.now, occupancy: front.occupancy, slots: self.weir.state().slots, ..Front::NONE }
    }

    /// `give_back` of `egress/src/bin/egress/classes.rs`, for the accepted frame `index` of the batch.
    fn give_back(&mut self, index: usize) {
        let Some(charge) = self.charges.get(index & (BATCH_MAX - 1)) else { return };
        let mut port = self.port.borrow_mut();
        let Port { config, policy, classes, flows, members, .. } = &mut *port;
        let class = charge.class as usize;
        let (Some(own), Some(place), Some(vars)) =
            (config.classes.get(class), config.places.get(class), classes.get_mut(class))
        else {
            return;
        };
        let packet =
            policy::Packet { now: Nanos::ZERO, cost: Bytes::new(charge.cost_bytes.into()), ecn: 0, dscp: 0 };
        if charge.kind == CHARGE_NONE
            || !self.work.begin(&self.weir.config, own, place, &Front::NONE, &packet)
        {
            return;
        }
        let limited = members.limited(charge.subscriber);
        let (rates, meter) = limited.map(|of| (of.rates, of.meter)).unzip();
        let situation = Situation {
            policy: &mut policy.vars,
            class: vars,
            flow: flows.get_mut(charge.flow as usize),
            group: None,
            rates,
            meter,
            codel: None,
        };
        policy::refund(&Direct, &self.work, charge.kind == CHARGE_GUARANTEED, situation);
    }
}

impl Port {
    /// `virtual_wait` of `egress/src/bin/egress/renew.rs`: what the phantom queues hold, at the port's rate.
    fn virtual_wait(&self) -> Nanos {
        let Some(pace) = pace_from_map(&self.config.port) else { return Nanos::ZERO };
        let borrow::PortVars { owed, shares } = &self.policy.vars;
        let held = shares.iter().fold(*owed, |held, share| held.saturating_add(share.backlog));
        pace.time_for(Bytes::new(held >> borrow::FRACTION))
    }

    fn meta(&self, packet: &Packet) -> PacketMeta {
        let Self { config, hash_seed, members, .. } = self;
        config.rules.meta(packet, members, config.port.default_class, config.hashes, *hash_seed)
    }
}

impl Controller for WeirPolicy {
    const SHARES_RINGS: bool = true;

    fn admits(&mut self, now: Nanos, packet: &Packet) -> Entry {
        self.weir.admits(now, packet)
    }

    /// `first_of_batch` of `egress/src/bin/egress/policy.rs`.
    fn begin_batch(&mut self, now: Nanos, ring: View) {
        self.weir.first_of_batch(now, ring);
    }

    fn holds(&self, now: Nanos, ring: View) -> (u64, Bytes) {
        self.weir.holds(now, ring)
    }

    /// `add_rings` of the same file.
    fn add_rings(&mut self, rings: &policy::Rings) {
        self.weir.add_rings(rings);
    }

    /// `judge` of `egress/src/bin/egress/classes.rs` and `act` of `policy.rs` beside it. A new code point is not written: nobody
    /// behind the ring looks at it.
    fn judge(&mut self, packet: &Packet) -> Decision {
        let queue = self.front();
        let Self { weir, port, charges, work } = self;
        let mut port = port.borrow_mut();
        let meta = port.meta(packet);
        let Port { config, hash_seed: _, policy, classes, policers, flows, hosts, members } = &mut *port;
        let class = usize::from(meta.class);
        let cost = wire_bytes(&weir.config, weir.config.framing, packet.bytes);
        let offered = policy::Packet { now: queue.now, cost, ecn: ecn_bits(packet), dscp: packet.dscp };
        let (Some(own), Some(place), Some(vars), Some([peak, committed]), Some(charge)) = (
            config.classes.get(class),
            config.places.get(class),
            classes.get_mut(class),
            policers.get(class),
            charges.get_mut(weir.accepted_pkts() as usize & (BATCH_MAX - 1)),
        ) else {
            return Decision::Accept;
        };
        if !work.begin(&weir.config, own, place, &queue, &offered) {
            return Decision::Accept;
        }
        let (rates, meter, codel) = match members.limited(meta.subscriber) {
            Some(Limited { rates, meter, codel }) => (Some(rates), Some(meter), Some(codel)),
            None => (None, None, None),
        };
        work.find(own, place, &meta, rates);
        let key = *work.key();
        *charge = Charge {
            class: meta.class.into(),
            kind: CHARGE_NONE,
            cost_bytes: cost.get() as u32,
            flow: key.flow,
            subscriber: meta.subscriber,
            plan: meta.plan.into(),
        };
        let policed = work.police(own, peak, committed);
        if !policed {
            // `settle` of the same file: what left unasked is paid first.
            policy.vars.owe(Bytes::new(std::mem::take(&mut policy.unjudged_bytes)));
        }
        let in_use = |bucket: u32| (bucket != NOWHERE).then_some(bucket as usize);
        let situation = Situation {
            policy: &mut policy.vars,
            class: vars,
            flow: in_use(key.flow).and_then(|bucket| flows.get_mut(bucket)),
            group: in_use(key.group).and_then(|bucket| hosts.get_mut(bucket)),
            rates,
            meter,
            codel,
        };
        if !policed {
            policy::decide(&Direct, work, own, situation);
        }
        let ruling = work.ruling();
        charge.kind = if ruling.guaranteed { CHARGE_GUARANTEED } else { CHARGE_BORROWED };
        match ruling.action {
            Action::Accept => Decision::Accept,
            Action::Mark => Decision::Signal { may_mark: true },
            Action::Drop(cause) => Decision::Drop(cause.of_port()),
        }
    }

    fn accepted(&mut self, packet: &Packet) {
        self.weir.accepted(packet);
    }

    /// `after_batch` of `egress/src/bin/egress/observer.rs`: what was refused is given back where it was charged.
    fn end_batch(&mut self, now: Nanos, ring: View, taken: u32) {
        for index in taken..self.weir.accepted_pkts() {
            self.give_back(index as usize);
        }
        let Self { weir, port, .. } = self;
        weir.close_batch(now, ring, taken, |_, _| port.borrow().virtual_wait());
    }
}
