//! What is known of a port's device, and devices that change while they are managed.

use std::path::Path;

use aya::maps::{Array, MapData};
use weir_shared_maps::{
    DRIVER_NONE, DRIVER_TUN, DRIVER_VETH, DRIVER_VIRTIO, FLAG_TC, PortConfig, PortRoute, RingRecipe, names,
};

use super::{
    Error, Result,
    ethtool::Ethtool,
    features::queues,
    netdev::{self, Netdev},
    reader::array,
};
use crate::config::{
    Port,
    encode::{PortFacts, port_config, reserve_needed},
};

/// Slots of a veth ring (`VETH_RING_SIZE`, `drivers/net/veth.c` at v6.18).
const VETH_RING_SLOTS: u32 = 256;

/// Reads what a port's configuration depends on. Its rings begin at `ring_base`.
pub(super) fn facts(
    device: &Netdev,
    recipe: &RingRecipe,
    ring_base: u32,
    netns_inum: u32,
) -> Result<PortFacts> {
    let ethtool = Ethtool::open().map_err(Error::os("open a control socket"))?;
    let own = queues(device.ifindex)?.map(|q| q.tx);
    let cpus = aya::util::nr_cpus().ok().and_then(|n| u32::try_from(n).ok()).unwrap_or(1);
    let online = aya::util::online_cpus().ok().and_then(|cpus| u32::try_from(cpus.len()).ok());
    let (rings, made, ring_slots) = match recipe.driver {
        DRIVER_TUN => (own.unwrap_or(1), device.tx_queues, device.tx_queue_len),
        DRIVER_VETH => {
            // The ring is the peer's receive queue. A peer in another namespace does not show its queues; pairs are
            // made with as many at both ends.
            let near = device.peer.filter(|p| !p.elsewhere).map(|p| queues(p.ifindex)).transpose()?.flatten();
            let made = device.tx_queues.max(device.rx_queues);
            (near.map(|q| q.rx).or(own).unwrap_or(1), made, VETH_RING_SLOTS)
        }
        DRIVER_VIRTIO => (own.unwrap_or(1), device.tx_queues, ethtool.tx_ring(&device.name).unwrap_or(0)),
        _ => (1, 1, ethtool.tx_ring(&device.name).unwrap_or(0)),
    };
    // A ring is a function of the CPU: no more are used than there are CPUs.
    let rings = rings.clamp(1, cpus);
    Ok(PortFacts {
        ifindex: device.ifindex,
        ring_base,
        rings,
        rings_max: made.clamp(rings, cpus),
        senders: online.unwrap_or(cpus).div_ceil(rings),
        ring_slots,
        ring_readable: recipe.driver != DRIVER_NONE,
        mtu: device.mtu,
        netns_inum,
    })
}

/// Says where the reserve does not hold what all CPUs may send at once.
pub(super) fn short_reserve(device: &str, facts: &PortFacts, config: &PortConfig) -> Option<String> {
    let needed = reserve_needed(facts);
    let short = facts.ring_readable && config.reserve_slots < needed;
    short.then(|| {
        format!(
            "port {device}: {} CPUs send to a ring of {} slots: a reserve of {} does not hold their batches, and the driver may \
             refuse frames; {needed} would",
            facts.senders, facts.ring_slots, config.reserve_slots
        )
    })
}

/// A port and its device as last seen.
pub(super) struct Followed {
    pub port: Port,
    pub recipe: RingRecipe,
    pub facts: PortFacts,
    pub running: bool,
    pub gone: bool,
}

/// Compares devices with what the maps say of them, and corrects the maps.
pub(super) struct Follower {
    ports: Array<MapData, PortConfig>,
    routes: Array<MapData, PortRoute>,
    /// By index of the port.
    followed: Vec<Followed>,
}

impl Follower {
    pub fn open(directory: &Path, followed: Vec<Followed>) -> Result<Self> {
        let (ports, routes) = (array(directory, names::MAP_PORTS)?, array(directory, names::MAP_ROUTES)?);
        Ok(Self { ports, routes, followed })
    }

    /// See [`super::Instance::follow`].
    pub fn look(&mut self) -> Result<Vec<String>> {
        let devices = netdev::all()?;
        let mut said = Vec::new();
        for (index, followed) in (0_u32..).zip(&mut self.followed) {
            let device = devices.iter().find(|device| device.ifindex == followed.facts.ifindex);
            let before = followed.facts;
            said.extend(followed.see(device)?);
            if followed.facts == before {
                continue;
            }
            match port_config(&followed.port, &followed.facts) {
                Ok(config) => {
                    // Who forwards to the port was found out at the start.
                    let running = self.ports.get(&index, 0).map_err(Error::map(names::MAP_PORTS))?;
                    let config = PortConfig { flags: config.flags | running.flags & FLAG_TC, ..config };
                    said.extend(short_reserve(followed.port.device.as_str(), &followed.facts, &config));
                    self.ports.set(index, config, 0).map_err(Error::map(names::MAP_PORTS))?;
                }
                // What is configured does not fit the device any more: what ran before runs on.
                Err(error) => said.push(error.to_string()),
            }
            let ifindex = followed.facts.ifindex;
            let route = self.routes.get(&ifindex, 0).map_err(Error::map(names::MAP_ROUTES))?;
            let route = PortRoute { rings: followed.facts.rings, ..route };
            self.routes.set(ifindex, route, 0).map_err(Error::map(names::MAP_ROUTES))?;
        }
        Ok(said)
    }
}

impl Followed {
    /// Takes in what the device is now; what is new, in sentences.
    fn see(&mut self, device: Option<&Netdev>) -> Result<Vec<String>> {
        let name = self.port.device.as_str();
        let Some(device) = device else {
            let news = !self.gone;
            self.gone = true;
            let sentence = format!("port {name}: the device is gone; frames for it go to the stack");
            return Ok(news.then_some(sentence).into_iter().collect());
        };
        let mut said = Vec::new();
        if self.running != device.running {
            self.running = device.running;
            said.push(format!("port {name}: the link is {}", if device.running { "up" } else { "down" }));
        }
        if !device.running {
            // A device that is down does not show its queues.
            return Ok(said);
        }
        let (old, new) =
            (self.facts, facts(device, &self.recipe, self.facts.ring_base, self.facts.netns_inum)?);
        let rings = new.rings.min(old.rings_max);
        if rings != old.rings {
            said.push(format!("port {name}: TX rings in use: {rings}, not {} any more", old.rings));
        }
        if new.rings > rings {
            said.push(format!(
                "port {name}: the device uses {} TX rings, {rings} have a place in the maps: those beyond share them, so that \
                 occupancy and sojourn are wrong; a restart uses them all",
                new.rings
            ));
        }
        if new.ring_slots != old.ring_slots {
            said.push(format!(
                "port {name}: slots of a ring: {}, not {} any more",
                new.ring_slots, old.ring_slots
            ));
        }
        if new.mtu != old.mtu {
            said.push(format!("port {name}: MTU {}, not {} any more", new.mtu, old.mtu));
        }
        self.facts = PortFacts { rings, rings_max: old.rings_max, ..new };
        Ok(said)
    }
}
