//! Several TX rings as the one queue that classes share.
//!
//! A class is sent by any CPU, and each CPU has a ring of its own. What left any of them has left the port, so the phantom queues
//! drain down to what all rings hold, and the link's rate is what leaves all of them. How full a ring may be stays a matter of
//! that ring.

use weir_aqm::{Bytes, DrainParams, Nanos};
use weir_shared_maps::DrainState;

use crate::convert::{drain_from_map, drain_to_map};

/// The rings of one port, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rings {
    bytes: Bytes,
    left: u64,
}

impl Rings {
    /// Adds a ring that `sent` bytes have entered and that holds `bytes` of them.
    #[inline(always)]
    pub fn add(&mut self, sent: u64, bytes: Bytes) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.left = self.left.wrapping_add(sent.saturating_sub(bytes.get()));
    }

    /// What they hold together.
    #[inline(always)]
    pub const fn bytes(&self) -> Bytes {
        self.bytes
    }

    /// Renews the estimate of the rate that they drain at together.
    #[inline(always)]
    pub fn observe(&self, drain: &mut DrainState, now: Nanos) {
        let mut vars = drain_from_map(drain);
        vars.on_observation(&DrainParams::default(), now, self.left, self.bytes);
        *drain = drain_to_map(&vars);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::pace_of_word;
    use weir_aqm::Pace;
    use zerocopy::FromZeros;

    /// 20 Mbit/s that serve two rings in turns, of which one is full and the other holds a frame now and then.
    #[test]
    fn the_rate_of_all_rings_is_the_links_though_one_of_them_never_stands() {
        let mut drain = DrainState::new_zeroed();
        let mut left = [0_u64; 2];
        for frame in 0..4_000_u64 {
            let ring = usize::from(frame % 3 == 0);
            left[ring] += 1_000;
            let mut rings = Rings::default();
            rings.add(left[0] + 30_000, Bytes::new(30_000));
            let little = frame % 7 * 1_000 / 6;
            rings.add(left[1] + little, Bytes::new(little));
            assert_eq!(rings.bytes(), Bytes::new(30_000 + little));
            rings.observe(&mut drain, Nanos::from_micros(1_000 + 400 * frame));
        }
        let bits = pace_of_word(drain.pace).map(Pace::bits_per_second).unwrap();
        assert!(bits.abs_diff(20_000_000) <= 400_000, "{bits}");
    }
}
