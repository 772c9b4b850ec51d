//! The plain redirect: routing by `bpf_fib_lookup`, no egress program unless one is given, no counters. What routers run
//! today.

use aya::{
    Ebpf,
    maps::{DevMapHash, MapData},
    programs::{ProgramFd, Xdp, XdpMode},
};
use weir_shared_maps::names;

use super::{
    Error, Result,
    objects::{BASELINE, take},
};

/// An attached plain redirect; detached when dropped.
pub struct Redirect {
    _ebpf: Ebpf,
    _devmap: DevMapHash<MapData>,
}

impl Redirect {
    /// Forwards from one device to another, in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// [`Error`]; nothing stays attached.
    pub fn attach(ingress_ifindex: u32, port_ifindex: u32) -> Result<Self> {
        Self::attach_through(ingress_ifindex, port_ifindex, None)
    }

    /// The same through a devmap program.
    pub(super) fn attach_through(
        ingress_ifindex: u32,
        port_ifindex: u32,
        egress: Option<&ProgramFd>,
    ) -> Result<Self> {
        let mut ebpf = BASELINE.open(None, &[])?;
        let mut devmap: DevMapHash<MapData> = take(&mut ebpf, names::MAP_BASE_DEVMAP)?;
        devmap.insert(port_ifindex, port_ifindex, egress, 0).map_err(|e| match e {
            aya::maps::xdp::XdpMapError::MapError(e) => Error::map(names::MAP_BASE_DEVMAP)(e),
            aya::maps::xdp::XdpMapError::ChainedProgramNotSupported => {
                Error::MissingPart { object: BASELINE.name, part: names::MAP_BASE_DEVMAP }
            }
        })?;
        let name = names::PROG_BASE_FIB;
        let program: &mut Xdp = BASELINE.xdp(&mut ebpf, name)?;
        program.load().map_err(Error::program("load", name, None))?;
        program
            .attach_to_if_index(ingress_ifindex, XdpMode::Driver)
            .map_err(Error::program("attach", name, None))?;
        Ok(Self { _ebpf: ebpf, _devmap: devmap })
    }
}
