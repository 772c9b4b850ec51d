//! The plainest future there is, for the small models of tests: a heap of events that happen once.

use std::{cmp::Ordering, collections::BinaryHeap};

use weir_aqm::Nanos;

/// Events by time; those of one instant in the order they were scheduled.
#[derive(Debug)]
pub struct EventQueue<E> {
    heap: BinaryHeap<Entry<E>>,
    next_order: u64,
    now: Nanos,
}

#[derive(Debug)]
struct Entry<E> {
    at: Nanos,
    order: u64,
    event: E,
}

impl<E> EventQueue<E> {
    /// An empty future at time zero.
    pub const fn new() -> Self {
        Self { heap: BinaryHeap::new(), next_order: 0, now: Nanos::ZERO }
    }

    /// The time of the event last taken.
    pub const fn now(&self) -> Nanos {
        self.now
    }

    /// Schedules an event; one in the past happens now.
    pub fn at(&mut self, at: Nanos, event: E) {
        let at = at.max(self.now);
        self.heap.push(Entry { at, order: self.next_order, event });
        self.next_order = self.next_order.wrapping_add(1);
    }

    /// Takes the next event and moves the clock to it.
    pub fn pop(&mut self) -> Option<(Nanos, E)> {
        let Entry { at, order: _, event } = self.heap.pop()?;
        self.now = at;
        Some((at, event))
    }
}

impl<E> Default for EventQueue<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    /// Reversed, since the heap gives its largest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_of_time_and_then_of_scheduling() {
        let mut events = EventQueue::new();
        for (at, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (3, 'b')] {
            events.at(Nanos::from_nanos(at), event);
        }
        let order: String = std::iter::from_fn(|| events.pop()).map(|(_, event)| event).collect();
        assert_eq!(order, "abcd");
    }

    #[test]
    fn the_clock_never_steps_back() {
        let mut events = EventQueue::new();
        events.at(Nanos::from_nanos(10), 0);
        events.pop();
        events.at(Nanos::from_nanos(4), 1);
        assert_eq!(events.pop(), Some((Nanos::from_nanos(10), 1)));
    }
}
