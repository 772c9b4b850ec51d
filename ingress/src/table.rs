//! The hash table of subscribers' prefixes: where an entry is, and how it is read while user space changes it.
//!
//! Open addressing in buckets of a cache line. A key's chain begins at a bucket that its hash names and goes on with the next of
//! the same page for as long as buckets are full; no entry ever moves. A bucket is full where its last entry is not empty: the
//! last is the last to be used, and is emptied only when no chain passes it.
//!
//! A writer (`src/datapath/table.rs`) sets an entry's first word last, and changes its subscriber at once. A reader that finds its
//! key looks at that word again: an entry that changed hands in between is not taken.

use weir_shared_maps::{BUCKET_WORDS, ENTRY_EMPTY, ENTRY_SHIFT, ENTRY_SUBSCRIBER, PAGE_BUCKETS};

/// The array of buckets.
pub trait Buckets {
    /// One bucket.
    type Bucket: Copy;
    /// The bucket at an index.
    fn bucket(&self, index: u32) -> Option<Self::Bucket>;
    /// A word of a bucket, read now.
    fn word(&self, bucket: Self::Bucket, at: usize) -> u64;
    /// The highest bit, in all bits.
    #[inline(always)]
    fn spread_sign(word: u64) -> u64 {
        (word.cast_signed() >> 63).cast_unsigned()
    }
}

/// Where a key's chain begins: the index of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(pub u32);

impl Place {
    /// Index of the chain's `step`th bucket, in the page of the first.
    #[inline(always)]
    pub const fn bucket(self, step: u32) -> u32 {
        (self.0 & !(PAGE_BUCKETS - 1)) | (self.0.wrapping_add(step) & (PAGE_BUCKETS - 1))
    }
}

/// Where a key's chain begins in a table of `pages` pages.
#[inline(always)]
pub fn place<const N: usize>(key: &[u64; N], seed: u64, pages: u32) -> Place {
    let hash = key.iter().fold(seed, |hash, word| mix(hash ^ word));
    let page = ((hash >> 32).wrapping_mul(pages as u64) >> 32) as u32;
    Place(page.wrapping_mul(PAGE_BUCKETS) | (hash as u32 & (PAGE_BUCKETS - 1)))
}

/// The finalizer of MurmurHash3 (Austin Appleby, public domain): each bit of the result depends on each of the argument.
#[inline(always)]
const fn mix(x: u64) -> u64 {
    let x = (x ^ x >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let x = (x ^ x >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ x >> 33
}

/// The subscriber of a key, 0 where it is not in the table.
#[inline(always)]
pub fn find<B: Buckets, const N: usize>(table: &B, place: Place, key: &[u64; N]) -> u32 {
    // A chain does not leave its page. The counter has 64 bits: the compiler lays a smaller one beside the array's index on the
    // stack, where verifiers lose sight of its value.
    for step in 0..u64::from(PAGE_BUCKETS) {
        let Some(bucket) = table.bucket(place.bucket(step as u32)) else { return 0 };
        // Every entry is looked at, and no branch depends on which of them it is: that could not be predicted, and behind a branch
        // gone wrong the processor begins anew, while here it works on as the bucket comes from memory.
        let mut found = 0;
        for entry in 0..BUCKET_WORDS / N {
            let at = entry * N;
            found |= taken_if_same(table, bucket, at, key);
        }
        if found != 0 {
            return subscriber_in(found);
        }
        if !is_full::<B, N>(table, bucket) {
            return 0;
        }
    }
    0
}

/// Whether chains may go on behind a bucket.
#[inline(always)]
pub fn is_full<B: Buckets, const N: usize>(table: &B, bucket: B::Bucket) -> bool {
    table.word(bucket, (BUCKET_WORDS / N - 1) * N) != ENTRY_EMPTY
}

/// The first word of an entry, if it is the key's; else 0.
#[inline(always)]
fn taken_if_same<B: Buckets, const N: usize>(table: &B, bucket: B::Bucket, at: usize, key: &[u64; N]) -> u64 {
    let first = table.word(bucket, at);
    let mut differs = 0;
    for (word, wanted) in key.iter().enumerate() {
        differs |= match word {
            0 => (first & !ENTRY_SUBSCRIBER) ^ wanted,
            _ => table.word(bucket, at + word) ^ wanted,
        };
    }
    if N > 1 {
        differs |= table.word(bucket, at) ^ first;
    }
    // Only 0 has its highest bit set in this.
    let none = differs.wrapping_sub(1) & !differs;
    first & B::spread_sign(none)
}

/// The first word of a key's entry.
#[inline(always)]
pub const fn first_word(key: u64, subscriber: u32) -> u64 {
    key | (subscriber as u64) << ENTRY_SHIFT & ENTRY_SUBSCRIBER
}

/// The subscriber in an entry's first word.
#[inline(always)]
pub const fn subscriber_in(first: u64) -> u32 {
    ((first & ENTRY_SUBSCRIBER) >> ENTRY_SHIFT) as u32
}
