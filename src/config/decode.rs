//! From the bytes of a port's map entry back to values that people read: what runs, not what was asked for.

use serde::Serialize;
use weir_aqm::Pace;
use weir_egress::wire_bytes;
use weir_shared_maps::{
    AQM_CODEL, AQM_L4S, AQM_NONE, AQM_PI2, AQM_PIE, ClassConfig, FLAG_ECN, FLAG_HEAD_SOJOURN, FLAG_TC,
    FRAMING_ATM, FRAMING_NONE, FRAMING_PTM, MODE_BOTTLENECK, MODE_METER, MODE_NONE, MODE_POLICER,
    MODE_VIRTUAL, PAUSE_LINK, PAUSE_OFF, PAUSE_PRIORITY, PlanConfig, PlanRates, PortConfig, STACK_CHARGE,
    STACK_DECIDE, STACK_IGNORE,
};

use super::aqm::MAX_LIMIT;
use super::model::PauseKind;

/// A port's parameters as they stand in the map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunningPort {
    /// `bottleneck`, `policer`, `tc`, `virtual`, `meter`, `unused`, or `unknown`.
    pub mode: &'static str,
    /// What becomes of the stack's frames: `decide`, `charge`, `ignore`, or `unknown`.
    pub stack: &'static str,
    /// `codel`, `pi2`, `pie`, `none`, or `unknown`.
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
    /// How the link cuts frames up: `none`, `atm`, `ptm`, or `unknown`.
    pub framing: &'static str,
    /// Largest frame, MTU and Ethernet header.
    pub max_packet_bytes: u32,
    /// How whoever feeds the port is asked to stop: `off`, `802.3x`, `pfc`, or `unknown`.
    pub pause: &'static str,
    /// What the largest frame costs on the link: with overhead, at least `mpu_bytes`, in whole cells or blocks.
    pub max_packet_wire_bytes: u64,
    /// The same of the smallest frame, 60 bytes (IEEE 802.3 clause 4.4.2, without the check sequence).
    pub min_packet_wire_bytes: u64,
}

/// The smallest Ethernet frame without its check sequence.
pub const MIN_FRAME: u32 = 60;

/// A class's parameters as they stand in the map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunningClass {
    /// 0 is served first.
    pub priority: u32,
    /// Share of spare rate.
    pub weight: u32,
    /// Guaranteed rate in bits per second.
    pub rate_bps: Option<u64>,
    /// Rate that borrowing may reach.
    pub ceil_bps: Option<u64>,
    /// `codel`, `pi2`, `pie`, `l4s`, `none`, or `unknown`.
    pub algorithm: &'static str,
    /// The AQM's target.
    pub target_ns: u64,
}

/// Reads a class's map entry.
pub fn running_class(config: &ClassConfig) -> RunningClass {
    RunningClass {
        priority: config.priority,
        weight: config.weight,
        rate_bps: bits_of(config.rate_pace),
        ceil_bps: bits_of(config.ceil_pace),
        algorithm: algorithm_name(config.aqm),
        target_ns: config.target_ns,
    }
}

/// A plan's rates as they stand in the map, in bits per second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunningPlan {
    /// Towards the subscriber: guaranteed, and what borrowing may reach.
    pub down_bps: Option<(u64, u64)>,
    /// From the subscriber.
    pub up_bps: Option<(u64, u64)>,
}

/// Reads a plan's map entry.
pub fn running_plan(config: &PlanConfig) -> RunningPlan {
    let rates = |rates: &PlanRates| Some((bits_of(rates.rate_pace)?, bits_of(rates.ceil_pace)?));
    RunningPlan { down_bps: rates(&config.down), up_bps: rates(&config.up) }
}

fn bits_of(pace_word: u64) -> Option<u64> {
    weir_egress::pace_of_word(pace_word).map(Pace::bits_per_second)
}

fn algorithm_name(aqm: u32) -> &'static str {
    match aqm {
        AQM_CODEL => "codel",
        AQM_PI2 => "pi2",
        AQM_PIE => "pie",
        AQM_L4S => "l4s",
        AQM_NONE => "none",
        _ => "unknown",
    }
}

/// Reads a port's map entry.
pub fn running_port(config: &PortConfig) -> RunningPort {
    RunningPort {
        mode: if config.flags & FLAG_TC == 0 { mode_name(config.mode) } else { "tc" },
        stack: match config.stack {
            STACK_DECIDE => "decide",
            STACK_CHARGE => "charge",
            STACK_IGNORE => "ignore",
            _ => "unknown",
        },
        algorithm: algorithm_name(config.aqm),
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
        framing: match config.framing {
            FRAMING_NONE => "none",
            FRAMING_ATM => "atm",
            FRAMING_PTM => "ptm",
            _ => "unknown",
        },
        max_packet_bytes: config.max_packet_bytes,
        pause: match config.pause {
            PAUSE_OFF => PauseKind::Off.name(),
            PAUSE_LINK => PauseKind::Link.name(),
            PAUSE_PRIORITY => PauseKind::Priority.name(),
            _ => "unknown",
        },
        max_packet_wire_bytes: wire_bytes(config, config.framing, config.max_packet_bytes).get(),
        min_packet_wire_bytes: wire_bytes(config, config.framing, MIN_FRAME).get(),
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
        let facts = PortFacts { ifindex: 1, ring_slots: 500, ..PortFacts::TAP };
        let running = running_port(&port_config(&config.ports[0], &facts).unwrap());
        assert_eq!((running.mode, running.algorithm, running.sojourn), ("policer", "pi2", "head"));
        assert_eq!((running.ecn, running.overhead_bytes, running.ring_slots), (false, -4, 500));
        assert_eq!((running.target_ns, running.limit_ns), (15_000_000, Some(50_000_000)));
        assert!(
            running.rate_bps.is_some_and(|bits| bits.abs_diff(20_000_000) <= 1),
            "{:?}",
            running.rate_bps
        );
    }
}
