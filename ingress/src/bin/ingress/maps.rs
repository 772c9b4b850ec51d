//! Maps and load-time constants. Sizes given here are placeholders where user space sets them from the config.

use aya_ebpf::{
    Global,
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, DevMapHash, HashMap, LpmTrie, PerCpuArray, ProgramArray, RingBuf},
};
use weir_shared_maps::{
    BackOff, ClassConfig, ClassCounter, ClassCounters, ClassPlace, CounterId, DivertState, EVENTS_BYTES,
    FlowState, IngressConfig, IngressCounters, MAX_CLASSES, MAX_PORTS, PacketMeta, PauseState, PortConfig,
    PortCounter, PortCounters, PortRoute, PrefixMasks, RingHistory, RingRecipe, RingState, StickyState,
    SubscriberBucket, SubscriberMeter,
};

#[unsafe(no_mangle)]
pub static INGRESS_INDEX: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static IFINDEX: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static MAC_LOW: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static MAC_HIGH: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static VLANS: Global<u32> = Global::new(1);
#[unsafe(no_mangle)]
pub static META: Global<u32> = Global::new(1);
#[unsafe(no_mangle)]
pub static RULES_LOW: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static RULES_HIGH: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static DIMENSIONS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static SUBSCRIBERS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static PLAN_CLASSES: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static HASHES: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static HASH_SEED: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static ACTIONS: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static PAUSE_QUANTUM_PS: Global<u32> = Global::new(0);

#[map]
pub static WEIR_DEVMAP: DevMapHash = DevMapHash::with_max_entries(64, 0);
#[map]
pub static WEIR_ROUTES: Array<PortRoute> = Array::with_max_entries(64, 0);
#[map]
pub static WEIR_RINGS: Array<RingState> = Array::with_max_entries(1, 0);
#[map]
pub static WEIR_INGRESS: Array<IngressConfig> = Array::with_max_entries(64, 0);
#[map]
pub static WEIR_IN_COUNT: PerCpuArray<IngressCounters> = PerCpuArray::with_max_entries(64, 0);
#[map]
pub static WEIR_OUT_COUNT: PerCpuArray<PortCounters> = PerCpuArray::with_max_entries(64, 0);
#[map]
pub static WEIR_PAUSE: Array<PauseState> = Array::with_max_entries(64, 0);
#[map]
pub static WEIR_EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_BYTES, 0);

#[map]
pub static WEIR_PORTS: Array<PortConfig> = Array::with_max_entries(64, 0);
#[map]
pub static WEIR_RECIPES: Array<RingRecipe> = Array::with_max_entries(64, 0);
#[map]
pub static WEIR_HISTORY: Array<RingHistory> = Array::with_max_entries(1, 0);
#[map]
pub static WEIR_CLASS_CNT: PerCpuArray<ClassCounters> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static WEIR_BACK_OFF: Array<BackOff> = Array::with_max_entries(MAX_PORTS * MAX_CLASSES, 0);
#[map]
pub static WEIR_STICKY: Array<StickyState> = Array::with_max_entries(1, 0);
#[map]
pub static WEIR_DIVERT: Array<DivertState> = Array::with_max_entries(64, 0);

#[map]
pub static WEIR_LONG_WAY: ProgramArray = ProgramArray::with_max_entries(64, 0);

#[map]
pub static WEIR_R_DSCP: Array<u64> = Array::with_max_entries(1, 0);
#[map]
pub static WEIR_R_VLAN: Array<u64> = Array::with_max_entries(1, 0);
#[map]
pub static WEIR_R_PROTO: Array<u64> = Array::with_max_entries(1, 0);
#[map]
pub static WEIR_R_SPORT: Array<u64> = Array::with_max_entries(1, 0);
#[map]
pub static WEIR_R_DPORT: Array<u64> = Array::with_max_entries(1, 0);
#[map]
pub static WEIR_R_SIZE: Array<u64> = Array::with_max_entries(1, 0);
#[map]
pub static WEIR_R_MARK: HashMap<u32, u64> = HashMap::with_max_entries(1, 0);
#[map]
pub static WEIR_R_INGRESS: HashMap<u32, u64> = HashMap::with_max_entries(1, 0);
#[map]
pub static WEIR_R_SRC4: LpmTrie<[u8; 4], u64> = LpmTrie::with_max_entries(1, 0);
#[map]
pub static WEIR_R_DST4: LpmTrie<[u8; 4], u64> = LpmTrie::with_max_entries(1, 0);
#[map]
pub static WEIR_R_SRC6: LpmTrie<[u8; 16], u64> = LpmTrie::with_max_entries(1, 0);
#[map]
pub static WEIR_R_DST6: LpmTrie<[u8; 16], u64> = LpmTrie::with_max_entries(1, 0);
#[map]
pub static WEIR_STACK_META: PerCpuArray<PacketMeta> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static WEIR_RULE_CLASS: Array<u32> = Array::with_max_entries(1, 0);
#[map]
pub static WEIR_PLAN_CLASS: Array<u32> = Array::with_max_entries(1, 0);
#[map]
pub static WEIR_SUB_MASKS: Array<PrefixMasks> = Array::with_max_entries(1, 0);
#[map]
pub static WEIR_SUB4: Array<SubscriberBucket> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static WEIR_SUB6: Array<SubscriberBucket> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static WEIR_SUB_DOWN: Array<SubscriberMeter> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static WEIR_SUB_UP: Array<SubscriberMeter> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static WEIR_CLASSES: Array<ClassConfig> = Array::with_max_entries(1, 0);
#[map]
pub static WEIR_CLASS_PLACE: Array<ClassPlace> = Array::with_max_entries(1, 0);
#[map]
pub static WEIR_FLOWS: Array<FlowState> = Array::with_max_entries(1, 0);

/// Adds one to a counter of a port on this CPU, and to that of a class where the port has classes.
#[inline(always)]
pub fn count(port: u32, counter: PortCounter, class: Option<(u32, ClassCounter)>) {
    if let Some(counters) = WEIR_OUT_COUNT.get_ptr_mut(port) {
        // SAFETY: a per-CPU value; nothing else on this CPU runs between load and store.
        bump(unsafe { &mut (*counters).slots }, counter);
    }
    if let Some((class, counter)) = class
        && let Some(counters) = WEIR_CLASS_CNT.get_ptr_mut(port * MAX_CLASSES + class)
    {
        // SAFETY: as above.
        bump(unsafe { &mut (*counters).slots }, counter);
    }
}

#[inline(always)]
pub fn bump<C: CounterId>(slots: &mut [u64; 32], counter: C) {
    if let Some(slot) = slots.get_mut(counter.slot()) {
        *slot = slot.wrapping_add(1);
    }
}
