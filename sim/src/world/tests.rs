//! Senders of a test's own in a whole world.

use std::{cell::RefCell, rc::Rc};

use weir_aqm::{Nanos, Rate};

use super::World;
use crate::{
    Congestion, Contender, Ecn, Flow, Outcome, Path, Scenario,
    sender::{Ack, Outbox, Outgoing, Sender},
};

/// Sends so many packets at its start and notes when which acknowledgement comes.
struct Train {
    packets: u64,
    acks: Rc<RefCell<Vec<(Nanos, Ack)>>>,
}

impl Sender for Train {
    fn wake(&mut self, _now: Nanos, out: &mut Outbox) {
        for number in 0..self.packets {
            let segment = number as u32;
            out.send(Outgoing { number, bytes: 1250, payload: 1184, segment, ecn: Ecn::NotEct });
        }
    }

    fn on_ack(&mut self, now: Nanos, ack: &Ack, _out: &mut Outbox) {
        self.acks.borrow_mut().push((now, *ack));
    }

    fn wants_acks(&self) -> bool {
        true
    }
}

/// Sends these segments of its stream at these times, the last first.
struct Script {
    steps: Vec<(Nanos, Vec<u32>)>,
    next_number: u64,
}

impl Sender for Script {
    fn wake(&mut self, _now: Nanos, out: &mut Outbox) {
        for segment in self.steps.pop().map(|(_, segments)| segments).unwrap_or_default() {
            let number = self.next_number;
            self.next_number += 1;
            out.send(Outgoing { number, bytes: 1250, payload: 1184, segment, ecn: Ecn::NotEct });
        }
        if let Some((at, _)) = self.steps.last() {
            out.wake_at(*at);
        }
    }

    fn wants_acks(&self) -> bool {
        true
    }
}

/// What a sender does on a link of a packet a millisecond, 10 ms away, with a point of the series each 100 ms.
fn run(sender: impl Sender + 'static) -> Outcome {
    let rate = Rate::from_bits_per_second(10_000_000);
    let path = Path { fast: None, poll: Nanos::ZERO, ..Path::new(rate, Nanos::from_millis(10), 100) };
    let mut scenario = Scenario::new(path, Contender::Redirect, Nanos::from_secs(1));
    scenario.flows = vec![Flow::bulk(Congestion::Reno, false)];
    scenario.sample = Some(Nanos::from_millis(100));
    let mut world = World::new(&scenario);
    let (flow, _) = world.flows.at(0).unwrap();
    flow.sender = Box::new(sender);
    while let Some((now, event)) = world.agenda.pop() {
        world.happen(now, event);
    }
    world.outcome()
}

/// What comes back of a train.
fn acks(packets: u64) -> Vec<(u64, u64)> {
    let acks = Rc::new(RefCell::new(Vec::new()));
    run(Train { packets, acks: Rc::clone(&acks) });
    acks.take().into_iter().map(|(now, ack)| (now.as_nanos() / 1_000_000, ack.packets)).collect()
}

#[test]
fn every_second_packet_is_acknowledged_and_an_odd_one_forty_milliseconds_after_it_came() {
    let quick: Vec<(u64, u64)> = (1..=16).map(|n| (n + 20, n)).collect();
    assert_eq!(acks(16), quick);
    assert_eq!(acks(18), [quick.as_slice(), &[(38, 18)]].concat());
    assert_eq!(acks(19), [quick.as_slice(), &[(38, 18), (19 + 20 + 40, 19)]].concat());
}

#[test]
fn goodput_counts_what_is_in_order_when_the_hole_before_it_is_repaired_and_no_byte_twice() {
    let at = Nanos::from_millis;
    // Segment 1 is missing until 310 ms; 2 comes again while it waits, 4 when it has been read.
    let steps =
        vec![(at(510), vec![4, 5]), (at(310), vec![1]), (at(110), vec![2, 4]), (at(0), vec![0, 2, 3])];
    let outcome = run(Script { steps, next_number: 0 });
    let read: Vec<u64> = outcome.series.iter().map(|point| point.payload[0] / 1184).collect();
    assert_eq!(read, [1, 0, 0, 4, 0, 1, 0, 0, 0, 0]);
    assert_eq!((outcome.flows[0].payload.as_slice(), outcome.flows[0].delivered), ([6 * 1184].as_slice(), 8));
}
