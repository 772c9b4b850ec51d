//! weir in front of one ring, of a port with classes or without: what ingress and the kernel's stack need of both.

use weir_aqm::{Bytes, Nanos};
use weir_egress::{Decision, policy::Rings as Sum};
use weir_shared_maps::{HASH_FLOW, PacketMeta, PortConfig};

use super::{
    Controller, PolicyConfig, RingQueue, Rules, Subscribers, View, Weir, WeirPolicy, subscribers::Members,
};
use crate::{Packet, Random, Rings};

/// A port, as it lies in the maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortSetup {
    /// Without classes.
    Plain(Box<PortConfig>),
    /// With classes.
    Classes(Box<PolicyConfig>),
}

/// What decides in front of one of a port's rings. Ingress is not here: [`super::Router`] has it.
pub(super) enum PortRing {
    Plain(Box<Plain>),
    Classes(Box<WeirPolicy>),
}

/// A port without classes.
pub(super) struct Plain {
    weir: Weir,
    /// Ingress hashes flows where they move; nothing else is to be found out about a packet.
    rules: Rules,
    nobody: Members,
    hash_seed: u32,
}

impl PortSetup {
    /// The port with `count` rings.
    pub(super) fn build(&self, rings: Rings, count: u32, mut random: Random) -> RingQueue<PortRing> {
        match self {
            Self::Plain(config) => {
                let hash_seed = random.bits() as u32;
                let plain = |weir| Plain {
                    weir,
                    rules: Rules::default(),
                    nobody: Members::new(&Subscribers::default(), 0),
                    hash_seed,
                };
                let port = Weir::of_port(config, rings, count, random).into_iter();
                RingQueue::with_rings(rings, port.map(|weir| PortRing::Plain(Box::new(plain(weir)))))
            }
            Self::Classes(config) => {
                // Moving flows asks for it, whatever the classes ask for.
                let hashes = config.hashes | HASH_FLOW;
                let config = PolicyConfig { hashes, ..(**config).clone() };
                let port = WeirPolicy::of_port(&config, rings, count, random).into_iter();
                RingQueue::with_rings(rings, port.map(|weir| PortRing::Classes(Box::new(weir))))
            }
        }
    }
}

impl PortRing {
    pub(super) const fn weir(&self) -> &Weir {
        match self {
            Self::Plain(plain) => &plain.weir,
            Self::Classes(policy) => policy.weir(),
        }
    }

    /// What ingress finds out about a packet.
    pub(super) fn meta(&self, packet: &Packet) -> PacketMeta {
        match self {
            Self::Plain(plain) => plain.rules.meta(packet, &plain.nobody, 0, HASH_FLOW, plain.hash_seed),
            Self::Classes(policy) => policy.meta(packet),
        }
    }
}

impl Controller for PortRing {
    const SHARES_RINGS: bool = true;

    fn begin_batch(&mut self, now: Nanos, ring: View) {
        match self {
            Self::Plain(plain) => plain.weir.begin_batch(now, ring),
            Self::Classes(policy) => policy.begin_batch(now, ring),
        }
    }

    fn holds(&self, now: Nanos, ring: View) -> (u64, Bytes) {
        self.weir().holds(now, ring)
    }

    fn add_rings(&mut self, rings: &Sum) {
        match self {
            Self::Plain(_) => {}
            Self::Classes(policy) => policy.add_rings(rings),
        }
    }

    fn judge(&mut self, packet: &Packet) -> Decision {
        match self {
            Self::Plain(plain) => plain.weir.judge(packet),
            Self::Classes(policy) => policy.judge(packet),
        }
    }

    fn accepted(&mut self, packet: &Packet) {
        match self {
            Self::Plain(plain) => plain.weir.accepted(packet),
            Self::Classes(policy) => policy.accepted(packet),
        }
    }

    fn end_batch(&mut self, now: Nanos, ring: View, taken: u32) {
        match self {
            Self::Plain(plain) => plain.weir.end_batch(now, ring, taken),
            Self::Classes(policy) => policy.end_batch(now, ring, taken),
        }
    }

    fn stack_sent(&mut self, now: Nanos, ring: View, packet: &Packet) {
        match self {
            Self::Plain(plain) => plain.weir.stack_sent(now, ring, packet),
            Self::Classes(policy) => policy.stack_sent(now, ring, packet),
        }
    }
}
