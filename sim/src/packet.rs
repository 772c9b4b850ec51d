//! What travels.

use weir_aqm::Nanos;

/// Index of a flow in its scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(pub usize);

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Whose.
    pub flow: FlowId,
    /// Number of this transmission in its flow; a retransmission has a new one.
    pub number: u64,
    /// Length of the Ethernet frame without its check sequence.
    pub bytes: u32,
    /// When the sender handed it to the fast link.
    pub sent: Nanos,
    /// The sender understands marks (ECT).
    pub capable: bool,
    /// Congestion Experienced.
    pub marked: bool,
}
