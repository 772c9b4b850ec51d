//! Subscribers as the programs read them: whose address it is, and what a subscriber has used.
//!
//! A hundred thousand of them do not fit into the caches next to the processor, and what costs is the number of their lines and
//! pages that a packet touches (docs/policy.md). So everything here is as dense as it can be.
//!
//! **Tables.** The subscriber of a prefix is found in a hash table of our own in an array, where a hash of the kernel's takes five
//! to ten times the memory and three misses: a bucket is a cache line, and all the buckets that a key may be in lie in one page.
//!
//! **State** is in a map for each direction, since a port needs the one or the other, and what only a standing queue needs is in
//! a third.
//!
//! The arrays can be mapped (`BPF_F_MMAPABLE`, kernel 5.5): their values begin at a page, and user space changes an entry a word at
//! a time.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most different prefix lengths of the subscribers' addresses, for each IP version: one lookup each.
pub const MAX_PREFIX_LENGTHS: usize = 8;

/// One subscriber in one direction: its plan, and the meter of its ceiling. A quarter of a cache line. Entry 0 is nobody's.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SubscriberMeter {
    /// Theoretical arrival time at the ceiling.
    pub ceil_tat_ns: u64,
    /// Non-zero while a CPU decides (compare and swap, bounded attempts): several ports may share a subscriber. It guards the
    /// [`SubscriberCodel`] too.
    pub busy: u32,
    /// Index of the subscriber's plan. User space writes it.
    pub plan: u16,
    /// Non-zero: the [`SubscriberCodel`] has something to remember.
    pub above: u8,
    /// Written by ingress and read by nobody. A store that misses the caches holds nothing up, and the line is there when
    /// egress decides.
    pub ahead: u8,
}

/// CoDel on the delay of a subscriber's virtual queue, read and written only while that is above target, or has just been.
///
/// RFC 8289's remaining variables are not needed on a virtual queue: it is empty exactly when the TAT has passed.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SubscriberCodel {
    /// When the sojourn will have been above target for an interval; 0 while below.
    pub first_above_ns: u64,
    /// When the next signal is due.
    pub drop_next_ns: u64,
    /// Signals since the dropping state was entered.
    pub count: u16,
    /// `count` when the dropping state was last entered.
    pub last_count: u16,
    /// Non-zero in the dropping state.
    pub dropping: u32,
}

/// Both directions' CoDel of one subscriber.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SubscriberControl {
    /// Towards the subscriber.
    pub down: SubscriberCodel,
    /// From the subscriber.
    pub up: SubscriberCodel,
}

// The budget of a subscriber's kernel memory is 256 bytes, the entries of two prefixes included (docs/policy.md); and a meter must
// not lie across cache lines.
const _: () = assert!(size_of::<SubscriberMeter>() == 16 && size_of::<SubscriberControl>() == 48);

/// Words of one bucket: a cache line. An entry is one word, and for IPv6 the address behind it.
pub const BUCKET_WORDS: usize = 8;
/// Buckets in one page of memory. A key's chain begins at one of them, goes on with the next, and stays in the page.
pub const PAGE_BUCKETS: u32 = 64;
/// Words of an IPv4 entry: the network's address in the order of the wire in the upper half; below, the subscriber
/// ([`ENTRY_SUBSCRIBER`]) and the prefix length in the lowest eight bits.
pub const ENTRY4_WORDS: usize = 1;
/// Words of an IPv6 entry: subscriber and prefix length as above, then the network's address in the order of the wire.
pub const ENTRY6_WORDS: usize = 3;
/// The bits of an entry's first word that say the subscriber; the others, and the other words, are the key.
pub const ENTRY_SUBSCRIBER: u64 = 0x1f_ffff << ENTRY_SHIFT;
/// Where the subscriber begins.
pub const ENTRY_SHIFT: u32 = 11;
/// First word of an entry that never was.
pub const ENTRY_EMPTY: u64 = 0;
/// First word of an entry that has been removed from a full bucket, where chains go on behind it. Its length is no prefix's.
pub const ENTRY_GONE: u64 = 1 << 8;

const _: () = assert!((crate::MAX_SUBSCRIBERS as u64) << ENTRY_SHIFT <= ENTRY_SUBSCRIBER);

/// One bucket of the tables of subscribers, IPv4 or IPv6.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SubscriberBucket {
    /// Entries of [`ENTRY4_WORDS`] or [`ENTRY6_WORDS`].
    pub words: [u64; BUCKET_WORDS],
}

/// One prefix length in use among the subscribers' IPv4 addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PrefixMask4 {
    /// The netmask in the order of the wire.
    pub mask: u32,
    /// Bits of the prefix; 0 ends the list.
    pub length: u32,
}

/// One prefix length in use among the subscribers' IPv6 addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PrefixMask6 {
    /// The netmask in the order of the wire.
    pub mask: [u64; 2],
    /// Bits of the prefix; 0 ends the list.
    pub length: u64,
}

/// How the tables of subscribers are to be read.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PrefixMasks {
    /// Seed of the tables' hash, drawn at start.
    pub seed: u64,
    /// Pages of the IPv4 table.
    pub pages4: u32,
    /// Pages of the IPv6 table.
    pub pages6: u32,
    /// IPv4 prefix lengths in use, those of most prefixes first.
    pub v4: [PrefixMask4; MAX_PREFIX_LENGTHS],
    /// The same of IPv6.
    pub v6: [PrefixMask6; MAX_PREFIX_LENGTHS],
}
