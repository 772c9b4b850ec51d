//! Which queue stands between the links.

use weir_aqm::{Bytes, CodelParams, Nanos, Pi2Params};
use weir_shared_maps::{AQM_CODEL, FLAG_ECN, MODE_BOTTLENECK, PortConfig};
use zerocopy::FromZeros;

use crate::queue::{CodelQueue, DropTail, Queue, RingQueue, Weir};

/// Bytes of a full Ethernet frame without its check sequence.
const FULL_FRAME: u32 = 1514;

/// Who decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contender {
    /// A plain redirect: the ring takes what fits.
    Redirect,
    /// weir in bottleneck mode, with this entry of the port map; see [`port_config`].
    Weir(Box<PortConfig>),
    /// RFC 8289 at the head of a queue of the ring's size: what a qdisc can do.
    Codel,
}

impl Contender {
    /// weir as it runs without any setting.
    pub fn weir() -> Self {
        Self::Weir(Box::new(port_config()))
    }

    /// An empty queue of this kind.
    pub fn queue(&self, slots: u32) -> Box<dyn Queue> {
        match self {
            Self::Redirect => Box::new(RingQueue::new(slots, DropTail)),
            Self::Weir(config) => Box::new(RingQueue::new(slots, Weir::new(**config))),
            Self::Codel => {
                let params = CodelParams::internet(Bytes::new(u64::from(FULL_FRAME)));
                Box::new(CodelQueue::new(slots, params))
            }
        }
    }
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
