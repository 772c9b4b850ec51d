//! Which bucket a flow falls into.

use crate::{FlowId, Random};

/// A keyed hash of the flow: the key is the random number of RFC 8290 section 4.1, so that seeds differ in which
/// flows collide.
#[derive(Clone, Debug)]
pub struct FlowHash {
    key: u64,
}

impl FlowHash {
    /// A hash whose key is the next number of `random`.
    pub const fn new(random: &mut Random) -> Self {
        Self { key: random.bits() }
    }

    /// 32 bits, uniform over flows.
    pub const fn of(&self, flow: FlowId) -> u32 {
        // The mixing function of `Random` is a bijection of 64 bits in which every input bit reaches every output bit.
        (Random::new(self.key ^ (flow.0 as u64).wrapping_mul(0xd6e8_feb8_6659_fd93)).bits() >> 32) as u32
    }

    /// A bucket below `buckets`; zero for no buckets.
    pub const fn bucket(&self, flow: FlowId, buckets: u32) -> u32 {
        ((self.of(flow) as u64 * buckets as u64) >> 32) as u32
    }
}
