//! What runs, read from the pinned maps: by the daemon itself, `weir status`, the exporter and the lab.

use std::{collections::BTreeMap, fs, path::Path};

use aya::{
    Pod,
    maps::{Array, Map, MapData, MapInfo, PerCpuArray},
};
use weir_aqm::{Level, Nanos};
use weir_shared_maps::{
    BackOff, ClassConfig, ClassCounter, ClassCounters, CounterId, IngressCounter, IngressCounters,
    MAX_CLASSES, PlanConfig, PortConfig, PortCounter, PortCounters, RingState, names,
};

use super::manifest::{Manifest, ManifestIngress, ManifestPort};
use super::{Error, Result, pins, roster::Roster, skipped::Observers};
use crate::config::back_off::{self, RunningBackOff};
use crate::config::decode::{RunningPlan, running_class, running_plan, running_port};

pub use super::snapshot::{
    ClassSnapshot, HeldSnapshot, IngressSnapshot, PortSnapshot, RingSnapshot, Snapshot,
};

/// Reads one instance's maps.
pub struct Reader {
    manifest: Manifest,
    ports: Array<MapData, PortConfig>,
    rings: Array<MapData, RingState>,
    ingress_counters: PerCpuArray<MapData, IngressCounters>,
    port_counters: PerCpuArray<MapData, PortCounters>,
    classes: Array<MapData, ClassConfig>,
    class_counters: PerCpuArray<MapData, ClassCounters>,
    back_off: Array<MapData, BackOff>,
    observers: Observers,
}

impl Reader {
    /// Opens the maps of a running instance. Their types and sizes are compared with this build's first.
    ///
    /// # Errors
    ///
    /// [`Error::NoInstance`], [`Error::Abi`], [`Error::Pin`], [`Error::Map`].
    pub fn open(instance: &str) -> Result<Self> {
        let directory = pins::directory(instance);
        let manifest = pins::manifest(instance);
        let none = || Error::NoInstance { instance: instance.to_owned(), path: directory.clone() };
        if !directory.exists() {
            return Err(none());
        }
        let text = fs::read_to_string(&manifest).map_err(|_| none())?;
        let manifest =
            serde_json::from_str(&text).map_err(|e| Error::Pin { path: manifest, source: Box::new(e) })?;
        Ok(Self {
            manifest,
            ports: array(&directory, names::MAP_PORTS)?,
            rings: array(&directory, names::MAP_RINGS)?,
            ingress_counters: per_cpu(&directory, names::MAP_INGRESS_COUNTERS)?,
            port_counters: per_cpu(&directory, names::MAP_PORT_COUNTERS)?,
            classes: array(&directory, names::MAP_CLASSES)?,
            class_counters: per_cpu(&directory, names::MAP_CLASS_COUNTERS)?,
            back_off: array(&directory, names::MAP_BACK_OFF)?,
            observers: Observers::open(&pins::programs(instance)),
        })
    }

    /// Process id of the daemon that started the instance.
    pub fn pid(&self) -> u32 {
        self.manifest.pid
    }

    /// Devices of the ports, by index.
    pub fn port_names(&self) -> Vec<String> {
        self.manifest.ports.iter().map(|port| port.device.clone()).collect()
    }

    /// Reads everything.
    ///
    /// # Errors
    ///
    /// [`Error::Map`], [`Error::Os`].
    pub fn snapshot(&self) -> Result<Snapshot> {
        let taken_ns = crate::lab::clock::now_ns();
        let ingress = self.manifest.ingress.iter().enumerate().map(|(i, m)| self.ingress(i as u32, m));
        let ports = self.manifest.ports.iter().enumerate().map(|(i, m)| self.port(i as u32, m, taken_ns));
        Ok(Snapshot {
            taken_ns,
            instance: self.manifest.instance.clone(),
            ingress: ingress.collect::<Result<_>>()?,
            ports: ports.collect::<Result<_>>()?,
            skipped_runs: self.observers.skipped().map_err(Error::os("read the observers' skipped runs"))?,
        })
    }

    /// Names and indices of the instance's plans and subscribers, as the last reload left them.
    ///
    /// # Errors
    ///
    /// [`Error::Os`], [`Error::Roster`].
    pub fn roster(&self) -> Result<Roster> {
        Roster::load(&pins::roster(&self.manifest.instance))
    }

    /// The plan `index` as it stands in the map.
    ///
    /// # Errors
    ///
    /// [`Error::Pin`], [`Error::Abi`], [`Error::Map`].
    pub fn plan(&self, index: u32) -> Result<RunningPlan> {
        let plans: Array<MapData, PlanConfig> =
            array(&pins::directory(&self.manifest.instance), names::MAP_PLANS)?;
        Ok(running_plan(&plans.get(&index, 0).map_err(Error::map(names::MAP_PLANS))?))
    }

    fn classes(&self, port: u32, manifest: &ManifestPort) -> Result<Vec<ClassSnapshot>> {
        let classes = (0_u32..).zip(&manifest.classes).map(|(index, name)| {
            let at = port * MAX_CLASSES + index;
            let config = self.classes.get(&at, 0).map_err(Error::map(names::MAP_CLASSES))?;
            let values = self.class_counters.get(&at, 0).map_err(Error::map(names::MAP_CLASS_COUNTERS))?;
            Ok(ClassSnapshot {
                name: name.clone(),
                default: index as usize == manifest.default_class,
                config: running_class(&config),
                back_off: self.back_off(at)?,
                counters: sum::<ClassCounter>(values.iter().map(|v| &v.slots)),
            })
        });
        classes.collect()
    }

    fn back_off(&self, entry: u32) -> Result<RunningBackOff> {
        let found = self.back_off.get(&entry, 0).map_err(Error::map(names::MAP_BACK_OFF))?;
        let ports = &self.manifest.ports;
        let name =
            |ifindex| ports.iter().find(|port| port.ifindex == ifindex).map(|port| port.device.clone());
        Ok(back_off::running(&found, name))
    }

    /// State of one ring, for the lab's time series: a single map read.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn ring(&self, index: u32) -> Result<RingState> {
        self.rings.get(&index, 0).map_err(Error::map(names::MAP_RINGS))
    }

    fn ingress(&self, index: u32, manifest: &ManifestIngress) -> Result<IngressSnapshot> {
        let values = self.ingress_counters.get(&index, 0).map_err(Error::map(names::MAP_INGRESS_COUNTERS))?;
        let counters = sum::<IngressCounter>(values.iter().map(|v| &v.slots));
        let received = of(&counters, IngressCounter::Received);
        let outcomes: u64 = counters.values().sum::<u64>().saturating_sub(received);
        Ok(IngressSnapshot {
            device: manifest.device.clone(),
            ifindex: manifest.ifindex,
            received,
            unaccounted: received.wrapping_sub(outcomes).cast_signed(),
            counters,
        })
    }

    fn port(&self, index: u32, manifest: &ManifestPort, now_ns: u64) -> Result<PortSnapshot> {
        let config = self.ports.get(&index, 0).map_err(Error::map(names::MAP_PORTS))?;
        let values = self.port_counters.get(&index, 0).map_err(Error::map(names::MAP_PORT_COUNTERS))?;
        let counters = sum::<PortCounter>(values.iter().map(|v| &v.slots));
        let drops: BTreeMap<_, _> =
            EGRESS_DROPS.iter().chain(&OTHER_DROPS).map(|c| (c.name(), of(&counters, *c))).collect();
        let egress: u64 = EGRESS_DROPS.iter().map(|c| of(&counters, *c)).sum();
        let behind = [PortCounter::Sent, PortCounter::RingDrops, PortCounter::Unobserved];
        let out = behind.iter().map(|c| of(&counters, *c)).sum::<u64>() + egress;
        // Causes are counted whichever way a frame came; what the stack sends and is let through goes to its qdisc.
        let judged = of(&counters, PortCounter::Seen) + of(&counters, PortCounter::StackDropped);
        let rings = (0..config.rings).map(|ring| {
            let state = self.ring(config.ring_base + ring)?;
            Ok(ring_snapshot(ring, &state, now_ns))
        });
        let running = running_port(&config);
        Ok(PortSnapshot {
            device: manifest.device.clone(),
            ifindex: manifest.ifindex,
            mode: running.mode,
            mode_reason: manifest.mode_reason.clone(),
            observed: manifest.observed,
            driver: manifest.driver.clone(),
            unaccounted: judged.wrapping_sub(out).cast_signed(),
            config: running,
            counters,
            drops,
            back_off: if manifest.classes.is_empty() {
                Some(self.back_off(index * MAX_CLASSES)?)
            } else {
                None
            },
            classes: self.classes(index, manifest)?,
            rings: rings.collect::<Result<_>>()?,
        })
    }
}

/// Losses that egress itself decided.
const EGRESS_DROPS: [PortCounter; 10] = [
    PortCounter::DropAqm,
    PortCounter::DropLimit,
    PortCounter::DropAdmission,
    PortCounter::DropPolicer,
    PortCounter::DropCeil,
    PortCounter::DropShare,
    PortCounter::DropSubscriber,
    PortCounter::DropFairness,
    PortCounter::DropColour,
    PortCounter::DropBusy,
];

/// Losses at a port before egress and after it.
const OTHER_DROPS: [PortCounter; 3] =
    [PortCounter::DropBackpressure, PortCounter::RingDrops, PortCounter::RedirectErrors];

fn of<C: CounterId>(counters: &BTreeMap<&'static str, u64>, counter: C) -> u64 {
    counters.get(counter.name()).copied().unwrap_or(0)
}

/// Adds up the CPUs' values.
fn sum<'a, C: CounterId>(cpus: impl Iterator<Item = &'a [u64; 32]>) -> BTreeMap<&'static str, u64> {
    let mut sums: BTreeMap<_, _> = C::ALL.iter().map(|c| (c.name(), 0)).collect();
    for slots in cpus {
        for counter in C::ALL {
            *sums.entry(counter.name()).or_default() += slots.get(counter.slot()).copied().unwrap_or(0);
        }
    }
    sums
}

fn ring_snapshot(index: u32, state: &RingState, now_ns: u64) -> RingSnapshot {
    let (signal, now) = (weir_egress::signal_from_map(&state.signal), Nanos::from_nanos(now_ns));
    let held = signal.held_at(now);
    RingSnapshot {
        index,
        slots: state.slots,
        occupancy: state.occupancy_pkts,
        occupancy_max: state.occupancy_max_pkts,
        backlog_bytes: state.backlog_bytes,
        head_sojourn_ns: state.head_sojourn_ns,
        predicted_ns: state.predicted_ns,
        drain_bps: weir_egress::pace_of_word(state.drain.pace).map(|p| p.bits_per_second()),
        signal: match signal.level_at(now) {
            Level::Clear => "clear",
            Level::Congested => "congested",
            Level::Full => "full",
        },
        signal_raised: state.signal.raised,
        pressure: f64::from(signal.pressure_at(now)) / f64::from(u32::MAX),
        held_ns: HeldSnapshot {
            clear: held.clear.as_nanos(),
            congested: held.congested.as_nanos(),
            full: held.full.as_nanos(),
        },
        paused_ns: state.signal.paused_until_ns.saturating_sub(now_ns),
        observed_ns: state.observed_ns,
    }
}

fn open<V: Pod>(directory: &Path, name: &'static str) -> Result<MapData> {
    let path = directory.join(name);
    let pin = |source: aya::maps::MapError| Error::Pin { path: path.clone(), source: Box::new(source) };
    let info = MapInfo::from_pin(&path).map_err(pin)?;
    let sizes = (info.key_size() as usize, info.value_size() as usize);
    let expected = (size_of::<u32>(), size_of::<V>());
    if sizes != expected {
        let text = |(key, value)| format!("keys of {key} and values of {value} bytes");
        return Err(Error::Abi { path, found: text(sizes), expected: text(expected) });
    }
    MapData::from_pin(&path).map_err(pin)
}

pub(super) fn array<V: Pod>(directory: &Path, name: &'static str) -> Result<Array<MapData, V>> {
    Array::try_from(Map::Array(open::<V>(directory, name)?)).map_err(Error::map(name))
}

fn per_cpu<V: Pod>(directory: &Path, name: &'static str) -> Result<PerCpuArray<MapData, V>> {
    PerCpuArray::try_from(Map::PerCpuArray(open::<V>(directory, name)?)).map_err(Error::map(name))
}
