//! Names of maps, programs and load-time constants, as they stand in the ELF objects.
//!
//! The eBPF sources repeat them as identifiers (the linker needs literals there); a rootless test parses the
//! built objects and compares both sides.

/// Device map: ifindex → (ifindex, egress program). The only devmap that names a managed port.
pub const MAP_DEVMAP: &str = "WEIR_DEVMAP";
/// Array: ifindex → [`crate::PortRoute`], what ingress must know of a port; sized for the highest managed ifindex.
/// docs/benchmarks.md compares it with a hash.
pub const MAP_ROUTES: &str = "WEIR_ROUTES";
/// Array: port index → [`crate::PortConfig`].
pub const MAP_PORTS: &str = "WEIR_PORTS";
/// Array: port index → [`crate::RingRecipe`].
pub const MAP_RECIPES: &str = "WEIR_RECIPES";
/// Array: port index → [`crate::PortState`].
pub const MAP_PORT_STATE: &str = "WEIR_PORT_STATE";
/// Array: ring index → [`crate::RingState`].
pub const MAP_RINGS: &str = "WEIR_RINGS";
/// Array: ring index → [`crate::RingHistory`].
pub const MAP_HISTORY: &str = "WEIR_HISTORY";
/// Per-CPU array of one: [`crate::BatchScratch`], from the egress program to the observer.
pub const MAP_SCRATCH: &str = "WEIR_SCRATCH";
/// Array: ingress index → [`crate::IngressConfig`].
pub const MAP_INGRESS: &str = "WEIR_INGRESS";
/// Per-CPU array: ingress index → [`crate::IngressCounters`].
pub const MAP_INGRESS_COUNTERS: &str = "WEIR_IN_COUNT";
/// Per-CPU array: port index → [`crate::PortCounters`].
pub const MAP_PORT_COUNTERS: &str = "WEIR_OUT_COUNT";
/// Array: `port * MAX_CLASSES + class` → [`crate::ClassConfig`].
pub const MAP_CLASSES: &str = "WEIR_CLASSES";
/// Per-CPU array: `port * MAX_CLASSES + class` → [`crate::ClassCounters`].
pub const MAP_CLASS_COUNTERS: &str = "WEIR_CLASS_CNT";
/// Array: DSCP → `u64`, whose bit i says whether rule i's condition on the DSCP holds or is absent. So have the next nine.
pub const MAP_RULE_DSCP: &str = "WEIR_R_DSCP";
/// Array: VLAN, 0 where untagged → rules.
pub const MAP_RULE_VLAN: &str = "WEIR_R_VLAN";
/// Array: IANA protocol number → rules.
pub const MAP_RULE_PROTOCOL: &str = "WEIR_R_PROTO";
/// Array: source port, 0 where there is none → rules.
pub const MAP_RULE_SOURCE_PORT: &str = "WEIR_R_SPORT";
/// Array: destination port, alike → rules.
pub const MAP_RULE_DESTINATION_PORT: &str = "WEIR_R_DPORT";
/// Array: bytes of the IP packet, clamped to [`crate::SIZE_ENTRIES`]` - 1` → rules.
pub const MAP_RULE_SIZE: &str = "WEIR_R_SIZE";
/// Hash: mark of a packet of the stack → rules; 0 stands for every mark that has no entry.
pub const MAP_RULE_MARK: &str = "WEIR_R_MARK";
/// Hash: interface index where a packet of the stack arrived → rules; 0 stands for all others, and for the router's own.
pub const MAP_RULE_INGRESS: &str = "WEIR_R_INGRESS";
/// LPM trie: IPv4 source → rules, the bits of covering prefixes included.
pub const MAP_RULE_SOURCE4: &str = "WEIR_R_SRC4";
/// LPM trie: IPv4 destination → rules.
pub const MAP_RULE_DESTINATION4: &str = "WEIR_R_DST4";
/// LPM trie: IPv6 source → rules.
pub const MAP_RULE_SOURCE6: &str = "WEIR_R_SRC6";
/// LPM trie: IPv6 destination → rules.
pub const MAP_RULE_DESTINATION6: &str = "WEIR_R_DST6";
/// Array: `port * MAX_RULES + rule` → `u32`, the rule's class at that port.
pub const MAP_RULE_CLASS: &str = "WEIR_RULE_CLASS";
/// Array: plan index → [`crate::PlanConfig`].
pub const MAP_PLANS: &str = "WEIR_PLANS";
/// Array: `port * MAX_PLANS + plan` → `u32`, the plan's class at that port, or [`crate::CLASS_NONE`].
pub const MAP_PLAN_CLASS: &str = "WEIR_PLAN_CLASS";
/// Array of one: [`crate::PrefixMasks`].
pub const MAP_PREFIX_MASKS: &str = "WEIR_SUB_MASKS";
/// Array of [`crate::SubscriberBucket`]s, a hash table of IPv4 prefixes. docs/policy.md compares it with the kernel's maps.
pub const MAP_SUBSCRIBERS4: &str = "WEIR_SUB4";
/// The same of IPv6 prefixes.
pub const MAP_SUBSCRIBERS6: &str = "WEIR_SUB6";
/// Array: subscriber index → [`crate::SubscriberMeter`] towards it.
pub const MAP_SUBSCRIBER_DOWN: &str = "WEIR_SUB_DOWN";
/// Array: subscriber index → [`crate::SubscriberMeter`] from it.
pub const MAP_SUBSCRIBER_UP: &str = "WEIR_SUB_UP";
/// Array: subscriber index → [`crate::SubscriberControl`].
pub const MAP_SUBSCRIBER_CONTROL: &str = "WEIR_SUB_CODEL";

/// Array: `port * MAX_CLASSES + class` → [`crate::ClassPlace`].
pub const MAP_CLASS_PLACES: &str = "WEIR_CLASS_PLACE";
/// Array: port index → [`crate::PolicyState`].
pub const MAP_POLICY: &str = "WEIR_POLICY";
/// Array: `port * MAX_CLASSES + class` → [`crate::ClassState`].
pub const MAP_CLASS_STATE: &str = "WEIR_CLASS_STATE";
/// Array: flow bucket → [`crate::FlowState`]; a class's begin at [`crate::ClassPlace::flow_base`].
pub const MAP_FLOWS: &str = "WEIR_FLOWS";
/// Array: host bucket → [`crate::HostState`], alike.
pub const MAP_HOSTS: &str = "WEIR_HOSTS";
/// Per-CPU array of one: [`crate::BatchCharges`], from the egress program to the observer.
pub const MAP_CHARGES: &str = "WEIR_CHARGES";

/// Per-CPU array of one: [`crate::PacketMeta`] of the packet that a port's two TC programs look at.
pub const MAP_STACK_META: &str = "WEIR_STACK_META";

/// Array: `port * MAX_CLASSES + class` → [`crate::BackOff`].
pub const MAP_BACK_OFF: &str = "WEIR_BACK_OFF";
/// Array: `port * STICKY_BUCKETS + bucket` → [`crate::StickyState`].
pub const MAP_STICKY: &str = "WEIR_STICKY";
/// Array: port index → [`crate::DivertState`].
pub const MAP_DIVERT: &str = "WEIR_DIVERT";
/// Program array: index of the ingress device → its [`PROG_INGRESS_POLICY`], for packets whose port does not rest.
pub const MAP_LONG_WAY: &str = "WEIR_LONG_WAY";
/// Array: port index → [`crate::PauseState`].
pub const MAP_PAUSE: &str = "WEIR_PAUSE";
/// Ring buffer of [`crate::Event`]s, minimum kernel 5.8.
pub const MAP_EVENTS: &str = "WEIR_EVENTS";

/// Per-CPU arrays of one that the `egress` object alone knows: a frame, its decision in progress, and the ring as a packet of
/// the stack finds it.
pub const PRIVATE_MAPS: [&str; 3] = ["WEIR_DESK", "WEIR_WORK", "WEIR_STACK"];

/// All maps that the two objects share through pins.
pub const PINNED_MAPS: [&str; 47] = [
    MAP_LONG_WAY,
    MAP_STACK_META,
    MAP_RULE_INGRESS,
    MAP_RULE_MARK,
    MAP_BACK_OFF,
    MAP_STICKY,
    MAP_DIVERT,
    MAP_CLASS_PLACES,
    MAP_POLICY,
    MAP_CLASS_STATE,
    MAP_FLOWS,
    MAP_HOSTS,
    MAP_CHARGES,
    MAP_DEVMAP,
    MAP_ROUTES,
    MAP_PORTS,
    MAP_RECIPES,
    MAP_PORT_STATE,
    MAP_RINGS,
    MAP_HISTORY,
    MAP_SCRATCH,
    MAP_INGRESS,
    MAP_INGRESS_COUNTERS,
    MAP_PORT_COUNTERS,
    MAP_CLASSES,
    MAP_CLASS_COUNTERS,
    MAP_RULE_DSCP,
    MAP_RULE_VLAN,
    MAP_RULE_PROTOCOL,
    MAP_RULE_SOURCE_PORT,
    MAP_RULE_DESTINATION_PORT,
    MAP_RULE_SIZE,
    MAP_RULE_SOURCE4,
    MAP_RULE_DESTINATION4,
    MAP_RULE_SOURCE6,
    MAP_RULE_DESTINATION6,
    MAP_RULE_CLASS,
    MAP_PLANS,
    MAP_PLAN_CLASS,
    MAP_PREFIX_MASKS,
    MAP_SUBSCRIBERS4,
    MAP_SUBSCRIBERS6,
    MAP_SUBSCRIBER_DOWN,
    MAP_SUBSCRIBER_UP,
    MAP_SUBSCRIBER_CONTROL,
    MAP_EVENTS,
    MAP_PAUSE,
];

/// XDP program of an ingress device (`ingress` object).
pub const PROG_INGRESS: &str = "weir_ingress";
/// The same with policy: class, subscriber and hashes in the metadata (`ingress` object). The name begins with that of the
/// program without.
pub const PROG_INGRESS_POLICY: &str = "weir_ingress_pol";
/// Devmap program of a port (`egress` object), minimum kernel 5.8.
pub const PROG_EGRESS: &str = "weir_egress";
/// Devmap program of a port with classes (`egress` object).
pub const PROG_POLICY: &str = "weir_policy";
/// TC egress program of a port: decides on what the stack sends (`egress` object).
pub const PROG_STACK: &str = "weir_stack";
/// The same for a port with classes (`egress` object).
pub const PROG_STACK_POLICY: &str = "weir_stack_pol";
/// TC egress program that runs before it: class, subscriber and hashes of what the stack sends (`ingress` object).
pub const PROG_STACK_CLASSIFY: &str = "weir_stack_cls";
/// Ring observer on `xdp_devmap_xmit` as a BTF tracepoint (`egress` object), minimum kernel 5.5.
pub const PROG_OBSERVER_BTF: &str = "weir_observer";
/// The same observer as a raw tracepoint, for kernels without BTF.
pub const PROG_OBSERVER_RAW: &str = "weir_observer_raw";
/// Observer of frames that the stack sends on a managed port (`net_dev_xmit`), raw tracepoint.
pub const PROG_STACK_OBSERVER: &str = "weir_stack_obs";
/// Counter of redirects the kernel refused (`xdp_redirect_err`), raw tracepoint.
pub const PROG_REDIRECT_ERR: &str = "weir_redir_err";
/// The tracing programs; of the first two one is attached.
pub const OBSERVERS: [&str; 4] =
    [PROG_OBSERVER_BTF, PROG_OBSERVER_RAW, PROG_STACK_OBSERVER, PROG_REDIRECT_ERR];

/// XDP program that passes everything: prepares drivers that need a program to be a redirect target.
pub const PROG_BASE_PASS: &str = "base_pass";
/// XDP program that drops everything (benchmarks).
pub const PROG_BASE_DROP: &str = "base_drop";
/// XDP program that redirects everything to one device, unparsed (benchmarks).
pub const PROG_BASE_REDIRECT: &str = "base_redirect";
/// XDP program that sends frames to addresses drawn at random and goes on with another one (benchmarks).
pub const PROG_BASE_SPREAD: &str = "base_spread";
/// XDP program that routes by `bpf_fib_lookup` and redirects: what a router without weir runs.
pub const PROG_BASE_FIB: &str = "base_fib";
/// Devmap program that passes everything (benchmarks).
pub const PROG_BASE_EGRESS: &str = "base_egress";
/// The devmap of the baseline programs: ifindex → (ifindex, optional program).
pub const MAP_BASE_DEVMAP: &str = "BASE_DEVMAP";
/// The program that `base_spread` goes on with.
pub const MAP_BASE_NEXT: &str = "BASE_NEXT";

/// Devmap program of the rival that the lab compares with: fairness by estimated rates (`rival` object).
pub const PROG_RIVAL: &str = "rival_csfq";
/// Array of one: the rival's lock and drain.
pub const MAP_RIVAL_DRAIN: &str = "RIVAL_DRAIN";
/// Array of [`crate::FLOW_BUCKETS`]: the rival's flows.
pub const MAP_RIVAL_FLOWS: &str = "RIVAL_FLOWS";
/// Per-CPU array of one: [`crate::ClassCounters`], what became of the rival's frames.
pub const MAP_RIVAL_COUNTERS: &str = "RIVAL_COUNT";

/// `u32`: which ingress device this copy of the program serves.
pub const GLOBAL_INGRESS_INDEX: &str = "INGRESS_INDEX";
/// `u32`: ifindex of that device.
pub const GLOBAL_IFINDEX: &str = "IFINDEX";
/// `u32`: first four bytes of its MAC address, as a little-endian load sees them.
pub const GLOBAL_MAC_LOW: &str = "MAC_LOW";
/// `u32`: last two bytes of its MAC address.
pub const GLOBAL_MAC_HIGH: &str = "MAC_HIGH";
/// `u32`: non-zero where the config lists VLANs for the device; zero removes the code.
pub const GLOBAL_VLANS: &str = "VLANS";
/// `u32`: what egress has a use for: 0 nothing, 1 a [`crate::MetaHead`], 2 a [`crate::PacketMeta`].
pub const GLOBAL_META: &str = "META";
/// `u32`: the rules that may match what arrives at the device, rules 0 to 31; with the next one zero: no rules.
pub const GLOBAL_RULES_LOW: &str = "RULES_LOW";
/// `u32`: the same for rules 32 to 63.
pub const GLOBAL_RULES_HIGH: &str = "RULES_HIGH";
/// `u32`: `DIM_*` bits of what the rules look at; the others are not looked at.
pub const GLOBAL_DIMENSIONS: &str = "DIMENSIONS";
/// `u32`: non-zero where a port has subscribers.
pub const GLOBAL_SUBSCRIBERS: &str = "SUBSCRIBERS";
/// `u32`: non-zero where a plan may name a class.
pub const GLOBAL_PLAN_CLASSES: &str = "PLAN_CLASSES";
/// `u32`: `HASH_*` bits of the hashes that a class asks for.
pub const GLOBAL_HASHES: &str = "HASHES";
/// `u32`: picoseconds that 512 bits take on the link, where the device is a port as well: the unit of a PAUSE frame's
/// times (IEEE 802.3 annex 31B). 0 removes the code that heeds them.
pub const GLOBAL_PAUSE_QUANTUM_PS: &str = "PAUSE_QUANTUM_PS";
/// `u32`: what the hashes begin with, different in each instance.
pub const GLOBAL_HASH_SEED: &str = "HASH_SEED";
/// `u32`: bit `1 << ACTION_*` of each action that a class takes; zero removes the look at the signal.
pub const GLOBAL_ACTIONS: &str = "ACTIONS";
/// `u32`: which port this copy of the egress program serves.
pub const GLOBAL_PORT_INDEX: &str = "PORT_INDEX";
/// `u32`: one of the `MODE_*` values; the other modes' code is removed at load.
pub const GLOBAL_MODE: &str = "MODE";
/// `u32`: one of the `AQM_*` values.
pub const GLOBAL_AQM: &str = "AQM";
/// `u32`: one of the `DRIVER_*` values: which ring layout egress reads.
pub const GLOBAL_DRIVER: &str = "DRIVER";
/// `u32`: TX rings that the port may come to use; those in use are in its [`crate::PortConfig`].
pub const GLOBAL_RINGS: &str = "RINGS";
/// `u32`: number of the port's classes, for an observer the most of any port; 0 removes what belongs to classes.
pub const GLOBAL_CLASSES: &str = "CLASSES";
/// `u32`: one of the `FRAMING_*` values.
pub const GLOBAL_FRAMING: &str = "FRAMING";
/// `u32`: the two words of the rival's pace (`weir_aqm::Pace`); it has none of its own.
pub const GLOBAL_RIVAL_PACE_MULT: &str = "RIVAL_PACE_MULT";
/// See [`GLOBAL_RIVAL_PACE_MULT`].
pub const GLOBAL_RIVAL_PACE_SHIFT: &str = "RIVAL_PACE_SHIFT";
/// `u32`: the target of `base_redirect`, an ifindex.
pub const GLOBAL_BASE_TARGET: &str = "BASE_TARGET";
/// `u32`: the first address that `base_spread` draws.
pub const GLOBAL_BASE_FIRST: &str = "BASE_FIRST";
/// `u32`: how many addresses it draws from.
pub const GLOBAL_BASE_COUNT: &str = "BASE_COUNT";
