//! State in a map that several CPUs reach: an AQM's behind a try-lock that never waits, a meter's word by compare and swap.

use weir_aqm::{Nanos, SharedTat};
use weir_egress::AqmCell;
use weir_shared_maps::{AQM_CODEL, AQM_PI2, AqmState};

use crate::atomics::{load, swap_if, try_lock, unlock};

/// One AQM state in a map value.
pub struct MapCell(*mut AqmState);

impl MapCell {
    /// # Safety
    ///
    /// `state` must point into a map value, and only cells may write it.
    #[inline(always)]
    pub unsafe fn new(state: *mut AqmState) -> Self {
        Self(state)
    }
}

impl AqmCell for MapCell {
    #[inline(always)]
    fn is_idle(&self, aqm: u32) -> bool {
        // SAFETY: `new` was promised a map value; single words are read.
        unsafe {
            match aqm {
                AQM_CODEL => {
                    load(&raw const (*self.0).codel.first_above_ns) == 0
                        && load(&raw const (*self.0).codel.dropping) == 0
                }
                AQM_PI2 => load(&raw const (*self.0).pi2.p_q32) == 0,
                _ => true,
            }
        }
    }

    #[inline(always)]
    fn with<R>(&mut self, f: impl FnOnce(&mut AqmState) -> R) -> Option<R> {
        // SAFETY: the lock word is part of the map value; the reference lives only while the lock is held.
        unsafe {
            if !try_lock(&raw mut (*self.0).busy) {
                return None;
            }
            let result = f(&mut *self.0);
            unlock(&raw mut (*self.0).busy);
            Some(result)
        }
    }
}

/// One theoretical arrival time in a map value.
pub struct Tat(*mut u64);

impl Tat {
    /// # Safety
    ///
    /// `word` must point to an aligned word of a map value that changes by compare and swap alone.
    #[inline(always)]
    pub unsafe fn new(word: *mut Nanos) -> Self {
        Self(word.cast())
    }
}

impl SharedTat for Tat {
    #[inline(always)]
    fn load(&self) -> Nanos {
        // SAFETY: `new` was promised a map value.
        Nanos::from_nanos(unsafe { load(self.0) })
    }

    #[inline(always)]
    fn swap(&self, old: Nanos, new: Nanos) -> bool {
        // SAFETY: as above.
        unsafe { swap_if(self.0, old.as_nanos(), new.as_nanos()) }
    }
}
