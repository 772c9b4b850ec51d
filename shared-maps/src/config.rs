//! What user space writes and the programs read: one entry per port, ring layout or ingress device.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Port entry not in use.
pub const MODE_NONE: u32 = 0;
/// The port's own TX ring is the queue; its sojourn drives the AQM.
pub const MODE_BOTTLENECK: u32 = 1;
/// A configured rate below what the ring can do: the virtual queue of that rate is the queue.
pub const MODE_POLICER: u32 = 2;
/// The ring is the queue but cannot be read: a virtual queue of the configured rate stands for it.
pub const MODE_VIRTUAL: u32 = 3;
/// Nothing is decided; the observer alone measures the ring.
pub const MODE_METER: u32 = 4;

/// No AQM: ring admission and the policer only.
pub const AQM_NONE: u32 = 0;
/// CoDel in its enqueue form (RFC 8289).
pub const AQM_CODEL: u32 = 1;
/// PI2: the classic half of RFC 9332 at enqueue.
pub const AQM_PI2: u32 = 2;

/// DualPI2's pair in one decision: a step mark for ECT(1), PI2 coupled to it for the rest (RFC 9332). Classes only.
pub const AQM_L4S: u32 = 3;
/// PIE (RFC 8033).
pub const AQM_PIE: u32 = 4;

/// Frames enter the link as they are.
pub const FRAMING_NONE: u32 = 0;
/// Frames are cut into ATM cells.
pub const FRAMING_ATM: u32 = 1;
/// Frames are sent with 64b/65b encoding (PTM).
pub const FRAMING_PTM: u32 = 2;

/// No recipe: the ring cannot be read.
pub const DRIVER_NONE: u32 = 0;
/// tun/tap: `struct tun_file.tx_ring`, a `struct ptr_ring`.
pub const DRIVER_TUN: u32 = 1;
/// veth: the peer's `struct veth_rq.xdp_ring`, a `struct ptr_ring`.
pub const DRIVER_VETH: u32 = 2;
/// virtio_net: `struct virtqueue.num_free` and the split ring's indices.
pub const DRIVER_VIRTIO: u32 = 3;

/// [`PortConfig::flags`]: mark ECN-capable packets instead of dropping them.
pub const FLAG_ECN: u32 = 1;
/// [`PortConfig::flags`]: drive the AQM by the oldest frame's sojourn instead of the arriving one's predicted one.
pub const FLAG_HEAD_SOJOURN: u32 = 2;
/// [`PortConfig::flags`]: nothing is redirected to the port; its TC programs are the whole datapath.
pub const FLAG_TC: u32 = 4;
/// [`PortConfig::flags`]: flows of the port divert into the stack while its signal stands.
pub const FLAG_DIVERTS: u32 = 8;

/// [`PortConfig::stack`]: frames that the stack sends are not looked at beyond the ring's history.
pub const STACK_IGNORE: u32 = 0;
/// [`PortConfig::stack`]: they are decided on like redirected ones, before the device's qdisc.
pub const STACK_DECIDE: u32 = 1;
/// [`PortConfig::stack`]: none is dropped; what leaves the device's qdisc is charged to the port's rate.
pub const STACK_CHARGE: u32 = 2;

/// [`PortConfig::pause`]: nobody is asked to stop.
pub const PAUSE_OFF: u32 = 0;
/// [`PortConfig::pause`]: a raised signal is answered with PAUSE (IEEE 802.3 annex 31B).
pub const PAUSE_LINK: u32 = 1;
/// [`PortConfig::pause`]: it is answered with priority-based flow control (IEEE 802.1Q clause 36), by class.
pub const PAUSE_PRIORITY: u32 = 2;

/// One port (managed egress device). Written by user space, read by egress and the observer.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PortConfig {
    /// Sojourn the AQM aims at (RFC 8289 `target`).
    pub target_ns: u64,
    /// CoDel's `interval`, at most 4.29 s; PI2's largest expected round-trip time; PIE's burst allowance.
    pub interval_ns: u64,
    /// Hard limit on the arriving packet's sojourn; beyond it every packet is dropped (cause `limit`).
    pub limit_ns: u64,
    /// Policer: burst tolerance of the meter.
    pub burst_ns: u64,
    /// Sojourn at which `Full` is left.
    pub signal_low_ns: u64,
    /// Longest time a raised signal holds without a new observation.
    pub signal_hold_ns: u64,
    /// PI2, PIE: time between updates of the probability.
    pub t_update_ns: u64,
    /// Interface index in the instance's network namespace.
    pub ifindex: u32,
    /// `MODE_*`.
    pub mode: u32,
    /// `AQM_*`.
    pub aqm: u32,
    /// `FLAG_*`.
    pub flags: u32,
    /// Index of the port's first ring in the ring maps.
    pub ring_base: u32,
    /// Number of TX rings; the ring of a packet is `cpu % rings`.
    pub rings: u32,
    /// Slots of one ring, as the driver says; 0 where unknown.
    pub ring_slots: u32,
    /// Slots kept free (one NAPI poll, 64, where the ring is large enough).
    pub reserve_slots: u32,
    /// Configured rate as time per byte: mantissa (2^31..2^32), 0 where no rate is configured.
    pub pace_mult: u32,
    /// Shift belonging to `pace_mult`.
    pub pace_shift: u32,
    /// Link-layer overhead added to each frame's length (may be negative).
    pub overhead_bytes: i32,
    /// Smallest size a frame takes on the wire after overhead.
    pub mpu_bytes: u32,
    /// Largest frame (MTU + Ethernet header): below this backlog CoDel stays silent.
    pub max_packet_bytes: u32,
    /// PI2: integral gain, scaled as in Linux 6.17 `sch_dualpi2`. PIE: the same in 2^-56 per nanosecond.
    pub alpha: u32,
    /// Proportional gain, scaled alike.
    pub beta: u32,
    /// Inode number of the network namespace (`/proc/self/ns/net`): ifindexes repeat between namespaces.
    pub netns_inum: u32,
    /// `FRAMING_*`: how the link cuts frames up, applied after overhead and smallest size.
    pub framing: u32,
    /// Classes of the port, at most [`crate::MAX_CLASSES`]; 0 where none is configured.
    pub classes: u32,
    /// Class of what no rule and no plan assigns, and of packets that arrive without metadata.
    pub default_class: u32,
    /// `SIDE_*`: which address of a packet names its subscriber, and thus which of the plan's rates hold.
    pub side: u32,
    /// `STACK_*`.
    pub stack: u32,
    /// `PAUSE_*`: how whoever feeds the port is asked to stop while its signal stands.
    pub pause: u32,
}

const _: () = assert!(size_of::<PortConfig>() == 7 * 8 + 22 * 4);

/// What ingress must know of a port: the value of the ifindex → port map. All zero: not a port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct PortRoute {
    /// Port index.
    pub port: u32,
    /// Index of the port's first ring.
    pub ring_base: u32,
    /// Number of rings, at least 1; 0 where the ifindex is not a managed port.
    pub rings: u32,
    /// Class of what no rule and no plan assigns.
    pub default_class: u16,
    /// `SIDE_*`: which address names the subscriber.
    pub side: u8,
    /// `ROUTE_*`.
    pub flags: u8,
}

/// [`PortRoute::flags`]: the port has one ring, and the stack's frames enter it as redirected ones do.
pub const ROUTE_SHARED_RING: u8 = 1;

/// Where a driver keeps its TX ring: offsets in bytes, resolved from BTF by user space at load time.
///
/// A field that a driver does not use is zero. `dev_*` fields describe `struct net_device` and hold for all drivers.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RingRecipe {
    /// `DRIVER_*`.
    pub driver: u32,
    /// Offset of the driver's private area in `struct net_device`.
    pub dev_priv: u32,
    /// `net_device.ifindex`.
    pub dev_ifindex: u32,
    /// `net_device.nd_net.net`.
    pub dev_net: u32,
    /// `struct net.ns.inum`.
    pub net_inum: u32,
    /// tun: `tun_struct.tfiles`; veth: `veth_priv.peer`; virtio: `virtnet_info.sq`.
    pub table: u32,
    /// tun: `tun_struct.numqueues`; veth: `net_device.real_num_rx_queues` (of the peer); virtio: `virtnet_info.curr_queue_pairs`.
    pub count: u32,
    /// veth: `veth_priv.rq`; virtio: `virtnet_info.xdp_queue_pairs`.
    pub second: u32,
    /// veth: size of `struct veth_rq`; virtio: size of `struct send_queue`.
    pub stride: u32,
    /// tun: `tun_file.tx_ring`; veth: `veth_rq.xdp_ring`; virtio: `send_queue.vq`.
    pub ring: u32,
    /// `ptr_ring.producer`; virtio: `virtqueue.num_free`.
    pub producer: u32,
    /// `ptr_ring.consumer_head`; virtio: `vring_virtqueue.last_used_idx`.
    pub consumer: u32,
    /// `ptr_ring.size`; virtio: `vring_virtqueue.split.vring.num`.
    pub size: u32,
    /// `ptr_ring.queue`; virtio: `vring_virtqueue.split.vring.used`.
    pub queue: u32,
    /// virtio: number of possible CPUs, above which pairs are private.
    pub cpus: u32,
    /// virtio: `vring_virtqueue.packed_ring`.
    pub packed: u32,
    /// `sk_buff.queue_mapping`: the ring of a frame that the stack sends.
    pub skb_queue: u32,
    /// `net_device.real_num_tx_queues`.
    pub dev_txqs: u32,
    /// `net_device._tx`, the array of `struct netdev_queue`; 0 where queueing disciplines cannot be read.
    pub dev_tx: u32,
    /// Size of `struct netdev_queue`.
    pub txq_stride: u32,
    /// `netdev_queue.qdisc`.
    pub txq_qdisc: u32,
    /// `Qdisc.flags`.
    pub qdisc_flags: u32,
    /// `Qdisc.state`.
    pub qdisc_state: u32,
    /// `Qdisc.q.qlen`.
    pub qdisc_qlen: u32,
}

const _: () = assert!(size_of::<RingRecipe>() == 24 * 4);

/// Words of the VLAN bitmap: one bit for each of 4,096 identifiers.
pub const VLAN_WORDS: usize = 64;

/// One ingress device.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct IngressConfig {
    /// The device's MAC address in the order of the wire, in the low 48 bits as a little-endian load sees it.
    pub mac: u64,
    /// Interface index.
    pub ifindex: u32,
    /// Reserved, zero.
    pub reserved: u32,
    /// Tagged frames of these VLAN identifiers are routed as if they had arrived untagged; others go to the stack.
    pub vlans: [u64; VLAN_WORDS],
}

const _: () = assert!(size_of::<IngressConfig>() == 16 + 8 * VLAN_WORDS);
