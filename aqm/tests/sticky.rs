//! No packet of a flow overtakes an earlier one, however the flow is moved between queues and whatever those do.
#![allow(clippy::indexing_slicing, reason = "tests may")]

use std::collections::VecDeque;

use proptest::prelude::*;
use weir_aqm::sticky::{FLUSH, IDLE, SETTLE};
use weir_aqm::{Nanos, StickyVars, Way};

const US: u64 = 1_000;

/// A FIFO whose frames enter up to [`FLUSH`] after they were sent, and leave when the test says so.
#[derive(Default)]
struct Queue {
    /// (when it enters, flow, number)
    frames: VecDeque<(u64, usize, u64)>,
}

impl Queue {
    fn send(&mut self, now: u64, delay: u64, flow: usize, number: u64) {
        let after = self.frames.back().map_or(0, |frame| frame.0);
        self.frames.push_back(((now + delay).max(after), flow, number));
    }

    /// The oldest frame that has entered leaves.
    fn leave(&mut self, now: u64) -> Option<(usize, u64)> {
        self.frames.front().filter(|frame| frame.0 <= now)?;
        self.frames.pop_front().map(|(_, flow, number)| (flow, number))
    }

    /// What an observer of the queue sees: its oldest frame's entry, or that it is empty.
    fn passed(&self, now: u64) -> Nanos {
        Nanos::from_nanos(self.frames.front().map_or(now, |frame| frame.0.min(now)))
    }
}

/// One step: time passes, some frames leave each queue, a packet of a flow arrives that would like to go by `way`.
#[derive(Clone, Debug)]
struct Step {
    gap: u64,
    leave: [usize; 2],
    flow: usize,
    way: bool,
    delay: u64,
}

fn step() -> impl Strategy<Value = Step> {
    let gap = prop_oneof![0..20 * US, 0..1_000 * US];
    (gap, [0..4_usize, 0..4_usize], 0..3_usize, any::<bool>(), 0..FLUSH.as_nanos())
        .prop_map(|(gap, leave, flow, way, delay)| Step { gap, leave, flow, way, delay })
}

/// Runs the steps with the moving rule `may`, and says whether a packet left before an earlier one of its flow.
fn reorders(steps: &[Step], may: impl Fn(&StickyVars, Nanos) -> bool) -> bool {
    let mut queues = [Queue::default(), Queue::default()];
    let mut flows = [StickyVars::default(); 3];
    let (mut sent, mut seen) = ([0_u64; 3], [0_u64; 3]);
    let mut now = US;
    let mut reordered = false;
    let mut take = |queue: &mut Queue, now: u64| match queue.leave(now) {
        Some((flow, number)) => {
            reordered |= number < seen[flow];
            seen[flow] = number;
            true
        }
        None => false,
    };
    for step in steps {
        now += step.gap;
        for (queue, frames) in queues.iter_mut().zip(step.leave) {
            for _ in 0..frames {
                take(queue, now);
            }
        }
        let index = |way| usize::from(way == Way::Spilled);
        let wanted = if step.way { Way::Spilled } else { Way::Straight };
        let flow = &mut flows[step.flow];
        let free = may(flow, queues[index(flow.way)].passed(now));
        let way = if free { wanted } else { flow.way };
        sent[step.flow] += 1;
        queues[index(way)].send(now, step.delay, step.flow, sent[step.flow]);
        *flow = StickyVars::from_word(StickyVars::sent_by(way, Nanos::from_nanos(now)).to_word());
    }
    let end = now + FLUSH.as_nanos();
    let [first, second] = &mut queues;
    // The queue that was moved to empties first, which is the worst that can happen.
    while take(second, end) {}
    while take(first, end) {}
    reordered
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_packet_of_a_flow_departs_before_an_earlier_one(steps in prop::collection::vec(step(), 1..200)) {
        prop_assert!(!reorders(&steps, StickyVars::has_left));
    }
}

#[test]
fn without_the_rule_the_same_queues_reorder() {
    let step = |way| Step { gap: US, leave: [0, 0], flow: 0, way, delay: 0 };
    assert!(reorders(&[step(false), step(true)], |_, _| true));
    // Nor does a rule that forgets how long a packet takes to its queue.
    let late = Step { delay: FLUSH.as_nanos() - US, ..step(false) };
    let early = |flow: &StickyVars, passed: Nanos| flow.sent < passed;
    let steps = [late, Step { gap: US, leave: [1, 0], ..step(true) }];
    assert!(!reorders(&steps, StickyVars::has_left));
    assert!(reorders(&steps, |flow, _| early(flow, Nanos::MAX)));
}

#[test]
fn a_flow_moves_as_soon_as_its_last_packet_has_left_and_not_before() {
    let sent = Nanos::from_secs(1);
    for way in [Way::Straight, Way::Spilled] {
        let flow = StickyVars::sent_by(way, sent);
        assert!(flow.has_left(sent.saturating_add(FLUSH)));
        assert!(!flow.has_left(sent.saturating_add(FLUSH).saturating_sub(Nanos::from_nanos(1))));
    }
    let flow = StickyVars::sent_by(Way::Diverted, sent);
    assert!(flow.is_in_queue_at(sent.saturating_add(SETTLE)));
    assert!(!flow.is_in_queue_at(sent.saturating_add(FLUSH)));
    assert!(flow.is_idle_at(sent.saturating_add(IDLE)) && !flow.is_idle_at(sent.saturating_add(SETTLE)));
}
