//! Where packets come from.

mod open;
mod tcp;
mod window;

use weir_aqm::Nanos;

pub use open::{Constant, Poisson, Sizes};
pub use tcp::Tcp;
pub use window::{Cubic, Reno, Window};

/// One flow's sender: told the time and what the receiver got, it says what to send and when to be woken.
pub trait Sender {
    /// The flow's start, or a time that [`Outbox::wake_at`] asked for.
    fn wake(&mut self, now: Nanos, out: &mut Outbox);

    /// The receiver's word about one packet has arrived.
    fn on_ack(&mut self, _now: Nanos, _ack: Ack, _out: &mut Outbox) {}

    /// Whether receivers acknowledge this flow.
    fn wants_acks(&self) -> bool {
        false
    }
}

/// What a receiver says of each packet that it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// [`crate::Packet::number`].
    pub number: u64,
    /// When that packet was sent.
    pub sent: Nanos,
    /// It bore Congestion Experienced.
    pub marked: bool,
}

/// What a sender wants.
#[derive(Debug, Default)]
pub struct Outbox {
    packets: Vec<Outgoing>,
    wake_at: Option<Nanos>,
}

/// A packet to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Number of the transmission.
    pub number: u64,
    /// Length of the Ethernet frame.
    pub bytes: u32,
    /// ECN-capable.
    pub capable: bool,
}

impl Outbox {
    /// Sends a packet now.
    pub fn send(&mut self, packet: Outgoing) {
        self.packets.push(packet);
    }

    /// Asks to be woken. A sender keeps at most one wake-up pending.
    pub const fn wake_at(&mut self, at: Nanos) {
        self.wake_at = Some(at);
    }

    pub(crate) fn take(&mut self) -> (std::vec::Drain<'_, Outgoing>, Option<Nanos>) {
        let wake_at = self.wake_at.take();
        (self.packets.drain(..), wake_at)
    }
}
