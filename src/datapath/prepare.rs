//! Makes devices redirect targets, says what was done, and undoes it.

use aya::programs::XdpMode;
use weir_shared_maps::names;

use super::{
    Error, Result,
    ethtool::Ethtool,
    features::xdp_features,
    netdev::{self, Netdev},
    objects::BASELINE,
    pins::Pins,
};

/// Changes to other devices that end with the instance.
#[derive(Default)]
pub struct Preparation {
    /// Devices whose GRO was switched on, each with a control socket of its namespace: whoever undoes this may be on a
    /// thread of another one.
    gro: Vec<(Ethtool, String)>,
}

impl Preparation {
    /// Makes `port` a redirect target if it is none. `has_program` says that weir's own ingress program will be, or
    /// is, on it.
    ///
    /// # Errors
    ///
    /// [`Error::NotRedirectTarget`] with what would help, or the failure of a step.
    pub fn make_target(
        &mut self,
        port: &Netdev,
        has_program: bool,
        pins: &Pins,
        actions: &mut Vec<String>,
    ) -> Result<()> {
        // Before 6.3 the kernel does not say; the drivers with a recipe are known, others get the program.
        let ready = match xdp_features(port.ifindex)? {
            Some(features) => features.is_target(),
            None => port.driver == "tun",
        };
        if ready {
            return Ok(());
        }
        if port.driver == "veth" {
            self.wake_peer(port, actions)?;
        } else if !has_program {
            attach_pass(port, pins)?;
            actions.push(format!(
                "port {}: attached an XDP program that passes everything: driver {} sets up its XDP transmit rings only then",
                port.name, port.driver
            ));
        }
        Ok(())
    }

    /// veth takes redirected frames if its peer polls: GRO is the switch for that (`veth_xdp_xmit`, 5.13).
    fn wake_peer(&mut self, port: &Netdev, actions: &mut Vec<String>) -> Result<()> {
        let refused = |hint: String| Error::NotRedirectTarget {
            device: port.name.clone(),
            driver: port.driver.clone(),
            hint,
        };
        let Some(peer) = port.peer else {
            return Err(refused("this veth device has no peer".to_owned()));
        };
        let near = netdev::all()?.into_iter().find(|d| !peer.elsewhere && d.ifindex == peer.ifindex);
        let Some(near) = near else {
            return Err(refused(
                "its veth peer is in another network namespace: switch GRO on there (ethtool -K PEER gro on) or attach an XDP program to it"
                    .to_owned(),
            ));
        };
        let ethtool = Ethtool::open().map_err(Error::os("open a control socket"))?;
        ethtool
            .set_gro(&near.name, true)
            .map_err(|e| refused(format!("switching GRO on for its peer {} failed: {e}", near.name)))?;
        actions.push(format!(
            "port {}: switched GRO on for its veth peer {}: without it redirected frames vanish",
            port.name, near.name
        ));
        self.gro.push((ethtool, near.name));
        Ok(())
    }

    /// Undoes what outlives the pins.
    pub fn undo(&mut self) {
        for (ethtool, device) in self.gro.drain(..) {
            // A device that is gone needs no undoing.
            let _gone = ethtool.set_gro(&device, false);
        }
    }
}

/// Why a device cannot be made a redirect target; `None` where it is one, can be made one, or the kernel does not say (before
/// 6.3). Nothing is touched.
///
/// # Errors
///
/// Netlink's.
pub fn no_target(port: &Netdev) -> Result<Option<String>> {
    let Some(features) = xdp_features(port.ifindex)? else { return Ok(None) };
    if features.is_target() {
        return Ok(None);
    }
    if port.driver == "veth" {
        let near = match port.peer {
            Some(peer) => !peer.elsewhere && netdev::all()?.iter().any(|d| d.ifindex == peer.ifindex),
            None => false,
        };
        let why = "its veth peer is in another network namespace and does not poll";
        return Ok((!near).then(|| why.to_owned()));
    }
    Ok((!features.native()).then(|| format!("driver {} has no native XDP", port.driver)))
}

/// After everything is attached: is the port a target now?
///
/// # Errors
///
/// [`Error::NotRedirectTarget`].
pub fn check_target(port: &Netdev) -> Result<()> {
    match xdp_features(port.ifindex)? {
        Some(features) if !features.is_target() => Err(Error::NotRedirectTarget {
            device: port.name.clone(),
            driver: port.driver.clone(),
            hint: format!(
                "driver {} does not implement ndo_xdp_xmit; `weir probe` shows what each device can do",
                port.driver
            ),
        }),
        Some(_) | None => Ok(()),
    }
}

/// Refuses a device that carries somebody else's program.
///
/// # Errors
///
/// [`Error::DeviceHasXdp`].
pub fn check_free(device: &Netdev) -> Result<()> {
    match device.xdp {
        Some(program) => Err(Error::DeviceHasXdp { device: device.name.clone(), program }),
        None => Ok(()),
    }
}

fn attach_pass(port: &Netdev, pins: &Pins) -> Result<()> {
    check_free(port)?;
    let mut ebpf = BASELINE.open(None, &[])?;
    let name = names::PROG_BASE_PASS;
    let program = BASELINE.xdp(&mut ebpf, name)?;
    program.load().map_err(Error::program("load", name, None))?;
    attach_xdp(program, port, name, pins)
}

/// Attaches an XDP program natively and pins its link.
///
/// # Errors
///
/// [`Error::DeviceHasXdp`], [`Error::NoNativeXdp`], [`Error::Program`], [`Error::Pin`].
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the enum is another crate's and grows; the rest does not matter here"
)]
pub fn attach_xdp(
    program: &mut aya::programs::Xdp,
    device: &Netdev,
    name: &'static str,
    pins: &Pins,
) -> Result<()> {
    use aya::programs::ProgramError;
    let id = program.attach_to_if_index(device.ifindex, XdpMode::Driver).map_err(|error| {
        let native = |source| Error::NoNativeXdp {
            device: device.name.clone(),
            driver: device.driver.clone(),
            source: Some(source),
        };
        match error {
            ProgramError::SyscallError(e) if e.io_error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                native(e.io_error)
            }
            ProgramError::SyscallError(e) if e.io_error.raw_os_error() == Some(libc::EBUSY) => {
                Error::DeviceHasXdp { device: device.name.clone(), program: device.xdp.unwrap_or(0) }
            }
            other => Error::program("attach", name, Some(&device.name))(other),
        }
    })?;
    let link = program.take_link(id).map_err(Error::program("attach", name, Some(&device.name)))?;
    let link = link.try_into().map_err(|_| Error::NoNativeXdp {
        device: device.name.clone(),
        driver: device.driver.clone(),
        source: None,
    })?;
    pins.keep(link, &format!("{name}-{}", device.name))
}
