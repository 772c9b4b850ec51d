//! Hashes of flows and hosts, for fairness: Bob Jenkins' lookup3 (`hashword`), which is what `jhash` is in Linux
//! (include/linux/jhash.h at v6.18).
//!
//! The seed differs in each instance, so that nobody outside can choose addresses or ports that collide.

use weir_wire::L3;

use crate::key::Transport;

/// lookup3's arbitrary beginning.
const INITIAL: u32 = 0xdead_beef;

/// Hash of addresses, protocol and ports. All fragments of a datagram hash alike: without ports, since only the first
/// part has them.
#[inline(always)]
pub fn flow_hash(l3: &L3, transport: &Transport, seed: u32) -> u32 {
    let ports = if transport.fragment {
        0
    } else {
        (transport.source_port as u32) << 16 | transport.destination_port as u32
    };
    // The protocol goes into the seed rather than into a word of its own, which would cost another round.
    let seed = seed.wrapping_add((transport.protocol as u32) << 24);
    match l3 {
        L3::V4(v4) => hash_words([word(v4.src()), word(v4.dst()), ports], seed),
        L3::V6(v6) => {
            let ([a, b, c, d], [e, f, g, h]) = (words(v6.src()), words(v6.dst()));
            hash_words([a, b, c, d, e, f, g, h, ports], seed)
        }
        L3::Other => 0,
    }
}

/// Hash of the source address.
#[inline(always)]
pub fn source_hash(l3: &L3, seed: u32) -> u32 {
    match l3 {
        L3::V4(v4) => hash_words([word(v4.src())], seed),
        L3::V6(v6) => hash_words(words(v6.src()), seed),
        L3::Other => 0,
    }
}

/// Hash of the destination address; that of the same address as a source.
#[inline(always)]
pub fn destination_hash(l3: &L3, seed: u32) -> u32 {
    match l3 {
        L3::V4(v4) => hash_words([word(v4.dst())], seed),
        L3::V6(v6) => hash_words(words(v6.dst()), seed),
        L3::Other => 0,
    }
}

/// lookup3's `hashword` of `N` words.
#[inline(always)]
pub fn hash_words<const N: usize>(words: [u32; N], seed: u32) -> u32 {
    let start = INITIAL.wrapping_add((N as u32) << 2).wrapping_add(seed);
    let (mut a, mut b, mut c) = (start, start, start);
    let word = |i: usize| words.get(i).copied().unwrap_or(0);
    let mut at = 0;
    // N is a constant, at most 9: two rounds.
    while N - at > 3 {
        a = a.wrapping_add(word(at));
        b = b.wrapping_add(word(at + 1));
        c = c.wrapping_add(word(at + 2));
        (a, b, c) = mix(a, b, c);
        at += 3;
    }
    if N == at {
        return c;
    }
    // Words beyond the end are zero, which is what leaving them out comes to.
    a = a.wrapping_add(word(at));
    b = b.wrapping_add(word(at + 1));
    c = c.wrapping_add(word(at + 2));
    finish(a, b, c)
}

#[inline(always)]
const fn mix(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    a = a.wrapping_sub(c) ^ c.rotate_left(4);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(6);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(8);
    b = b.wrapping_add(a);
    a = a.wrapping_sub(c) ^ c.rotate_left(16);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(19);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(4);
    b = b.wrapping_add(a);
    (a, b, c)
}

#[inline(always)]
const fn finish(mut a: u32, mut b: u32, mut c: u32) -> u32 {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}

#[inline(always)]
const fn word(address: [u8; 4]) -> u32 {
    u32::from_ne_bytes(address)
}

#[inline(always)]
const fn words(address: [u8; 16]) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address;
    [word([a, b, c, d]), word([e, f, g, h]), word([i, j, k, l]), word([m, n, o, p])]
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::{vec, vec::Vec};

    #[test]
    fn the_hash_is_lookup3s_hashword() {
        // The self-test of lookup3.c: hashlittle of these 30 bytes with seed 0 and 1. On a little-endian machine that is
        // hashword of the bytes padded to eight words, but for the length in the beginning: 30 instead of 32.
        let text = *b"Four score and seven years ago\0\0";
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(text.chunks_exact(4)) {
            *word = u32::from_le_bytes(bytes.try_into().unwrap());
        }
        assert_eq!(hash_words(words, 0_u32.wrapping_sub(2)), 0x1777_0551);
        assert_eq!(hash_words(words, 1_u32.wrapping_sub(2)), 0xcd62_8161);
    }

    #[test]
    fn each_bit_of_the_key_changes_half_of_the_hash() {
        let key = [0x0a00_0001, 0xc000_0201, 0x1f90_0050];
        let base = hash_words(key, 7);
        for word in 0..3 {
            for bit in 0..32 {
                let mut other = key;
                other[word] ^= 1 << bit;
                let changed = (hash_words(other, 7) ^ base).count_ones();
                assert!((6..=26).contains(&changed), "word {word} bit {bit}: {changed}");
            }
        }
    }

    #[test]
    fn flows_of_neighbouring_addresses_and_ports_spread_evenly() {
        const BUCKETS: usize = 1_024;
        const FLOWS: u32 = 65_536;
        let mut counts = vec![0_u32; BUCKETS];
        for i in 0..FLOWS {
            let hash =
                hash_words([0x0a00_0000 | i >> 8, 0xc000_0201, 40_000 << 16 | (i & 0xff)], 0x1234_5678);
            counts[hash as usize % BUCKETS] += 1;
        }
        // Chi-squared with 1,023 degrees of freedom: mean 1,023, deviation 45; five deviations.
        let expected = f64::from(FLOWS) / BUCKETS as f64;
        let chi: f64 = counts.iter().map(|&n| (f64::from(n) - expected).powi(2) / expected).sum();
        assert!((1_023.0 - 225.0..1_023.0 + 225.0).contains(&chi), "{chi}");
    }

    #[test]
    fn another_seed_separates_flows_that_collided() {
        let hash = |flow: u32, seed| hash_words([flow, 1, 2], seed) % 1_024;
        let collided: Vec<u32> = (0..100_000).filter(|&flow| hash(flow, 1) == hash(0, 1)).collect();
        assert!(collided.len() > 50);
        let together = collided.iter().filter(|&&flow| hash(flow, 2) == hash(0, 2)).count();
        assert!(together < collided.len() / 10, "{together} of {}", collided.len());
    }
}
