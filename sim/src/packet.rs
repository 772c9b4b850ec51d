//! What travels.

use weir_aqm::Nanos;

/// Index of a running flow. Each connection has one of its own, also each of a group of short flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(pub u32);

/// The ECN field (RFC 3168 section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ecn {
    /// Not ECN-capable.
    #[default]
    NotEct,
    /// ECN-capable, classic.
    Ect0,
    /// ECN-capable, L4S (RFC 9331).
    Ect1,
    /// Congestion Experienced.
    Ce,
}

impl Ecn {
    /// Whether a mark can stand in for a drop: ECT(0), ECT(1), or marked already.
    pub const fn is_capable(self) -> bool {
        !matches!(self, Self::NotEct)
    }
}

/// The transport protocol of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    #[default]
    Udp,
}

/// What a flow is addressed to: rules of classes look at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Service {
    /// Its transport protocol.
    pub protocol: Protocol,
    /// Its destination port.
    pub port: u16,
}

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Whose.
    pub flow: FlowId,
    /// Length of the Ethernet frame without its check sequence.
    pub bytes: u32,
    /// Number of this transmission in its flow; a retransmission has a new one.
    pub number: u64,
    /// Which piece of the flow's stream it carries; a retransmission has that of what was lost.
    pub segment: u32,
    /// When the sender handed it to the fast link.
    pub sent: Nanos,
    /// Which host behind the fast link sends: what per-host fairness tells apart.
    pub host: u16,
    /// Differentiated services code point, 0 to 63 (RFC 2474).
    pub dscp: u8,
    /// What it is addressed to.
    pub service: Service,
    /// May be changed to [`Ecn::Ce`] on the way.
    pub ecn: Ecn,
}

impl Packet {
    /// Marks the packet if it is ECN-capable; returns whether it bears the mark now.
    pub const fn mark(&mut self) -> bool {
        if self.ecn.is_capable() {
            self.ecn = Ecn::Ce;
        }
        matches!(self.ecn, Ecn::Ce)
    }
}
