//! What stands in front of an arriving packet.

use weir_aqm::{Bytes, Nanos, Pace};

/// One TX ring as an arriving frame finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// The batch's clock read.
    pub now: Nanos,
    /// Bytes in the ring, those accepted in this batch among them.
    pub backlog: Bytes,
    /// Frames in the ring, those accepted in this batch among them.
    pub occupancy: u32,
    /// Slots of the ring; 0 where unknown.
    pub slots: u32,
    /// How long the ring's oldest frame has been waiting.
    pub head_sojourn: Nanos,
    /// The ring's drain rate, once known.
    pub pace: Option<Pace>,
    /// Bytes in the port's other rings, for its classes, which share all of them.
    pub others: Bytes,
    /// The drain rate of all rings, alike; `None` where it is unknown, or there is one ring.
    pub all_pace: Option<Pace>,
}

impl Queue {
    /// Nothing, nowhere.
    pub const NONE: Self = Self {
        now: Nanos::ZERO,
        backlog: Bytes::ZERO,
        occupancy: 0,
        slots: 0,
        head_sojourn: Nanos::ZERO,
        pace: None,
        others: Bytes::ZERO,
        all_pace: None,
    };

    /// The sojourn the AQM works on.
    ///
    /// The arriving frame's own, predicted as backlog over drain rate: a FIFO's queue delay for the packet that is
    /// judged, known when it arrives. While no drain rate is known, and where the config asks for it, the oldest
    /// frame's, which is exact but one queue delay late. docs/aqm-comparison.md compares the two.
    #[inline(always)]
    pub fn sojourn(&self, head_only: bool) -> Nanos {
        match self.pace {
            Some(pace) if !head_only => pace.time_for(self.backlog),
            Some(_) | None => self.head_sojourn,
        }
    }
}
