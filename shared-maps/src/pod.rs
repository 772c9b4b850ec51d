//! aya's proof obligation for map values, host side only.

use crate::{
    BatchScratch, IngressConfig, IngressCounters, PortConfig, PortCounters, PortRoute, PortState,
    RingHistory, RingRecipe, RingState,
};

macro_rules! pod {
    ($($t:ty),* $(,)?) => { $(
        // SAFETY: the type is `repr(C)`, `Copy` and `'static`, and its `zerocopy` derives prove that every bit
        // pattern is valid (`FromBytes`) and that it has no padding (`IntoBytes`).
        unsafe impl aya::Pod for $t {}
    )* };
}

pod!(
    BatchScratch,
    IngressConfig,
    IngressCounters,
    PortConfig,
    PortCounters,
    PortRoute,
    PortState,
    RingHistory,
    RingRecipe,
    RingState,
);
