//! Whose packet it is: ingress's own lookup, on a table of prefixes; and what its subscriber may do and has used.

use std::{collections::BTreeMap, net::Ipv4Addr};

use weir_ingress::{
    subscriber::{SubscriberTables, key4, subscriber_of},
    table::Place,
};
use weir_shared_maps::{
    CLASS_NONE, ENTRY4_WORDS, ENTRY6_WORDS, PlanConfig, PlanRates, PrefixMask4, PrefixMasks,
    SIDE_DESTINATION, SIDE_NONE, SubscriberCodel, SubscriberMeter,
};
use weir_wire::L3;
use zerocopy::FromZeros;

/// Subscribers and plans as they lie in the maps. The default is nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribers {
    /// Plans by index.
    pub plans: Vec<PlanConfig>,
    /// What each plan says of the port's classes: an index, or `CLASS_NONE`.
    pub plan_classes: Vec<u32>,
    /// Each subscriber's plan; the first is nobody's.
    pub members: Vec<u16>,
    /// Networks with the length of their prefixes, and whose they are: an index of `members`.
    pub prefixes: Vec<(Ipv4Addr, u8, u32)>,
}

/// What the programs know of subscribers.
pub(super) struct Members {
    side: u32,
    masks: PrefixMasks,
    table: Table,
    plans: Vec<PlanConfig>,
    plan_classes: Vec<u32>,
    meters: Vec<SubscriberMeter>,
    controls: Vec<SubscriberCodel>,
}

/// What a limited subscriber may do, and its state.
pub(super) struct Limited<'a> {
    pub rates: &'a PlanRates,
    pub meter: &'a mut SubscriberMeter,
    pub codel: &'a mut SubscriberCodel,
}

impl Members {
    /// On maps as user space leaves them; `side` is the port's.
    pub fn new(subscribers: &Subscribers, side: u32) -> Self {
        let mut masks = PrefixMasks::new_zeroed();
        let mut table = BTreeMap::new();
        for (network, length, subscriber) in &subscribers.prefixes {
            let length = u32::from(*length);
            if let Some(free) = masks.v4.iter_mut().find(|mask| [0, length].contains(&mask.length)) {
                let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
                *free = PrefixMask4 { mask: u32::from_ne_bytes(mask.to_be_bytes()), length };
            }
            table.insert(key4(u32::from_ne_bytes(network.octets()), length), *subscriber);
        }
        let meter = |&plan: &u16| SubscriberMeter { plan, ..SubscriberMeter::new_zeroed() };
        Self {
            side,
            masks,
            table: Table(table),
            plans: subscribers.plans.clone(),
            plan_classes: subscribers.plan_classes.clone(),
            meters: subscribers.members.iter().map(meter).collect(),
            controls: vec![SubscriberCodel::new_zeroed(); subscribers.members.len()],
        }
    }

    /// The subscriber of a packet, 0 for nobody.
    pub fn find(&self, l3: &L3) -> u32 {
        if self.side == u32::from(SIDE_NONE) {
            return 0;
        }
        subscriber_of(&self.table, &self.masks, self.side as u8, l3)
    }

    /// A subscriber's plan, and the class that it names.
    pub fn plan(&self, subscriber: u32) -> Option<(u16, u32)> {
        let plan = self.meters.get(subscriber as usize)?.plan;
        let class = self.plan_classes.get(usize::from(plan)).copied();
        Some((plan, class.filter(|class| *class != CLASS_NONE)?))
    }

    /// `subscriber` of `egress/src/bin/egress/classes.rs`.
    pub fn limited(&mut self, subscriber: u32) -> Option<Limited<'_>> {
        if subscriber == 0 {
            return None;
        }
        let meter = self.meters.get_mut(subscriber as usize)?;
        let codel = self.controls.get_mut(subscriber as usize)?;
        let plan = self.plans.get(usize::from(meter.plan))?;
        let rates = if self.side == u32::from(SIDE_DESTINATION) { &plan.down } else { &plan.up };
        (rates.rate_pace != 0).then_some(Limited { rates, meter, codel })
    }
}

/// Where a chain of the programs' table begins does not matter here.
struct Table(BTreeMap<[u64; ENTRY4_WORDS], u32>);

impl SubscriberTables for Table {
    fn v4(&self, _: Place, key: [u64; ENTRY4_WORDS]) -> u32 {
        self.0.get(&key).copied().unwrap_or(0)
    }
    fn v6(&self, _: Place, _: [u64; ENTRY6_WORDS]) -> u32 {
        0
    }
}
