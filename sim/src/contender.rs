//! Which queue stands between the links.

use weir_aqm::{Bytes, CodelParams, Nanos, Pi2Params, Rate};
use weir_shared_maps::{AQM_CODEL, BackOff, FLAG_ECN, MODE_BOTTLENECK, PortConfig};
use zerocopy::FromZeros;

use crate::{
    Path, Random, Rings,
    queue::{
        BcPqp, BcPqpParams, Cake, CodelQueue, Controller, Csfq, DropTail, DualPi2, DualPi2Params, FqCodel,
        FqCodelParams, Pie, PieParams, Policer, PolicyConfig, Priority, Queue, RingQueue, Router,
        RouterConfig, Shaped, Weir, WeirPolicy,
    },
};

/// Bytes of a full Ethernet frame without its check sequence.
const FULL_FRAME: u32 = 1514;

/// Who decides. Those with a real queue own it and can reach into it; its room is that of the rings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contender {
    /// A plain redirect: the ring takes what fits. Drop-tail.
    Redirect,
    /// weir, with this entry of the port map; see [`port_config`].
    Weir(Box<PortConfig>),
    /// The same with this entry of the back-off map instead of a port's default.
    WeirBackOff(Box<(PortConfig, BackOff)>),
    /// weir, on a port with classes.
    WeirPolicy(Box<PolicyConfig>),
    /// weir on a router where classes move flows: into the kernel's stack, or to a second port ([`crate::Path::spill`]).
    WeirRouter(Box<RouterConfig>),
    /// A queue of its own room that loses what does not fit: `pfifo`.
    Fifo {
        /// Packets that fit.
        packets: u32,
    },
    /// One of the queues that own their packets for a code point, served before another one like it for all else.
    Priority {
        /// The code point.
        dscp: u8,
        /// Both queues.
        queue: Box<Contender>,
    },
    /// RFC 8289 at the head of one queue.
    Codel,
    /// RFC 8290.
    FqCodel,
    /// RFC 8033.
    Pie,
    /// RFC 9332.
    DualPi2,
    /// A shaper at this rate with CAKE's flow and host isolation and COBALT.
    Cake {
        /// Of frames.
        rate: Rate,
    },
    /// Any of the queues above that own their packets, behind a shaper at this rate (as under HTB).
    Shaped {
        /// Of frames.
        rate: Rate,
        /// The queue.
        queue: Box<Contender>,
    },
    /// A token bucket that drops, in front of the ring.
    Policer {
        /// Of frames.
        rate: Rate,
        /// Burst tolerance in bytes.
        burst: u64,
    },
    /// Burst-controlled phantom queues (Tahir et al., SIGCOMM 2024), in front of the ring.
    BcPqp {
        /// Of frames.
        rate: Rate,
    },
    /// Core-stateless fair queueing (Stoica et al., SIGCOMM 1998) on a phantom queue, in front of the ring.
    Csfq {
        /// Of frames.
        rate: Rate,
    },
}

impl Contender {
    /// weir as it runs without any setting.
    pub fn weir() -> Self {
        Self::Weir(Box::new(port_config()))
    }

    /// The router's queues on `path`: the slow link's, and that of the link which flows spill to.
    pub(crate) fn queues(&self, path: &Path, random: Random) -> (Box<dyn Queue>, Option<Box<dyn Queue>>) {
        let cpus = path.cpus.max(1);
        let Self::WeirRouter(config) = self else {
            return (self.queue(path.ring, if path.ring.per_cpu { cpus } else { 1 }, random), None);
        };
        let rings = path.spill.as_ref().map(|link| link.ring);
        let router = Router::new(config, path.ring, rings, cpus, random);
        let spill = router.spill_port().map(|port| -> Box<dyn Queue> { Box::new(port) });
        (Box::new(router), spill)
    }

    /// An empty queue of this kind in front of `rings`, of which there are `count`. There is no second link: nothing spills.
    pub fn queue(&self, rings: Rings, count: u32, random: Random) -> Box<dyn Queue> {
        let slots = rings.slots;
        match self {
            Self::Redirect => ring_for_each(rings, count, DropTail),
            Self::Weir(config) => {
                Box::new(RingQueue::with_rings(rings, Weir::of_port(config, rings, count, random)))
            }
            Self::WeirBackOff(port) => {
                let (config, back_off) = **port;
                let queues = Weir::of_port(&config, rings, count, random);
                let queues: Vec<_> = queues.into_iter().map(|weir| weir.with_back_off(back_off)).collect();
                Box::new(RingQueue::with_rings(rings, queues))
            }
            Self::WeirPolicy(config) => {
                Box::new(RingQueue::with_rings(rings, WeirPolicy::of_port(config, rings, count, random)))
            }
            Self::WeirRouter(config) => Box::new(Router::new(config, rings, None, count, random)),
            Self::Fifo { packets } => Box::new(RingQueue::new(*packets, DropTail)),
            Self::Priority { dscp, queue } => {
                let mut random = random;
                let first = queue.queue(rings, count, random.split());
                Box::new(Priority::new(*dscp, first, queue.queue(rings, count, random)))
            }
            Self::Codel => {
                let params = CodelParams::internet(Bytes::new(u64::from(FULL_FRAME)));
                Box::new(CodelQueue::new(slots, params))
            }
            Self::FqCodel => Box::new(FqCodel::new(FqCodelParams::with_limit(slots), random)),
            Self::Pie => Box::new(Pie::new(slots, PieParams::rfc_8033(), random)),
            Self::DualPi2 => Box::new(DualPi2::new(slots, DualPi2Params::linux(), random)),
            Self::Cake { rate } => Box::new(Cake::new(slots, *rate, random)),
            Self::Shaped { rate, queue } => Box::new(Shaped::new(*rate, queue.queue(rings, count, random))),
            Self::Policer { rate, burst } => ring_for_each(rings, count, Policer::new(*rate, *burst)),
            Self::Csfq { rate } => ring_for_each(rings, count, Csfq::new(*rate, random)),
            Self::BcPqp { rate } => {
                ring_for_each(rings, count, BcPqp::new(BcPqpParams::at_rate(*rate), random))
            }
        }
    }
}

/// `count` rings, each with a clone of what decides; clones of a meter share it.
fn ring_for_each(rings: Rings, count: u32, controller: impl Controller + Clone + 'static) -> Box<dyn Queue> {
    Box::new(RingQueue::with_rings(rings, std::iter::repeat_n(controller, count as usize)))
}

/// A port with the defaults of docs/config.md: CoDel, 5 ms, 100 ms, a limit of 15 ms, no rate, 64 slots of reserve.
pub fn port_config() -> PortConfig {
    let (target, interval, limit) = (Nanos::from_millis(5), Nanos::from_millis(100), Nanos::from_millis(15));
    let pi2 = Pi2Params::for_rtt_max(target, interval, Bytes::new(u64::from(FULL_FRAME)));
    let mut config = PortConfig::new_zeroed();
    config.target_ns = target.as_nanos();
    config.interval_ns = interval.as_nanos();
    config.limit_ns = limit.as_nanos();
    config.signal_low_ns = limit.as_nanos() / 4 * 3;
    config.signal_hold_ns = limit.as_nanos();
    config.t_update_ns = pi2.t_update.as_nanos();
    config.mode = MODE_BOTTLENECK;
    config.aqm = AQM_CODEL;
    config.flags = FLAG_ECN;
    config.rings = 1;
    config.reserve_slots = 64;
    config.max_packet_bytes = FULL_FRAME;
    config.alpha = pi2.alpha;
    config.beta = pi2.beta;
    config
}
