//! Whose packet is it: the subscriber's address, masked to each prefix length in use.

use weir_shared_maps::{ENTRY4_WORDS, ENTRY6_WORDS, MAX_PREFIX_LENGTHS, PrefixMasks, SIDE_DESTINATION};
use weir_wire::L3;

use crate::table::{Place, place};

/// The tables of prefixes.
pub trait SubscriberTables {
    /// The subscriber of an IPv4 key whose chain begins at a place, 0 for nobody.
    fn v4(&self, place: Place, key: [u64; ENTRY4_WORDS]) -> u32;
    /// The same of an IPv6 key.
    fn v6(&self, place: Place, key: [u64; ENTRY6_WORDS]) -> u32;
}

/// The subscriber of a packet, by its source or destination address as `side` says; 0 for nobody. Prefixes of different subscribers do not
/// overlap, so the order of the lengths does not matter.
#[inline(always)]
pub fn subscriber_of<T: SubscriberTables>(tables: &T, masks: &PrefixMasks, side: u8, l3: &L3) -> u32 {
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
                let key = key4(address & entry.mask, entry.length);
                let found = tables.v4(place(&key, masks.seed, masks.pages4), key);
                if found != 0 {
                    return found;
                }
            }
        }
        L3::V6(v6) => {
            let [high, low] = halves(if by_destination { v6.dst() } else { v6.src() });
            for i in 0..MAX_PREFIX_LENGTHS {
                let Some(entry) = masks.v6.get(i) else { break };
                if entry.length == 0 {
                    break;
                }
                let [m, n] = entry.mask;
                let key = key6([high & m, low & n], entry.length);
                let found = tables.v6(place(&key, masks.seed, masks.pages6), key);
                if found != 0 {
                    return found;
                }
            }
        }
        L3::Other => {}
    }
    0
}

/// The key of an IPv4 network; `address` in the order of the wire, zero beyond the prefix.
#[inline(always)]
pub const fn key4(address: u32, length: u32) -> [u64; ENTRY4_WORDS] {
    [(address as u64) << 32 | length as u64]
}

/// The key of an IPv6 network.
#[inline(always)]
pub const fn key6(address: [u64; 2], length: u64) -> [u64; ENTRY6_WORDS] {
    let [high, low] = address;
    [length, high, low]
}

/// An IPv6 address as two words in the order of memory.
#[inline(always)]
pub const fn halves(address: [u8; 16]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address;
    [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p])]
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::table::{Buckets, find, first_word};
    use std::vec::Vec;
    use weir_shared_maps::{BUCKET_WORDS, PAGE_BUCKETS, PrefixMask4, PrefixMask6, SIDE_SOURCE};

    /// A table whose entries were put into the buckets where their chains begin.
    struct Table(Vec<[u64; BUCKET_WORDS]>);

    impl Table {
        fn new() -> Self {
            Self(std::vec![[0; BUCKET_WORDS]; PAGE_BUCKETS as usize])
        }

        fn insert<const N: usize>(&mut self, key: [u64; N], subscriber: u32) {
            let bucket = &mut self.0[place(&key, SEED, 1).bucket(0) as usize];
            let at = (0..BUCKET_WORDS).step_by(N).find(|at| bucket[*at] == 0).unwrap();
            bucket[at..at + N].copy_from_slice(&key);
            bucket[at] = first_word(key[0], subscriber);
        }
    }

    impl Buckets for Table {
        type Bucket = usize;
        fn bucket(&self, index: u32) -> Option<usize> {
            ((index as usize) < self.0.len()).then_some(index as usize)
        }
        fn word(&self, bucket: usize, at: usize) -> u64 {
            self.0[bucket][at]
        }
    }

    struct Tables {
        v4: Table,
        v6: Table,
    }

    impl SubscriberTables for Tables {
        fn v4(&self, place: Place, key: [u64; ENTRY4_WORDS]) -> u32 {
            find(&self.v4, place, &key)
        }
        fn v6(&self, place: Place, key: [u64; ENTRY6_WORDS]) -> u32 {
            find(&self.v6, place, &key)
        }
    }

    const SEED: u64 = 9;

    fn masks() -> PrefixMasks {
        let (mut v4, mut v6) =
            ([PrefixMask4 { mask: 0, length: 0 }; 8], [PrefixMask6 { mask: [0; 2], length: 0 }; 8]);
        v4[0] = PrefixMask4 { mask: u32::MAX, length: 32 };
        v4[1] = PrefixMask4 { mask: u32::from_ne_bytes([255, 255, 255, 248]), length: 29 };
        let mask = halves([255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        v6[0] = PrefixMask6 { mask, length: 56 };
        PrefixMasks { seed: SEED, pages4: 1, pages6: 1, v4, v6 }
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
        let mut table = Table::new();
        table.insert(key4(u32::from_ne_bytes([192, 0, 2, 7]), 32), 1);
        table.insert(key4(u32::from_ne_bytes([192, 0, 2, 8]), 29), 2);
        let tables = &Tables { v4: table, v6: Table::new() };
        let find = |side, src, dst| subscriber_of(tables, &masks(), side, &v4(src, dst));
        assert_eq!(find(SIDE_DESTINATION, [198, 51, 100, 1], [192, 0, 2, 7]), 1);
        assert_eq!(find(SIDE_SOURCE, [198, 51, 100, 1], [192, 0, 2, 7]), 0);
        assert_eq!(find(SIDE_SOURCE, [192, 0, 2, 15], [198, 51, 100, 1]), 2);
        assert_eq!(find(SIDE_SOURCE, [192, 0, 2, 16], [198, 51, 100, 1]), 0);
        // The address of the /29, as a host.
        assert_eq!(find(SIDE_DESTINATION, [198, 51, 100, 1], [192, 0, 2, 8]), 2);
    }

    #[test]
    fn an_ipv6_prefix_covers_its_network_and_no_other() {
        let mut table = Table::new();
        let network = [0x20, 1, 0xd, 0xb8, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        table.insert(key6(halves(network), 56), 3);
        let mut address = network;
        (address[7], address[15]) = (0xff, 9);
        let tables = &Tables { v4: Table::new(), v6: table };
        let find = |dst| subscriber_of(tables, &masks(), SIDE_DESTINATION, &v6(dst));
        assert_eq!(find(address), 3);
        address[6] ^= 1;
        assert_eq!(find(address), 0);
    }
}
