//! Where packets come from.

mod bursts;
mod congestion;
mod gaming;
mod open;
mod tcp;
#[cfg(test)]
mod tests;

use weir_aqm::Nanos;

use crate::{Congestion, Ecn, Random, Traffic};
use congestion::{Bbr1, Bbr3, Cubic, Dctcp, Prague, Reno};
use tcp::Tcp;

pub use bursts::OnOff;
pub use gaming::Gaming;
pub use open::{Constant, Poisson, Sizes};

/// Bytes around a datagram's payload: the headers of UDP, IPv4 and Ethernet.
pub const UDP_HEADERS: u32 = 42;

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
    /// Payload bytes in it. Each of a flow's frames has the same headers around it.
    pub payload: u32,
    /// Which piece of the stream this is: rises by one from zero, and wraps as TCP's sequence numbers do; what is sent again has
    /// the number that it had. Flows that are not acknowledged have no stream, and zero.
    pub segment: u32,
    /// What it bears.
    pub ecn: Ecn,
}

impl Outgoing {
    /// A frame of `bytes` that carries UDP.
    pub const fn datagram(number: u64, bytes: u32, ecn: Ecn) -> Self {
        Self { number, bytes, payload: bytes.saturating_sub(UDP_HEADERS), segment: 0, ecn }
    }
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

/// A sender of this traffic. [`Traffic::Short`] is not one sender, since the world makes one [`Traffic::Tcp`] for each arrival:
/// asked for all the same, it is one endless flow of that congestion control.
pub fn sender(traffic: &Traffic, random: Random) -> Box<dyn Sender> {
    match *traffic {
        Traffic::Tcp { congestion, ecn, bytes } => tcp(congestion, ecn, bytes, random),
        Traffic::Short { congestion, ecn, .. } => tcp(congestion, ecn, None, random),
        Traffic::Constant { rate, bytes, ecn } => {
            Box::new(Constant::new(open::interval(rate, bytes), bytes, ecn))
        }
        Traffic::Probe { interval, bytes } => Box::new(Constant::new(interval, bytes, Ecn::NotEct)),
        Traffic::Poisson { mean, bytes, sizes } => Box::new(Poisson::new(mean, bytes, sizes, random)),
        Traffic::OnOff { rate, bytes, on, off } => Box::new(OnOff::new(rate, bytes, on, off, random)),
        Traffic::Voip => Box::new(OnOff::voip(random)),
        Traffic::Gaming => Box::new(Gaming::new(random)),
    }
}

fn tcp(control: Congestion, ecn: bool, bytes: Option<u64>, random: Random) -> Box<dyn Sender> {
    let ecn = if ecn { Ecn::Ect0 } else { Ecn::NotEct };
    match control {
        Congestion::Reno => Box::new(Tcp::new(Reno::new(ecn), bytes)),
        Congestion::Cubic => Box::new(Tcp::new(Cubic::new(ecn), bytes)),
        Congestion::Bbr1 => Box::new(Tcp::new(Bbr1::new(random), bytes)),
        Congestion::Bbr3 => Box::new(Tcp::new(Bbr3::new(random), bytes)),
        Congestion::Dctcp => Box::new(Tcp::new(Dctcp::new(), bytes)),
        Congestion::Prague => Box::new(Tcp::new(Prague::new(), bytes)),
    }
}
