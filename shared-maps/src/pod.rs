//! aya's proof obligation for map values, host side only.

use crate::{
    BackOff, BatchCharges, BatchScratch, ClassConfig, ClassCounters, ClassPlace, ClassState, DivertState,
    Event, FlowState, HostState, IngressConfig, IngressCounters, PauseState, PlanConfig, PolicyState,
    PortConfig, PortCounters, PortRoute, PortState, PrefixMasks, RingHistory, RingRecipe, RingState,
    StickyState, SubscriberBucket, SubscriberControl, SubscriberMeter,
};

macro_rules! pod {
    ($($t:ty),* $(,)?) => { $(
        // SAFETY: the type is `repr(C)`, `Copy` and `'static`, and its `zerocopy` derives prove that every bit
        // pattern is valid (`FromBytes`) and that it has no padding (`IntoBytes`).
        unsafe impl aya::Pod for $t {}
    )* };
}

pod!(
    BackOff,
    DivertState,
    Event,
    PauseState,
    StickyState,
    BatchCharges,
    BatchScratch,
    ClassConfig,
    ClassCounters,
    ClassPlace,
    ClassState,
    FlowState,
    HostState,
    PolicyState,
    IngressConfig,
    IngressCounters,
    PlanConfig,
    PortConfig,
    PortCounters,
    PortRoute,
    PortState,
    PrefixMasks,
    RingHistory,
    RingRecipe,
    RingState,
    SubscriberBucket,
    SubscriberControl,
    SubscriberMeter,
);
