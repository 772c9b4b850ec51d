//! What a packet of the kernel's stack becomes on the wire: one frame, or those that it is cut into (GSO).
//!
//! Such a packet passes or is dropped as one, and cannot be cut here. It is judged by its first frame, since it could be
//! larger than any burst, and charged for all of them: the rate holds, and a burst is exceeded by what follows that frame.

use weir_aqm::Bytes;
use weir_shared_maps::PortConfig;

use crate::wire_bytes;

/// Bytes of an 802.1Q tag, which stands beside the packet until the driver gets it (`skb->vlan_tci`).
const TAG: u32 = 4;
/// Frames of one packet at most (`GSO_MAX_SEGS`, `include/linux/netdevice.h` at v6.18).
const MOST: u32 = 65_535;

/// The fields of `struct __sk_buff` that say how long a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// `len`: the packet with one copy of its headers.
    pub len: u32,
    /// `wire_len`: with a copy for each frame (`qdisc_pkt_len_init`, `net/core/dev.c` at v6.18).
    pub wire_len: u32,
    /// `gso_size`: payload of a frame; 0 where the packet is one frame.
    pub gso_size: u32,
    /// `gso_segs`: frames; 0 where the packet's maker (a guest, a packet socket) left the counting to others.
    pub gso_segs: u32,
    /// Whether a tag will be put in.
    pub tagged: bool,
}

/// The frames of one packet: all alike but the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frames {
    /// How many, at least 1.
    pub count: u32,
    /// Bytes of each but the last.
    each: u32,
    /// Bytes of the last.
    last: u32,
}

impl Frames {
    /// Cuts a packet as the kernel will. Where `gso_segs` is 0 the count may be one too high; the bytes are right.
    #[inline(always)]
    pub const fn of(lengths: &Lengths) -> Self {
        let Lengths { len, wire_len, gso_size, gso_segs, tagged } = *lengths;
        let tag = if tagged { TAG } else { 0 };
        let counted = if gso_size == 0 {
            1
        } else if gso_segs != 0 {
            gso_segs
        } else {
            len / gso_size + (len % gso_size != 0) as u32
        };
        let count = if counted > MOST { MOST } else { counted };
        if count <= 1 {
            return Self { count: 1, each: 0, last: len.saturating_add(tag) };
        }
        let headers = wire_len.saturating_sub(len) / (count - 1);
        let each = gso_size.saturating_add(headers);
        let all = if wire_len > len { wire_len } else { len };
        let last = all.saturating_sub(each.saturating_mul(count - 1));
        Self { count, each: each.saturating_add(tag), last: last.saturating_add(tag) }
    }

    /// Bytes of the first frame.
    #[inline(always)]
    pub const fn first(&self) -> u32 {
        if self.count == 1 { self.last } else { self.each }
    }

    /// Bytes of all frames.
    #[inline(always)]
    pub const fn bytes(&self) -> u64 {
        self.each as u64 * (self.count - 1) as u64 + self.last as u64
    }

    /// What the frames after the first take on the wire.
    #[inline(always)]
    pub fn rest(&self, config: &PortConfig, framing: u32) -> Bytes {
        if self.count == 1 {
            return Bytes::ZERO;
        }
        let between = wire_bytes(config, framing, self.each).saturating_mul(u64::from(self.count - 2));
        between.saturating_add(wire_bytes(config, framing, self.last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bottleneck::tests::config;
    use proptest::prelude::*;
    use weir_shared_maps::{FRAMING_ATM, FRAMING_NONE};

    /// A packet as `qdisc_pkt_len_init` sees it: `headers` and `payload` bytes, `mss` of payload in a frame.
    fn packet(headers: u32, payload: u32, mss: u32) -> Lengths {
        let gso_segs = payload.div_ceil(mss);
        let len = headers + payload;
        Lengths { len, wire_len: len + (gso_segs - 1) * headers, gso_size: mss, gso_segs, tagged: false }
    }

    /// The frames one by one.
    fn cut(headers: u32, payload: u32, mss: u32) -> Vec<u32> {
        let starts = (0..payload).step_by(mss as usize);
        starts.map(|start| headers + mss.min(payload - start)).collect()
    }

    extern crate std;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn a_packet_costs_what_its_frames_cost_one_by_one(
            headers in 54_u32..120, payload in 1_u32..200_000, mss in 500_u32..9_000, tagged: bool,
            framing in prop::sample::select(&[FRAMING_NONE, FRAMING_ATM]),
        ) {
            let mut config = config();
            (config.overhead_bytes, config.mpu_bytes) = (24, 84);
            let frames = Frames::of(&Lengths { tagged, ..packet(headers, payload, mss) });
            let single: Vec<u32> = cut(headers, payload, mss).iter().map(|len| len + 4 * u32::from(tagged)).collect();
            let costs: Vec<u64> = single.iter().map(|len| wire_bytes(&config, framing, *len).get()).collect();
            prop_assert_eq!(frames.count as usize, single.len());
            prop_assert_eq!(frames.first(), single[0]);
            prop_assert_eq!(frames.bytes(), single.iter().map(|len| u64::from(*len)).sum::<u64>());
            prop_assert_eq!(frames.rest(&config, framing).get(), costs[1..].iter().sum::<u64>());
        }

        #[test]
        fn a_packet_that_nobody_counted_keeps_its_bytes_and_is_one_frame_off_at_most(
            headers in 54_u32..120, payload in 1_u32..65_000, mss in 500_u32..9_000,
        ) {
            let counted = packet(headers, payload, mss);
            let frames = Frames::of(&Lengths { gso_segs: 0, ..counted });
            prop_assert!((counted.gso_segs..=counted.gso_segs + 1).contains(&frames.count), "{frames:?}");
            prop_assert!(frames.bytes().abs_diff(counted.wire_len.into()) <= u64::from(headers), "{frames:?}");
        }

        #[test]
        fn no_lengths_whatever_make_it_wrap(
            len: u32, wire_len: u32, gso_size: u32, gso_segs: u32, tagged: bool,
        ) {
            let frames = Frames::of(&Lengths { len, wire_len, gso_size, gso_segs, tagged });
            prop_assert!(frames.count >= 1);
            prop_assert!(frames.bytes() >= u64::from(frames.last));
        }
    }

    #[test]
    fn one_frame_is_its_length_and_its_tag() {
        let whole = Lengths { len: 1514, wire_len: 1514, gso_size: 0, gso_segs: 1, tagged: true };
        let frames = Frames::of(&whole);
        assert_eq!((frames.count, frames.first(), frames.bytes()), (1, 1518, 1518));
        assert_eq!(frames.rest(&config(), FRAMING_NONE), Bytes::ZERO);
    }
}
