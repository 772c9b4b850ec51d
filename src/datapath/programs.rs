//! The XDP programs of an instance: one copy for each device, with its own load-time constants.

use std::path::Path;

use aya::{Ebpf, programs::ProgramFd};
use weir_shared_maps::{PortConfig, names};

use super::{
    Error, Result,
    netdev::Netdev,
    objects::{EGRESS, INGRESS, Sizes},
    pins::Pins,
    planned::Planned,
    policy::IngressConstants,
    prepare::attach_xdp,
};

pub(super) type Shared<'a> = Option<(&'a Path, Sizes)>;

/// The load-time constants of a port's programs.
pub(super) fn egress_globals(
    index: u32,
    config: &PortConfig,
    planned: &Planned<'_>,
) -> [(&'static str, u32); 7] {
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

/// Pins an observer, so that its skipped runs can be read.
pub(super) fn pin_observer(observer: &mut Ebpf, name: &'static str, pins: &Pins) -> Result<()> {
    let program = observer.program_mut(name).ok_or(Error::MissingPart { object: EGRESS.name, part: name })?;
    let path = pins.program(name)?;
    program.pin(&path).map_err(|source| Error::Pin { path, source: Box::new(source) })
}

/// Loads the port's own copy of the devmap program.
pub(super) fn load_egress(
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
pub(super) struct DeviceConstants {
    pub index: u32,
    pub vlans: bool,
    /// 0 where the device is no port: nobody can pause it.
    pub quantum_ps: u32,
}

/// Loads and attaches the device's own copy of the ingress program.
pub(super) fn attach_ingress(
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
    constants.load_long_way(&mut ebpf, own.index)?;
    let name = constants.program();
    let program = INGRESS.xdp(&mut ebpf, name)?;
    program.load().map_err(Error::program("load", name, Some(&device.name)))?;
    attach_xdp(program, device, name, pins)
}
