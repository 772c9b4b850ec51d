//! Maps and load-time constants. Sizes given here are placeholders: user space sets them from the config.

use core::mem::MaybeUninit;

use aya_ebpf::{
    Global,
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, PerCpuArray, RingBuf},
};
use weir_egress::policy::Work;
use weir_shared_maps::{
    BatchCharges, BatchScratch, ClassConfig, ClassCounter, ClassCounters, ClassPlace, ClassState, CounterId,
    EVENTS_BYTES, FlowState, HostState, MAX_CLASSES, PacketMeta, PlanConfig, PolicyState, PortConfig,
    PortCounter, PortCounters, PortRoute, PortState, RingHistory, RingRecipe, RingState, SubscriberControl,
    SubscriberMeter,
};

use crate::policy::Desk;

#[unsafe(no_mangle)]
pub static PORT_INDEX: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static MODE: Global<u32> = Global::new(1);
#[unsafe(no_mangle)]
pub static AQM: Global<u32> = Global::new(1);
#[unsafe(no_mangle)]
pub static DRIVER: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static RINGS: Global<u32> = Global::new(1);
#[unsafe(no_mangle)]
pub static CLASSES: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static FRAMING: Global<u32> = Global::new(0);

#[map]
pub static WEIR_ROUTES: Array<PortRoute> = Array::with_max_entries(64, 0);
#[map]
pub static WEIR_PORTS: Array<PortConfig> = Array::with_max_entries(64, 0);
#[map]
pub static WEIR_RECIPES: Array<RingRecipe> = Array::with_max_entries(64, 0);
#[map]
pub static WEIR_PORT_STATE: Array<PortState> = Array::with_max_entries(64, 0);
#[map]
pub static WEIR_RINGS: Array<RingState> = Array::with_max_entries(1, 0);
#[map]
pub static WEIR_HISTORY: Array<RingHistory> = Array::with_max_entries(1, 0);
#[map]
pub static WEIR_SCRATCH: PerCpuArray<BatchScratch> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static WEIR_OUT_COUNT: PerCpuArray<PortCounters> = PerCpuArray::with_max_entries(64, 0);
#[map]
pub static WEIR_CLASSES: Array<ClassConfig> = Array::with_max_entries(1, 0);
#[map]
pub static WEIR_CLASS_CNT: PerCpuArray<ClassCounters> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static WEIR_PLANS: Array<PlanConfig> = Array::with_max_entries(1, 0);
#[map]
pub static WEIR_SUB_DOWN: Array<SubscriberMeter> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static WEIR_SUB_UP: Array<SubscriberMeter> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static WEIR_SUB_CODEL: Array<SubscriberControl> = Array::with_max_entries(1, BPF_F_MMAPABLE);

#[map]
pub static WEIR_CLASS_PLACE: Array<ClassPlace> = Array::with_max_entries(1, 0);
#[map]
pub static WEIR_POLICY: Array<PolicyState> = Array::with_max_entries(1, 0);
#[map]
pub static WEIR_CLASS_STATE: Array<ClassState> = Array::with_max_entries(1, 0);
#[map]
pub static WEIR_FLOWS: Array<FlowState> = Array::with_max_entries(1, 0);
#[map]
pub static WEIR_HOSTS: Array<HostState> = Array::with_max_entries(1, 0);
#[map]
pub static WEIR_CHARGES: PerCpuArray<BatchCharges> = PerCpuArray::with_max_entries(1, 0);

#[map]
pub static WEIR_EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_BYTES, 0);
#[map]
pub static WEIR_STACK_META: PerCpuArray<PacketMeta> = PerCpuArray::with_max_entries(1, 0);

/// What is known of a frame, its decision in progress, and the ring as a packet of the stack finds it: this object's own
/// maps, not pinned.
#[map]
pub static WEIR_STACK: PerCpuArray<BatchScratch> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static WEIR_DESK: PerCpuArray<MaybeUninit<Desk>> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static WEIR_WORK: PerCpuArray<Work> = PerCpuArray::with_max_entries(1, 0);

/// Adds to a counter of a port on this CPU.
#[inline(always)]
pub fn count(port: u32, counter: PortCounter, by: u64) {
    count_all(port, [(counter, by)]);
}

/// Adds to several counters of a port on this CPU.
#[inline(always)]
pub fn count_all<const N: usize>(port: u32, what: [(PortCounter, u64); N]) {
    let Some(counters) = WEIR_OUT_COUNT.get_ptr_mut(port) else { return };
    // SAFETY: a per-CPU value; what runs here is not interrupted by another user of it on this CPU.
    let slots = unsafe { &mut (*counters).slots };
    for (counter, by) in what {
        if let Some(slot) = slots.get_mut(counter.slot()) {
            *slot = slot.wrapping_add(by);
        }
    }
}

/// Adds to a counter of a class of a port on this CPU.
#[inline(always)]
pub fn count_class(port: u32, class: u32, counter: ClassCounter, by: u64) {
    let Some(counters) = WEIR_CLASS_CNT.get_ptr_mut(port * MAX_CLASSES + class) else { return };
    // SAFETY: as above.
    let slots = unsafe { &mut (*counters).slots };
    if let Some(slot) = slots.get_mut(counter.slot()) {
        *slot = slot.wrapping_add(by);
    }
}
