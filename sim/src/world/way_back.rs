//! How far senders are from the path, and the way of acknowledgements.

use weir_aqm::{Bytes, Nanos};

use super::line::{Line, Serialiser};
use crate::{FlowId, Packet, Random, Reverse, sender::Ack};

/// Bytes of an acknowledgement's frame: Ethernet, IPv4, TCP with timestamps. The way back has no overhead besides.
const ACK_FRAME: u64 = 66;

/// What lies between the path and all flows with the same [`crate::Flow::extra_delay`].
pub struct Distance {
    pub extra: Nanos,
    pub frames: Line<Packet>,
    pub acks: Line<(FlowId, Ack)>,
}

/// The path's way back.
pub struct WayBack {
    rate: Option<Serialiser>,
    loss_ppm: u32,
    delay: Nanos,
    random: Random,
}

impl WayBack {
    /// Free, with the path's delay.
    pub fn new(reverse: Reverse, delay: Nanos, random: Random) -> Self {
        Self { rate: reverse.rate.map(Serialiser::new), loss_ppm: reverse.loss_ppm, delay, random }
    }

    /// When an acknowledgement that is sent now is through, if it is not lost.
    pub fn send(&mut self, now: Nanos) -> Option<Nanos> {
        let left = match &mut self.rate {
            None => now,
            Some(link) => link.send(now, Bytes::new(ACK_FRAME)),
        };
        (!self.random.happens(self.loss_ppm)).then(|| left.saturating_add(self.delay))
    }
}
