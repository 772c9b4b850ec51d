//! Maps and load-time constants. Sizes given here are placeholders where user space sets them from the config.

use aya_ebpf::{
    Global,
    macros::map,
    maps::{Array, DevMapHash, HashMap, LpmTrie, PerCpuArray},
};
use weir_shared_maps::{
    IngressConfig, IngressCounters, PacketMeta, PortCounters, PortRoute, PrefixMasks, RingState,
    SubscriberEntry, SubscriberKey4, SubscriberKey6,
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
pub static WEIR_SUB4: HashMap<SubscriberKey4, SubscriberEntry> = HashMap::with_max_entries(1, 0);
#[map]
pub static WEIR_SUB6: HashMap<SubscriberKey6, SubscriberEntry> = HashMap::with_max_entries(1, 0);
