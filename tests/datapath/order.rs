//! Many flows through the router, and a receiver that looks at the order of each.

use std::net::IpAddr;

use super::frame::{PORT, Udp, seen, udp};
use super::router::Router;

/// Flows that send in turns, and what has arrived of them.
pub struct Flows {
    to: IpAddr,
    payload: usize,
    sent: Vec<u64>,
    arrived: Vec<u64>,
    next: usize,
    /// Frames that arrived.
    pub received: u64,
}

impl Flows {
    /// `count` flows to `to`, with frames of `payload` bytes of UDP payload.
    pub fn new(count: usize, to: impl Into<IpAddr>, payload: usize) -> Self {
        Self { to: to.into(), payload, sent: vec![0; count], arrived: vec![0; count], next: 0, received: 0 }
    }

    /// The next packet of the next flow: the flow is the source port, its number travels in the payload.
    pub fn packet(&mut self) -> Udp {
        let flow = self.next;
        self.next = (flow + 1) % self.sent.len();
        self.sent[flow] += 1;
        let port = 10_000 + u16::try_from(flow).unwrap();
        udp(self.to).ports(port, PORT).payload(self.payload).stamp((flow as u64) << 32 | self.sent[flow])
    }

    /// Sends it.
    pub fn send(&mut self, router: &Router) {
        router.inject(&self.packet().build());
    }

    /// Looks at a frame that left the router. Panics if an earlier packet of its flow is still to come.
    pub fn receive(&mut self, frame: &[u8]) {
        let Some(frame) = seen(frame) else { return };
        let (flow, number) = ((frame.stamp >> 32) as usize, frame.stamp & 0xffff_ffff);
        let before = self.arrived[flow];
        assert!(number > before, "flow {flow}: packet {number} arrived after {before}");
        self.arrived[flow] = number;
        self.received += 1;
    }
}
