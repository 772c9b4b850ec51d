//! Senders of a test's own in a whole world.

use std::{cell::RefCell, rc::Rc};

use weir_aqm::{Nanos, Rate};

use super::World;
use crate::{
    Congestion, Contender, Ecn, Flow, Path, Scenario,
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
            out.send(Outgoing { number, bytes: 1250, payload: 1184, ecn: Ecn::NotEct });
        }
    }

    fn on_ack(&mut self, now: Nanos, ack: &Ack, _out: &mut Outbox) {
        self.acks.borrow_mut().push((now, *ack));
    }

    fn wants_acks(&self) -> bool {
        true
    }
}

/// What comes back of a train on a link of a packet a millisecond, 10 ms away.
fn acks(packets: u64) -> Vec<(u64, u64)> {
    let rate = Rate::from_bits_per_second(10_000_000);
    let path = Path { fast: None, poll: Nanos::ZERO, ..Path::new(rate, Nanos::from_millis(10), 100) };
    let mut scenario = Scenario::new(path, Contender::Redirect, Nanos::from_secs(1));
    scenario.flows = vec![Flow::bulk(Congestion::Reno, false)];
    let mut world = World::new(&scenario);
    let acks = Rc::new(RefCell::new(Vec::new()));
    let (flow, _) = world.flows.at(0).unwrap();
    flow.sender = Box::new(Train { packets, acks: Rc::clone(&acks) });
    while let Some((now, event)) = world.agenda.pop() {
        world.happen(now, event);
    }
    acks.take().into_iter().map(|(now, ack)| (now.as_nanos() / 1_000_000, ack.packets)).collect()
}

#[test]
fn every_second_packet_is_acknowledged_and_an_odd_one_forty_milliseconds_after_it_came() {
    let quick: Vec<(u64, u64)> = (1..=16).map(|n| (n + 20, n)).collect();
    assert_eq!(acks(16), quick);
    assert_eq!(acks(18), [quick.as_slice(), &[(38, 18)]].concat());
    assert_eq!(acks(19), [quick.as_slice(), &[(38, 18), (19 + 20 + 40, 19)]].concat());
}
