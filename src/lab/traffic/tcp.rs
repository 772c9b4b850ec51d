//! TCP flows of no end: a listener, and a sender that writes as much as the kernel takes.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Socket, Type};

use super::threads::{SLICE, is_timeout, stopped, wait_until};
use super::{Endpoints, FlowState, add, in_host, leave_as};
use crate::experiment::TcpFlow;
use crate::lab::clock::now_ns;
use crate::lab::error::{Error, Result};
use crate::lab::topology::{Host, Topology};

/// Whether this kernel has the congestion control, or can load it as a module (which setting it once does).
pub(super) fn check_congestion(name: &str) -> Result<()> {
    let attempt = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))
        .and_then(|socket| socket.set_tcp_congestion(name.as_bytes()));
    match attempt {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let path = "/proc/sys/net/ipv4/tcp_available_congestion_control";
            let available = std::fs::read_to_string(path).map_err(Error::os(format!("read {path}")))?;
            Err(Error::Congestion { name: name.to_owned(), available: available.trim().replace(' ', ", ") })
        }
        Err(source) => Err(Error::Flow { flow: format!("tcp ({name})"), source }),
    }
}

/// The sender's socket and the receiver's listener.
pub(super) fn pair(
    topology: &Topology,
    flow: &TcpFlow,
    ends: Endpoints,
    name: &str,
) -> Result<(Socket, Socket)> {
    let listener = in_host(topology, Host::Receiver, name, || {
        let socket = Socket::new(Domain::for_address(ends.to), Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&ends.to.into())?;
        socket.listen(1)?;
        socket.set_read_timeout(Some(SLICE))?;
        Ok(socket)
    })?;
    let sender = in_host(topology, Host::Sender, name, || {
        let socket = Socket::new(Domain::for_address(ends.to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_congestion(flow.congestion.as_bytes())?;
        // The kernel's own ECN bits stay: it takes the code point alone (`ip_setsockopt`, IP_TOS on a stream).
        leave_as(&socket, ends, flow.identity.dscp << 2)?;
        // Closing resets: what is still queued when the run is over must not keep the link busy.
        socket.set_linger(Some(Duration::ZERO))?;
        Ok(socket)
    })?;
    Ok((sender, listener))
}

pub(super) fn send(socket: Socket, to: SocketAddr, window: (u64, u64), stop: &AtomicBool) -> io::Result<()> {
    let (from_ns, until_ns) = window;
    if !wait_until(from_ns, stop) || !connect(&socket, to, until_ns, stop)? {
        return Ok(());
    }
    socket.set_write_timeout(Some(SLICE))?;
    let chunk = vec![0x5a_u8; 64 * 1024];
    let mut socket = socket;
    while !stopped(stop) && now_ns() < until_ns {
        match socket.write(&chunk) {
            Ok(_) => {}
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Connects, as long as that takes the kernel; false when a stop or the flow's end came first.
fn connect(socket: &Socket, to: SocketAddr, until_ns: u64, stop: &AtomicBool) -> io::Result<bool> {
    socket.set_nonblocking(true)?;
    match socket.connect(&to.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => loop {
            if stopped(stop) || now_ns() >= until_ns {
                return Ok(false);
            }
            let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
            if poll(&mut fds, PollTimeout::from(50_u8)).unwrap_or(0) > 0 {
                if let Some(error) = socket.take_error()? {
                    return Err(error);
                }
                break;
            }
        },
        Err(error) => return Err(error),
    }
    socket.set_nonblocking(false)?;
    Ok(true)
}

pub(super) fn receive(listener: &Socket, flow: &FlowState, stop: &AtomicBool) -> io::Result<()> {
    let mut stream = loop {
        if stopped(stop) {
            return Ok(());
        }
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
        }
    };
    stream.set_read_timeout(Some(SLICE))?;
    let mut buffer = vec![0_u8; 256 * 1024];
    while !stopped(stop) {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => add(&flow.bytes, n),
            Err(error) if is_timeout(&error) => {}
            // The sender's way to end: see `pair`.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
