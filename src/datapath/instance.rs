//! One running configuration. Either everything is attached, or nothing is.

use aya::maps::{Array, DevMapHash, MapData, MapError, xdp::XdpMapError};
use weir_shared_maps::{FLAG_TC, IngressConfig, MODE_BOTTLENECK, PortConfig, RINGS_SUMMED, names};

use super::{
    Error, Result,
    batch::BatchMap,
    follow::{Follower, short_reserve},
    manifest::Manifest,
    netdev::{self, Netdev},
    objects::{EGRESS, INGRESS, Sizes, attach_observers, take},
    pause::quantum_ps,
    pins::{Claim, Pins},
    planned::{Planned, plan},
    policy::{self, IngressConstants, PolicySizes},
    ports,
    prepare::{Preparation, check_free, check_target},
    programs::{DeviceConstants, attach_ingress, egress_globals, load_egress, pin_observer},
    reader::Reader,
    requirements::{check_kernel, check_privilege},
    roster::Roster,
    stack::{Hook, StackPrograms, detach_filters},
};
use crate::config::{Config, encode::ingress_config};

/// How to start.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    /// Leave programs and maps in place when the daemon stops, as if it had been killed: forwarding and shaping go on.
    /// The next start of the instance takes them down first.
    pub keep: bool,
    /// Read no TX ring, as if no driver had a recipe: a port in bottleneck mode runs on a virtual queue of its `rate`.
    pub blind: bool,
    /// How TC programs are attached.
    pub hook: Hook,
}

/// A running configuration; dropped, it detaches.
pub struct Instance {
    // Field order is drop order: what feeds is detached before what is fed.
    devmap: DevMapHash<MapData>,
    ports: Vec<u32>,
    /// Devices of the ports.
    devices: Vec<String>,
    preparation: Preparation,
    reader: Reader,
    follower: Follower,
    actions: Vec<String>,
    keep: bool,
    pins: Pins,
}

impl Instance {
    /// Checks everything that can be checked, then loads, prepares, attaches and pins, in the calling thread's
    /// network namespace.
    ///
    /// # Errors
    ///
    /// [`Error`]; nothing stays attached.
    pub fn start(config: &Config, options: &StartOptions) -> Result<Self> {
        check_privilege()?;
        check_kernel()?;
        let mut actions = Vec::new();
        // Before any device is looked at: what another daemon of this instance has attached there is no news.
        let claim = Claim::take(config.instance.as_str(), &mut actions)?;
        let mut planned = plan(config, options.blind, &mut actions)?;
        for ingress in &config.ingress {
            netdev::by_name(ingress.device.as_str())?;
        }
        let rings = planned.iter().map(|p| p.facts.rings_max).sum::<u32>().max(1);
        let mut encoded = planned.iter().map(Planned::encode).collect::<Result<Vec<_>>>()?;

        for (planned, config) in planned.iter().zip(&encoded) {
            actions.extend(short_reserve(&planned.device.name, &planned.facts, config));
            if config.classes > 0 && config.rings > RINGS_SUMMED && config.mode == MODE_BOTTLENECK {
                actions.push(format!(
                    "port {}: its classes share each of its {} TX rings as if that were all of the link; with mode = \"policer\" and a rate they share the port",
                    planned.device.name, config.rings
                ));
            }
        }

        // From here on the drop of `pins` takes everything back. Until here, what a dead daemon left forwards on.
        let pins = Pins::create(claim, &mut actions)?;
        let redirects = planned.iter().any(Planned::is_target);
        let ingress = config
            .ingress
            .iter()
            .map(|ingress| {
                let device = netdev::by_name(ingress.device.as_str())?;
                if redirects {
                    check_free(&device)?;
                }
                Ok((ingress, device))
            })
            .collect::<Result<Vec<_>>>()?;
        let directory = pins.maps();
        let ifindexes = planned.iter().map(|p| p.facts.ifindex).max().unwrap_or(0) + 1;
        let rules = policy::compiled(config);
        let sizes = Sizes { rings, ifindexes, policy: PolicySizes::of(config, &rules) };
        let shared = Some((directory.as_path(), sizes));
        let classes = encoded.iter().map(|config| config.classes).max().unwrap_or(0);
        let mut observer = EGRESS.open(shared, &[(names::GLOBAL_CLASSES, classes)])?;
        // The ingress object makes the maps that egress does not know; every device gets a copy below.
        let mut maps = INGRESS.open(shared, &[])?;
        let mut devmap: DevMapHash<MapData> = take(&mut maps, names::MAP_DEVMAP)?;
        ports::write(&mut observer, &planned, &encoded)?;
        let roster = Roster::after(&Roster::default(), config);
        let arrive: Vec<u32> = ingress.iter().map(|(_, device)| device.ifindex).collect();
        policy::write(&directory, config, &rules, &encoded, &arrive, &roster)?;
        let ports: Vec<u32> = planned.iter().map(|p| p.facts.ifindex).collect();
        policy::write_back_off(&directory, config, &encoded, &ports)?;
        let (links, notes) = attach_observers(&mut observer)?;
        for (name, link) in links {
            pins.keep(link, name)?;
            pin_observer(&mut observer, name, &pins)?;
        }
        actions.extend(notes);

        let mut preparation = Preparation::default();
        let started = (|| -> Result<(Reader, Follower)> {
            let own = |device: &Netdev| ingress.iter().any(|(_, i)| i.ifindex == device.ifindex);
            let constants = IngressConstants::of(config, &rules, &encoded);
            let of_stack = constants.of_stack();
            let mut stack = StackPrograms::new(shared, &of_stack, options.hook);
            for (index, (planned, config)) in planned.iter_mut().zip(&encoded).enumerate() {
                let globals = egress_globals(index as u32, config, planned);
                stack.attach(&planned.device, config, &globals, &pins)?;
                if !planned.is_target() {
                    continue;
                }
                if let Err(error) =
                    preparation.make_target(&planned.device, own(&planned.device), &pins, &mut actions)
                {
                    planned.give_up(error)?;
                    continue;
                }
                let program = load_egress(shared, &globals, config)?;
                let ifindex = planned.facts.ifindex;
                devmap.insert(ifindex, ifindex, Some(&program), 0).map_err(|source| Error::Map {
                    map: names::MAP_DEVMAP,
                    source: Box::new(as_map_error(source)),
                })?;
            }
            let mut configs: Array<MapData, IngressConfig> = take(&mut maps, names::MAP_INGRESS)?;
            for (index, (ingress, device)) in ingress.iter().enumerate() {
                let entry = ingress_config(ingress, device.ifindex, device.mac);
                configs.set(index as u32, entry, 0).map_err(Error::map(names::MAP_INGRESS))?;
                if !redirects {
                    continue;
                }
                let device_constants = DeviceConstants {
                    index: index as u32,
                    vlans: !ingress.vlans.is_empty(),
                    quantum_ps: if planned.iter().any(|p| p.device.ifindex == device.ifindex) {
                        quantum_ps(&device.name, &mut actions)?
                    } else {
                        0
                    },
                };
                attach_ingress(shared, device, &device_constants, &constants, &pins)?;
            }
            for (index, (planned, config)) in planned.iter_mut().zip(&mut encoded).enumerate() {
                if planned.is_target()
                    && let Err(error) = check_target(&planned.device)
                {
                    planned.give_up(error)?;
                    let _gone = devmap.remove(planned.facts.ifindex);
                }
                if !planned.is_target() && config.flags & FLAG_TC == 0 {
                    config.flags |= FLAG_TC;
                    let ports = BatchMap::open::<u32, PortConfig>(&directory, names::MAP_PORTS)?;
                    ports.update(&[(index as u32, *config)])?;
                }
                actions.extend(planned.said());
            }
            if !redirects {
                actions.push(
                    "no port is a redirect target: the kernel forwards, no XDP program runs".to_owned(),
                );
            }
            roster.save(&pins.roster())?;
            pins.describe(&Manifest::of(config, &planned, &ingress).to_json())?;
            let followed = planned.iter().map(Planned::followed).collect();
            Ok((Reader::open(config.instance.as_str())?, Follower::open(&directory, followed)?))
        })();
        let devices: Vec<String> = planned.iter().map(|p| p.device.name.clone()).collect();
        match started {
            Ok((reader, follower)) => {
                let keep = options.keep;
                Ok(Self { devmap, ports, devices, preparation, reader, follower, actions, keep, pins })
            }
            Err(error) => {
                preparation.undo();
                devices.iter().for_each(|device| detach_filters(device));
                Err(error)
            }
        }
    }

    /// What was prepared, mounted or found missing, one sentence each.
    pub fn actions(&self) -> &[String] {
        &self.actions
    }

    /// Reads what runs.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Looks at the ports' devices and follows what has changed: rings made longer, shorter, more or fewer, another MTU, a link
    /// that is down or up. One sentence each. To be called in the namespace of the start.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`], [`Error::Os`], [`Error::Map`].
    pub fn follow(&mut self) -> Result<Vec<String>> {
        self.follower.look()
    }

    /// Detaches everything and undoes the preparation, unless [`StartOptions::keep`] asks otherwise.
    ///
    /// # Errors
    ///
    /// None today; detaching what is already gone is no failure.
    pub fn stop(self) -> Result<()> {
        drop(self);
        Ok(())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.keep {
            self.pins.keep_all();
            return;
        }
        self.pins.detach(names::PROG_INGRESS);
        for ifindex in &self.ports {
            // The kernel removes the entry of a device that went away.
            let _gone = self.devmap.remove(*ifindex);
        }
        self.devices.iter().for_each(|device| detach_filters(device));
        self.preparation.undo();
    }
}

fn as_map_error(error: XdpMapError) -> MapError {
    match error {
        XdpMapError::MapError(error) => error,
        XdpMapError::ChainedProgramNotSupported => MapError::SyscallError(aya::sys::SyscallError {
            call: "a devmap entry with a program (kernel 5.8)",
            io_error: std::io::ErrorKind::Unsupported.into(),
        }),
    }
}
