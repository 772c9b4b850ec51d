//! Arithmetic of a ring's sequence history: which of the frames that the driver took is at the head of the ring.
//!
//! Whoever hands frames to the driver numbers them and stores, at `slot(sequence)`, when each entered the ring. With
//! `occupancy` frames still in the ring, its head is frame `sent - occupancy`, and the head's entry is its exact
//! sojourn time. The storage is the caller's.

/// Frames remembered. A power of two, so that a masked index needs no bounds check; more than the longest ring that
/// common drivers are given (tun and virtio 1,000 to 1,024, others up to 4,096).
pub const HISTORY_LEN: u64 = 4096;

const _: () = assert!(HISTORY_LEN.is_power_of_two());

/// The sequence number of the frame at the head of the ring: `sent - occupancy`, where `sent` frames were numbered
/// from zero. An occupancy beyond the history or beyond what was ever sent (frames of others share some rings)
/// is cut to the oldest frame that is remembered. With an empty ring this is `sent`, a frame not sent yet.
#[inline(always)]
pub const fn head_sequence(sent: u64, occupancy: u64) -> u64 {
    let occupancy = if occupancy < HISTORY_LEN { occupancy } else { HISTORY_LEN };
    sent.saturating_sub(occupancy)
}

/// Where a frame's entry is stored, below [`HISTORY_LEN`].
#[inline(always)]
pub const fn slot(sequence: u64) -> usize {
    (sequence & (HISTORY_LEN - 1)) as usize
}
