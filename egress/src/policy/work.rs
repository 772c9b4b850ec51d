//! One packet's decision in progress.
//!
//! What the steps have found out so far is too much for BPF's stack of 512 bytes: the caller lends the memory, and each
//! step is a function of its own there.

use weir_aqm::borrow::{self, Admission, Grant, PortVars};
use weir_aqm::fairness::{self, FairnessVerdict};
use weir_aqm::{Bytes, FlowVars, GcraParams, L4sParams, L4sVerdict, Nanos, Service, SharedTat, Verdict, l4s};
use weir_shared_maps::{
    AQM_CODEL, AQM_L4S, AQM_NONE, AQM_PI2, AQM_PIE, ClassConfig, ClassPlace, FLAG_ECN, HostState, PacketMeta,
    PlanRates, PortConfig, SubscriberCodel, SubscriberMeter,
};

use super::params::Wait;
use super::{Action, Cause, ClassVars, FlowKey, Link, Packet, Params, Ruling, colour, entity, subscriber};
use crate::Queue;
use crate::controller::{Word, ask, next_random};
use crate::convert::{pi2_from_map, pi2_to_map};

/// Sojourn time from which L4S packets are marked (Linux `sch_dualpi2.c`: `step_thresh`, 1 ms).
const STEP: Nanos = Nanos::from_millis(1);
/// RFC 9332 section 2.1.
const COUPLING: u32 = 2;

/// Memory for one packet's decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    pub(super) packet: Packet,
    /// Bytes of further frames that go with the packet (GSO): they are charged with it and not asked about.
    rest: Bytes,
    pub(super) link: Link,
    pub(super) params: Params,
    /// What stands in front of it at its class.
    wait: Wait,
    /// What stands in front of it at its subscriber's ceiling.
    own: subscriber::Wait,
    /// What rate it may use.
    grant: Grant,
    pub(super) ruling: Ruling,
    key: FlowKey,
    /// Weight of its flow.
    weight: u32,
    /// Time that it takes at its flow's share.
    time_at_share: Nanos,
    /// Whether its flow's controller signals.
    flow_signals: bool,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            packet: Packet { now: Nanos::ZERO, cost: Bytes::ZERO, ecn: 0, dscp: 0 },
            rest: Bytes::ZERO,
            link: Link::default(),
            params: Params::default(),
            wait: Wait::default(),
            own: subscriber::Wait::NONE,
            grant: Grant { ceil_tat: Nanos::ZERO, guaranteed_tat: None },
            ruling: RULING,
            key: FlowKey::NONE,
            weight: 1,
            time_at_share: Nanos::ZERO,
            flow_signals: false,
        }
    }
}

const RULING: Ruling =
    Ruling { action: Action::Accept, colour: None, policer_busy: false, dscp: None, guaranteed: false };

impl Work {
    /// Begins with a packet of a class. False for a port without a rate in policer mode, which the config forbids.
    #[inline(always)]
    pub fn begin(
        &mut self,
        port: &PortConfig,
        config: &ClassConfig,
        place: &ClassPlace,
        queue: &Queue,
        packet: &Packet,
    ) -> bool {
        self.packet = *packet;
        (self.ruling, self.key) = (RULING, FlowKey::NONE);
        (self.own, self.flow_signals) = (subscriber::Wait::NONE, false);
        self.link.look(port, place, queue);
        self.params.read(port, config, place, &self.link)
    }

    /// Finds the packet's phantom queue. `rates` are its subscriber's, where it has one that is limited.
    #[inline(always)]
    pub fn find(
        &mut self,
        config: &ClassConfig,
        place: &ClassPlace,
        meta: &PacketMeta,
        rates: Option<&PlanRates>,
    ) {
        let weight = rates.map_or(0, subscriber::weight);
        self.key = entity::flow_key(config.fairness, place, meta, weight);
    }

    /// Says what the frames after the first take on the wire; holds for all packets until it is said anew.
    #[inline(always)]
    pub const fn follow(&mut self, rest: Bytes) {
        self.rest = rest;
    }

    /// What the packet is charged in all.
    #[inline(always)]
    pub const fn charged(&self) -> Bytes {
        self.packet.cost.saturating_add(self.rest)
    }

    /// Where the packet finds its phantom queue.
    #[inline(always)]
    pub const fn key(&self) -> &FlowKey {
        &self.key
    }

    /// What [`super::decide`] said.
    #[inline(always)]
    pub const fn ruling(&self) -> &Ruling {
        &self.ruling
    }

    #[inline(always)]
    fn refuse(&mut self, cause: Cause) -> bool {
        self.ruling.action = Action::Drop(cause);
        true
    }

    /// What needs no lock, before [`super::decide`]: the ring, where it has no room for the packet whatever it is charged to, and
    /// the class's policer. Whether the packet is dropped.
    ///
    /// The policer's words are charged here, whatever becomes of the packet afterwards: it measures what is offered.
    #[inline(always)]
    pub fn police<T: SharedTat>(&mut self, config: &ClassConfig, peak: &T, committed: &T) -> bool {
        if let Some(cause) = self.link.full.for_all {
            return self.refuse(cause);
        }
        let metered = colour::meter(config, &colour::Buckets { peak, committed }, &self.packet, self.rest);
        (self.ruling.colour, self.ruling.dscp) = (metered.colour, metered.dscp);
        self.ruling.policer_busy = metered.lost;
        metered.dropped && self.refuse(Cause::Colour)
    }

    /// Brings the port's phantom queues up to date.
    #[inline(always)]
    pub fn drain(&self, policy: &mut PortVars) {
        policy.drain(&self.params.port, self.packet.now, self.link.real);
    }

    /// The subscriber's ceiling; whether the packet is above it.
    #[inline(always)]
    pub fn ask_subscriber(&mut self, rates: &PlanRates, meter: &SubscriberMeter) -> bool {
        match subscriber::ask(rates, meter, self.packet.now, self.packet.cost, self.rest) {
            Some(wait) => {
                self.own = wait;
                false
            }
            None => self.refuse(Cause::SubscriberCeil),
        }
    }

    /// What stands in front of the packet at its class.
    #[inline(always)]
    pub fn wait(&mut self, policy: &PortVars, class: &ClassVars) {
        self.wait = self.params.wait(&self.link, policy, class, self.packet.now);
    }

    #[inline(always)]
    fn by_subscriber(&self) -> bool {
        self.own.sojourn > self.wait.sojourn
    }

    /// Fairness within the class; whether the flow has had its share. Flows have a controller each where the class's is CoDel
    /// and no subscriber's ceiling is in front of them. A flow that does not slow down is held to its share of what all have a
    /// claim to.
    ///
    /// The class's phantom queues are drained no faster than the class itself is served.
    #[inline(always)]
    pub fn share(
        &mut self,
        config: &ClassConfig,
        class: &mut ClassVars,
        flow: &mut FlowVars,
        group: Option<&mut HostState>,
    ) -> bool {
        let (params, now) = (&self.params, self.packet.now);
        class.share.drain_anchored(&params.share, params.ceil.pace, 1 << 16, now, self.wait.backlog);
        let own_codel = config.aqm == AQM_CODEL && !self.by_subscriber();
        let fair = params.fairness(own_codel);
        let queue = class.share.queue(&params.share, &flow.tag);
        self.weight = entity::weight(&self.key, group, queue > Bytes::ZERO, now);
        let claims = &mut class.claims;
        claims.renew(now);
        flow.response.arrive(claims, self.weight, queue > fair.codel.max_packet);
        let pace = params.pace_of_class(&self.link, &self.wait);
        self.time_at_share = claims.time_at_share(pace, self.weight, self.charged());
        if flow.response.is_held(claims, self.weight, now, fair.cap) {
            flow.response.refused(self.time_at_share);
            return self.refuse(Cause::Fairness);
        }
        match fairness::judge(&fair, &class.share, flow, self.wait.pace, now) {
            FairnessVerdict::Accept => self.flow_signals = false,
            FairnessVerdict::Signal => self.flow_signals = true,
            FairnessVerdict::OverShare => {
                flow.response.refused(self.time_at_share);
                return self.refuse(Cause::Fairness);
            }
            FairnessVerdict::OverLimit => return self.refuse(Cause::Fairness),
        }
        false
    }

    /// The class's ceiling, and its part of the port; whether either is used up.
    #[inline(always)]
    pub fn borrow(&mut self, policy: &PortVars, class: &ClassVars) -> bool {
        let params = &self.params;
        let asked = borrow::ask(
            &params.port,
            &params.borrow(&self.wait),
            policy,
            &class.node,
            self.packet.now,
            self.packet.cost,
        );
        match asked {
            Ok(grant) => {
                self.grant = self.with_rest(grant);
                self.ruling.guaranteed = grant.guaranteed_tat.is_some();
                match self.link.full.for_borrowed {
                    Some(cause) if !self.ruling.guaranteed => self.refuse(cause),
                    Some(_) | None => false,
                }
            }
            Err(Admission::ClassCeil) => self.refuse(Cause::ClassCeil),
            Err(_) => self.refuse(Cause::ClassShare),
        }
    }

    /// The grant with the rest of the frames on top.
    #[inline(always)]
    fn with_rest(&self, grant: Grant) -> Grant {
        if self.rest == Bytes::ZERO {
            return grant;
        }
        let after =
            |meter: &GcraParams, tat: Nanos| tat.saturating_add(meter.pace.time_for_rounded_up(self.rest));
        let guaranteed_tat = match (grant.guaranteed_tat, &self.params.guaranteed) {
            (Some(tat), Some(meter)) => Some(after(meter, tat)),
            (tat, _) => tat,
        };
        Grant { ceil_tat: after(&self.params.ceil, grant.ceil_tat), guaranteed_tat }
    }

    /// One controller; whether it asks for a drop. Notes a mark.
    #[inline(always)]
    pub fn control(
        &mut self,
        config: &ClassConfig,
        class: &mut ClassVars,
        flows: bool,
        subscriber: Option<&mut SubscriberCodel>,
    ) -> bool {
        let own = self.by_subscriber() && config.aqm != AQM_NONE;
        let word = match subscriber {
            Some(state) if own => {
                let codel = self.params.gains.codel(&self.params.limits);
                match subscriber::control(&codel, state, self.packet.now, &mut self.own) {
                    Verdict::Pass => Word::Pass,
                    Verdict::Signal => Word::Signal { may_mark: true },
                }
            }
            Some(_) | None if flows && config.aqm == AQM_CODEL => {
                if self.flow_signals {
                    Word::Signal { may_mark: true }
                } else {
                    Word::Pass
                }
            }
            Some(_) | None => self.control_class(config, class),
        };
        let Word::Signal { may_mark } = word else { return false };
        if may_mark && config.flags & FLAG_ECN != 0 && self.packet.ecn != 0 {
            self.ruling.action = Action::Mark;
            return false;
        }
        self.refuse(Cause::Aqm)
    }

    #[inline(always)]
    fn control_class(&self, config: &ClassConfig, class: &mut ClassVars) -> Word {
        let Wait { sojourn, backlog, .. } = self.wait;
        let (params, now) = (&self.params, self.packet.now);
        match config.aqm {
            AQM_CODEL | AQM_PI2 | AQM_PIE => {
                ask(&params.gains, config.aqm, &params.limits, &mut class.aqm, now, sojourn, backlog)
            }
            AQM_L4S => self.coupled(class, sojourn, backlog),
            _ => Word::Pass,
        }
    }

    /// The coupled pair of RFC 9332 on one queue.
    #[inline(always)]
    fn coupled(&self, class: &mut ClassVars, sojourn: Nanos, backlog: Bytes) -> Word {
        let (params, now) = (&self.params, self.packet.now);
        let pair = L4sParams { pi2: params.gains.pi2(&params.limits), step: STEP, coupling: COUPLING };
        let state = &mut class.aqm.pi2;
        let random = next_random(state.random, now);
        let mut vars = pi2_from_map(state);
        let service = Service::of_ecn(self.packet.ecn);
        let verdict = l4s::on_enqueue(&pair, &mut vars, now, service, sojourn, sojourn, backlog, random);
        *state = pi2_to_map(&vars, random);
        match verdict {
            L4sVerdict::Pass => Word::Pass,
            L4sVerdict::Signal => Word::Signal { may_mark: true },
            L4sVerdict::Drop => Word::Signal { may_mark: false },
        }
    }

    /// Charges class and port.
    #[inline(always)]
    pub fn charge(&self, policy: &mut PortVars, class: &mut ClassVars) {
        let params = self.params.class(Bytes::MAX);
        borrow::charge(&self.params.port, &params, policy, &mut class.node, self.grant, self.charged());
    }

    /// Charges the packet's flow.
    #[inline(always)]
    pub fn charge_flow(&self, class: &mut ClassVars, flow: &mut FlowVars) {
        class.share.charge(&self.params.share, &mut flow.tag, self.weight, self.charged());
        flow.response.accepted(self.packet.now, self.time_at_share);
        if self.ruling.action == Action::Mark {
            flow.response.signalled();
        }
    }

    /// Takes the charge of its flow back. What the class was served at is not known any more: in front of a ring, and where
    /// classes share the port, a flow that is held loses a part of the refused frame's time.
    #[inline(always)]
    pub fn refund_flow(&self, class: &mut ClassVars, flow: &mut FlowVars) {
        let pace = self.params.pace_unqueued(&self.link);
        let weight = flow.tag.weight.max(1);
        flow.response.refund(class.claims.time_at_share(pace, weight, self.packet.cost));
        class.share.refund(&self.params.share, &mut flow.tag, self.packet.cost);
    }

    #[inline(always)]
    pub(super) fn charge_subscriber(&self, meter: &mut SubscriberMeter) {
        meter.ceil_tat_ns = self.own.tat.as_nanos();
        meter.above = u8::from(self.own.above);
    }

    /// Takes the charge of class and port back.
    #[inline(always)]
    pub fn refund(&self, policy: &mut PortVars, class: &mut ClassVars, guaranteed: bool) {
        let params = self.params.class(Bytes::MAX);
        borrow::refund(&self.params.port, &params, policy, &mut class.node, guaranteed, self.packet.cost);
    }
}
