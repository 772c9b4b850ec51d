//! The plainest future there is: what tests compare the agenda with, and run small models on.

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
