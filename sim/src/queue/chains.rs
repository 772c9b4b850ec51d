//! Lists of flows that a flow joins, leaves and changes in constant time, as the lists of Linux's fair queues.

/// Neighbours in a ring.
#[derive(Clone, Copy, Debug)]
struct Link {
    previous: u32,
    next: u32,
}

/// Doubly linked lists over the same nodes `0..nodes`, each of which is in one list at most. A list is a ring through an
/// anchor of its own, so that no end is special.
#[derive(Debug)]
pub(super) struct Chains {
    links: Vec<Link>,
    nodes: u32,
}

impl Chains {
    /// `lists` empty lists over `nodes` nodes.
    pub(super) fn new(nodes: u32, lists: u32) -> Self {
        let all = nodes.saturating_add(lists);
        Self { links: (0..all).map(|own| Link { previous: own, next: own }).collect(), nodes }
    }

    /// The first node of `list`.
    pub(super) fn first(&self, list: u32) -> Option<u32> {
        let anchor = self.nodes.saturating_add(list);
        self.links.get(anchor as usize).map(|link| link.next).filter(|node| *node != anchor)
    }

    /// Whether `node` is in a list.
    pub(super) fn holds(&self, node: u32) -> bool {
        self.links.get(node as usize).is_some_and(|link| link.next != node)
    }

    /// Puts `node` at the end of `list`, out of any other.
    pub(super) fn move_to_end(&mut self, list: u32, node: u32) {
        self.remove(node);
        let anchor = self.nodes.saturating_add(list);
        let Some(last) = self.links.get(anchor as usize).map(|link| link.previous) else { return };
        self.join(last, node);
        self.join(node, anchor);
    }

    /// Takes `node` out of its list, if it is in one.
    pub(super) fn remove(&mut self, node: u32) {
        let Some(Link { previous, next }) = self.links.get(node as usize).copied() else { return };
        self.join(previous, next);
        self.join(node, node);
    }

    fn join(&mut self, left: u32, right: u32) {
        if let Some(link) = self.links.get_mut(left as usize) {
            link.next = right;
        }
        if let Some(link) = self.links.get_mut(right as usize) {
            link.previous = left;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn drained(chains: &mut Chains, list: u32) -> Vec<u32> {
        let mut nodes = Vec::new();
        while let Some(node) = chains.first(list) {
            nodes.push(node);
            chains.remove(node);
        }
        nodes
    }

    proptest! {
        #[test]
        fn lists_behave_as_deques_of_which_a_node_is_in_one(
            moves in prop::collection::vec((0u32..8, 0u32..3), 0..100)
        ) {
            let mut chains = Chains::new(8, 2);
            let mut model = [VecDeque::new(), VecDeque::new()];
            for (node, list) in moves {
                for deque in &mut model {
                    deque.retain(|other| *other != node);
                }
                match model.get_mut(list as usize) {
                    Some(deque) => {
                        chains.move_to_end(list, node);
                        deque.push_back(node);
                    }
                    None => chains.remove(node),
                }
                prop_assert_eq!(chains.holds(node), list < 2);
            }
            for (list, deque) in model.iter().enumerate() {
                prop_assert_eq!(deque, &drained(&mut chains, list as u32));
            }
        }
    }
}
