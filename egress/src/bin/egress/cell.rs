//! The AQM state in a map, behind a try-lock that never waits.

use weir_egress::AqmCell;
use weir_shared_maps::{AQM_CODEL, AQM_PI2, AqmState};

use crate::atomics::{load, try_lock, unlock};

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
