//! First match of at most 64 rules, by bit vectors (T. V. Lakshman and D. Stiliadis, "High-speed policy-based packet
//! forwarding using efficient multi-dimensional range matching", SIGCOMM 1998).
//!
//! For each dimension a table gives a word whose bit i says that rule i's condition on it holds, or that it has none. The
//! AND of all words has a bit for each rule that matches, the lowest of which is the first. The cost is one lookup for
//! each dimension in use, however many rules there are.

use weir_shared_maps::{
    DIM_DESTINATION, DIM_DESTINATION_PORT, DIM_DSCP, DIM_PROTOCOL, DIM_SIZE, DIM_SOURCE, DIM_SOURCE_PORT,
    DIM_VLAN, SIZE_ENTRIES,
};
use weir_wire::{L3, Packet};

use crate::key::{size, transport};

/// The tables of one instance. A table that is missing an entry answers 0: no rule holds.
pub trait RuleTables {
    /// Rules that hold for a code point, 0 to 63.
    fn dscp(&self, dscp: u8) -> u64;
    /// Rules that hold for a VLAN, 0 for none, to 4095.
    fn vlan(&self, vlan: u16) -> u64;
    /// Rules that hold for a protocol.
    fn protocol(&self, protocol: u8) -> u64;
    /// Rules that hold for a source port, 0 for none.
    fn source_port(&self, port: u16) -> u64;
    /// Rules that hold for a destination port, 0 for none.
    fn destination_port(&self, port: u16) -> u64;
    /// Rules that hold for a size below [`SIZE_ENTRIES`].
    fn size(&self, size: u32) -> u64;
    /// Rules that hold for an IPv4 source.
    fn source_v4(&self, address: [u8; 4]) -> u64;
    /// Rules that hold for an IPv4 destination.
    fn destination_v4(&self, address: [u8; 4]) -> u64;
    /// Rules that hold for an IPv6 source.
    fn source_v6(&self, address: &[u8; 16]) -> u64;
    /// Rules that hold for an IPv6 destination.
    fn destination_v6(&self, address: &[u8; 16]) -> u64;
}

/// The first rule that matches, 0 to 63. `vlan` is that of the tag the packet arrived with, 0 without one. `start` has the bits of the rules that may match here at all, `dimensions`
/// says which tables are to be asked. Costs nothing where `start` is a constant 0.
#[inline(always)]
pub fn first_match<P: Packet + ?Sized, T: RuleTables>(
    tables: &T,
    start: u64,
    dimensions: u32,
    vlan: u16,
    l3: &L3,
    packet: &P,
) -> Option<u32> {
    let mut rules = start;
    if dimensions & DIM_DSCP != 0 {
        rules &= tables.dscp(l3.dscp().get());
    }
    if dimensions & DIM_VLAN != 0 {
        rules &= tables.vlan(vlan);
    }
    if dimensions & DIM_SIZE != 0 {
        rules &= tables.size(size(l3).min(SIZE_ENTRIES - 1));
    }
    if dimensions & (DIM_SOURCE | DIM_DESTINATION) != 0 {
        rules &= addresses(tables, dimensions, l3);
    }
    if dimensions & (DIM_PROTOCOL | DIM_SOURCE_PORT | DIM_DESTINATION_PORT) != 0 {
        let transport = transport(l3, packet);
        if dimensions & DIM_PROTOCOL != 0 {
            rules &= tables.protocol(transport.protocol);
        }
        if dimensions & DIM_SOURCE_PORT != 0 {
            rules &= tables.source_port(transport.source_port);
        }
        if dimensions & DIM_DESTINATION_PORT != 0 {
            rules &= tables.destination_port(transport.destination_port);
        }
    }
    if rules == 0 { None } else { Some(rules.trailing_zeros()) }
}

#[inline(always)]
fn addresses<T: RuleTables>(tables: &T, dimensions: u32, l3: &L3) -> u64 {
    let mut rules = u64::MAX;
    match l3 {
        L3::V4(v4) => {
            if dimensions & DIM_SOURCE != 0 {
                rules &= tables.source_v4(v4.src());
            }
            if dimensions & DIM_DESTINATION != 0 {
                rules &= tables.destination_v4(v4.dst());
            }
        }
        L3::V6(v6) => {
            if dimensions & DIM_SOURCE != 0 {
                rules &= tables.source_v6(&v6.src());
            }
            if dimensions & DIM_DESTINATION != 0 {
                rules &= tables.destination_v6(&v6.dst());
            }
        }
        L3::Other => {}
    }
    rules
}
