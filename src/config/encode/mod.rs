//! From a checked port and the facts of its device to the bytes that the programs read.
//!
//! Pure: the facts come in. Defaults that depend on rate and MTU are resolved here, the only place that knows both.

use thiserror::Error;
use weir_aqm::overhead::Framing;
use weir_aqm::{Bytes, LinkLayer, Nanos, Pace};
use weir_shared_maps::{
    AQM_CODEL, AQM_L4S, AQM_NONE, AQM_PI2, AQM_PIE, BATCH_MAX, FLAG_ECN, FLAG_HEAD_SOJOURN, FLAG_TC,
    FRAMING_ATM, FRAMING_NONE, FRAMING_PTM, IngressConfig, MODE_BOTTLENECK, MODE_POLICER, MODE_VIRTUAL,
    PAUSE_LINK, PAUSE_OFF, PAUSE_PRIORITY, PortConfig, PortRoute, STACK_CHARGE, STACK_DECIDE, STACK_IGNORE,
    VLAN_WORDS,
};

use super::aqm::MAX_LIMIT;
use super::model::{Algorithm, Aqm, Ingress, Mode, PauseKind, Port, Sojourn, Stack};
use super::policy::encode as policy;
use super::times::{Gains, Times, limit_for_classes};

/// What is known of a port's device when it is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortFacts {
    /// Interface index.
    pub ifindex: u32,
    /// Index of the port's first ring in the ring maps.
    pub ring_base: u32,
    /// TX rings in use, at least 1.
    pub rings: u32,
    /// Rings that the device may come to use, at least as many; the ring maps have room for them.
    pub rings_max: u32,
    /// CPUs that may send to one ring at a time.
    pub senders: u32,
    /// Slots of one ring; 0 where unknown.
    pub ring_slots: u32,
    /// Whether the observer has a recipe for the driver's ring.
    pub ring_readable: bool,
    /// The device's MTU in bytes, without the Ethernet header.
    pub mtu: u32,
    /// Inode number of the network namespace.
    pub netns_inum: u32,
}

#[cfg(test)]
impl PortFacts {
    /// A tap as it is made: one ring, which can be read.
    pub(crate) const TAP: Self = Self {
        ifindex: 7,
        ring_base: 0,
        rings: 1,
        rings_max: 1,
        senders: 1,
        ring_slots: 1_000,
        ring_readable: true,
        mtu: 1_500,
        netns_inum: 1,
    };
}

/// Why a port that is fine in the file does not fit its device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The ring cannot be read and no rate stands in for it.
    #[error(
        "port {device}: the TX ring of this driver cannot be read, so the port needs a `rate` (the link's real rate) \
         for the virtual queue that stands for the ring"
    )]
    RateNeeded {
        /// The port's device.
        device: String,
    },
    /// Outside of 64 kbit/s to 400 Gbit/s; never for a [`Port`] that was checked.
    #[error("port {device}: a rate of {bits_per_second} bit/s is outside of 64 kbit/s to 400 Gbit/s")]
    RateOutOfRange {
        /// The port's device.
        device: String,
        /// The rate.
        bits_per_second: u64,
    },
    /// Less burst than one frame of the device's MTU.
    #[error(
        "port {device}: burst = {burst} bytes, but one full frame of this device (MTU {mtu}) takes {frame} bytes and \
         would never pass"
    )]
    BurstBelowFrame {
        /// The port's device.
        device: String,
        /// The configured burst.
        burst: u64,
        /// The device's MTU.
        mtu: u32,
        /// A full frame with overhead.
        frame: u64,
    },
    /// The reserve takes the whole ring.
    #[error(
        "port {device}: reserve = {reserve} slots, but the TX ring has {slots}; at most half of it may stay free"
    )]
    ReserveTooLarge {
        /// The port's device.
        device: String,
        /// The configured reserve.
        reserve: u32,
        /// Slots of the ring.
        slots: u32,
    },
}

/// Bytes of an Ethernet header.
const ETH_HLEN: u32 = 14;
/// One NAPI poll (`NAPI_POLL_WEIGHT`, `include/linux/netdevice.h` at v6.18): what the stack may send beside redirected frames.
const RESERVE: u32 = 64;
const HOLD_MIN: Nanos = Nanos::from_millis(10);
const HOLD_MAX: Nanos = Nanos::from_millis(100);
/// Default burst of a policer. Nothing waits behind it, so TCP learns of the rate by losses alone, and after each it needs time to
/// come back: with 50 ms four CUBIC flows of 20 ms round-trip time have all of the rate (docs/rate-accuracy.md). More would
/// stand in the buffer of whatever is slower behind the port.
pub(super) const POLICER_BURST_TIME: Nanos = Nanos::from_millis(50);
const BURST_FRAMES: u64 = 10;

/// The port's entry in the config map.
///
/// # Errors
///
/// The port does not fit its device, see [`EncodeError`].
pub fn port_config(port: &Port, facts: &PortFacts) -> Result<PortConfig, EncodeError> {
    let pace = pace(port)?;
    let mode = match (port.mode, facts.ring_readable) {
        (Mode::Policer | Mode::Tc | Mode::Auto, _) => MODE_POLICER,
        (Mode::Bottleneck, true) => MODE_BOTTLENECK,
        (Mode::Bottleneck, false) if pace.is_some() => MODE_VIRTUAL,
        (Mode::Bottleneck, false) => return Err(EncodeError::RateNeeded { device: port.device.to_string() }),
    };
    let max_packet_bytes = facts.mtu.saturating_add(ETH_HLEN);
    let frame = wire_bytes(port, max_packet_bytes);
    let frame_time = pace.map_or(Nanos::ZERO, |pace| pace.time_for_rounded_up(frame));
    let burst_time = burst_time(port, facts, pace, frame)?;
    let aqm = patient(port, port.aqm);
    let times = Times::of(&aqm, port.mode, frame_time, burst_time, ring_time(port, facts, frame_time));
    let gains = Gains::of(&aqm, &times, Bytes::new(u64::from(max_packet_bytes)));
    let limit = match port.mode {
        Mode::Bottleneck if !port.classes.is_empty() => {
            times.ring_limit.max(limit_for_classes(port, frame_time))
        }
        Mode::Bottleneck | Mode::Policer | Mode::Tc | Mode::Auto => times.limit,
    };
    Ok(PortConfig {
        target_ns: times.target.as_nanos(),
        interval_ns: times.interval.as_nanos(),
        limit_ns: limit.as_nanos(),
        burst_ns: burst_time.as_nanos(),
        signal_low_ns: limit.as_nanos() / 4 * 3,
        signal_hold_ns: limit.clamp(HOLD_MIN, HOLD_MAX).as_nanos(),
        t_update_ns: gains.t_update.as_nanos(),
        ifindex: facts.ifindex,
        mode,
        aqm: algorithm(&port.aqm, port.mode),
        flags: flags(&port.aqm) | if port.mode == Mode::Tc { FLAG_TC } else { 0 },
        ring_base: facts.ring_base,
        rings: facts.rings,
        ring_slots: facts.ring_slots,
        reserve_slots: reserve(port, facts)?,
        pace_mult: pace.map_or(0, Pace::mult),
        pace_shift: pace.map_or(0, Pace::shift),
        overhead_bytes: port.overhead,
        mpu_bytes: port.mpu,
        max_packet_bytes,
        alpha: gains.alpha,
        beta: gains.beta,
        netns_inum: facts.netns_inum,
        framing: framing(port),
        // At most MAX_CLASSES.
        classes: port.classes.len() as u32,
        default_class: port.default_class as u32,
        side: u32::from(policy::side(port.subscribers)),
        stack: stack(port),
        pause: match port.pause {
            PauseKind::Off => PAUSE_OFF,
            PauseKind::Link => PAUSE_LINK,
            PauseKind::Priority => PAUSE_PRIORITY,
        },
    })
}

/// What ingress must know of the port `index`; the flags depend on its driver.
pub fn port_route(index: u32, port: &Port, facts: &PortFacts) -> PortRoute {
    PortRoute {
        port: index,
        ring_base: facts.ring_base,
        rings: facts.rings,
        // At most MAX_CLASSES.
        default_class: port.default_class as u16,
        side: policy::side(port.subscribers),
        flags: 0,
    }
}

/// An AQM of the port, without a limit where none is given and senders are asked to wait: what they had on the way is to
/// be lost for no age.
pub(super) fn patient(port: &Port, aqm: Aqm) -> Aqm {
    match port.pause {
        PauseKind::Off => aqm,
        PauseKind::Link | PauseKind::Priority => Aqm { limit: aqm.limit.or(Some(MAX_LIMIT)), ..aqm },
    }
}

/// `AQM_*` of an AQM on a port of this mode.
pub(super) const fn algorithm(aqm: &Aqm, mode: Mode) -> u32 {
    match aqm.algorithm_in(mode) {
        Algorithm::Codel => AQM_CODEL,
        Algorithm::Pi2 => AQM_PI2,
        Algorithm::Pie => AQM_PIE,
        Algorithm::L4s => AQM_L4S,
        Algorithm::None => AQM_NONE,
    }
}

/// `STACK_*` of a port.
const fn stack(port: &Port) -> u32 {
    match port.stack {
        Stack::Decide => STACK_DECIDE,
        Stack::Charge => STACK_CHARGE,
        Stack::Ignore => STACK_IGNORE,
    }
}

/// `FRAMING_*` of a port.
const fn framing(port: &Port) -> u32 {
    match port.framing {
        Framing::None => FRAMING_NONE,
        Framing::Atm => FRAMING_ATM,
        Framing::Ptm => FRAMING_PTM,
    }
}

/// The ingress device's entry in the config map. `mac` is the device's address in the order of the wire.
pub fn ingress_config(ingress: &Ingress, ifindex: u32, mac: [u8; 6]) -> IngressConfig {
    let [a, b, c, d, e, f] = mac;
    let mut vlans = [0_u64; VLAN_WORDS];
    for vlan in &ingress.vlans {
        if let Some(word) = vlans.get_mut(usize::from(vlan.get()) / 64) {
            *word |= 1 << (vlan.get() % 64);
        }
    }
    IngressConfig { mac: u64::from_le_bytes([a, b, c, d, e, f, 0, 0]), ifindex, reserved: 0, vlans }
}

fn pace(port: &Port) -> Result<Option<Pace>, EncodeError> {
    let Some(rate) = port.rate else { return Ok(None) };
    let out_of_range = || EncodeError::RateOutOfRange {
        device: port.device.to_string(),
        bits_per_second: rate.bits_per_second(),
    };
    rate.pace().map(Some).ok_or_else(out_of_range)
}

/// What a frame of `len` bytes takes on the wire.
fn wire_bytes(port: &Port, len: u32) -> Bytes {
    let link = LinkLayer { overhead: port.overhead, mpu: port.mpu, framing: port.framing, ..LinkLayer::RAW };
    link.adjusted(Bytes::new(u64::from(len)))
}

fn burst_time(
    port: &Port,
    facts: &PortFacts,
    pace: Option<Pace>,
    frame: Bytes,
) -> Result<Nanos, EncodeError> {
    let (true, Some(pace)) = (port.mode.has_meter(), pace) else { return Ok(Nanos::ZERO) };
    match port.burst {
        None => Ok(pace.time_for_rounded_up(frame.saturating_mul(BURST_FRAMES)).max(POLICER_BURST_TIME)),
        Some(burst) if burst < frame => Err(EncodeError::BurstBelowFrame {
            device: port.device.to_string(),
            burst: burst.get(),
            mtu: facts.mtu,
            frame: frame.get(),
        }),
        Some(burst) => Ok(pace.time_for_rounded_up(burst)),
    }
}

/// The sojourn of a full ring of full frames, where ring and rate are known and the ring is the queue.
fn ring_time(port: &Port, facts: &PortFacts, frame_time: Nanos) -> Option<Nanos> {
    let known = port.mode == Mode::Bottleneck && facts.ring_slots > 0 && frame_time > Nanos::ZERO;
    known.then(|| frame_time.saturating_mul(u64::from(facts.ring_slots)))
}

/// Slots that must be free for no batch ever to meet a full ring: each CPU that may send reads the occupancy before its
/// batch of sixteen, so that all but the last add a batch which the last has not seen; and a `ptr_ring`'s consumer frees its
/// slots in groups of up to sixteen (`include/linux/ptr_ring.h` at v6.18).
pub const fn reserve_needed(facts: &PortFacts) -> u32 {
    facts.senders.saturating_mul(BATCH_MAX as u32)
}

/// What is needed, and a share beside it that never takes a small ring: 64 slots, a quarter of a ring below 256.
fn reserve(port: &Port, facts: &PortFacts) -> Result<u32, EncodeError> {
    match (port.reserve, facts.ring_slots) {
        (None, 0) => Ok(RESERVE.max(reserve_needed(facts))),
        (None, slots) => Ok(RESERVE.min(slots / 4).max(reserve_needed(facts)).min(slots / 2)),
        (Some(reserve), slots) if slots > 0 && reserve > slots / 2 => {
            Err(EncodeError::ReserveTooLarge { device: port.device.to_string(), reserve, slots })
        }
        (Some(reserve), _) => Ok(reserve),
    }
}

/// `FLAG_*` of an AQM.
pub(super) fn flags(aqm: &Aqm) -> u32 {
    let ecn = if aqm.ecn { FLAG_ECN } else { 0 };
    let sojourn = match aqm.sojourn {
        Sojourn::Predicted => 0,
        Sojourn::Head => FLAG_HEAD_SOJOURN,
    };
    ecn | sojourn
}

#[cfg(test)]
mod tests;
