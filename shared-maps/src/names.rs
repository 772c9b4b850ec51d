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

/// All maps that the two objects share through pins.
pub const PINNED_MAPS: [&str; 11] = [
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
];

/// XDP program of an ingress device (`ingress` object).
pub const PROG_INGRESS: &str = "weir_ingress";
/// Devmap program of a port (`egress` object), minimum kernel 5.8.
pub const PROG_EGRESS: &str = "weir_egress";
/// Ring observer on `xdp_devmap_xmit` as a BTF tracepoint (`egress` object), minimum kernel 5.5.
pub const PROG_OBSERVER_BTF: &str = "weir_observer";
/// The same observer as a raw tracepoint, for kernels without BTF.
pub const PROG_OBSERVER_RAW: &str = "weir_observer_raw";
/// Observer of frames that the stack sends on a managed port (`net_dev_xmit`), raw tracepoint.
pub const PROG_STACK_OBSERVER: &str = "weir_stack_obs";
/// Counter of redirects the kernel refused (`xdp_redirect_err`), raw tracepoint.
pub const PROG_REDIRECT_ERR: &str = "weir_redir_err";

/// XDP program that passes everything: prepares drivers that need a program to be a redirect target.
pub const PROG_BASE_PASS: &str = "base_pass";
/// XDP program that drops everything (benchmarks).
pub const PROG_BASE_DROP: &str = "base_drop";
/// XDP program that redirects everything to one device, unparsed (benchmarks).
pub const PROG_BASE_REDIRECT: &str = "base_redirect";
/// XDP program that routes by `bpf_fib_lookup` and redirects: what a router without weir runs.
pub const PROG_BASE_FIB: &str = "base_fib";
/// Devmap program that passes everything (benchmarks).
pub const PROG_BASE_EGRESS: &str = "base_egress";
/// The devmap of the baseline programs: ifindex → (ifindex, optional program).
pub const MAP_BASE_DEVMAP: &str = "BASE_DEVMAP";

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
/// `u32`: non-zero where egress has a use for the metadata; zero removes the code.
pub const GLOBAL_META: &str = "META";
/// `u32`: which port this copy of the egress program serves.
pub const GLOBAL_PORT_INDEX: &str = "PORT_INDEX";
/// `u32`: one of the `MODE_*` values; the other modes' code is removed at load.
pub const GLOBAL_MODE: &str = "MODE";
/// `u32`: one of the `AQM_*` values.
pub const GLOBAL_AQM: &str = "AQM";
/// `u32`: one of the `DRIVER_*` values: which ring layout egress reads.
pub const GLOBAL_DRIVER: &str = "DRIVER";
/// `u32`: number of TX rings of the port.
pub const GLOBAL_RINGS: &str = "RINGS";
/// `u32`: the target of `base_redirect`, an ifindex.
pub const GLOBAL_BASE_TARGET: &str = "BASE_TARGET";
