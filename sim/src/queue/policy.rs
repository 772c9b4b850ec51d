//! weir on a port with classes: the steps of the program `weir_policy`, on the programs' layouts, with a virtual clock.
//!
//! The decision is [`weir_egress::policy`], unchanged. Batches happen one after the other: no lock is found taken, and nothing
//! passes on the port's account.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use weir_aqm::{Bytes, FlowVars, Nanos};
use weir_egress::policy::{self, Action, ClassVars, Direct, NOWHERE, Policy, Situation, Work};
use weir_egress::{Decision, Queue as Front, wire_bytes};
use weir_shared_maps::{
    AqmState, BATCH_MAX, CHARGE_BORROWED, CHARGE_GUARANTEED, CHARGE_NONE, Charge, ClassConfig, ClassPlace,
    HostState, MODE_BOTTLENECK, PortConfig,
};
use zerocopy::FromZeros;

use super::classify::{Rules, ecn_bits};
use super::weir::Weir;
use super::{Controller, View};
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
}

impl WeirPolicy {
    /// One for each of a port's `count` rings, on maps as user space leaves them.
    pub fn of_port(config: &PolicyConfig, rings: Rings, count: u32, mut random: Random) -> Vec<Self> {
        let hash_seed = random.bits() as u32;
        let class = |_: &ClassConfig| {
            let mut aqm = AqmState::new_zeroed();
            aqm.pi2.random = random.bits() as u32 | 1;
            ClassVars { node: Default::default(), aqm, share: Default::default() }
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

    /// The ring as `look_at` of `egress/src/bin/egress/policy.rs` writes it down.
    fn front(&self) -> Front {
        let front = self.weir.front();
        if self.weir.config.mode == MODE_BOTTLENECK {
            return front;
        }
        // Without slots where the ring cannot be read.
        Front {
            now: front.now,
            occupancy: front.occupancy,
            slots: self.weir.config.ring_slots,
            ..Front::NONE
        }
    }

    /// `give_back` of `egress/src/bin/egress/classes.rs`, for the accepted frame `index` of the batch.
    fn give_back(&mut self, index: usize) {
        let Some(charge) = self.charges.get(index & (BATCH_MAX - 1)) else { return };
        let mut port = self.port.borrow_mut();
        let Port { config, policy, classes, flows, .. } = &mut *port;
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
        let situation = Situation {
            policy: &mut policy.vars,
            class: vars,
            flow: flows.get_mut(charge.flow as usize),
            group: None,
            rates: None,
            meter: None,
        };
        policy::refund(&Direct, &self.work, charge.kind == CHARGE_GUARANTEED, situation);
    }
}

impl Controller for WeirPolicy {
    fn admits(&mut self, now: Nanos) -> bool {
        self.weir.admits(now)
    }

    /// `first_of_batch` of `egress/src/bin/egress/policy.rs`.
    fn begin_batch(&mut self, now: Nanos, ring: View) {
        self.weir.first_of_batch(now, ring);
    }

    /// `judge` of `egress/src/bin/egress/classes.rs` and `act` of `policy.rs` beside it. A new code point is not written: nobody
    /// behind the ring looks at it. There are no subscribers.
    fn judge(&mut self, packet: &Packet) -> Decision {
        let queue = self.front();
        let Self { weir, port, charges, work } = self;
        let mut port = port.borrow_mut();
        let Port { config, hash_seed, policy, classes, policers, flows, hosts } = &mut *port;
        let meta = config.rules.meta(packet, config.port.default_class, config.hashes, *hash_seed);
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
        work.find(own, place, &meta, None);
        let key = *work.key();
        *charge = Charge {
            class: meta.class.into(),
            kind: CHARGE_NONE,
            cost_bytes: cost.get() as u32,
            flow: key.flow,
            subscriber: 0,
            plan: 0,
        };
        let in_use = |bucket: u32| (bucket != NOWHERE).then_some(bucket as usize);
        let situation = Situation {
            policy: &mut policy.vars,
            class: vars,
            flow: in_use(key.flow).and_then(|bucket| flows.get_mut(bucket)),
            group: in_use(key.group).and_then(|bucket| hosts.get_mut(bucket)),
            rates: None,
            meter: None,
        };
        if !work.police(own, peak, committed) {
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
        self.weir.end_batch(now, ring, taken);
    }
}
