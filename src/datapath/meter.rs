//! The ring observer alone: measures a device's TX ring under any forwarder, decides nothing.

use aya::{
    Ebpf,
    maps::{Array, MapData},
};
use weir_shared_maps::{
    AQM_NONE, MODE_METER, PortConfig, PortCounter, PortRoute, RingRecipe, RingState, names,
};
use zerocopy::FromZeros;

use super::{
    Error, Result,
    follow::facts,
    netdev,
    objects::take,
    objects::{EGRESS, NamedLink, Sizes, attach_observers},
    policy::PolicySizes,
    recipe::KernelTypes,
};
use weir_shared_maps::{CounterId, PortCounters};

/// An attached meter; detached when dropped.
pub struct RingMeter {
    rings: Array<MapData, RingState>,
    counters: aya::maps::PerCpuArray<MapData, PortCounters>,
    ring_count: u32,
    _links: Vec<NamedLink>,
    _ebpf: Ebpf,
}

/// The ring at the last batch or frame that entered it, all rings of the device together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingSample {
    /// When it was seen, `CLOCK_MONOTONIC`.
    pub observed_ns: u64,
    /// Frames in the rings.
    pub occupancy: u32,
    /// Slots of the rings.
    pub slots: u32,
    /// Sojourn of the oldest frame.
    pub head_sojourn_ns: u64,
    /// Frames that entered.
    pub sent: u64,
    /// Redirected frames that a full ring refused.
    pub ring_drops: u64,
}

impl RingMeter {
    /// Measures the ring of `device`, in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// [`Error`]; nothing stays attached.
    pub fn attach(device: &str) -> Result<Self> {
        let device = netdev::by_name(device)?;
        let recipe =
            KernelTypes::load().and_then(|types| types.recipe(&device.driver)).map_err(|why| Error::Os {
                action: format!("read the TX ring of {}", device.name),
                source: std::io::Error::other(why),
            })?;
        let facts = facts(&device, &recipe, 0, netdev::namespace()?)?;
        let mut ebpf = EGRESS.open_sized(Sizes {
            rings: facts.rings,
            ifindexes: facts.ifindex + 1,
            policy: PolicySizes::default(),
        })?;
        let mut configs: Array<MapData, PortConfig> = take(&mut ebpf, names::MAP_PORTS)?;
        let mut recipes: Array<MapData, RingRecipe> = take(&mut ebpf, names::MAP_RECIPES)?;
        let mut routes: Array<MapData, PortRoute> = take(&mut ebpf, names::MAP_ROUTES)?;
        let mut config = PortConfig::new_zeroed();
        config.mode = MODE_METER;
        config.aqm = AQM_NONE;
        config.ifindex = facts.ifindex;
        config.rings = facts.rings;
        config.ring_slots = facts.ring_slots;
        config.max_packet_bytes = facts.mtu + 14;
        config.limit_ns = u64::MAX;
        config.netns_inum = facts.netns_inum;
        configs.set(0, config, 0).map_err(Error::map(names::MAP_PORTS))?;
        recipes.set(0, recipe, 0).map_err(Error::map(names::MAP_RECIPES))?;
        let route = PortRoute { rings: facts.rings, ..PortRoute::new_zeroed() };
        routes.set(facts.ifindex, route, 0).map_err(Error::map(names::MAP_ROUTES))?;
        let (links, _notes) = attach_observers(&mut ebpf)?;
        Ok(Self {
            rings: take(&mut ebpf, names::MAP_RINGS)?,
            counters: take(&mut ebpf, names::MAP_PORT_COUNTERS)?,
            ring_count: facts.rings,
            _links: links,
            _ebpf: ebpf,
        })
    }

    /// The rings as last seen.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn sample(&self) -> Result<RingSample> {
        let mut sample = RingSample::default();
        for ring in 0..self.ring_count {
            let state = self.rings.get(&ring, 0).map_err(Error::map(names::MAP_RINGS))?;
            sample.occupancy += state.occupancy_pkts;
            sample.slots += state.slots;
            sample.head_sojourn_ns = sample.head_sojourn_ns.max(state.head_sojourn_ns);
            sample.observed_ns = sample.observed_ns.max(state.observed_ns);
            sample.sent += state.sent;
        }
        let values = self.counters.get(&0, 0).map_err(Error::map(names::MAP_PORT_COUNTERS))?;
        sample.ring_drops = values.iter().filter_map(|v| v.slots.get(PortCounter::RingDrops.slot())).sum();
        Ok(sample)
    }
}
