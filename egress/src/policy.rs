//! The decision on a port with classes: police, guarantee, share, control, and charge once.
//!
//! Each packet passes [`Work::police`], which any number of CPUs may ask at once, and then [`decide`], on state that the caller has
//! to itself (in the kernel: behind one lock for each port). The strongest verdict wins, in this order:
//!
//! 1. the ring: nobody may fill it ([`Full`]);
//! 2. the class's policer, where a colour is dropped;
//! 3. the subscriber's ceiling;
//! 4. fairness: a flow, host or subscriber that has had its share of the class;
//! 5. the class's ceiling, then its part of what the port has to spare;
//! 6. one controller: the flow's where flows have one each, the subscriber's where its ceiling is what the packet waits for
//!    longest, else the class's.
//!
//! A packet that is dropped is charged nowhere but at its policer, which measures what is offered. One that passes is charged
//! everywhere else at once, and [`refund`] takes that back.
//!
//! **Queues that are not there.** On a port with a rate, phantom queues drain by `rate x time`. In front of a real queue they
//! drain down to what it holds, so that their sum is the ring's backlog, and no rate need be known: what left the ring has
//! left the phantom queues, those of the higher priority first and by weight within one.

mod colour;
mod entity;
mod params;
mod ring;
mod state;
mod steps;
mod subscriber;
mod work;

use weir_aqm::{Bytes, Colour, FlowVars, Nanos, borrow};
use weir_shared_maps::{ClassConfig, ClassCounter, HostState, PlanRates, PortCounter, SubscriberMeter};

pub use colour::af_colour;
pub use entity::{FlowKey, NOWHERE};
pub use params::{Link, Params};
pub use ring::Full;
pub use state::{Class, ClassVars, Policy};
pub use steps::{Direct, Steps};
pub use subscriber::weight as subscriber_weight;
pub use work::Work;

/// Why a packet of a class is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No slot of the ring is left for the class.
    Admission,
    /// The ring's sojourn is beyond the limit.
    Limit,
    /// The policer's colour.
    Colour,
    /// The subscriber's ceiling.
    SubscriberCeil,
    /// The flow, host or subscriber has had its share of the class.
    Fairness,
    /// The class's ceiling.
    ClassCeil,
    /// The class has its part of what the port has to spare.
    ClassShare,
    /// A controller signals, and the packet cannot be marked.
    Aqm,
    /// Another CPU decides, and too much has passed undecided already.
    Busy,
}

impl Cause {
    /// The port's counter.
    #[inline(always)]
    pub const fn of_port(self) -> PortCounter {
        match self {
            Self::Admission => PortCounter::DropAdmission,
            Self::Limit => PortCounter::DropLimit,
            Self::Colour => PortCounter::DropColour,
            Self::SubscriberCeil => PortCounter::DropSubscriber,
            Self::Fairness => PortCounter::DropFairness,
            Self::ClassCeil => PortCounter::DropCeil,
            Self::ClassShare => PortCounter::DropShare,
            Self::Aqm => PortCounter::DropAqm,
            Self::Busy => PortCounter::DropBusy,
        }
    }

    /// The class's counter.
    #[inline(always)]
    pub const fn of_class(self) -> ClassCounter {
        match self {
            Self::Admission => ClassCounter::DropAdmission,
            Self::Limit => ClassCounter::DropLimit,
            Self::Colour => ClassCounter::DropColour,
            Self::SubscriberCeil => ClassCounter::DropSubscriber,
            Self::Fairness => ClassCounter::DropFairness,
            Self::ClassCeil => ClassCounter::DropCeil,
            Self::ClassShare => ClassCounter::DropShare,
            Self::Aqm => ClassCounter::DropAqm,
            Self::Busy => ClassCounter::DropBusy,
        }
    }
}

/// What is done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Action {
    /// It goes to the driver.
    Accept,
    /// It goes to the driver with CE.
    Mark,
    /// It is dropped.
    Drop(Cause),
}

/// The verdict on one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Ruling {
    /// What is done.
    pub action: Action,
    /// The policer's colour, where the class has one.
    pub colour: Option<Colour>,
    /// Whether that colour may be a shade too dark, because other CPUs won every swap of the policer's words.
    pub policer_busy: bool,
    /// The code point to set, where it changes.
    pub dscp: Option<u8>,
    /// Whether an accepted packet was charged to the class's guaranteed rate; it borrowed otherwise.
    pub guaranteed: bool,
}

/// One arriving packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The batch's clock read.
    pub now: Nanos,
    /// Bytes on the wire, link-layer overhead included.
    pub cost: Bytes,
    /// The two ECN bits.
    pub ecn: u8,
    /// Its code point.
    pub dscp: u8,
}

/// The state that one packet's decision reads and writes.
pub struct Situation<'a> {
    /// The port's.
    pub policy: &'a mut borrow::PortVars,
    /// The class's.
    pub class: &'a mut ClassVars,
    /// Its flow's, host's or subscriber's place in the class, where those share it ([`Work::key`]).
    pub flow: Option<&'a mut FlowVars>,
    /// The group of that flow.
    pub group: Option<&'a mut HostState>,
    /// The rates of its subscriber, where it has one that is limited.
    pub rates: Option<&'a PlanRates>,
    /// The subscriber's state.
    pub meter: Option<&'a mut SubscriberMeter>,
}

/// Judges one packet and charges it if it passes. `work` has begun with the packet ([`Work::begin`]) and let it through
/// [`Work::police`]; it holds the ruling afterwards.
#[inline(always)]
pub fn decide<S: Steps>(steps: &S, work: &mut Work, config: &ClassConfig, situation: Situation<'_>) {
    let Situation { policy, class, mut flow, group, rates, mut meter } = situation;
    steps.drain(work, policy);
    if let (Some(rates), Some(meter)) = (rates, &meter)
        && steps.ask_subscriber(work, rates, meter)
    {
        return;
    }
    steps.wait(work, policy, class);
    if let Some(flow) = &mut flow
        && steps.share(work, config, class, flow, group)
    {
        return;
    }
    if steps.borrow(work, policy, class)
        || steps.control(work, config, class, flow.is_some(), meter.as_deref_mut())
    {
        return;
    }
    steps.charge(work, policy, class);
    if let Some(flow) = flow {
        steps.charge_flow(work, class, flow);
    }
    if let Some(meter) = meter {
        work.charge_subscriber(meter);
    }
}

/// Takes back what an accepted packet was charged. `work` has begun with it, whenever that is.
#[inline(always)]
pub fn refund<S: Steps>(steps: &S, work: &Work, guaranteed: bool, situation: Situation<'_>) {
    let Situation { policy, class, flow, group: _, rates, meter } = situation;
    steps.refund(work, policy, class, guaranteed);
    if let Some(flow) = flow {
        steps.refund_flow(work, class, flow);
    }
    if let (Some(rates), Some(meter)) = (rates, meter) {
        subscriber::refund(rates, meter, work.packet.cost);
    }
}
