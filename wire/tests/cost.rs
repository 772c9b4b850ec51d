//! How many accesses a packet costs, and how far they reach: what the forward path and the verifier rely on.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails, and clippy exempts only the test functions themselves"
)]

mod common;

use common::frames;
use proptest::prelude::*;
use std::cell::Cell;
use weir_wire::{Hop, Packet, l4, parse};

/// A packet that counts accesses and remembers the greatest offset.
struct Spy<'a> {
    bytes: &'a mut [u8],
    accesses: Cell<usize>,
    farthest: Cell<usize>,
}

impl<'a> Spy<'a> {
    fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, accesses: Cell::new(0), farthest: Cell::new(0) }
    }

    fn note(&self, offset: usize) {
        self.accesses.set(self.accesses.get() + 1);
        self.farthest.set(self.farthest.get().max(offset));
    }
}

impl Packet for Spy<'_> {
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.note(offset);
        self.bytes.read(offset)
    }

    fn write<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()> {
        self.note(offset);
        self.bytes.write(offset, bytes)
    }

    fn len(&self) -> usize {
        Packet::len(&*self.bytes)
    }
}

proptest! {
    #[test]
    fn a_parse_takes_one_read_for_the_ethertype_one_per_tag_and_one_for_ip(mut bytes in frames()) {
        let spy = Spy::new(&mut bytes);
        let parsed = parse(&spy).unwrap();
        prop_assert_eq!(spy.accesses.get(), 2 + usize::from(parsed.link.vlans));
    }

    #[test]
    fn a_hop_takes_one_write(mut bytes in frames()) {
        let mut l3 = parse(bytes.as_slice()).unwrap().l3;
        let mut spy = Spy::new(&mut bytes);
        let writes = usize::from(l3.decrement_hops(&mut spy).unwrap() == Hop::Forward);
        prop_assert_eq!(spy.accesses.get(), writes);
    }

    #[test]
    fn no_access_starts_behind_the_greatest_offset(mut bytes in frames()) {
        let spy = Spy::new(&mut bytes);
        if let Some(upper) = parse(&spy).unwrap().l3.upper(&spy).unwrap() {
            let _ = (upper.flow(&spy), upper.tcp(&spy), upper.udp(&spy));
        }
        prop_assert!(spy.farthest.get() <= l4::MAX_OFFSET);
    }
}
