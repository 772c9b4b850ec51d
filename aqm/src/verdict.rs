//! What a controller says about one packet.

/// A controller's word on one packet. Whether a signal becomes a CE mark or a drop is the caller's to decide: it
/// knows the packet's ECN field and whether marking is still allowed.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let the packet through untouched.
    Pass,
    /// Signal congestion with this packet: mark it if it may be marked, else drop it.
    Signal,
}

impl Verdict {
    /// True for [`Verdict::Signal`].
    #[inline(always)]
    pub const fn is_signal(self) -> bool {
        matches!(self, Self::Signal)
    }
}
