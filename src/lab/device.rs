//! Taps, offloads, counters and kernel settings of one namespace: what netlink has no request for.
//!
//! Every function here acts on the namespace of the calling thread.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::stat::Mode;

use super::error::{Error, Result};

/// `ETHTOOL_STXCSUM`, `ETHTOOL_STSO`, `ETHTOOL_SGSO`, `ETHTOOL_SGRO` (`include/uapi/linux/ethtool.h`).
const OFFLOADS: [(u32, &str); 4] = [
    (0x0000_0017, "transmit checksumming"),
    (0x0000_001f, "TCP segmentation offload"),
    (0x0000_0024, "generic segmentation offload"),
    (0x0000_002c, "generic receive offload"),
];

/// `struct ethtool_value` (`include/uapi/linux/ethtool.h`).
#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

/// Counters of one device since it was made (`/proc/net/dev`, that is `rtnl_link_stats64`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceCounters {
    /// Frames received.
    pub rx_packets: u64,
    /// Frames the device dropped while receiving.
    pub rx_dropped: u64,
    /// Frames transmitted.
    pub tx_packets: u64,
    /// Frames the device dropped while transmitting.
    pub tx_dropped: u64,
}

/// Makes the tap `name` and attaches this process to it: layer 2 frames, no packet information header, reads and
/// writes that do not block. The device lives as long as the descriptor.
///
/// # Errors
/// [`Error::Os`] when `/dev/net/tun` is missing, the name is taken, or the privilege is.
pub fn create_tap(name: &str) -> Result<OwnedFd> {
    attach_tap(name, 0)
}

/// Creates a tap device of `queues` TX rings, one descriptor for each.
///
/// # Errors
/// As [`create_tap`].
pub fn create_multiqueue_tap(name: &str, queues: usize) -> Result<Vec<OwnedFd>> {
    (0..queues).map(|_| attach_tap_queue(name)).collect()
}

/// Makes the tap `name` with several queues, or attaches another queue to it. The queue, and with the last one the device,
/// lives as long as the descriptor.
///
/// # Errors
/// As [`create_tap`].
pub fn attach_tap_queue(name: &str) -> Result<OwnedFd> {
    attach_tap(name, libc::IFF_MULTI_QUEUE)
}

fn attach_tap(name: &str, more: libc::c_int) -> Result<OwnedFd> {
    let file = open("/dev/net/tun", OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK, Mode::empty())
        .map_err(Error::errno("open /dev/net/tun"))?;
    let mut request = interface_request(name)?;
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | more;
    request.ifr_ifru.ifru_flags = i16::try_from(flags).unwrap_or(0);
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which outlives the call.
    let rc = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    if rc < 0 {
        return Err(Error::Os {
            action: format!("create the tap {name}"),
            source: io::Error::last_os_error(),
        });
    }
    Ok(file)
}

/// Turns off the offloads that let a sender's frames leave unfinished (checksum, segmentation) or a receiver's
/// frames arrive merged. An XDP redirect forwards a frame as it is: one with a checksum still to be filled in dies
/// at the receiver without a word.
///
/// # Errors
/// [`Error::Os`] naming the offload; one that the device does not have is no error.
pub fn disable_offloads(name: &str) -> Result<()> {
    let control = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(Error::errno("open a control socket"))?;
    for (cmd, what) in OFFLOADS {
        let mut value = EthtoolValue { cmd, data: 0 };
        let mut request = interface_request(name)?;
        request.ifr_ifru.ifru_data = (&raw mut value).cast();
        // SAFETY: SIOCETHTOOL reads `request` and, through `ifru_data`, the `EthtoolValue`; both outlive the call.
        let rc = unsafe { libc::ioctl(control.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
        if rc < 0 {
            let source = io::Error::last_os_error();
            if source.raw_os_error() != Some(libc::EOPNOTSUPP) {
                return Err(Error::Os { action: format!("turn off {what} of {name}"), source });
            }
        }
    }
    Ok(())
}

/// The index of the device `name`.
///
/// # Errors
/// [`Error::Os`] when there is no such device in this namespace.
pub fn index_of(name: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(name).map_err(Error::errno(format!("find the device {name}")))
}

/// Writes a kernel setting of this namespace, named as sysctl names it but with slashes (`net/ipv4/ip_forward`).
///
/// # Errors
/// [`Error::Os`] when the kernel lacks the setting or refuses the value.
pub fn set_sysctl(key: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(key);
    fs::write(&path, value).map_err(Error::os(format!("write {value} to {}", path.display())))
}

/// The counters of the device `name`.
///
/// # Errors
/// [`Error::Os`] when the device is not there.
pub fn counters(name: &str) -> Result<DeviceCounters> {
    // `/proc/net` is the namespace of the process's first thread; `thread-self` is this thread's.
    let path = "/proc/thread-self/net/dev";
    let text = fs::read_to_string(path).map_err(Error::os(format!("read {path}")))?;
    parse_counters(&text, name).ok_or_else(|| Error::Os {
        action: format!("read the counters of {name}"),
        source: io::Error::new(io::ErrorKind::NotFound, format!("{path} has no such device")),
    })
}

fn parse_counters(text: &str, name: &str) -> Option<DeviceCounters> {
    let line = text.lines().find_map(|line| {
        let (device, rest) = line.split_once(':')?;
        (device.trim() == name).then_some(rest)
    })?;
    let field: Vec<u64> = line.split_whitespace().map(|f| f.parse().unwrap_or(0)).collect();
    Some(DeviceCounters {
        rx_packets: *field.get(1)?,
        rx_dropped: *field.get(3)?,
        tx_packets: *field.get(9)?,
        tx_dropped: *field.get(11)?,
    })
}

fn interface_request(name: &str) -> Result<libc::ifreq> {
    // SAFETY: `ifreq` is plain old data, a name and a union of integers and pointers: all zeros is a value of it.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(Error::Os {
            action: format!("name a device {name}"),
            source: io::Error::new(io::ErrorKind::InvalidInput, "a device name has at most 15 bytes"),
        });
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_the_columns_of_the_kernels_table() {
        let text = "Inter-|   Receive                        |  Transmit\n face |bytes packets errs drop\n\
                    slow0: 100 2 0 1 0 0 0 0  900 7 0 5 0 0 0 0\n fast0: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n";
        let counters = parse_counters(text, "slow0").unwrap();
        assert_eq!(counters, DeviceCounters { rx_packets: 2, rx_dropped: 1, tx_packets: 7, tx_dropped: 5 });
        assert_eq!(parse_counters(text, "eth9"), None);
    }
}
