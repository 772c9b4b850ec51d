//! Where packets come from.

mod open;
mod tcp;
mod window;

use weir_aqm::Nanos;

use crate::{Ecn, Random, Traffic};

pub use open::{Constant, Poisson, Sizes};
pub use tcp::Tcp;
pub use window::{Cubic, Reno, Window};

/// One flow's sender: told the time and what the receiver got, it says what to send and when to be woken.
pub trait Sender {
    /// The flow's start, or a time that [`Outbox::wake_at`] asked for. May come earlier than asked, never twice for one asking.
    fn wake(&mut self, now: Nanos, out: &mut Outbox);

    /// An acknowledgement has arrived.
    fn on_ack(&mut self, _now: Nanos, _ack: &Ack, _out: &mut Outbox) {}

    /// From now on nothing new is sent; what is under way may be repeated.
    fn stop(&mut self, _now: Nanos) {}

    /// Whether receivers acknowledge this flow.
    fn wants_acks(&self) -> bool {
        false
    }

    /// All is sent and, where it wants acknowledgements, acknowledged: the flow can be forgotten.
    fn is_finished(&self) -> bool {
        false
    }
}

/// What a receiver has got of a flow, as SACK (RFC 2018) and accurate ECN would tell it. Numbers are those of
/// transmissions, and a retransmission has a new one; so a gap below a received number is a loss unless the path reorders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Numbers received, as ranges from first to last, both included, newest range first. Older ranges than fit are left
    /// out: they were in earlier acknowledgements.
    pub received: [Option<(u64, u64)>; Ack::RANGES],
    /// Packets received so far, each once.
    pub packets: u64,
    /// Of these, how many bore Congestion Experienced.
    pub marked: u64,
    /// When the packet that caused this acknowledgement was sent: now less this is a round-trip time. Where the
    /// acknowledgement was delayed, that of the oldest packet it newly covers.
    pub sent: Nanos,
}

impl Ack {
    /// Ranges that one acknowledgement can tell: three SACK blocks beside a timestamp, and the newest.
    pub const RANGES: usize = 4;

    /// The highest number received.
    pub const fn newest(&self) -> u64 {
        match self.received {
            [Some((_, last)), ..] => last,
            _ => 0,
        }
    }
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
    /// Number of the transmission, rising by one.
    pub number: u64,
    /// Length of the Ethernet frame.
    pub bytes: u32,
    /// Payload bytes in it: what goodput counts when the frame arrives. Each byte of a stream is carried again only after it
    /// was found lost, so that what arrives is counted once, but for retransmissions that were not needed.
    pub payload: u32,
    /// What it bears.
    pub ecn: Ecn,
}

impl Outbox {
    /// Sends a packet now.
    pub fn send(&mut self, packet: Outgoing) {
        self.packets.push(packet);
    }

    /// Asks to be woken, once; replaces an earlier asking.
    pub const fn wake_at(&mut self, at: Nanos) {
        self.wake_at = Some(at);
    }

    /// Takes all that was asked for.
    pub fn take(&mut self) -> (std::vec::Drain<'_, Outgoing>, Option<Nanos>) {
        let wake_at = self.wake_at.take();
        (self.packets.drain(..), wake_at)
    }
}

/// A sender of this traffic. [`Traffic::Short`] is not one sender: the world makes one [`Traffic::Tcp`] for each arrival.
#[allow(clippy::todo, reason = "the other senders are not there yet")]
pub fn sender(traffic: &Traffic, random: Random) -> Box<dyn Sender> {
    match traffic {
        Traffic::Tcp { congestion: crate::Congestion::Cubic, ecn, bytes } => {
            Box::new(Tcp::new(Cubic::default(), 1514, *ecn, true).limited(*bytes))
        }
        Traffic::Tcp { ecn, bytes, .. } => {
            Box::new(Tcp::new(Reno::default(), 1514, *ecn, false).limited(*bytes))
        }
        Traffic::Constant { rate, bytes, ecn } => {
            let interval = u64::from(*bytes).saturating_mul(8_000_000_000) / rate.bits_per_second().max(1);
            Box::new(Constant::new(Nanos::from_nanos(interval), *bytes, *ecn))
        }
        Traffic::Probe { interval, bytes } => Box::new(Constant::new(*interval, *bytes, Ecn::NotEct)),
        Traffic::Poisson { mean, bytes, sizes } => Box::new(Poisson::new(*mean, *bytes, *sizes, random)),
        Traffic::Short { .. } | Traffic::OnOff { .. } | Traffic::Voip | Traffic::Gaming => todo!(),
    }
}
