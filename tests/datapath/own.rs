//! Traffic of the router's own, which its stack sends, and the rate of what leaves.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::frame::{PORT, RECEIVER, STAMP, udp};
use super::router::Router;

/// A socket of the router's that sends UDP to one address, from port and to port [`PORT`].
pub struct Own {
    socket: Socket,
    payload: Vec<u8>,
}

impl Own {
    /// `frame` bytes of Ethernet frame for each packet.
    pub fn new(router: &Router, to: impl Into<IpAddr>, frame: usize) -> Self {
        let to = to.into();
        let (domain, headers) = match to {
            IpAddr::V4(_) => (Domain::IPV4, 14 + 20 + 8),
            IpAddr::V6(_) => (Domain::IPV6, 14 + 40 + 8),
        };
        let socket = router.run(|| Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).unwrap());
        socket.connect(&SocketAddr::from((to, PORT)).into()).unwrap();
        assert!(frame >= headers + STAMP);
        Self { socket, payload: vec![0x5a; frame - headers] }
    }

    pub fn mark(self, mark: u32) -> Self {
        self.socket.set_mark(mark).unwrap();
        self
    }

    /// Sets the traffic class of both families.
    pub fn traffic_class(self, class: u32) -> Self {
        if self.socket.domain().unwrap() == Domain::IPV4 {
            self.socket.set_tos_v4(class).unwrap();
        } else {
            self.socket.set_tclass_v6(class).unwrap();
        }
        self
    }

    /// Sends one packet, with a number in it.
    pub fn send(&mut self, stamp: u64) {
        self.payload[..STAMP].copy_from_slice(&stamp.to_be_bytes());
        match self.socket.send(&self.payload) {
            Ok(sent) => assert_eq!(sent, self.payload.len()),
            // The qdisc and the ring are full.
            Err(error) => assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}"),
        }
    }
}

/// [`rate`] of frames of `frame` bytes that the router and the sender behind `lan0` offer in turns.
pub fn rate_in_turns(router: &Router, frame: usize) -> f64 {
    let mut own = Own::new(router, RECEIVER.0, frame);
    let arriving = udp(RECEIVER.0).payload(frame - 42).build();
    let mut turn = 0_u64;
    rate(router, |_| {
        turn += 1;
        if turn.is_multiple_of(2) { own.send(0) } else { router.inject(&arriving) }
    })
}

/// How long before the window begins, and how long it is at least.
const SETTLE: Duration = Duration::from_millis(300);
const WINDOW: Duration = Duration::from_secs(2);
/// What lies between the offer of a frame that does not pass and the sight of the next one, at the window's edges.
const EDGE: Duration = Duration::from_micros(200);

/// Bits per second that leave `wan0` while `offer` offers more than the rate, one frame at a call, on this thread.
///
/// The window begins and ends with a frame that passed after one that did not: the meter holds the same then, so that what
/// passed between is the rate times the time, whatever the machine did to this thread meanwhile (as long as the burst bridges
/// it). `offer` gets the time since the start.
pub fn rate(router: &Router, mut offer: impl FnMut(Duration)) -> f64 {
    let start = Instant::now();
    let (mut first, mut bytes, mut dropped) = (None, 0, None);
    loop {
        let before = Instant::now();
        offer(before - start);
        let passed: usize = std::iter::from_fn(|| router.take()).map(|frame| frame.len()).sum();
        let after = Instant::now();
        bytes += passed;
        let since_drop = dropped.map(|offered: Instant| after - offered);
        let edge = passed > 0 && since_drop.is_some_and(|time| time < EDGE) && before - start > SETTLE;
        match first {
            None if edge => (first, bytes) = (Some(after), 0),
            Some(first) if edge && after - first > WINDOW => {
                return bytes as f64 * 8.0 / (after - first).as_secs_f64();
            }
            Some(_) | None => {}
        }
        assert!(after - start < 10 * WINDOW, "no frame passes after one that did not: {bytes} bytes passed");
        dropped = (passed == 0).then_some(before);
    }
}
