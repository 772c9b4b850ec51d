//! How far an application can read a stream.

/// What has arrived of a stream: all segments below a frontier, and ranges ahead of it. There is one range more than the sender
/// has holes to repair at most, and the sender's window bounds those.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// The first segment that is missing.
    frontier: u32,
    /// Rising; none touches another, or the frontier.
    ahead: Vec<Range>,
}

/// Segments from `first` to before `end`, and their payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u32,
    end: u32,
    payload: u64,
}

impl Stream {
    /// A segment has arrived: payload that is in order now and was not before. Nothing for what had arrived already.
    pub fn arrive(&mut self, segment: u32, payload: u64) -> u64 {
        if segment == self.frontier {
            self.frontier = segment.wrapping_add(1);
            return payload.saturating_add(self.close());
        }
        // Numbers wrap: what is more than half of them ahead is behind.
        if segment.wrapping_sub(self.frontier) <= u32::MAX / 2 {
            self.keep(segment, payload);
        }
        0
    }

    /// The frontier has moved: the first range may be in order now.
    fn close(&mut self) -> u64 {
        let Some(first) = self.ahead.first().copied().filter(|range| range.first == self.frontier) else {
            return 0;
        };
        self.ahead.remove(0);
        self.frontier = first.end;
        first.payload
    }

    /// Notes a segment ahead of the frontier.
    fn keep(&mut self, segment: u32, payload: u64) {
        let from = |number: u32| number.wrapping_sub(self.frontier);
        let next = self.ahead.partition_point(|range| from(range.first) <= from(segment));
        let (before, after) = self.ahead.split_at_mut(next);
        let (before, after) = (before.last_mut(), after.first_mut());
        let end = segment.wrapping_add(1);
        match (before, after) {
            (Some(before), _) if from(segment) < from(before.end) => {}
            (Some(before), Some(after)) if before.end == segment && after.first == end => {
                before.end = after.end;
                before.payload = before.payload.saturating_add(payload).saturating_add(after.payload);
                self.ahead.remove(next);
            }
            (Some(before), _) if before.end == segment => {
                before.end = end;
                before.payload = before.payload.saturating_add(payload);
            }
            (_, Some(after)) if after.first == end => {
                after.first = segment;
                after.payload = after.payload.saturating_add(payload);
            }
            (_, _) => self.ahead.insert(next, Range { first: segment, end, payload }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn a_hole_holds_back_what_is_behind_it_until_it_is_repaired() {
        let mut stream = Stream::default();
        assert_eq!(stream.arrive(0, 10), 10);
        assert_eq!([2, 3, 5].map(|segment| stream.arrive(segment, 10)), [0, 0, 0]);
        assert_eq!(stream.arrive(1, 10), 30);
        assert_eq!(stream.arrive(4, 7), 17);
    }

    #[test]
    fn what_arrives_twice_counts_once_wherever_it_stands() {
        let mut stream = Stream::default();
        for segment in [0, 2, 4, 5] {
            stream.arrive(segment, 10);
        }
        assert_eq!([0, 2, 4, 5].map(|segment| stream.arrive(segment, 10)), [0, 0, 0, 0]);
        assert_eq!([1, 1, 3, 3].map(|segment| stream.arrive(segment, 10)), [20, 0, 30, 0]);
    }

    #[test]
    fn segments_may_wrap_as_sequence_numbers_do() {
        let mut stream = Stream { frontier: u32::MAX - 1, ahead: Vec::new() };
        assert_eq!([u32::MAX, 1, 0].map(|segment| stream.arrive(segment, 10)), [0, 0, 0]);
        assert_eq!(stream.ahead, [Range { first: u32::MAX, end: 2, payload: 30 }]);
        assert_eq!([u32::MAX - 1, 0, 2].map(|segment| stream.arrive(segment, 10)), [40, 0, 10]);
    }

    proptest! {
        /// Against a set of all that has arrived.
        #[test]
        fn all_below_the_first_missing_segment_has_been_read(arrivals in vec(0u32..40, 1..200)) {
            let (mut stream, mut arrived, mut read) = (Stream::default(), BTreeMap::new(), 0);
            for segment in arrivals {
                let payload = u64::from(segment % 7 + 1);
                arrived.insert(segment, payload);
                read += stream.arrive(segment, payload);
                let in_order = arrived.iter().zip(0..).take_while(|((segment, _), i)| **segment == *i);
                prop_assert_eq!(read, in_order.map(|((_, payload), _)| payload).sum::<u64>());
                let gaps = stream.ahead.windows(2).all(|pair| pair[0].end < pair[1].first);
                prop_assert!(gaps && stream.ahead.first().is_none_or(|range| range.first > stream.frontier));
            }
        }
    }
}
