//! The future.

use weir_aqm::Nanos;

/// What can happen, and when: each thing is registered once and is due at one time at most.
///
/// Due things come by time; those of one instant in the order in which they were set. Whatever happens again and again (a
/// timer, a link that gets free, the head of a delay line) keeps its leaf of a tournament tree, so that nothing grows with
/// the number of events, and setting, moving, clearing and taking are all the same walk from a leaf to the root.
/// `benches/engine.rs` compares it with `std`'s heap.
#[derive(Debug)]
pub struct Agenda<E> {
    events: Vec<E>,
    /// Leaves are the second half; every other node has the lesser of its two children, and the root is at 1.
    tree: Vec<Key>,
    next_order: u64,
    now: Nanos,
}

/// Something registered in an [`Agenda`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Due(u32);

/// From the upper bits to the lower: 64 of time, 40 of the order of setting (which wraps after 10^12 settings; a tie across
/// that moment breaks the other way), 24 of the leaf.
type Key = u128;

const NEVER: Key = Key::MAX;
const LEAF_BITS: u32 = 24;
const ORDER_BITS: u32 = 40;

impl<E: Copy> Agenda<E> {
    /// Nothing can happen, at time zero.
    pub const fn new() -> Self {
        Self { events: Vec::new(), tree: Vec::new(), next_order: 0, now: Nanos::ZERO }
    }

    /// The time of the event last taken.
    pub const fn now(&self) -> Nanos {
        self.now
    }

    /// Adds something that can happen; not due yet.
    pub fn register(&mut self, event: E) -> Due {
        let leaf = self.events.len();
        self.events.push(event);
        if leaf >= self.tree.len() / 2 {
            self.grow();
        }
        Due(leaf as u32)
    }

    /// Makes it due at `at`, instead of when it was due before; what is set in the past happens now.
    pub fn set(&mut self, due: Due, at: Nanos) {
        let order = self.next_order & ((1 << ORDER_BITS) - 1);
        self.next_order = self.next_order.wrapping_add(1);
        let at = Key::from(at.max(self.now).as_nanos());
        self.put(due, ((at << ORDER_BITS | Key::from(order)) << LEAF_BITS) | Key::from(due.0));
    }

    /// It is not due any more.
    pub fn clear(&mut self, due: Due) {
        if self.is_set(due) {
            self.put(due, NEVER);
        }
    }

    /// Whether it is due at some time.
    pub fn is_set(&self, due: Due) -> bool {
        self.tree.get(self.tree.len() / 2 + due.0 as usize).is_some_and(|key| *key != NEVER)
    }

    /// Takes the next event and moves the clock to it; it is not due any more.
    pub fn pop(&mut self) -> Option<(Nanos, E)> {
        let first = self.tree.get(1).copied().filter(|key| *key != NEVER)?;
        let due = Due(first as u32 & ((1 << LEAF_BITS) - 1));
        let event = *self.events.get(due.0 as usize)?;
        self.put(due, NEVER);
        self.now = Nanos::from_nanos((first >> (ORDER_BITS + LEAF_BITS)) as u64);
        Some((self.now, event))
    }

    /// Changes a leaf and what it decides above it.
    fn put(&mut self, due: Due, key: Key) {
        let mut node = self.tree.len() / 2 + due.0 as usize;
        if let Some(leaf) = self.tree.get_mut(node) {
            *leaf = key;
        }
        while node > 1 {
            node /= 2;
            let Some(&[left, right]) = self.tree.get(2 * node..).and_then(<[Key]>::first_chunk) else {
                return;
            };
            let Some(winner) = self.tree.get_mut(node) else { return };
            let least = left.min(right);
            if *winner == least {
                return;
            }
            *winner = least;
        }
    }

    /// Twice the leaves, with all that is due.
    fn grow(&mut self) {
        let leaves = self.tree.len() / 2;
        let due = self.tree.split_off(leaves);
        let leaves = (leaves * 2).max(8);
        self.tree.clear();
        self.tree.resize(2 * leaves, NEVER);
        for (leaf, key) in (0..).zip(due) {
            self.put(Due(leaf), key);
        }
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
