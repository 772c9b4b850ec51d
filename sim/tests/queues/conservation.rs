//! What holds for every contender, over random arrivals and departures.

use std::collections::BTreeMap;

use proptest::prelude::*;
use weir_aqm::Nanos;
use weir_sim::{
    Contender, Ecn, FlowId, Packet, Random, Rings,
    queue::{Queue, Tally},
};

use super::mbit;

fn contenders() -> impl Strategy<Value = Contender> {
    let shaped = |queue| Contender::Shaped { rate: mbit(20), queue: Box::new(queue) };
    prop::sample::select(vec![
        Contender::Redirect,
        Contender::Fifo { packets: 50 },
        Contender::Priority { dscp: 0, queue: Box::new(Contender::FqCodel) },
        Contender::weir(),
        Contender::Codel,
        Contender::FqCodel,
        Contender::Pie,
        Contender::DualPi2,
        Contender::Cake { rate: mbit(20) },
        shaped(Contender::Redirect),
        shaped(Contender::Codel),
        shaped(Contender::FqCodel),
        shaped(Contender::Pie),
        shaped(Contender::DualPi2),
        Contender::Policer { rate: mbit(20), burst: 10_000 },
        Contender::BcPqp { rate: mbit(20) },
    ])
}

/// After a wait in microseconds: a batch of (flow, bytes), then so many calls for a packet.
type Step = (u64, Vec<(u32, u32)>, usize);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let batch = prop::collection::vec((0u32..12, 64u32..=1514), 0..=16);
    // Mostly close together, now and then an idle time.
    let wait = prop_oneof![20 => 0u64..2_000, 1 => 0u64..3_000_000];
    prop::collection::vec((wait, batch, 0usize..8), 1..150)
}

/// The ECN field of a flow: one for each, as the order of a flow's packets is kept within a queue.
const FIELDS: [Ecn; 3] = [Ecn::NotEct, Ecn::Ect0, Ecn::Ect1];

struct Account {
    offered: u64,
    taken: u64,
    tally: Tally,
    last: BTreeMap<FlowId, u64>,
}

impl Account {
    /// What must hold after each call.
    fn check(&self, queue: &dyn Queue) -> Result<(), TestCaseError> {
        let accounted = self.taken + self.tally.dropped() + u64::from(queue.occupancy());
        prop_assert_eq!(self.offered, accounted, "{:?}", self.tally);
        prop_assert!(queue.occupancy() <= queue.slots());
        Ok(())
    }

    /// One call for a packet: there is one unless nothing waits or a shaper says when.
    fn take(&mut self, queue: &mut dyn Queue, now: Nanos) -> Result<(), TestCaseError> {
        let before = queue.occupancy();
        match queue.take(now, &mut self.tally) {
            Some(packet) => {
                self.taken += 1;
                prop_assert!(
                    self.last.insert(packet.flow, packet.number).is_none_or(|last| last < packet.number)
                );
            }
            None => prop_assert!(
                queue.occupancy() == 0 || queue.ready_at(now).is_some_and(|at| at > now),
                "{before} waited"
            ),
        }
        prop_assert!(queue.ready_at(now).is_none_or(|at| at > now));
        self.check(queue)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_packet_leaves_is_lost_or_waits_and_no_queue_idles(
        contender in contenders(), seed: u64, slots in 64u32..256, steps in steps()
    ) {
        let rings = Rings { slots, per_cpu: false, reclaim: 1 };
        let mut queue = contender.queue(rings, 1, Random::new(seed));
        let mut account =
            Account { offered: 0, taken: 0, tally: Tally::default(), last: BTreeMap::new() };
        let mut now = Nanos::from_millis(1);
        for (wait, batch, takes) in steps {
            now = now.saturating_add(Nanos::from_micros(wait));
            let mut batch: Vec<Packet> = batch
                .into_iter()
                .zip(account.offered..)
                .map(|((flow, bytes), number)| Packet {
                    flow: FlowId(flow),
                    bytes,
                    number,
                    segment: 0,
                    sent: now,
                    host: flow as u16 / 4,
                    dscp: 0,
                    service: weir_sim::Service::default(),
                    ecn: FIELDS[flow as usize % 3],
                })
                .collect();
            account.offered += batch.len() as u64;
            queue.offer(now, 0, &mut batch, &mut account.tally);
            prop_assert!(batch.is_empty());
            account.check(queue.as_ref())?;
            for _ in 0..takes {
                account.take(queue.as_mut(), now)?;
            }
        }
        // In the end everything comes out.
        while queue.occupancy() > 0 {
            account.take(queue.as_mut(), now)?;
            now = queue.ready_at(now).unwrap_or(now);
        }
        account.check(queue.as_ref())?;
    }
}
