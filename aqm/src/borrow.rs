//! Guaranteed rates with borrowing, port over class over subscriber, from meters and phantom queues.
//!
//! What HTB does with queues (net/sched/sch_htb.c: `rate`, `ceil`, priority, quantum) is decided here for each packet
//! as it comes, without holding any:
//!
//! 1. A packet within its subscriber's guaranteed rate passes. Its class and the port pay for it, whatever their
//!    state: the guarantees below a node add up to no more than the node's own.
//! 2. Any other packet borrows. From its class if that is within its guaranteed rate, and else from the port's spare
//!    rate: what the guaranteed traffic of all classes leaves of it.
//! 3. Nobody passes its own `ceil`, or its class's.
//!
//! **Shares.** What borrows at a node goes through the phantom queues of a share ([`crate::share`]): spare rate is
//! divided by water-filling over the weights of those that ask. At the port there is a share for each priority, and
//! one gets what the higher ones left over. A node whose phantom queue is full is refused.
//!
//! **Where a packet is refused.** A class that is short of rate must refuse the right subscribers, so that its
//! subscribers' phantom queues drain no faster than the class itself is served: their sum never falls below the
//! class's own backlog ([`ShareVars::drain_anchored`]; the backlog is what its meters are ahead plus its phantom
//! queue at the port). Their room is smaller than the class's, so that they fill up first.
//!
//! **Bounds**, over any time `t`, for bursts as in [`ClassParams`]:
//!
//! * a subscriber that asks for its guaranteed rate gets it, less a nanosecond's worth per packet;
//! * subscriber and class accept at most `ceil * t` plus the burst of that meter;
//! * the port accepts at most `rate * t` plus the bursts of all guaranteed meters and the rooms of all classes;
//! * a lower priority gets nothing while a higher one has a queue at the port: bytes, not packets, decide, so there
//!   is no quantum to overrun;
//! * weighted shares are exact in the long run. A class's phantom queue is off by its room at most.
//!
//! **CPUs.** [`guaranteed`] reads and writes single words: four TATs by compare-and-swap (the subscriber's guaranteed
//! one decides, so it is swapped first; a lost race on a later one repeats that one alone) and an addition to
//! [`PortVars::owed`]. [`borrow`] needs the locks of the class's and the port's shares.

mod port;

use crate::gcra::{self, Conformance, GcraParams};
use crate::share::{ShareParams, ShareVars, TagVars};
use crate::units::{Bytes, Nanos, Pace, saturating_mul};

pub use port::{FRACTION, PRIORITIES, PortParams, PortVars};

/// Rates of a class or a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeParams {
    /// What it has for itself; `None` for one that only borrows.
    pub guaranteed: Option<GcraParams>,
    /// What it never exceeds; at least the guaranteed rate.
    pub ceil: GcraParams,
    /// Its part of what is borrowed beside it, 1 to 4096.
    pub weight: u32,
}

/// State of a class or a subscriber. The default is idle.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeVars {
    /// Theoretical arrival time of the guaranteed meter.
    pub guaranteed_tat: Nanos,
    /// Theoretical arrival time of the ceiling.
    pub ceil_tat: Nanos,
    /// Its phantom queue at the node above.
    pub tag: TagVars,
}

/// A class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassParams {
    /// Its own rates.
    pub node: NodeParams,
    /// Its priority at the port, below [`PRIORITIES`].
    pub priority: u32,
    /// What its phantom queue at the port holds.
    pub room: Bytes,
    /// What the phantom queues of its subscribers hold together; below what its own meters and queue do.
    pub subscriber_room: Bytes,
    /// What borrowing leaves of the ceiling's burst for guaranteed packets.
    pub reserve: Nanos,
    /// The wheel of its subscribers.
    pub share: ShareParams,
}

impl ClassParams {
    /// A class of `weight` with a guaranteed burst of `burst` bytes and `room` bytes of borrowing, which is 20 to
    /// 100 ms of its rate.
    ///
    /// Its subscribers fill half of `room` on top of `burst`, and the ceiling's burst is all of it twice, so that
    /// subscribers are refused before their class is.
    pub fn new(
        guaranteed: Option<Pace>,
        ceil: Pace,
        burst: Bytes,
        room: Bytes,
        weight: u32,
        priority: u32,
    ) -> Self {
        let own = if guaranteed.is_some() { burst } else { Bytes::ZERO };
        let subscriber_room = Bytes::new(room.get() / 2).saturating_add(own);
        let reserve = ceil.time_for(subscriber_room.saturating_add(burst));
        let ceil_burst = subscriber_room.saturating_add(burst).saturating_mul(2);
        Self {
            node: NodeParams {
                guaranteed: guaranteed.map(|pace| GcraParams::with_burst(pace, burst)),
                ceil: GcraParams::with_burst(ceil, ceil_burst),
                weight,
            },
            priority,
            room,
            subscriber_room,
            reserve,
            share: ShareParams::for_horizon(subscriber_room.saturating_mul(2).get()),
        }
    }
}

/// State of a class. The default is idle.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassVars {
    /// Its meters and its place at the port.
    pub node: NodeVars,
    /// Its subscribers' phantom queues.
    pub subscribers: ShareVars,
}

/// What becomes of a packet.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Passes, within the subscriber's guaranteed rate.
    Guaranteed,
    /// Passes, with rate that others left.
    Borrowed,
    /// Dropped: the subscriber's ceiling.
    SubscriberCeil,
    /// Dropped: the class's ceiling.
    ClassCeil,
    /// Dropped: the subscriber has its part of what the class gets.
    SubscriberShare,
    /// Dropped: the class has its part of what the port has to spare.
    ClassShare,
}

impl Admission {
    /// Whether the packet goes on.
    #[inline(always)]
    pub const fn passes(self) -> bool {
        matches!(self, Self::Guaranteed | Self::Borrowed)
    }
}

/// Rule 1: the states of class and subscriber after a packet within the subscriber's guaranteed rate, or `None` if it
/// must borrow. The caller stores both and adds the length, with 16 bits of fraction, to [`PortVars::owed`].
#[inline(always)]
#[must_use]
pub fn guaranteed(
    class: &ClassParams,
    subscriber: &NodeParams,
    class_vars: NodeVars,
    subscriber_vars: NodeVars,
    now: Nanos,
    length: Bytes,
) -> Option<(NodeVars, NodeVars)> {
    let guaranteed_tat =
        conforms(subscriber.guaranteed.as_ref()?, subscriber_vars.guaranteed_tat, now, length)?;
    let ceil_tat = conforms(&subscriber.ceil, subscriber_vars.ceil_tat, now, length)?;
    let class_ceil_tat = conforms(&class.node.ceil, class_vars.ceil_tat, now, length)?;
    let class_guaranteed_tat = match &class.node.guaranteed {
        Some(meter) => charged(meter, class_vars.guaranteed_tat, now, length),
        None => class_vars.guaranteed_tat,
    };
    Some((
        NodeVars { guaranteed_tat: class_guaranteed_tat, ceil_tat: class_ceil_tat, ..class_vars },
        NodeVars { guaranteed_tat, ceil_tat, ..subscriber_vars },
    ))
}

/// Rules 2 and 3: a packet that its subscriber's guaranteed rate does not cover.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "three levels, each with its parameters and its state")]
pub fn borrow(
    port: &PortParams,
    class: &ClassParams,
    subscriber: &NodeParams,
    port_vars: &mut PortVars,
    class_vars: &mut ClassVars,
    subscriber_vars: &mut NodeVars,
    now: Nanos,
    length: Bytes,
) -> Admission {
    port_vars.drain(port, now, None);
    let own = class_vars.node;
    let backlog = class_backlog(port, class, port_vars, &own, now);
    let subscribers = &mut class_vars.subscribers;
    subscribers.drain_anchored(&class.share, class.node.ceil.pace, 1 << FRACTION, now, backlog);

    let Some(ceil_tat) = conforms(&subscriber.ceil, subscriber_vars.ceil_tat, now, length) else {
        return Admission::SubscriberCeil;
    };
    if subscribers.ahead(&class.share, &subscriber_vars.tag) >= class.subscriber_room {
        return Admission::SubscriberShare;
    }
    let grant = match ask(port, class, port_vars, &own, now, length) {
        Ok(grant) => grant,
        Err(refusal) => return refusal,
    };
    charge(port, class, port_vars, &mut class_vars.node, grant, length);
    subscriber_vars.ceil_tat = ceil_tat;
    class_vars.subscribers.charge(&class.share, &mut subscriber_vars.tag, subscriber.weight, length);
    Admission::Borrowed
}

/// Where the rate for a packet comes from, and what [`charge`] is to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The ceiling's new theoretical arrival time.
    pub ceil_tat: Nanos,
    /// That of the guaranteed meter, for a packet within the class's guaranteed rate; else it borrows from the port.
    pub guaranteed_tat: Option<Nanos>,
}

/// What class and port say about a packet, with nothing charged. The port has been drained up to `now`.
///
/// # Errors
///
/// [`Admission::ClassCeil`] and [`Admission::ClassShare`].
#[inline(always)]
pub fn ask(
    port: &PortParams,
    class: &ClassParams,
    port_vars: &PortVars,
    own: &NodeVars,
    now: Nanos,
    length: Bytes,
) -> Result<Grant, Admission> {
    let limited =
        GcraParams { tolerance: class.node.ceil.tolerance.saturating_sub(class.reserve), ..class.node.ceil };
    let Some(ceil_tat) = conforms(&limited, own.ceil_tat, now, length) else {
        return Err(Admission::ClassCeil);
    };
    let within = class.node.guaranteed.as_ref();
    if let Some(tat) = within.and_then(|meter| conforms(meter, own.guaranteed_tat, now, length)) {
        return Ok(Grant { ceil_tat, guaranteed_tat: Some(tat) });
    }
    match port_vars.share(class.priority) {
        Some(spare) if spare.queue(&port.share, &own.tag) < class.room => {
            Ok(Grant { ceil_tat, guaranteed_tat: None })
        }
        Some(_) | None => Err(Admission::ClassShare),
    }
}

/// Charges a packet of `length` bytes to class and port as [`ask`] granted it.
#[inline(always)]
pub fn charge(
    port: &PortParams,
    class: &ClassParams,
    port_vars: &mut PortVars,
    own: &mut NodeVars,
    grant: Grant,
    length: Bytes,
) {
    own.ceil_tat = grant.ceil_tat;
    if let Some(tat) = grant.guaranteed_tat {
        own.guaranteed_tat = tat;
        port_vars.owe(length);
    } else if let Some(spare) = port_vars.share_mut(class.priority) {
        spare.charge(&port.share, &mut own.tag, class.node.weight, length);
    }
}

/// Takes the charge of a packet back that was granted but not sent; `guaranteed` as the grant was.
#[inline(always)]
pub fn refund(
    port: &PortParams,
    class: &ClassParams,
    port_vars: &mut PortVars,
    own: &mut NodeVars,
    guaranteed: bool,
    length: Bytes,
) {
    own.ceil_tat = gcra::refund(&class.node.ceil, own.ceil_tat, length);
    if guaranteed {
        if let Some(meter) = &class.node.guaranteed {
            own.guaranteed_tat = gcra::refund(meter, own.guaranteed_tat, length);
        }
        port_vars.owed = port_vars.owed.saturating_sub(saturating_mul(length.get(), 1 << FRACTION));
    } else if let Some(spare) = port_vars.share_mut(class.priority) {
        spare.refund(&port.share, &mut own.tag, length);
    }
}

/// All rules, for a caller that has the states to itself. A class without subscribers has a single one, of weight 1
/// and without a guaranteed rate.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "three levels, each with its parameters and its state")]
pub fn admit(
    port: &PortParams,
    class: &ClassParams,
    subscriber: &NodeParams,
    port_vars: &mut PortVars,
    class_vars: &mut ClassVars,
    subscriber_vars: &mut NodeVars,
    now: Nanos,
    length: Bytes,
) -> Admission {
    if let Some((own, below)) = guaranteed(class, subscriber, class_vars.node, *subscriber_vars, now, length)
    {
        class_vars.node = own;
        *subscriber_vars = below;
        port_vars.owe(length);
        return Admission::Guaranteed;
    }
    borrow(port, class, subscriber, port_vars, class_vars, subscriber_vars, now, length)
}

/// What a class has been given beyond what it was served: by its guaranteed meter and at the port, or by its ceiling.
#[inline(always)]
pub fn class_backlog(
    port: &PortParams,
    class: &ClassParams,
    port_vars: &PortVars,
    own: &NodeVars,
    now: Nanos,
) -> Bytes {
    let queue =
        port_vars.share(class.priority).map_or(Bytes::ZERO, |share| share.queue(&port.share, &own.tag));
    let ahead = |meter: &GcraParams, tat| meter.pace.bytes_in(gcra::virtual_sojourn(tat, now));
    let guaranteed = class.node.guaranteed.as_ref();
    let served =
        queue.saturating_add(guaranteed.map_or(Bytes::ZERO, |meter| ahead(meter, own.guaranteed_tat)));
    let ceil = ahead(&class.node.ceil, own.ceil_tat);
    if served > ceil { served } else { ceil }
}

#[inline(always)]
fn conforms(meter: &GcraParams, tat: Nanos, now: Nanos, length: Bytes) -> Option<Nanos> {
    match gcra::conform(meter, tat, now, length) {
        Conformance::Conform { tat } => Some(tat),
        Conformance::Exceed { .. } => None,
    }
}

/// The TAT after a packet that passes whatever the meter says.
#[inline(always)]
fn charged(meter: &GcraParams, tat: Nanos, now: Nanos, length: Bytes) -> Nanos {
    let start = if tat > now { tat } else { now };
    start.saturating_add(meter.pace.time_for_rounded_up(length))
}
