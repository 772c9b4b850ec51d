//! From the bytes of a port's map entry back to values that people read: what runs, not what was asked for.

use serde::Serialize;
use weir_aqm::Pace;
use weir_shared_maps::{
    AQM_CODEL, AQM_NONE, AQM_PI2, FLAG_ECN, FLAG_HEAD_SOJOURN, MODE_BOTTLENECK, MODE_METER, MODE_NONE,
    MODE_POLICER, MODE_VIRTUAL, PortConfig,
};

use super::validate::MAX_LIMIT;

/// A port's parameters as they stand in the map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunningPort {
    /// `bottleneck`, `policer`, `virtual`, `meter`, `unused`, or `unknown`.
    pub mode: &'static str,
    /// `codel`, `pi2`, `none`, or `unknown`.
    pub algorithm: &'static str,
    /// `predicted` or `head`.
    pub sojourn: &'static str,
    /// Whether ECN-capable packets are marked.
    pub ecn: bool,
    /// Configured rate in bits per second, within 1 bit/s or 2^-31.
    pub rate_bps: Option<u64>,
    /// The AQM's target.
    pub target_ns: u64,
    /// The AQM's interval.
    pub interval_ns: u64,
    /// Hard limit on the sojourn; `None` without an AQM.
    pub limit_ns: Option<u64>,
    /// Burst tolerance of the meter; 0 but for a policer.
    pub burst_ns: u64,
    /// Bytes added to each frame.
    pub overhead_bytes: i32,
    /// Smallest size of a frame.
    pub mpu_bytes: u32,
    /// Slots of a ring; 0 where unknown.
    pub ring_slots: u32,
    /// Slots kept free.
    pub reserve_slots: u32,
    /// Largest frame, MTU and Ethernet header.
    pub max_packet_bytes: u32,
}

/// Reads a port's map entry.
pub fn running_port(config: &PortConfig) -> RunningPort {
    RunningPort {
        mode: mode_name(config.mode),
        algorithm: match config.aqm {
            AQM_CODEL => "codel",
            AQM_PI2 => "pi2",
            AQM_NONE => "none",
            _ => "unknown",
        },
        sojourn: if config.flags & FLAG_HEAD_SOJOURN == 0 { "predicted" } else { "head" },
        ecn: config.flags & FLAG_ECN != 0,
        rate_bps: Pace::from_parts(config.pace_mult, config.pace_shift).map(Pace::bits_per_second),
        target_ns: config.target_ns,
        interval_ns: config.interval_ns,
        limit_ns: (config.limit_ns < MAX_LIMIT.as_nanos()).then_some(config.limit_ns),
        burst_ns: config.burst_ns,
        overhead_bytes: config.overhead_bytes,
        mpu_bytes: config.mpu_bytes,
        ring_slots: config.ring_slots,
        reserve_slots: config.reserve_slots,
        max_packet_bytes: config.max_packet_bytes,
    }
}

/// The name of a `MODE_*` value.
pub fn mode_name(mode: u32) -> &'static str {
    match mode {
        MODE_NONE => "unused",
        MODE_BOTTLENECK => "bottleneck",
        MODE_POLICER => "policer",
        MODE_VIRTUAL => "virtual",
        MODE_METER => "meter",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::encode::{PortFacts, port_config};

    #[test]
    fn what_was_encoded_reads_back() {
        let text = "[[ingress]]\ndevice = \"lan0\"\n[[port]]\ndevice = \"wan0\"\nmode = \"policer\"\nrate = \"20mbit\"\n\
                    overhead = -4\n[port.aqm]\nalgorithm = \"pi2\"\ntarget = \"15ms\"\necn = false\nsojourn = \"head\"\n";
        let config = Config::from_toml_str("t.toml", text).unwrap();
        let facts = PortFacts {
            ifindex: 1,
            ring_base: 0,
            rings: 1,
            ring_slots: 500,
            ring_readable: true,
            mtu: 1_500,
            netns_inum: 1,
        };
        let running = running_port(&port_config(&config.ports[0], &facts).unwrap());
        assert_eq!((running.mode, running.algorithm, running.sojourn), ("policer", "pi2", "head"));
        assert_eq!((running.ecn, running.overhead_bytes, running.ring_slots), (false, -4, 500));
        assert_eq!((running.target_ns, running.limit_ns), (15_000_000, Some(45_000_000)));
        assert!(
            running.rate_bps.is_some_and(|bits| bits.abs_diff(20_000_000) <= 1),
            "{:?}",
            running.rate_bps
        );
    }
}
