//! Step one: whether a frame may be forwarded at all, and where the kernel's own tables send it.

use aya_ebpf::{
    bindings::bpf_fib_lookup as FibLookup, helpers::generated::bpf_fib_lookup, programs::XdpContext,
};
use weir_ingress::{Backing, Classified, FibAnswer, addressed_to, classify, fib_exit, vlan_listed};
use weir_shared_maps::{IngressCounter, PortRoute};
use weir_wire::{L3, Link, RawPacket};

use crate::maps::{IFINDEX, INGRESS_INDEX, MAC_HIGH, MAC_LOW, VLANS, WEIR_INGRESS, WEIR_ROUTES};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// `BPF_FIB_LOOKUP_OUTPUT`: the interface given is the one to leave by.
const OUTPUT: u32 = 2;

/// What the later steps have to know of a packet that leaves.
pub struct Routed {
    /// Interface index of the port it leaves by.
    pub target: u32,
    /// 4 or 6.
    pub version: u32,
    /// The VLAN of the tag it arrived with; 0 without one.
    pub vlan: u32,
    /// Its ECN field.
    pub ecn: u32,
    /// `STICKY_*`, the way of the flow's last packet before this one, once it has been looked at.
    pub before: u32,
    /// What its flow does, once that has been decided.
    pub backing: Backing,
    /// The next hop's MAC address.
    pub dmac: [u8; 6],
    /// The port's.
    pub smac: [u8; 6],
}

impl Routed {
    /// Before it is routed.
    pub const NOWHERE: Self = Self {
        target: 0,
        version: 0,
        vlan: 0,
        ecn: 0,
        before: 0,
        backing: Backing::Go,
        dmac: [0; 6],
        smac: [0; 6],
    };
}

/// The port a packet leaves by, and its checked header; `Err` carries the counter of the reason it is not forwarded.
#[inline(always)]
pub fn route(ctx: &XdpContext, routed: &mut Routed) -> Result<(&'static PortRoute, L3), IngressCounter> {
    // SAFETY: the context's bounds; the view is not used after a helper that moves them.
    let packet = unsafe { RawPacket::new(ctx.data(), ctx.data_end()) };
    let mac = u64::from(MAC_HIGH.load()) << 32 | u64::from(MAC_LOW.load());
    if !addressed_to(&packet, mac).map_err(|_| IngressCounter::PassMalformed)? {
        return Err(IngressCounter::PassNotUnicast);
    }
    let Classified { link, l3 } = classify(&packet)?;
    if link.vlans > 0 && !tag_admitted(&link) {
        return Err(IngressCounter::PassVlan);
    }
    let mut lookup = request(&l3, IFINDEX.load());
    fib_exit(ask(ctx, &mut lookup, 0))?;
    let Some(port) = WEIR_ROUTES.get(lookup.ifindex) else {
        return Err(IngressCounter::PassNotManaged);
    };
    if port.rings == 0 {
        return Err(IngressCounter::PassNotManaged);
    }
    *routed = Routed {
        target: lookup.ifindex,
        version: if matches!(l3, L3::V6(_)) { 6 } else { 4 },
        vlan: u32::from(link.outer_vid),
        ecn: l3.ecn() as u32,
        before: 0,
        backing: Backing::Go,
        dmac: lookup.dmac,
        smac: lookup.smac,
    };
    Ok((port, l3))
}

/// Whether the kernel routes a packet out of `ifindex`, too; if so, that is where it is routed now.
#[inline(never)]
pub fn leave_by(ctx: &XdpContext, routed: &mut Routed, ifindex: u32) -> bool {
    let Some(l3) = crate::policy::header(ctx.data(), ctx.data_end(), routed.version, routed.vlan) else {
        return false;
    };
    let mut lookup = request(&l3, ifindex);
    if ask(ctx, &mut lookup, OUTPUT) != FibAnswer::SUCCESS || lookup.ifindex != ifindex {
        return false;
    }
    routed.target = ifindex;
    (routed.dmac, routed.smac) = (lookup.dmac, lookup.smac);
    true
}

#[inline(always)]
fn ask(ctx: &XdpContext, lookup: &mut FibLookup, flags: u32) -> FibAnswer {
    // SAFETY: the helper reads and writes `size_of::<FibLookup>()` bytes of our stack, and reads the context.
    let answer =
        unsafe { bpf_fib_lookup(ctx.ctx.cast(), &raw mut *lookup, size_of::<FibLookup>() as i32, flags) };
    FibAnswer(answer as i64)
}

/// A single tag that the config lists for this device.
#[inline(always)]
fn tag_admitted(link: &Link) -> bool {
    if VLANS.load() == 0 || link.vlans > 1 {
        return false;
    }
    WEIR_INGRESS.get(INGRESS_INDEX.load()).is_some_and(|config| vlan_listed(&config.vlans, link.outer_vid))
}

/// The routing question. `tot_len` makes the kernel check the MTU; ports stay zero, so routes by port do not match.
#[inline(always)]
fn request(l3: &L3, ifindex: u32) -> FibLookup {
    // SAFETY: all-zero bytes are a valid `bpf_fib_lookup`: integers, arrays and unions of them.
    let mut lookup: FibLookup = unsafe { core::mem::zeroed() };
    lookup.ifindex = ifindex;
    match l3 {
        L3::V4(v4) => {
            lookup.family = AF_INET;
            lookup.l4_protocol = v4.protocol();
            lookup.__bindgen_anon_1.tot_len = v4.total_len();
            lookup.__bindgen_anon_2.tos = v4.tos();
            lookup.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes(v4.src());
            lookup.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(v4.dst());
        }
        L3::V6(v6) => {
            lookup.family = AF_INET6;
            lookup.l4_protocol = v6.next_header();
            lookup.__bindgen_anon_1.tot_len = v6.total_len() as u16;
            lookup.__bindgen_anon_2.flowinfo =
                (u32::from(v6.traffic_class()) << 20 | v6.flow_label()).to_be();
            lookup.__bindgen_anon_3.ipv6_src = words(v6.src());
            lookup.__bindgen_anon_4.ipv6_dst = words(v6.dst());
        }
        L3::Other => {}
    }
    lookup
}

#[inline(always)]
fn words(address: [u8; 16]) -> [u32; 4] {
    // SAFETY: both are 16 bytes of plain data.
    unsafe { core::mem::transmute::<[u8; 16], [u32; 4]>(address) }
}
