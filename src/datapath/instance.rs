//! One running configuration. Either everything is attached, or nothing is.

use aya::{
    Ebpf,
    maps::{Array, DevMapHash, MapData},
    programs::ProgramFd,
    util::KernelVersion,
};
use weir_shared_maps::{
    DRIVER_TUN, DRIVER_VIRTIO, FLAG_TC, IngressConfig, MODE_BOTTLENECK, PortConfig, PortRoute, PortState,
    RINGS_SUMMED, ROUTE_SHARED_RING, RingRecipe, RingState, names,
};
use zerocopy::FromZeros;

use super::{
    Error, Result,
    batch::BatchMap,
    follow::{Followed, Follower, facts, short_reserve},
    netdev::{self, Netdev},
    objects::{EGRESS, INGRESS, Sizes, attach_observers},
    pause::quantum_ps,
    pins::{Claim, Pins},
    policy::{self, IngressConstants, PolicySizes},
    prepare::{Preparation, attach_xdp, check_free, check_target, no_target},
    reader::{Manifest, ManifestIngress, ManifestPort, Reader},
    recipe::KernelTypes,
    roster::Roster,
    stack::{Hook, StackPrograms, detach_filters},
};
use crate::config::{
    Config, Mode, Port,
    encode::{PortFacts, ingress_config, port_config, port_route},
};

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

/// A port on its way to being attached.
struct Planned<'a> {
    port: &'a Port,
    device: Netdev,
    facts: PortFacts,
    recipe: RingRecipe,
    way: Way,
}

/// How frames that are forwarded get to a port.
enum Way {
    /// Redirected by ingress.
    Redirect,
    /// The same, and the kernel's instead if the device turns out to be no target.
    RedirectIfItCan,
    /// Through the kernel's stack, as the file says.
    Kernel,
    /// Through the kernel's stack, since the device is no redirect target.
    KernelBecause(String),
}

impl Planned<'_> {
    fn is_target(&self) -> bool {
        match self.way {
            Way::Redirect | Way::RedirectIfItCan => true,
            Way::Kernel | Way::KernelBecause(_) => false,
        }
    }

    /// Why the port is in its mode, where the file left that open.
    fn mode_reason(&self) -> Option<String> {
        match &self.way {
            Way::Redirect | Way::Kernel => None,
            Way::RedirectIfItCan => Some("the device is a redirect target".to_owned()),
            Way::KernelBecause(why) => Some(why.clone()),
        }
    }

    /// What was chosen, for people.
    fn said(&self) -> Option<String> {
        let chosen = if self.is_target() { "policer" } else { "tc" };
        self.mode_reason().map(|why| format!("port {}: mode = \"{chosen}\": {why}", self.device.name))
    }

    /// The device is no target. With `mode = "auto"` the kernel forwards; else that is the end.
    fn give_up(&mut self, error: Error) -> Result<()> {
        match self.way {
            Way::RedirectIfItCan => {
                self.way = Way::KernelBecause(error.to_string());
                Ok(())
            }
            Way::Redirect | Way::Kernel | Way::KernelBecause(_) => Err(error),
        }
    }
}

impl Planned<'_> {
    fn followed(&self) -> Followed {
        Followed {
            port: self.port.clone(),
            recipe: self.recipe,
            facts: self.facts,
            running: self.device.running,
            gone: false,
        }
    }
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
        let mut planned = plan(config, options, &mut actions)?;
        for ingress in &config.ingress {
            netdev::by_name(ingress.device.as_str())?;
        }
        let rings = planned.iter().map(|p| p.facts.rings_max).sum::<u32>().max(1);
        let mut encoded = planned.iter().map(encode).collect::<Result<Vec<_>>>()?;

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
        write_ports(&mut observer, &planned, &encoded)?;
        let roster = Roster::after(&Roster::default(), config);
        let arrive: Vec<u32> = ingress.iter().map(|(_, device)| device.ifindex).collect();
        policy::write(&directory, config, &rules, &encoded, &arrive, &roster)?;
        let ports: Vec<u32> = planned.iter().map(|p| p.facts.ifindex).collect();
        policy::write_back_off(&directory, config, &encoded, &ports)?;
        let (links, notes) = attach_observers(&mut observer)?;
        for (name, link) in links {
            pins.keep(link, name)?;
            pin_program(&mut observer, name, &pins)?;
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
            pins.describe(&manifest(config, &planned, &ingress).to_json())?;
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

/// Pins an observer, so that its skipped runs can be read.
fn pin_program(observer: &mut Ebpf, name: &'static str, pins: &Pins) -> Result<()> {
    let program = observer.program_mut(name).ok_or(Error::MissingPart { object: EGRESS.name, part: name })?;
    let path = pins.program(name)?;
    program.pin(&path).map_err(|source| Error::Pin { path, source: Box::new(source) })
}

fn check_privilege() -> Result<()> {
    const NEEDED: [(&str, u32); 3] = [("CAP_NET_ADMIN", 12), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];
    const SYS_ADMIN: u32 = 21;
    let status = std::fs::read_to_string("/proc/thread-self/status")
        .map_err(Error::os("read /proc/thread-self/status"))?;
    let effective = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
        .unwrap_or(0);
    let has = |bit: u32| effective >> bit & 1 == 1;
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(_, bit)| !(has(*bit) || (*bit != 12 && has(SYS_ADMIN))))
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::NotPrivileged { missing: missing.join(", "), uid: nix::unistd::geteuid().as_raw() })
}

fn check_kernel() -> Result<()> {
    match KernelVersion::current() {
        Ok(version) if version < KernelVersion::new(5, 14, 0) => {
            Err(Error::KernelTooOld { found: crate::lab::clock::kernel() })
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// What each port's device is, before anything is touched.
fn plan<'a>(
    config: &'a Config,
    options: &StartOptions,
    actions: &mut Vec<String>,
) -> Result<Vec<Planned<'a>>> {
    let types = KernelTypes::load();
    let netns_inum = netdev::namespace()?;
    let mut ring_base = 0;
    let mut planned = Vec::new();
    for port in &config.ports {
        let device = netdev::by_name(port.device.as_str())?;
        let recipe = match &types {
            Ok(types) if options.blind => types.device(),
            Ok(types) => types.recipe(&device.driver).or_else(|why| {
                actions.push(format!("port {}: the TX ring cannot be read: {why}", device.name));
                types.device()
            }),
            Err(why) => {
                actions.push(format!("port {}: the TX ring cannot be read: {why}", device.name));
                Ok(RingRecipe::default())
            }
        }
        .unwrap_or_default();
        let facts = facts(&device, &recipe, ring_base, netns_inum)?;
        ring_base += facts.rings_max;
        let way = match port.mode {
            Mode::Bottleneck | Mode::Policer => Way::Redirect,
            Mode::Tc => Way::Kernel,
            Mode::Auto => no_target(&device)?.map_or(Way::RedirectIfItCan, Way::KernelBecause),
        };
        planned.push(Planned { port, device, facts, recipe, way });
    }
    Ok(planned)
}

/// The port's entry in the config map, as far as is known before anything is touched.
fn encode(planned: &Planned<'_>) -> Result<PortConfig> {
    let mut config = port_config(planned.port, &planned.facts)?;
    if !planned.is_target() {
        config.flags |= FLAG_TC;
    }
    Ok(config)
}
/// Takes a typed map out of an object, which must keep it as long as programs are still to be loaded.
pub(super) fn take<T>(ebpf: &mut Ebpf, name: &'static str) -> Result<T>
where
    T: TryFrom<aya::maps::Map, Error = aya::maps::MapError>,
{
    let map = ebpf.take_map(name).ok_or(Error::MissingPart { object: "shared", part: name })?;
    T::try_from(map).map_err(Error::map(name))
}

/// A typed view of one of an object's maps; each can be borrowed once.
fn borrow<'a, T>(
    maps: &mut std::collections::HashMap<&str, &'a mut aya::maps::Map>,
    name: &'static str,
) -> Result<T>
where
    T: TryFrom<&'a mut aya::maps::Map, Error = aya::maps::MapError>,
{
    let map = maps.remove(name).ok_or(Error::MissingPart { object: "shared", part: name })?;
    T::try_from(map).map_err(Error::map(name))
}

fn as_map_error(error: aya::maps::xdp::XdpMapError) -> aya::maps::MapError {
    match error {
        aya::maps::xdp::XdpMapError::MapError(error) => error,
        aya::maps::xdp::XdpMapError::ChainedProgramNotSupported => {
            aya::maps::MapError::SyscallError(aya::sys::SyscallError {
                call: "a devmap entry with a program (kernel 5.8)",
                io_error: std::io::ErrorKind::Unsupported.into(),
            })
        }
    }
}

/// Writes routes, configs and recipes, and the rings' first state, before any program can read them.
fn write_ports(ebpf: &mut Ebpf, planned: &[Planned<'_>], encoded: &[PortConfig]) -> Result<()> {
    // Borrowed, not taken: the programs of this object are loaded after this and refer to the maps.
    let mut maps: std::collections::HashMap<_, _> = ebpf.maps_mut().collect();
    let mut routes: Array<&mut MapData, PortRoute> = borrow(&mut maps, names::MAP_ROUTES)?;
    let mut configs: Array<&mut MapData, PortConfig> = borrow(&mut maps, names::MAP_PORTS)?;
    let mut recipes: Array<&mut MapData, RingRecipe> = borrow(&mut maps, names::MAP_RECIPES)?;
    let mut states: Array<&mut MapData, PortState> = borrow(&mut maps, names::MAP_PORT_STATE)?;
    let mut rings: Array<&mut MapData, RingState> = borrow(&mut maps, names::MAP_RINGS)?;
    for (index, (planned, config)) in planned.iter().zip(encoded).enumerate() {
        let index = index as u32;
        configs.set(index, *config, 0).map_err(Error::map(names::MAP_PORTS))?;
        recipes.set(index, planned.recipe, 0).map_err(Error::map(names::MAP_RECIPES))?;
        states.set(index, PortState::new_zeroed(), 0).map_err(Error::map(names::MAP_PORT_STATE))?;
        for ring in 0..planned.facts.rings_max {
            let mut state = RingState::new_zeroed();
            state.slots = planned.facts.ring_slots;
            if let Some(pace) = weir_egress::pace_from_map(config) {
                let mut drain = weir_egress::drain_from_map(&state.drain);
                drain.seed(pace);
                state.drain = weir_egress::drain_to_map(&drain);
                state.all = state.drain;
            }
            rings.set(planned.facts.ring_base + ring, state, 0).map_err(Error::map(names::MAP_RINGS))?;
        }
        let route = PortRoute {
            flags: route_flags(&planned.recipe, &planned.facts),
            ..port_route(index, planned.port, &planned.facts)
        };
        routes.set(planned.facts.ifindex, route, 0).map_err(Error::map(names::MAP_ROUTES))?;
    }
    Ok(())
}

/// `ROUTE_*` of a port. Where a device has several rings, or rings set apart for XDP, the stack's frames enter others than
/// redirected ones; on veth they enter the ring only where they can be aggregated (docs/observer.md).
fn route_flags(recipe: &RingRecipe, facts: &PortFacts) -> u8 {
    let shared = match recipe.driver {
        DRIVER_TUN => facts.rings == 1,
        // With one CPU a second pair would be set apart.
        DRIVER_VIRTIO => facts.rings == 1 && recipe.cpus > 1,
        _ => false,
    };
    if shared { ROUTE_SHARED_RING } else { 0 }
}

type Shared<'a> = Option<(&'a std::path::Path, Sizes)>;

/// The load-time constants of a port's programs.
fn egress_globals(index: u32, config: &PortConfig, planned: &Planned<'_>) -> [(&'static str, u32); 7] {
    [
        (names::GLOBAL_PORT_INDEX, index),
        (names::GLOBAL_MODE, config.mode),
        (names::GLOBAL_AQM, config.aqm),
        (names::GLOBAL_DRIVER, planned.recipe.driver),
        (names::GLOBAL_RINGS, planned.facts.rings_max),
        (names::GLOBAL_CLASSES, config.classes),
        (names::GLOBAL_FRAMING, config.framing),
    ]
}

/// Loads the port's own copy of the devmap program.
fn load_egress(
    shared: Shared<'_>,
    globals: &[(&'static str, u32)],
    config: &PortConfig,
) -> Result<ProgramFd> {
    let mut ebpf = EGRESS.open(shared, globals)?;
    let name = if config.classes > 0 { names::PROG_POLICY } else { names::PROG_EGRESS };
    let program = EGRESS.xdp(&mut ebpf, name)?;
    program.load().map_err(Error::program("load", name, None))?;
    let fd = program.fd().map_err(Error::program("load", name, None))?;
    fd.try_clone().map_err(Error::os("duplicate a program's descriptor"))
}

/// What only one ingress device's copy of the program knows.
struct DeviceConstants {
    index: u32,
    vlans: bool,
    /// 0 where the device is no port: nobody can pause it.
    quantum_ps: u32,
}

/// Loads and attaches the device's own copy of the ingress program.
fn attach_ingress(
    shared: Shared<'_>,
    device: &Netdev,
    own: &DeviceConstants,
    constants: &IngressConstants,
    pins: &Pins,
) -> Result<()> {
    let [a, b, c, d, e, f] = device.mac;
    let mut globals = vec![
        (names::GLOBAL_INGRESS_INDEX, own.index),
        (names::GLOBAL_IFINDEX, device.ifindex),
        (names::GLOBAL_MAC_LOW, u32::from_le_bytes([a, b, c, d])),
        (names::GLOBAL_MAC_HIGH, u32::from_le_bytes([e, f, 0, 0])),
        (names::GLOBAL_VLANS, u32::from(own.vlans)),
        (names::GLOBAL_PAUSE_QUANTUM_PS, own.quantum_ps),
    ];
    globals.extend(constants.globals(own.index as usize));
    let mut ebpf = INGRESS.open(shared, &globals)?;
    let name = constants.program();
    let program = INGRESS.xdp(&mut ebpf, name)?;
    program.load().map_err(Error::program("load", name, Some(&device.name)))?;
    attach_xdp(program, device, name, pins)
}

fn manifest(
    config: &Config,
    planned: &[Planned<'_>],
    ingress: &[(&crate::config::Ingress, Netdev)],
) -> Manifest {
    Manifest {
        instance: config.instance.to_string(),
        pid: std::process::id(),
        ingress: ingress
            .iter()
            .map(|(_, d)| ManifestIngress { device: d.name.clone(), ifindex: d.ifindex })
            .collect(),
        ports: planned
            .iter()
            .map(|p| ManifestPort {
                device: p.device.name.clone(),
                ifindex: p.facts.ifindex,
                driver: p.device.driver.clone(),
                observed: p.facts.ring_readable,
                classes: p.port.classes.iter().map(|class| class.name.clone()).collect(),
                default_class: p.port.default_class,
                mode_reason: p.mode_reason(),
            })
            .collect(),
    }
}
