//! A socket that sends MAC control frames out of one device.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socket};
use weir_wire::Pause;

/// One device's socket.
pub struct Link {
    socket: OwnedFd,
    mac: [u8; 6],
}

impl Link {
    /// Opens a socket in the calling thread's network namespace on the device `ifindex`, whose address is `mac`. It receives
    /// nothing, and what it sends goes past the device's qdisc (`PACKET_QDISC_BYPASS`, Linux 3.14): a request to stop does not
    /// wait behind data.
    ///
    /// # Errors
    ///
    /// Those of `socket(2)`, `setsockopt(2)`, `bind(2)`.
    pub fn open(ifindex: u32, mac: [u8; 6]) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // No protocol: a packet socket without one gets no frames (packet(7)).
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
        let on: libc::c_int = 1;
        // SAFETY: the kernel reads `on`, which outlives the call.
        let rc = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_QDISC_BYPASS,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            )
        };
        if rc < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: all-zero bytes are a valid `sockaddr_ll`.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as libc::c_ushort;
        address.sll_ifindex = ifindex.cast_signed();
        let length = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the kernel reads `address`, which outlives the call.
        let rc = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        if rc < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { socket, mac })
    }

    /// Sends a frame; never waits.
    ///
    /// # Errors
    ///
    /// `ENOBUFS` where the driver's ring takes no frame, `ENETDOWN`, `ENXIO` for a device that is gone.
    pub fn send(&self, pause: &Pause) -> io::Result<()> {
        send(self.socket.as_raw_fd(), &pause.frame(self.mac), MsgFlags::empty())?;
        Ok(())
    }
}
