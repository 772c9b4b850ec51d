//! Atomics that the BPF target can encode: read-modify-write by intrinsics, loads by volatile reads.

use core::intrinsics::{AtomicOrdering::SeqCst, atomic_cxchg, atomic_xadd};

/// Compare-and-swap attempts on a meter. What becomes of one that loses this often stands where it is swapped.
pub const CAS_ATTEMPTS: usize = 4;

/// Adds and returns the value before.
///
/// # Safety
///
/// `at` must point to an aligned `u64` of a map value.
#[inline(always)]
pub unsafe fn fetch_add(at: *mut u64, by: u64) -> u64 {
    // SAFETY: the caller's.
    unsafe { atomic_xadd::<u64, u64, { SeqCst }>(at, by) }
}

/// Stores `new` if the value is `old`; whether it was.
///
/// # Safety
///
/// As [`fetch_add`].
#[inline(always)]
pub unsafe fn swap_if(at: *mut u64, old: u64, new: u64) -> bool {
    // SAFETY: the caller's.
    unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(at, old, new).1 }
}

/// Takes a try-lock: 0 becomes 1. Never waits.
///
/// # Safety
///
/// `at` must point to an aligned `u32` of a map value, given back with [`unlock`] on every way.
#[inline(always)]
pub unsafe fn try_lock(at: *mut u32) -> bool {
    // SAFETY: the caller's.
    unsafe { atomic_cxchg::<u32, { SeqCst }, { SeqCst }>(at, 0, 1).1 }
}

/// Gives a try-lock back. An atomic exchange rather than a store, so that no write of the holder moves behind it.
///
/// # Safety
///
/// As [`try_lock`], and the caller holds it.
#[inline(always)]
pub unsafe fn unlock(at: *mut u32) {
    // SAFETY: the caller's.
    unsafe { atomic_cxchg::<u32, { SeqCst }, { SeqCst }>(at, 1, 0) };
}

/// Reads a value that other CPUs write.
///
/// # Safety
///
/// `at` must point to an aligned value in a map.
#[inline(always)]
pub unsafe fn load<T: Copy>(at: *const T) -> T {
    // SAFETY: the caller's.
    unsafe { at.read_volatile() }
}

/// Writes a value that other CPUs read.
///
/// # Safety
///
/// As [`load`].
#[inline(always)]
pub unsafe fn store<T: Copy>(at: *mut T, value: T) {
    // SAFETY: the caller's.
    unsafe { at.write_volatile(value) };
}
