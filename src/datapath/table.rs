//! Subscribers as user space changes them: tables and plans, mapped into memory, a word at a time, while the programs read them.
//!
//! What a reader relies on is in [`weir_ingress::table`].

use std::mem::offset_of;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use weir_ingress::table::{Buckets, Place, first_word, is_full, place};
use weir_shared_maps::{
    BUCKET_WORDS, ENTRY_EMPTY, ENTRY_GONE, ENTRY_SUBSCRIBER, PAGE_BUCKETS, SubscriberBucket, SubscriberMeter,
};
use zerocopy::FromZeros as _;

use super::batch::BatchMap;
use super::{Error, Result};

/// Entries that a page of a table is meant for: three quarters of those of one word, half of the larger ones, so that no page
/// is ever full and few chains leave their first bucket.
const fn page_room(words: usize) -> u32 {
    let entries = PAGE_BUCKETS * (BUCKET_WORDS / words) as u32;
    if words == 1 { entries / 4 * 3 } else { entries / 2 }
}

/// Buckets of a table that is meant for `entries` of so many words.
pub(super) const fn buckets_for(entries: u32, words: usize) -> u32 {
    let pages = entries.div_ceil(page_room(words));
    PAGE_BUCKETS * if pages > 0 { pages } else { 1 }
}

/// A table with entries of `N` words.
pub(super) struct Table<const N: usize> {
    name: &'static str,
    words: Mapping<AtomicU64>,
}

impl<const N: usize> Table<N> {
    /// Opens a pinned table.
    ///
    /// # Errors
    ///
    /// [`Error::Pin`], [`Error::Abi`], [`Error::Entries`] where it cannot be mapped.
    pub fn open(directory: &Path, name: &'static str) -> Result<Self> {
        let map = BatchMap::open::<u32, SubscriberBucket>(directory, name)?;
        Ok(Self { name, words: Mapping::of::<SubscriberBucket>(&map, name)? })
    }

    /// Pages that keys are spread over.
    pub fn pages(&self) -> u32 {
        (self.words.get().len() / (BUCKET_WORDS * PAGE_BUCKETS as usize)) as u32
    }

    /// Entries that the table is meant for.
    pub fn room(&self) -> u32 {
        self.pages() * page_room(N)
    }

    /// Writes an entry, new or not.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoom`] where a page is full.
    pub fn insert(&self, seed: u64, key: &[u64; N], subscriber: u32) -> Result<()> {
        if put(&Words(self.words.get()), place(key, seed, self.pages()), key, subscriber) {
            return Ok(());
        }
        Err(Error::NoRoom { what: self.name, has: self.room() as usize, most: self.room() })
    }

    /// Removes an entry, if it is there.
    pub fn remove(&self, seed: u64, key: &[u64; N]) {
        let pages = self.pages();
        take(&Words(self.words.get()), |key| place(key, seed, pages), key);
    }
}

/// The meters of one direction, whose plans may change while the programs run.
pub(super) struct Meters {
    map: BatchMap,
    halves: Mapping<AtomicU16>,
}

impl Meters {
    /// Opens the pinned map.
    ///
    /// # Errors
    ///
    /// As [`Table::open`].
    pub fn open(directory: &Path, name: &'static str) -> Result<Self> {
        let map = BatchMap::open::<u32, SubscriberMeter>(directory, name)?;
        Ok(Self { halves: Mapping::of::<SubscriberMeter>(&map, name)?, map })
    }

    /// Gives subscribers that are new at their indices a fresh meter and a plan.
    ///
    /// # Errors
    ///
    /// [`Error::Entries`].
    pub fn reset(&self, plans: &[(u32, u16)]) -> Result<()> {
        let fresh = |plan| SubscriberMeter { plan, ..SubscriberMeter::new_zeroed() };
        let meters: Vec<_> = plans.iter().map(|(subscriber, plan)| (*subscriber, fresh(*plan))).collect();
        self.map.update(&meters)
    }

    /// Gives a subscriber another plan and leaves its meter alone.
    pub fn set_plan(&self, subscriber: u32, plan: u16) {
        let at = subscriber as usize * size_of::<SubscriberMeter>() + offset_of!(SubscriberMeter, plan);
        if let Some(half) = self.halves.get().get(at / size_of::<u16>()) {
            half.store(plan, Ordering::Relaxed);
        }
    }
}

/// The buckets as words.
struct Words<'a>(&'a [AtomicU64]);

impl Words<'_> {
    fn set(&self, bucket: usize, at: usize, value: u64) {
        if let Some(word) = self.0.get(bucket * BUCKET_WORDS + at) {
            word.store(value, Ordering::Release);
        }
    }
}

impl Buckets for Words<'_> {
    type Bucket = usize;

    fn bucket(&self, index: u32) -> Option<usize> {
        ((index as usize) < self.0.len() / BUCKET_WORDS).then_some(index as usize)
    }

    fn word(&self, bucket: usize, at: usize) -> u64 {
        self.0.get(bucket * BUCKET_WORDS + at).map_or(ENTRY_EMPTY, |word| word.load(Ordering::Acquire))
    }
}

/// Places of a bucket's entries of `N` words.
fn entries<const N: usize>() -> impl Iterator<Item = usize> {
    (0..BUCKET_WORDS / N).map(|entry| entry * N)
}

/// Where the first entry of a key's chain is that `is` holds for. Chains end with a bucket that is not full.
fn search<const N: usize>(
    words: &Words<'_>,
    place: Place,
    is: impl Fn(usize, usize) -> bool,
) -> Option<(usize, usize)> {
    for step in 0..PAGE_BUCKETS {
        let bucket = words.bucket(place.bucket(step))?;
        if let Some(at) = entries::<N>().find(|at| is(bucket, *at)) {
            return Some((bucket, at));
        }
        if !is_full::<_, N>(words, bucket) {
            break;
        }
    }
    None
}

/// Where a key is.
fn at<const N: usize>(words: &Words<'_>, place: Place, key: &[u64; N]) -> Option<(usize, usize)> {
    let masks = std::iter::once(!ENTRY_SUBSCRIBER).chain(std::iter::repeat(u64::MAX));
    let is = |bucket, at| {
        (at..).zip(key).zip(masks.clone()).all(|((at, word), mask)| words.word(bucket, at) & mask == *word)
    };
    search::<N>(words, place, is)
}

/// Writes an entry: over its old subscriber, or to the first place of its chain that is free. False where there is none.
fn put<const N: usize>(words: &Words<'_>, place: Place, key: &[u64; N], subscriber: u32) -> bool {
    let [first, ..] = key.as_slice() else { return false };
    let first = first_word(*first, subscriber);
    if let Some((bucket, at)) = at(words, place, key) {
        words.set(bucket, at, first);
        return true;
    }
    let is_free = |bucket, at| matches!(words.word(bucket, at), ENTRY_EMPTY | ENTRY_GONE);
    let Some((bucket, at)) = search::<N>(words, place, is_free) else { return false };
    for (word, value) in key.iter().enumerate().skip(1) {
        words.set(bucket, at + word, *value);
    }
    // Last: it is what makes an entry of the others.
    words.set(bucket, at, first);
    true
}

/// Removes an entry. The entries of a full bucket stay in use, if only as [`ENTRY_GONE`], for as long as a chain passes it.
fn take<const N: usize>(words: &Words<'_>, home: impl Fn(&[u64; N]) -> Place, key: &[u64; N]) {
    let Some((bucket, at)) = at(words, home(key), key) else { return };
    words.set(bucket, at, ENTRY_GONE);
    if !is_full::<_, N>(words, bucket) || !is_passed(words, &home, bucket as u32) {
        for at in entries::<N>().filter(|at| words.word(bucket, *at) == ENTRY_GONE) {
            words.set(bucket, at, ENTRY_EMPTY);
        }
    }
}

/// Whether a bucket is in the chain of an entry that is further on.
fn is_passed<const N: usize>(words: &Words<'_>, home: &impl Fn(&[u64; N]) -> Place, bucket: u32) -> bool {
    let distance = |from: u32, to: u32| to.wrapping_sub(from) % PAGE_BUCKETS;
    for step in 1..PAGE_BUCKETS {
        let next = Place(bucket).bucket(step);
        for at in entries::<N>() {
            let mut key: [u64; N] = std::array::from_fn(|word| words.word(next as usize, at + word));
            if let [first, ..] = key.as_mut_slice() {
                if matches!(*first, ENTRY_EMPTY | ENTRY_GONE) {
                    continue;
                }
                *first &= !ENTRY_SUBSCRIBER;
            }
            let Place(from) = home(&key);
            if distance(from, bucket) < distance(from, next) {
                return true;
            }
        }
        if !is_full::<_, N>(words, next as usize) {
            break;
        }
    }
    false
}

/// A map's values in this process's memory, as atomics `A`.
struct Mapping<A> {
    start: NonNull<A>,
    count: usize,
}

/// What a mapping may be seen as: atomics of which any bytes are a value.
trait Atomic {}
impl Atomic for AtomicU64 {}
impl Atomic for AtomicU16 {}

impl<A: Atomic> Mapping<A> {
    /// Maps an array of `V`, whose values must be whole words.
    fn of<V>(map: &BatchMap, name: &'static str) -> Result<Self> {
        let bytes = map.entries() as usize * size_of::<V>().next_multiple_of(size_of::<u64>());
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        let failed = || Error::Entries {
            action: "map",
            of: map.entries() as usize,
            done: 0,
            map: name,
            source: std::io::Error::last_os_error(),
        };
        if start == libc::MAP_FAILED {
            return Err(failed());
        }
        let start = NonNull::new(start.cast()).ok_or_else(failed)?;
        Ok(Self { start, count: bytes / size_of::<A>() })
    }

    fn get(&self) -> &[A] {
        // SAFETY: the mapping begins at a page, has this many of them and lives as long as `self`; programs and other processes
        // change them, which atomics allow.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl<A> Drop for Mapping<A> {
    fn drop(&mut self) {
        // SAFETY: the mapping that `of` made; no slice of it outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.count * size_of::<A>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use weir_ingress::table::find;
    use weir_shared_maps::MAX_SUBSCRIBERS;

    fn table(pages: usize) -> Vec<AtomicU64> {
        (0..pages * PAGE_BUCKETS as usize * BUCKET_WORDS).map(|_| AtomicU64::new(0)).collect()
    }

    /// Puts, overwrites and takes keys of a few hundred, and compares with a map of the standard library's after each step.
    fn agrees<const N: usize>(seed: u64, key: impl Fn(u64) -> [u64; N], steps: &[(u64, Option<u32>)]) {
        let (memory, mut model) = (table(1), HashMap::new());
        let words = Words(&memory);
        let place = |key: &[u64; N]| place(key, seed, 1);
        for (number, value) in steps {
            let key = key(*number);
            match value {
                Some(value) => {
                    let value = value % MAX_SUBSCRIBERS + 1;
                    if put(&words, place(&key), &key, value) {
                        model.insert(*number, value);
                    } else {
                        let most = PAGE_BUCKETS as usize * (BUCKET_WORDS / N);
                        assert!(!model.contains_key(number) && model.len() == most, "{}", model.len());
                    }
                }
                None => {
                    take(&words, place, &key);
                    model.remove(number);
                }
            }
        }
        for number in 0..400 {
            let key = key(number);
            assert_eq!(
                find(&words, place(&key), &key),
                model.get(&number).copied().unwrap_or(0),
                "key {number}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_table_finds_what_was_put_and_nothing_else(
            seed: u64,
            steps in proptest::collection::vec((0..400_u64, proptest::option::weighted(0.6, any::<u32>())), 0..1_500),
        ) {
            agrees(seed, |number| [number << 32 | 32], &steps);
            agrees(seed, |number| [56, number, 0], &steps);
        }
    }

    #[test]
    fn a_table_has_room_to_spare() {
        for (entries, buckets) in [(0, 64), (1, 64), (384, 64), (385, 128), (112_500, 293 * 64)] {
            assert_eq!(buckets_for(entries, 1), buckets);
        }
        assert_eq!(buckets_for(112_500, 3), 1_758 * 64);
    }

    /// The share of keys in their first bucket, of a table filled as far as it is meant to be.
    fn in_the_first_bucket<const N: usize>(key: impl Fn(u64) -> [u64; N]) -> f64 {
        const KEYS: u64 = 112_500;
        let pages = buckets_for(KEYS as u32, N) / PAGE_BUCKETS;
        let memory = table(pages as usize);
        let words = Words(&memory);
        let keys: Vec<[u64; N]> = (0..KEYS).map(key).collect();
        assert!(keys.iter().all(|key| put(&words, place(key, 5, pages), key, 1)));
        let first = keys.iter().filter(|key| {
            let place = place(key, 5, pages);
            at(&words, place, key).is_some_and(|(bucket, _)| bucket == place.bucket(0) as usize)
        });
        first.count() as f64 / KEYS as f64
    }

    #[test]
    fn most_keys_of_a_table_filled_as_planned_are_in_their_first_bucket() {
        let v4 = in_the_first_bucket(|number| [number << 32 | 32]);
        let v6 = in_the_first_bucket(|number| [56, number << 8, 0]);
        println!("IPv4 {v4:.3}, IPv6 {v6:.3}");
        assert!(v4 > 0.85 && v6 > 0.8, "{v4} {v6}");
    }
}
