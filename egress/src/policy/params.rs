//! A class's configuration as its algorithms take it.

use weir_aqm::borrow::{ClassParams, NodeParams, PortParams, PortVars, class_backlog};
use weir_aqm::{Bytes, FairnessParams, GcraParams, Nanos, Pace, ShareParams, gcra};
use weir_shared_maps::{ClassConfig, ClassPlace, MODE_BOTTLENECK, PortConfig};

use super::ClassVars;
use super::ring::{self, Full};
use crate::controller::Gains;
use crate::convert::{pace_from_map, pace_of_word};
use crate::{Limits, Queue};

/// The ceiling of a class that has none.
const FASTEST: Option<Pace> = Pace::from_bits_per_second(Pace::MAX_BITS_PER_SECOND);
const UNLIMITED: Nanos = Nanos::from_secs(1);

/// The port's link as a packet finds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its rate: configured, or measured where the ring is the queue.
    pub pace: Option<Pace>,
    /// Bytes in the ring, where that is the queue.
    pub real: Option<Bytes>,
    /// Wait of the ring's oldest frame, which stands for the packet's own while no rate is known.
    pub head_sojourn: Nanos,
    /// Slots of the ring; 0 where unknown.
    pub slots: u32,
    /// Whether the ring has room.
    pub full: Full,
}

impl Link {
    /// Looks at a port whose ring is `queue`, as a class sees it.
    #[cfg_attr(target_arch = "bpf", inline(never))]
    pub(super) fn look(&mut self, config: &PortConfig, place: &ClassPlace, queue: &Queue) {
        (self.slots, self.full) = (queue.slots, ring::full(config, place.rank, queue));
        if config.mode == MODE_BOTTLENECK {
            let all = queue.backlog.saturating_add(queue.others);
            (self.pace, self.real, self.head_sojourn) =
                (queue.all_pace.or(queue.pace), Some(all), queue.head_sojourn);
        } else {
            (self.pace, self.real, self.head_sojourn) = (pace_from_map(config), None, Nanos::ZERO);
        }
    }
}

/// Everything that does not change between two packets of a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params {
    pub(super) port: PortParams,
    pub(super) share: ShareParams,
    pub(super) guaranteed: Option<GcraParams>,
    pub(super) ceil: GcraParams,
    /// Whether the ceiling is one.
    pub(super) limited: bool,
    pub(super) weight: u32,
    pub(super) rank: u32,
    /// Wait at the port from which a class gets no more.
    pub(super) room: Nanos,
    pub(super) limits: Limits,
    pub(super) gains: Gains,
}

/// What stands in front of a packet of a class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wait {
    /// At the port.
    pub at_port: Nanos,
    /// At the port or at the class's ceiling, whichever is longer.
    pub sojourn: Nanos,
    pub backlog: Bytes,
    /// Backlog over sojourn: the rate that the class is served at. Its ceiling while nothing waits.
    pub pace: Pace,
}

impl Params {
    /// Reads a class. False for a port without a rate in policer mode, which the config forbids.
    #[cfg_attr(target_arch = "bpf", inline(never))]
    pub(super) fn read(
        &mut self,
        port: &PortConfig,
        config: &ClassConfig,
        place: &ClassPlace,
        link: &Link,
    ) -> bool {
        let ceil = pace_of_word(config.ceil_pace);
        let Some(fastest) = FASTEST else { return false };
        let pace = match (link.pace, link.real) {
            (Some(pace), _) => pace,
            // Drained by what the ring holds, not by time.
            (None, Some(_)) => fastest,
            (None, None) => return false,
        };
        let limits = Limits {
            target: Nanos::from_nanos(config.target_ns),
            interval: Nanos::from_nanos(config.interval_ns),
            limit: Nanos::from_nanos(config.limit_ns),
        };
        let limits = match link.real {
            Some(_) => limits.bent(port.max_packet_bytes, link.pace, link.slots),
            None => limits,
        };
        let burst = Nanos::from_nanos(config.ceil_burst_ns);
        // A port with a rate holds a burst, as its policer without classes does. A ring holds what the limit says, and where classes
        // share it an eighth of that is kept for those without a queue: at the limit itself the ring takes nothing from anybody.
        let room = match (link.real, ceil) {
            (None, Some(_)) if burst < limits.limit => burst,
            (Some(_), Some(_) | None) if port.classes > 1 => {
                Nanos::from_nanos(limits.limit.as_nanos() - (limits.limit.as_nanos() >> 3))
            }
            (None | Some(_), Some(_) | None) => limits.limit,
        };
        let ceil_meter = match ceil {
            Some(pace) => GcraParams { pace, tolerance: burst },
            None => GcraParams { pace: fastest, tolerance: UNLIMITED },
        };
        *self = Self {
            port: PortParams {
                pace,
                share: ShareParams { grain_shift: place.port_grain },
                priorities: place.ranks,
            },
            share: ShareParams { grain_shift: place.grain },
            guaranteed: pace_of_word(config.rate_pace)
                .map(|pace| GcraParams { pace, tolerance: Nanos::from_nanos(config.rate_burst_ns) }),
            ceil: ceil_meter,
            limited: ceil.is_some(),
            weight: config.weight,
            rank: place.rank,
            room,
            limits,
            gains: Gains {
                t_update_ns: config.t_update_ns,
                alpha: config.alpha,
                beta: config.beta,
                max_packet_bytes: port.max_packet_bytes,
            },
        };
        true
    }

    /// What stands in front of a packet of the class.
    #[inline(always)]
    pub(super) fn wait(&self, link: &Link, policy: &PortVars, class: &ClassVars, now: Nanos) -> Wait {
        let tag = &class.node.tag;
        let ahead = policy.share(self.rank).map_or(Bytes::ZERO, |share| share.ahead(&self.port.share, tag));
        let at_port = match link.pace {
            Some(pace) => pace.time_for(ahead),
            None if ahead > Bytes::ZERO => link.head_sojourn,
            None => Nanos::ZERO,
        };
        let at_ceil =
            if self.limited { gcra::virtual_sojourn(class.node.ceil_tat, now) } else { Nanos::ZERO };
        let sojourn = if at_port > at_ceil { at_port } else { at_ceil };
        let backlog = class_backlog(&self.port, &self.class(Bytes::MAX), policy, &class.node, now);
        let pace = Pace::from_sample(backlog, sojourn).unwrap_or(self.ceil.pace);
        Wait { at_port, sojourn, backlog, pace }
    }

    /// The rate that the class is served at.
    #[inline(always)]
    pub(super) fn pace_of_class(&self, link: &Link, wait: &Wait) -> Pace {
        if wait.sojourn > Nanos::ZERO { wait.pace } else { self.pace_unqueued(link) }
    }

    /// The rate that the class may have while nothing waits: its ceiling or the link's, whichever is less.
    #[inline(always)]
    pub(super) fn pace_unqueued(&self, link: &Link) -> Pace {
        match link.pace {
            Some(pace) if pace.is_slower_than(self.ceil.pace) => pace,
            Some(_) | None => self.ceil.pace,
        }
    }

    /// The class for borrowing: with room, or without any once it has waited long enough.
    #[inline(always)]
    pub(super) fn borrow(&self, wait: &Wait) -> ClassParams {
        self.class(if wait.at_port < self.room { Bytes::MAX } else { Bytes::ZERO })
    }

    #[inline(always)]
    pub(super) fn class(&self, room: Bytes) -> ClassParams {
        ClassParams {
            node: NodeParams { guaranteed: self.guaranteed, ceil: self.ceil, weight: self.weight },
            priority: self.rank,
            room,
            subscriber_room: Bytes::ZERO,
            reserve: Nanos::ZERO,
            share: self.share,
        }
    }

    /// Fairness in the class. Heavy flows are refused at three quarters of what the class may hold, and the rest is kept for
    /// flows without a queue: the right ones are refused before the class is.
    #[inline(always)]
    pub(super) fn fairness(&self, own_codel: bool) -> FairnessParams {
        let room =
            if self.limited && self.ceil.tolerance < self.room { self.ceil.tolerance } else { self.room };
        let eighth = Nanos::from_nanos(room.as_nanos() >> 3);
        let mut codel = self.gains.codel(&self.limits);
        codel.max_packet = codel.max_packet.saturating_mul(2);
        if !own_codel {
            codel.target = Nanos::MAX;
        }
        FairnessParams {
            share: self.share,
            codel,
            cap: eighth.saturating_mul(6),
            limit: eighth.saturating_mul(7),
        }
    }
}
