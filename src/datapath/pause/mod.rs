//! Stops whoever feeds a congested port: PAUSE (IEEE 802.3 annex 31B) and priority-based flow control (IEEE 802.1Q clause
//! 36) out of the ingress devices.
//!
//! The programs tell of a level that changed, the daemon wakes, reads the signals ([`Standing`]), asks what is wanted of
//! each ingress device ([`Wanted`]), and sends the frames that are missing ([`Plan`]). What is asked for ends by itself:
//! whoever dies in between stops nobody for longer than the last frame said.

mod link;
mod plan;
mod wanted;

use std::io;

use aya::Pod;
use aya::maps::{Array, MapData};
use weir_aqm::Nanos;
use weir_shared_maps::{
    ClassPlace, ClassState, MAX_CLASSES, PauseState, PolicyState, PortConfig, RingState, SignalState, names,
};
use weir_wire::Pause;
use weir_wire::mac_control::QUANTUM_BITS;

use self::link::Link;
use self::plan::{Plan, next_look};
use self::wanted::{Standing, Waiting, Wanted};
use super::ethtool::Ethtool;
use super::{Error, Result, netdev, pins, reader};
use crate::config::{Config, PauseKind, Port};

/// Attempts to read a port's classes between two packets.
const READS: usize = 4;
/// The speed of a link whose driver does not say it, in Mbit/s.
const SPEED_ASSUMED: u32 = 10_000;

/// Picoseconds that a pause quantum lasts on the link of `device`. A speed that is not known is assumed, and noted.
pub(super) fn quantum_ps(device: &str, notes: &mut Vec<String>) -> Result<u32> {
    let ethtool = Ethtool::open().map_err(Error::os("open a control socket"))?;
    let speed = ethtool.speed(device).ok().flatten();
    if speed.is_none() {
        let note = format!("device {device}: the link's speed is unknown; PAUSE is timed for 10 Gbit/s");
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    // Bits over megabits per second are microseconds: a million picoseconds.
    Ok(QUANTUM_BITS * 1_000_000 / speed.unwrap_or(SPEED_ASSUMED).max(1))
}

/// Asks link partners to stop while a port's signal stands. Dropped, it lets all of them go on.
pub struct Pauser {
    ports: Vec<PausedPort>,
    feeds: Vec<Feed>,
    maps: Maps,
    /// Until when a level of any of the ports stands, as of the last look.
    raised: Nanos,
}

/// A port with `pause`.
struct PausedPort {
    index: u32,
    config: PortConfig,
    kind: PauseKind,
    /// Which priority pauses each of its classes.
    priorities: Vec<u8>,
}

/// An ingress device and what has been asked of its link partner.
struct Feed {
    device: String,
    ifindex: u32,
    link: Link,
    plan: Plan,
}

struct Maps {
    rings: Array<MapData, RingState>,
    paused: Array<MapData, PauseState>,
    policy: Array<MapData, PolicyState>,
    places: Array<MapData, ClassPlace>,
    classes: Array<MapData, ClassState>,
}

/// A frame that was sent, or could not be.
#[derive(Debug)]
pub struct Sent {
    /// The ingress device.
    pub device: String,
    /// What the frame asks for.
    pub pause: Pause,
    /// The longest stop that it asks for; zero where it lets go on.
    pub longest: Nanos,
    /// Why it was not sent.
    pub error: Option<io::Error>,
}

impl Pauser {
    /// Opens a running instance's maps, and a socket on each ingress device of the calling thread's network namespace. `None`
    /// where no port asks for it. Says what it assumes in `notes`.
    ///
    /// # Errors
    ///
    /// [`Error::Pin`], [`Error::Abi`], [`Error::Map`], [`Error::Os`], those of [`netdev::by_name`].
    pub fn open(config: &Config, notes: &mut Vec<String>) -> Result<Option<Self>> {
        if config.ports.iter().all(|port| port.pause == PauseKind::Off) {
            return Ok(None);
        }
        let directory = pins::directory(config.instance.as_str());
        let configs: Array<MapData, PortConfig> = reader::array(&directory, names::MAP_PORTS)?;
        let mut ports = Vec::new();
        for (index, port) in (0..).zip(&config.ports).filter(|(_, port)| port.pause != PauseKind::Off) {
            let Port { pause, classes, .. } = port;
            let priorities = classes.iter().map(|class| class.pfc_priority()).collect();
            if config.ingress.iter().all(|ingress| ingress.device == port.device) {
                notes.push(format!(
                    "port {}: no other device is an ingress, so that nobody is asked to stop",
                    port.device
                ));
            }
            let config = entry(&configs, index, names::MAP_PORTS)?;
            ports.push(PausedPort { index, config, kind: *pause, priorities });
        }
        let mut feeds = Vec::new();
        for ingress in &config.ingress {
            let device = netdev::by_name(ingress.device.as_str())?;
            let link = Link::open(device.ifindex, device.mac)
                .map_err(Error::os(format!("open a packet socket on {}", device.name)))?;
            let plan = Plan::new(quantum_ps(&device.name, notes)?);
            feeds.push(Feed { device: device.name, ifindex: device.ifindex, link, plan });
        }
        let maps = Maps {
            rings: reader::array(&directory, names::MAP_RINGS)?,
            paused: reader::array(&directory, names::MAP_PAUSE)?,
            policy: reader::array(&directory, names::MAP_POLICY)?,
            places: reader::array(&directory, names::MAP_CLASS_PLACES)?,
            classes: reader::array(&directory, names::MAP_CLASS_STATE)?,
        };
        Ok(Some(Self { ports, feeds, maps, raised: Nanos::ZERO }))
    }

    /// Sends what the signals ask for at `now` (`CLOCK_MONOTONIC`). A device is fed by all ingress devices but itself.
    ///
    /// # Errors
    ///
    /// [`Error::Map`]; nothing is sent then, and what was asked for runs out.
    pub fn act(&mut self, now: Nanos) -> Result<Vec<Sent>> {
        let mut wanted = Vec::new();
        self.raised = Nanos::ZERO;
        for port in &self.ports {
            let standing = self.maps.standing(port)?;
            self.raised = self.raised.max(standing.raised(now));
            wanted.push((port.config.ifindex, Wanted::of(port.kind, now, &standing)));
        }
        let mut sent = Vec::new();
        for feed in &mut self.feeds {
            let others = wanted.iter().filter(|(ifindex, _)| *ifindex != feed.ifindex);
            let wanted = others.fold(Wanted::default(), |all, (_, wanted)| all.and(*wanted));
            let frames = feed.plan.frames(now, &wanted);
            sent.extend(frames.map(|pause| feed.send(pause)));
        }
        Ok(sent)
    }

    /// When to [`act`](Self::act) again, though nothing is told; `None` while nothing stands.
    pub fn due(&self, now: Nanos) -> Option<Nanos> {
        next_look(now, self.feeds.iter().filter_map(|feed| feed.plan.due(now)), self.raised)
    }
}

impl Drop for Pauser {
    fn drop(&mut self) {
        for feed in &mut self.feeds {
            for pause in feed.plan.release() {
                // Nobody is left to tell; what was asked for runs out by itself.
                let _sent = feed.send(pause);
            }
        }
    }
}

impl Feed {
    fn send(&self, pause: Pause) -> Sent {
        let longest = (0..8).filter_map(|priority| pause.quanta(priority)).max().unwrap_or(0);
        Sent {
            device: self.device.clone(),
            pause,
            longest: self.plan.time(longest),
            error: self.link.send(&pause).err(),
        }
    }
}

impl Maps {
    fn standing(&self, port: &PausedPort) -> Result<Standing> {
        let rings = port.config.ring_base..port.config.ring_base + port.config.rings;
        let signals = rings.map(|ring| Ok(entry(&self.rings, ring, names::MAP_RINGS)?.signal));
        let signals = signals.collect::<Result<Vec<SignalState>>>()?;
        Ok(Standing {
            signals,
            paused: Some(entry(&self.paused, port.index, names::MAP_PAUSE)?),
            classes: match port.kind {
                PauseKind::Priority => self.waiting(port)?,
                PauseKind::Link | PauseKind::Off => Vec::new(),
            },
        })
    }

    /// The classes and what waits of each; none where packets kept changing it while it was read.
    fn waiting(&self, port: &PausedPort) -> Result<Vec<Waiting>> {
        let service = |policy: &PolicyState| policy.shares.map(|share| share.service);
        for _ in 0..READS {
            let policy = entry(&self.policy, port.index, names::MAP_POLICY)?;
            let classes = self.waiting_under(port, &policy)?;
            if service(&entry(&self.policy, port.index, names::MAP_POLICY)?) == service(&policy) {
                return Ok(classes);
            }
        }
        Ok(Vec::new())
    }

    fn waiting_under(&self, port: &PausedPort, policy: &PolicyState) -> Result<Vec<Waiting>> {
        let classes = (port.index * MAX_CLASSES..).zip(&port.priorities).map(|(at, priority)| {
            let place = entry(&self.places, at, names::MAP_CLASS_PLACES)?;
            let class = entry(&self.classes, at, names::MAP_CLASS_STATE)?;
            let bytes = weir_egress::policy::waiting(policy, &place, &class);
            Ok(Waiting { priority: *priority, bytes })
        });
        classes.collect()
    }
}

fn entry<V: Pod>(map: &Array<MapData, V>, index: u32, name: &'static str) -> Result<V> {
    map.get(&index, 0).map_err(Error::map(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_that_no_driver_says_is_taken_for_ten_gigabit_and_said_once() {
        let mut notes = Vec::new();
        for _ in 0..2 {
            // The loopback device has no speed. 512 bits at 10 Gbit/s take 51.2 ns.
            assert_eq!(quantum_ps("lo", &mut notes).unwrap(), 51_200);
        }
        assert_eq!(notes, ["device lo: the link's speed is unknown; PAUSE is timed for 10 Gbit/s"]);
    }
}
