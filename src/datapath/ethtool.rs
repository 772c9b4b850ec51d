//! `SIOCETHTOOL`: driver name, ring size, queue counts, link speed, offload switches. Acts on the calling thread's namespace.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// `ETHTOOL_GDRVINFO` and so on, `include/uapi/linux/ethtool.h` at v6.18.
const GSET: u32 = 0x01;
const GDRVINFO: u32 = 0x03;
const GRINGPARAM: u32 = 0x10;
const GGRO: u32 = 0x2b;
const SGRO: u32 = 0x2c;
const GCHANNELS: u32 = 0x3c;

#[repr(C)]
struct Value {
    cmd: u32,
    data: u32,
}

/// `struct ethtool_cmd`. The command is superseded, but the kernel answers it from what took its place, and a speed fits.
#[repr(C)]
#[derive(Default)]
struct Settings {
    cmd: u32,
    supported: u32,
    advertising: u32,
    speed_low: u16,
    /// duplex, port, phy_address, transceiver, autoneg, mdio_support.
    bytes: [u8; 6],
    maxtxpkt: u32,
    maxrxpkt: u32,
    speed_high: u16,
    /// eth_tp_mdix, eth_tp_mdix_ctrl.
    mdix: [u8; 2],
    lp_advertising: u32,
    reserved: [u32; 2],
}

const _: () = assert!(size_of::<Settings>() == 44);

#[repr(C)]
struct DriverInfo {
    cmd: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

#[repr(C)]
#[derive(Default)]
struct RingParam {
    cmd: u32,
    /// rx_max, rx_mini_max, rx_jumbo_max, tx_max, rx, rx_mini, rx_jumbo, tx.
    fields: [u32; 8],
}

#[repr(C)]
#[derive(Default)]
struct Channels {
    cmd: u32,
    /// max rx, tx, other, combined; rx, tx, other, combined.
    fields: [u32; 8],
}

/// A control socket in the namespace of the thread that opened it.
pub struct Ethtool(OwnedFd);

impl Ethtool {
    /// Opens a control socket.
    ///
    /// # Errors
    ///
    /// That of `socket(2)`.
    pub fn open() -> io::Result<Self> {
        Ok(Self(socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?))
    }

    /// The driver's name, as `ethtool -i` shows it.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` for devices without ethtool support, `ENODEV`.
    pub fn driver(&self, device: &str) -> io::Result<String> {
        let mut info = DriverInfo { cmd: GDRVINFO, driver: [0; 32], rest: [0; 160] };
        // SAFETY: `DriverInfo` is at least `struct ethtool_drvinfo` (196 bytes) large.
        unsafe { self.request(device, &raw mut info)? };
        let name: Vec<u8> = info.driver.iter().copied().take_while(|b| *b != 0).collect();
        Ok(String::from_utf8_lossy(&name).into_owned())
    }

    /// Speed of the link in Mbit/s, as `ethtool` shows it; `None` while the driver does not know (no link).
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` where the driver does not say.
    pub fn speed(&self, device: &str) -> io::Result<Option<u32>> {
        let mut settings = Settings { cmd: GSET, ..Default::default() };
        // SAFETY: `Settings` is `struct ethtool_cmd`.
        unsafe { self.request(device, &raw mut settings)? };
        let speed = u32::from(settings.speed_high) << 16 | u32::from(settings.speed_low);
        // SPEED_UNKNOWN is -1; without a carrier some drivers say 0, some 0xffff.
        Ok(Some(speed).filter(|speed| !matches!(*speed, 0 | 0xffff | u32::MAX)))
    }

    /// Slots of the TX ring, as `ethtool -g` shows it.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` where the driver does not say.
    pub fn tx_ring(&self, device: &str) -> io::Result<u32> {
        let mut ring = RingParam { cmd: GRINGPARAM, ..Default::default() };
        // SAFETY: `RingParam` is `struct ethtool_ringparam`.
        unsafe { self.request(device, &raw mut ring)? };
        let [.., tx] = ring.fields;
        Ok(tx)
    }

    /// TX queues in use (dedicated and combined), as `ethtool -l` shows it.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` where the driver does not say.
    pub fn tx_channels(&self, device: &str) -> io::Result<u32> {
        let mut channels = Channels { cmd: GCHANNELS, ..Default::default() };
        // SAFETY: `Channels` is `struct ethtool_channels`.
        unsafe { self.request(device, &raw mut channels)? };
        let [.., tx, _other, combined] = channels.fields;
        Ok(tx + combined)
    }

    /// Whether generic receive offload is on.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    pub fn gro(&self, device: &str) -> io::Result<bool> {
        let mut value = Value { cmd: GGRO, data: 0 };
        // SAFETY: `Value` is `struct ethtool_value`.
        unsafe { self.request(device, &raw mut value)? };
        Ok(value.data != 0)
    }

    /// Switches generic receive offload.
    ///
    /// # Errors
    ///
    /// `EPERM`, or those of the driver.
    pub fn set_gro(&self, device: &str, on: bool) -> io::Result<()> {
        let mut value = Value { cmd: SGRO, data: u32::from(on) };
        // SAFETY: `Value` is `struct ethtool_value`.
        unsafe { self.request(device, &raw mut value) }
    }

    /// # Safety
    ///
    /// `data` must point to the structure that its first word, the command, asks for.
    unsafe fn request<T>(&self, device: &str, data: *mut T) -> io::Result<()> {
        // SAFETY: all-zero bytes are a valid `ifreq`.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        if device.len() >= request.ifr_name.len() {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_data = data.cast();
        // SAFETY: the kernel reads `request` and the caller's structure, both of which outlive the call.
        let rc = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
        if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
