//! What a reader finds, in words and numbers for people and programs.

use std::collections::BTreeMap;

use serde::Serialize;
use weir_shared_maps::{CounterId as _, IngressCounter, PortCounter};

use crate::config::back_off::RunningBackOff;
use crate::config::decode::{RunningClass, RunningPort};

/// Everything at one moment. Counters keep moving while it is taken: sums are exact once traffic has drained.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub taken_ns: u64,
    /// The instance.
    pub instance: String,
    /// One per ingress device.
    pub ingress: Vec<IngressSnapshot>,
    /// One per port.
    pub ports: Vec<PortSnapshot>,
    /// Runs of the observers that the kernel skipped, by program.
    pub skipped_runs: BTreeMap<&'static str, u64>,
}

/// One ingress device.
#[derive(Clone, Debug, Serialize)]
pub struct IngressSnapshot {
    /// Its name.
    pub device: String,
    /// Interface index.
    pub ifindex: u32,
    /// [`IngressCounter`] by name.
    pub counters: BTreeMap<&'static str, u64>,
    /// Frames the program saw.
    pub received: u64,
    /// `received` less all outcomes.
    pub unaccounted: i64,
}

/// One port.
#[derive(Clone, Debug, Serialize)]
pub struct PortSnapshot {
    /// Its name.
    pub device: String,
    /// Interface index.
    pub ifindex: u32,
    /// `bottleneck`, `policer`, `tc`, `virtual` or `meter`.
    pub mode: &'static str,
    /// Why, where the file says `auto`.
    pub mode_reason: Option<String>,
    /// Whether the ring can be read.
    pub observed: bool,
    /// The driver.
    pub driver: String,
    /// The map's entry.
    pub config: RunningPort,
    /// [`PortCounter`] by name.
    pub counters: BTreeMap<&'static str, u64>,
    /// Those that are losses, by cause.
    pub drops: BTreeMap<&'static str, u64>,
    /// Frames egress saw, and those of the stack that it dropped, less those sent and those lost with a cause.
    pub unaccounted: i64,
    /// What ingress does while a signal stands, where the whole port is one class.
    pub back_off: Option<RunningBackOff>,
    /// One per class; empty where the whole port is one.
    pub classes: Vec<ClassSnapshot>,
    /// One per TX ring.
    pub rings: Vec<RingSnapshot>,
}

/// One class of a port.
#[derive(Clone, Debug, Serialize)]
pub struct ClassSnapshot {
    /// Its name.
    pub name: String,
    /// Whether it is the class of what no rule and no plan assigns.
    pub default: bool,
    /// The map's entry.
    pub config: RunningClass,
    /// What ingress does while a signal stands.
    pub back_off: RunningBackOff,
    /// [`ClassCounter`] by name.
    pub counters: BTreeMap<&'static str, u64>,
}

/// One TX ring.
#[derive(Clone, Debug, Serialize)]
pub struct RingSnapshot {
    /// Its index in the port.
    pub index: u32,
    /// Slots.
    pub slots: u32,
    /// Frames in it at the last observation.
    pub occupancy: u32,
    /// Most frames seen.
    pub occupancy_max: u32,
    /// Bytes in it.
    pub backlog_bytes: u64,
    /// Sojourn of its oldest frame.
    pub head_sojourn_ns: u64,
    /// Predicted sojourn of an arriving frame.
    pub predicted_ns: u64,
    /// Drain rate in bits per second, once known.
    pub drain_bps: Option<u64>,
    /// `clear`, `congested` or `full`, at the moment of the snapshot.
    pub signal: &'static str,
    /// How often `full` was entered.
    pub signal_raised: u32,
    /// How far the ring is on its way to full, from 0 to 1.
    pub pressure: f64,
    /// Time spent in each level since the first observation, the running one included.
    pub held_ns: HeldSnapshot,
    /// For how long the link partner still pauses the port; 0 where it does not.
    pub paused_ns: u64,
    /// When the ring was last looked at.
    pub observed_ns: u64,
}

/// Time spent in each level of a ring's signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HeldSnapshot {
    /// Nothing stood.
    pub clear: u64,
    /// A queue stood.
    pub congested: u64,
    /// The ring took no more.
    pub full: u64,
}

impl Snapshot {
    /// Frames that came in, less those sent, passed to the stack and lost with a cause, over the whole instance:
    /// the conservation that weir promises. Zero once traffic has drained.
    pub fn unaccounted(&self) -> i64 {
        let count = |counters: &BTreeMap<&'static str, u64>, name: &str| {
            counters.get(name).copied().unwrap_or(0).cast_signed()
        };
        let ingress: i64 = self
            .ingress
            .iter()
            .map(|i| i.unaccounted + count(&i.counters, IngressCounter::Redirected.name()))
            .sum();
        let ports: i64 = self
            .ports
            .iter()
            .map(|p| {
                count(&p.counters, PortCounter::Seen.name())
                    + count(&p.counters, PortCounter::RedirectErrors.name())
                    - p.unaccounted
            })
            .sum();
        ingress - ports
    }
}
