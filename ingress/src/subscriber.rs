//! Whose packet is it: the subscriber's address, masked to each prefix length in use.

use weir_shared_maps::{
    MAX_PREFIX_LENGTHS, PrefixMasks, SIDE_DESTINATION, SubscriberEntry, SubscriberKey4, SubscriberKey6,
};
use weir_wire::L3;

/// The subscribers' prefixes. Those of different subscribers do not overlap, so the order of the lengths does not matter.
pub trait SubscriberTable {
    /// The subscriber of an IPv4 prefix.
    fn v4(&self, key: &SubscriberKey4) -> Option<SubscriberEntry>;
    /// The subscriber of an IPv6 prefix.
    fn v6(&self, key: &SubscriberKey6) -> Option<SubscriberEntry>;
}

/// The subscriber of a packet, by its source or destination address as `side` says.
#[inline(always)]
pub fn subscriber_of<T: SubscriberTable>(
    table: &T,
    masks: &PrefixMasks,
    side: u8,
    l3: &L3,
) -> Option<SubscriberEntry> {
    let by_destination = side == SIDE_DESTINATION;
    match l3 {
        L3::V4(v4) => {
            let address = u32::from_ne_bytes(if by_destination { v4.dst() } else { v4.src() });
            // One lookup for each length in use, at most MAX_PREFIX_LENGTHS.
            for i in 0..MAX_PREFIX_LENGTHS {
                let Some(entry) = masks.v4.get(i) else { break };
                if entry.length == 0 {
                    break;
                }
                let key = SubscriberKey4 { address: address & entry.mask, length: entry.length };
                if let Some(found) = table.v4(&key) {
                    return Some(found);
                }
            }
        }
        L3::V6(v6) => {
            let [a, b, c, d] = words(if by_destination { v6.dst() } else { v6.src() });
            for i in 0..MAX_PREFIX_LENGTHS {
                let Some(entry) = masks.v6.get(i) else { break };
                if entry.length == 0 {
                    break;
                }
                let [m, n, o, p] = entry.mask;
                let key = SubscriberKey6 { address: [a & m, b & n, c & o, d & p], length: entry.length };
                if let Some(found) = table.v6(&key) {
                    return Some(found);
                }
            }
        }
        L3::Other => {}
    }
    None
}

/// An IPv6 address as words in the order of memory.
#[inline(always)]
pub const fn words(address: [u8; 16]) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address;
    [
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
        u32::from_ne_bytes([i, j, k, l]),
        u32::from_ne_bytes([m, n, o, p]),
    ]
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::collections::HashMap;
    use weir_shared_maps::{PrefixMask4, PrefixMask6, SIDE_SOURCE};

    #[derive(Default)]
    struct Table {
        v4: HashMap<(u32, u32), u32>,
        v6: HashMap<([u32; 4], u32), u32>,
    }

    impl SubscriberTable for Table {
        fn v4(&self, key: &SubscriberKey4) -> Option<SubscriberEntry> {
            let subscriber = *self.v4.get(&(key.address, key.length))?;
            Some(SubscriberEntry { subscriber, plan: 0 })
        }
        fn v6(&self, key: &SubscriberKey6) -> Option<SubscriberEntry> {
            let subscriber = *self.v6.get(&(key.address, key.length))?;
            Some(SubscriberEntry { subscriber, plan: 0 })
        }
    }

    fn masks() -> PrefixMasks {
        let (mut v4, mut v6) =
            ([PrefixMask4 { mask: 0, length: 0 }; 8], [PrefixMask6 { mask: [0; 4], length: 0 }; 8]);
        v4[0] = PrefixMask4 { mask: u32::MAX, length: 32 };
        v4[1] = PrefixMask4 { mask: u32::from_ne_bytes([255, 255, 255, 248]), length: 29 };
        v6[0] = PrefixMask6 {
            mask: words([255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            length: 56,
        };
        PrefixMasks { v4, v6 }
    }

    fn v4(src: [u8; 4], dst: [u8; 4]) -> L3 {
        let mut frame = std::vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        frame.extend([0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0, 0]);
        frame.extend(src);
        frame.extend(dst);
        weir_wire::parse(frame.as_slice()).unwrap().l3
    }

    fn v6(dst: [u8; 16]) -> L3 {
        let mut frame = std::vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd];
        frame.extend([0x60, 0, 0, 0, 0, 0, 59, 64]);
        frame.extend([0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        frame.extend(dst);
        weir_wire::parse(frame.as_slice()).unwrap().l3
    }

    #[test]
    fn a_host_and_the_network_beside_it_are_told_apart_in_both_directions() {
        let mut table = Table::default();
        table.v4.insert((u32::from_ne_bytes([192, 0, 2, 7]), 32), 1);
        table.v4.insert((u32::from_ne_bytes([192, 0, 2, 8]), 29), 2);
        let find =
            |side, src, dst| subscriber_of(&table, &masks(), side, &v4(src, dst)).map(|e| e.subscriber);
        assert_eq!(find(SIDE_DESTINATION, [198, 51, 100, 1], [192, 0, 2, 7]), Some(1));
        assert_eq!(find(SIDE_SOURCE, [198, 51, 100, 1], [192, 0, 2, 7]), None);
        assert_eq!(find(SIDE_SOURCE, [192, 0, 2, 15], [198, 51, 100, 1]), Some(2));
        assert_eq!(find(SIDE_SOURCE, [192, 0, 2, 16], [198, 51, 100, 1]), None);
        // The address of the /29, as a host.
        assert_eq!(find(SIDE_DESTINATION, [198, 51, 100, 1], [192, 0, 2, 8]), Some(2));
    }

    #[test]
    fn an_ipv6_prefix_covers_its_network_and_no_other() {
        let mut table = Table::default();
        let network = [0x20, 1, 0xd, 0xb8, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        table.v6.insert((words(network), 56), 3);
        let mut address = network;
        (address[7], address[15]) = (0xff, 9);
        let find = |dst| subscriber_of(&table, &masks(), SIDE_DESTINATION, &v6(dst)).map(|e| e.subscriber);
        assert_eq!(find(address), Some(3));
        address[6] ^= 1;
        assert_eq!(find(address), None);
    }
}
