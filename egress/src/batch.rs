//! Which frames a driver's report is about.
//!
//! Egress counts frames on its CPU; the tracepoint behind the driver says how many of them were a batch, and how many of
//! these were sent. Nothing promises that a tracing program runs each time: the kernel skips one that is already running
//! on the CPU (`__bpf_trace_run`, `kernel/trace/bpf_trace.c` at v6.18), and anybody with the right may take its link away. What a report
//! says is therefore laid against the newest frames alone; those before belong to batches that nobody saw.

use weir_shared_maps::{BATCH_MAX, BatchScratch};

const FRAMES: u32 = BATCH_MAX as u32;
/// Frames whose fate [`BatchScratch::dropped_at`] remembers.
const REMEMBERED: u32 = u32::BITS;

const _: () = assert!(REMEMBERED == 2 * FRAMES);

/// Frames of batches of which nobody saw the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unseen {
    /// Those that egress accepted.
    pub accepted: u32,
    /// Those that it dropped.
    pub dropped: u32,
}

/// Frames that egress counted since the last report.
#[inline(always)]
pub const fn frames(scratch: &BatchScratch) -> u32 {
    scratch.accepted.wrapping_add(scratch.dropped)
}

/// Whether the next frame begins a batch, for all that egress can know: the kernel's have at most 16 (`DEV_MAP_BULK_SIZE`), so
/// that clock and ring are never older than that.
#[inline(always)]
pub const fn begins(scratch: &BatchScratch, port: u32) -> bool {
    scratch.port != port || frames(scratch).is_multiple_of(FRAMES)
}

/// [`BatchScratch::dropped_at`] where a batch begins: room for 16 frames, beside what it says of the 16 before.
#[inline(always)]
pub const fn forget(scratch: &BatchScratch) -> u32 {
    let coming = ((1 << FRAMES) - 1) << (frames(scratch) & FRAMES);
    scratch.dropped_at & !coming
}

/// [`BatchScratch::dropped_at`] with the next frame dropped.
#[inline(always)]
pub const fn drop_next(scratch: &BatchScratch) -> u32 {
    scratch.dropped_at | 1 << (frames(scratch) % REMEMBERED)
}

/// Leaves in the scratch what belongs to the newest batch, of `frames_of_batch` frames; what came before is given back.
#[inline(always)]
pub fn settle(scratch: &mut BatchScratch, frames_of_batch: u32) -> Unseen {
    if frames_of_batch >= frames(scratch) || frames_of_batch > FRAMES {
        return Unseen::default();
    }
    let dropped = newest(scratch, frames_of_batch).count_ones();
    let accepted = frames_of_batch.wrapping_sub(dropped);
    let unseen = Unseen {
        accepted: scratch.accepted.wrapping_sub(accepted),
        dropped: scratch.dropped.wrapping_sub(dropped),
    };
    let lengths = scratch.lengths;
    scratch.accepted_bytes = 0;
    for i in 0..BATCH_MAX {
        let from = (unseen.accepted as usize).wrapping_add(i) & (BATCH_MAX - 1);
        let length = lengths.get(from).copied().unwrap_or(0);
        if let Some(slot) = scratch.lengths.get_mut(i) {
            *slot = length;
        }
        if (i as u32) < accepted {
            scratch.accepted_bytes = scratch.accepted_bytes.wrapping_add(u64::from(length));
        }
    }
    (scratch.accepted, scratch.dropped) = (accepted, dropped);
    unseen
}

/// A bit for each of the newest `count` frames, set where it was dropped.
#[inline(always)]
const fn newest(scratch: &BatchScratch, count: u32) -> u32 {
    // The bit of the frame to come turns to the bottom, that of the newest one to the top.
    let turned = scratch.dropped_at.rotate_right(frames(scratch) % REMEMBERED);
    // By two steps: none of the frames is a shift by the whole width.
    turned >> (REMEMBERED - 1 - count % REMEMBERED) >> 1
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use proptest::prelude::*;
    use zerocopy::FromZeros as _;

    use super::*;

    /// Egress's part in a frame of `length` bytes, as the program does it.
    fn frame(scratch: &mut BatchScratch, drop: bool, length: u32) {
        if begins(scratch, scratch.port) {
            scratch.dropped_at = forget(scratch);
        }
        if drop {
            scratch.dropped_at = drop_next(scratch);
            scratch.dropped += 1;
        } else {
            scratch.lengths[scratch.accepted as usize % BATCH_MAX] = length;
            scratch.accepted_bytes += u64::from(length);
            scratch.accepted += 1;
        }
    }

    /// Frames of 60 bytes, 61 and so on.
    fn counted(frames: &[bool]) -> BatchScratch {
        let mut scratch = BatchScratch::new_zeroed();
        frames.iter().zip(60..).for_each(|(drop, length)| frame(&mut scratch, *drop, length));
        scratch
    }

    #[test]
    fn a_batch_that_was_seen_stays_as_it_is() {
        let before = counted(&[false, true, false]);
        let mut scratch = before;
        assert_eq!(settle(&mut scratch, 3), Unseen::default());
        assert_eq!(scratch, before);
        // A report of more than egress counted: what it let through without state (fail open).
        assert_eq!(settle(&mut scratch, 4), Unseen::default());
        assert_eq!(scratch, before);
    }

    #[test]
    fn drops_of_a_batch_that_nobody_saw_are_not_those_of_the_next() {
        let mut scratch = counted(&[true, false]);
        assert_eq!(settle(&mut scratch, 1), Unseen { accepted: 0, dropped: 1 });
        assert_eq!((scratch.accepted, scratch.dropped), (1, 0));
    }

    #[test]
    fn clock_and_ring_are_read_anew_after_sixteen_frames_though_nobody_sees_a_batch_end() {
        let mut scratch = BatchScratch::new_zeroed();
        let mut read = Vec::new();
        for number in 0..40 {
            if begins(&scratch, 0) {
                read.push(number);
            }
            frame(&mut scratch, false, 60);
        }
        assert_eq!(read, [0, 16, 32]);
        assert!(begins(&scratch, 1), "another port's frame");
    }

    proptest! {
        #[test]
        fn whatever_went_unseen_the_last_batch_is_read_exactly(
            batches in prop::collection::vec(prop::collection::vec(any::<bool>(), 1..=BATCH_MAX), 1..12),
        ) {
            let frames = batches.concat();
            let mut scratch = counted(&frames);
            let (before, last) = frames.split_at(frames.len() - batches.last().unwrap().len());
            let dropped = |frames: &[bool]| frames.iter().filter(|drop| **drop).count() as u32;
            let (unseen, batch) = (dropped(before), dropped(last));
            let expected = Unseen { accepted: before.len() as u32 - unseen, dropped: unseen };
            prop_assert_eq!(settle(&mut scratch, last.len() as u32), expected);
            prop_assert_eq!((scratch.accepted, scratch.dropped), (last.len() as u32 - batch, batch));
            let accepted = last.iter().zip(60 + before.len() as u32..).filter(|(drop, _)| !**drop);
            let lengths: Vec<u32> = accepted.map(|(_, length)| length).collect();
            prop_assert_eq!(&scratch.lengths[..lengths.len()], &lengths[..]);
            prop_assert_eq!(scratch.accepted_bytes, lengths.into_iter().map(u64::from).sum::<u64>());
        }
    }
}
