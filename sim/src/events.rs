//! The future.

use weir_aqm::Nanos;

/// What can happen, and when: each thing is registered once and is due at one time at most.
///
/// Due things come by time; those of one instant in the order in which they were set. Whatever happens again and again (a
/// timer, a link that gets free, the head of a delay line) keeps one place, so that the heap stays as small as the model and
/// nothing stale is ever taken from it. A heap of four children a node: half as deep as a binary one, and the children of a
/// node lie side by side. `benches/engine.rs` compares it with `std`'s.
#[derive(Debug)]
pub struct Agenda<E> {
    heap: Vec<Entry>,
    /// By [`Due`]: the event, and where it stands in the heap.
    events: Vec<(E, usize)>,
    next_order: u64,
    now: Nanos,
}

/// Something registered in an [`Agenda`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Due(u32);

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Nanos,
    order: u64,
    due: Due,
}

impl Entry {
    fn is_before(&self, other: &Self) -> bool {
        (self.at, self.order) < (other.at, other.order)
    }
}

const CHILDREN: usize = 4;
const NOT_DUE: usize = usize::MAX;

impl<E: Copy> Agenda<E> {
    /// Nothing can happen, at time zero.
    pub const fn new() -> Self {
        Self { heap: Vec::new(), events: Vec::new(), next_order: 0, now: Nanos::ZERO }
    }

    /// The time of the event last taken.
    pub const fn now(&self) -> Nanos {
        self.now
    }

    /// Adds something that can happen; not due yet.
    pub fn register(&mut self, event: E) -> Due {
        self.events.push((event, NOT_DUE));
        Due(self.events.len() as u32 - 1)
    }

    /// Makes it due at `at`, instead of when it was due before; what is set in the past happens now.
    pub fn set(&mut self, due: Due, at: Nanos) {
        let entry = Entry { at: at.max(self.now), order: self.next_order, due };
        self.next_order = self.next_order.wrapping_add(1);
        match self.place(due) {
            NOT_DUE => {
                let hole = self.heap.len();
                self.heap.push(entry);
                self.rise(hole, entry);
            }
            hole => self.fill(hole, entry),
        }
    }

    /// It is not due any more.
    pub fn clear(&mut self, due: Due) {
        let hole = self.place(due);
        if hole != NOT_DUE {
            self.set_place(due, NOT_DUE);
            self.close(hole);
        }
    }

    /// Whether it is due at some time.
    pub fn is_set(&self, due: Due) -> bool {
        self.place(due) != NOT_DUE
    }

    /// Takes the next event and moves the clock to it; it is not due any more.
    pub fn pop(&mut self) -> Option<(Nanos, E)> {
        let Entry { at, due, .. } = *self.heap.first()?;
        let (event, place) = self.events.get_mut(due.0 as usize)?;
        let event = *event;
        *place = NOT_DUE;
        self.close(0);
        self.now = at;
        Some((at, event))
    }

    fn place(&self, due: Due) -> usize {
        self.events.get(due.0 as usize).map_or(NOT_DUE, |(_, place)| *place)
    }

    fn set_place(&mut self, due: Due, at: usize) {
        if let Some((_, place)) = self.events.get_mut(due.0 as usize) {
            *place = at;
        }
    }

    fn put(&mut self, at: usize, entry: Entry) {
        if let Some(slot) = self.heap.get_mut(at) {
            *slot = entry;
        }
        self.set_place(entry.due, at);
    }

    /// The entry at `hole` is gone: the last one takes its place.
    fn close(&mut self, hole: usize) {
        if let Some(last) = self.heap.pop()
            && hole < self.heap.len()
        {
            self.fill(hole, last);
        }
    }

    fn fill(&mut self, hole: usize, entry: Entry) {
        let parent = hole.checked_sub(1).and_then(|below| self.heap.get(below / CHILDREN));
        if parent.is_some_and(|parent| entry.is_before(parent)) {
            self.rise(hole, entry);
        } else {
            self.sink(hole, entry);
        }
    }

    fn rise(&mut self, mut hole: usize, entry: Entry) {
        while let Some(below) = hole.checked_sub(1)
            && let Some(parent) = self.heap.get(below / CHILDREN).copied()
            && entry.is_before(&parent)
        {
            self.put(hole, parent);
            hole = below / CHILDREN;
        }
        self.put(hole, entry);
    }

    fn sink(&mut self, mut hole: usize, entry: Entry) {
        while let Some((place, least)) = self.least_child(hole)
            && least.is_before(&entry)
        {
            self.put(hole, least);
            hole = place;
        }
        self.put(hole, entry);
    }

    fn least_child(&self, of: usize) -> Option<(usize, Entry)> {
        let first = of * CHILDREN + 1;
        let children = self.heap.get(first..self.heap.len().min(first + CHILDREN))?;
        let mut least: Option<(usize, Entry)> = None;
        for (offset, child) in children.iter().enumerate() {
            if least.as_ref().is_none_or(|(_, best)| child.is_before(best)) {
                least = Some((first + offset, *child));
            }
        }
        least
    }
}

impl<E: Copy> Default for Agenda<E> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn n(ns: u64) -> Nanos {
        Nanos::from_nanos(ns)
    }

    #[test]
    fn events_come_in_order_of_time_and_then_of_setting() {
        let mut agenda = Agenda::new();
        for (at, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (3, 'b')] {
            let due = agenda.register(event);
            agenda.set(due, n(at));
        }
        let order: String = std::iter::from_fn(|| agenda.pop()).map(|(_, event)| event).collect();
        assert_eq!(order, "abcd");
    }

    #[test]
    fn the_clock_never_steps_back() {
        let mut agenda = Agenda::new();
        let due = agenda.register(());
        agenda.set(due, n(10));
        agenda.pop();
        agenda.set(due, n(4));
        assert_eq!(agenda.pop(), Some((n(10), ())));
        assert_eq!((agenda.pop(), agenda.now()), (None, n(10)));
    }

    #[test]
    fn what_is_set_again_happens_once_and_what_is_cleared_never() {
        let mut agenda = Agenda::new();
        let (a, b) = (agenda.register('a'), agenda.register('b'));
        agenda.set(a, n(1));
        agenda.set(a, n(7));
        agenda.set(b, n(3));
        agenda.clear(b);
        assert!(agenda.is_set(a) && !agenda.is_set(b));
        assert_eq!((agenda.pop(), agenda.pop()), (Some((n(7), 'a')), None));
    }

    proptest! {
        /// Beside a list that is searched for its least entry.
        #[test]
        fn any_mixture_of_setting_clearing_and_taking_gives_what_a_sorted_list_gives(
            steps in proptest::collection::vec((0u32..40, 0u64..50, 0u8..4), 1..400)
        ) {
            let mut agenda = Agenda::new();
            let dues: Vec<Due> = (0..40).map(|i| agenda.register(i)).collect();
            let mut list: Vec<(Nanos, usize, u32)> = Vec::new();
            for (order, (which, ahead, what)) in steps.into_iter().enumerate() {
                let at = agenda.now().saturating_add(n(ahead));
                match what {
                    0 => {
                        let first = list.iter().min().copied();
                        list.retain(|entry| Some(*entry) != first);
                        prop_assert_eq!(agenda.pop(), first.map(|(at, _, which)| (at, which)));
                    }
                    1 => {
                        list.retain(|entry| entry.2 != which);
                        agenda.clear(dues[which as usize]);
                    }
                    _ => {
                        list.retain(|entry| entry.2 != which);
                        list.push((at, order, which));
                        agenda.set(dues[which as usize], at);
                    }
                }
            }
        }
    }
}
