//! No packet of a flow leaves the router before an earlier one, whatever arrives and however the links behave.

use proptest::{collection::vec, prelude::*, sample::select};
use weir_aqm::Nanos;
use weir_shared_maps::{
    ACTION_DIVERT, ACTION_DROP, ACTION_NONE, ACTION_SPILL, AQM_NONE, MODE_POLICER, PortConfig, STACK_CHARGE,
    STACK_DECIDE, STACK_IGNORE,
};
use weir_sim::queue::{PortSetup, Queue as _, Router, RouterConfig, StackConfig, Tally};
use weir_sim::{Contender, Ecn, FlowId, Packet, Random, Rings, Service};

use super::classes;
use super::setups::{DIVERT, SPILL, actions, bounded, mbit, port, router, shaped};

const FLOWS: usize = 256;
/// Frames of a burst.
const BURST: usize = 12;

/// Time passes, batches come, some frames leave the ring and the spill port's.
#[derive(Clone, Debug)]
struct Step {
    /// Everything leaves before.
    quiet: bool,
    gap_us: u64,
    flows: Vec<usize>,
    leave: [usize; 2],
}

/// A router without links: the test says when a frame leaves.
struct Bench {
    router: Router,
    cpus: u32,
    now: Nanos,
    tally: Tally,
    sent: [u64; FLOWS],
    seen: [u64; FLOWS],
    left: u64,
    reordered: u64,
}

impl Bench {
    fn new(config: &RouterConfig, rings: Rings, cpus: u32) -> Self {
        let spill = Rings { slots: 300, per_cpu: false, reclaim: 1 };
        Self {
            router: Router::new(config, rings, Some(spill), cpus, Random::new(1)),
            cpus,
            now: Nanos::ZERO,
            tally: Tally::default(),
            sent: [0; FLOWS],
            seen: [0; FLOWS],
            left: 0,
            reordered: 0,
        }
    }

    /// Lets the stack do what is due by then.
    fn pass(&mut self, time: Nanos) {
        let end = self.now.saturating_add(time);
        while let Some(at) = self.router.wakes_at(self.now).filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.router.wake(self.now, &mut self.tally);
        }
        self.now = end;
    }

    /// A flow's frames come in at one CPU.
    fn arrive(&mut self, flows: &[usize]) {
        for cpu in 0..self.cpus {
            let mut batch = Vec::new();
            for &flow in flows.iter().filter(|flow| **flow as u32 % self.cpus == cpu) {
                self.sent[flow] += 1;
                batch.push(frame(flow, self.sent[flow], self.now));
            }
            self.router.offer(self.now, cpu, &mut batch, &mut self.tally);
            assert!(batch.is_empty());
        }
    }

    /// A frame leaves the spill port, or the port; whether there was one.
    fn leave(&mut self, by_spill: bool) -> bool {
        let packet = if by_spill {
            self.router.spill_port().and_then(|mut port| port.take(self.now, &mut self.tally))
        } else {
            self.router.take(self.now, &mut self.tally)
        };
        let Some(packet) = packet else { return false };
        let seen = &mut self.seen[packet.flow.0 as usize];
        self.reordered += u64::from(packet.number < *seen);
        *seen = packet.number.max(*seen);
        self.left += 1;
        true
    }

    fn step(&mut self, step: &Step) {
        if step.quiet {
            self.drain();
        }
        self.pass(Nanos::from_micros(step.gap_us));
        for (frames, by_spill) in step.leave.into_iter().zip([false, true]) {
            for _ in 0..frames {
                self.leave(by_spill);
            }
        }
        self.arrive(&step.flows);
    }

    /// Everything leaves; first whatever was moved, which is the worst that can happen.
    fn drain(&mut self) {
        while self.leave(true) {}
        while self.router.wakes_at(self.now).is_some() {
            while self.leave(false) {}
            self.pass(Nanos::from_micros(100));
        }
        while self.leave(false) {}
    }

    fn offered(&self) -> u64 {
        self.sent.iter().sum()
    }
}

fn frame(flow: usize, number: u64, sent: Nanos) -> Packet {
    Packet {
        flow: FlowId(flow as u32),
        bytes: if flow.is_multiple_of(3) { 200 } else { 1_514 },
        number,
        segment: 0,
        sent,
        host: 0,
        dscp: (flow % 2) as u8,
        service: Service::default(),
        ecn: if flow.is_multiple_of(4) { Ecn::Ect0 } else { Ecn::NotEct },
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    let gap_us = prop_oneof![3 => 0..50_u64, 2 => 0..2_000_u64, 1 => 1_000..8_000_u64];
    // A few that come often, and many that come rarely.
    let flows = vec(prop_oneof![0..BURST, 0..FLOWS], 0..16);
    let leave = [0..20_usize, 0..20_usize];
    let busy =
        (gap_us, flows, leave).prop_map(|(gap_us, flows, leave)| Step { quiet: false, gap_us, flows, leave });
    // Longer than anything that is remembered of flows lasts.
    let quiet = (500_000..3_000_000_u64).prop_map(|gap_us| Step {
        quiet: true,
        gap_us,
        flows: Vec::new(),
        leave: [0, 0],
    });
    prop_oneof![30 => busy, 1 => quiet]
}

/// Between two quiet steps it is less than the second after which a silent flow is free (`weir_aqm::sticky::IDLE`).
fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    vec(any_step(), 1..120)
}

fn any_qdisc() -> impl Strategy<Value = Contender> {
    let rate = (2_000_000..200_000_000_u64).prop_map(weir_aqm::Rate::from_bits_per_second);
    let queue = select(vec![Contender::Redirect, Contender::FqCodel, Contender::Pie]);
    prop_oneof![
        1 => Just(Contender::Redirect),
        1 => Just(Contender::FqCodel),
        4 => (rate.clone(), queue).prop_map(|(rate, queue)| shaped(rate, queue)),
        1 => rate.prop_map(|rate| Contender::Cake { rate }),
    ]
}

/// Ports with classes and without, whose ring can be read: behind one that cannot, order rests on the limit of its virtual queue.
fn any_port() -> impl Strategy<Value = PortSetup> {
    let word = classes::pace(40);
    let (pace_mult, pace_shift) = ((word >> 32) as u32, word as u32);
    let policer = PortConfig { mode: MODE_POLICER, burst_ns: 10_000_000, pace_mult, pace_shift, ..port() };
    let plain = select(vec![port(), PortConfig { aqm: AQM_NONE, ..port() }, policer]);
    let classes = || vec![classes::class(), classes::guaranteed(5)];
    let with_classes = select(vec![classes::bottleneck(classes()), classes::policer(40, classes())]);
    let stack = select(vec![STACK_CHARGE, STACK_DECIDE, STACK_IGNORE]);
    prop_oneof![
        2 => (plain, stack.clone()).prop_map(|(config, stack)| PortSetup::Plain(Box::new(PortConfig { stack, ..config }))),
        1 => (with_classes, stack).prop_map(|(mut config, stack)| {
            config.port.stack = stack;
            PortSetup::Classes(Box::new(config))
        }),
    ]
}

fn any_router() -> impl Strategy<Value = RouterConfig> {
    let action =
        || select(vec![ACTION_DIVERT, ACTION_SPILL, ACTION_DIVERT, ACTION_SPILL, ACTION_DROP, ACTION_NONE]);
    let back_off = (action(), action(), prop::option::of(1_u64..400)).prop_map(|(congested, full, rate)| {
        let actions = actions(congested, full);
        rate.map_or(actions, |rate| bounded(actions, mbit(rate)))
    });
    // Up to what the order allows for a packet's way through the stack.
    let stack = (any_qdisc(), 1..400_u32, 0..1_000_u64).prop_map(|(qdisc, limit, delay)| StackConfig {
        qdisc,
        limit,
        delay: Nanos::from_micros(delay),
    });
    let spill = prop::option::weighted(0.8, any_port());
    (any_port(), [back_off.clone(), back_off], stack, spill).prop_map(|(port, back_off, stack, spill)| {
        RouterConfig { port, back_off: back_off.to_vec(), stack, spill }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(768))]

    #[test]
    fn no_flow_overtakes_itself_and_every_packet_has_one_fate(
        config in any_router(),
        steps in any_steps(),
        (slots, cpus, per_cpu) in (40..400_u32, 1..4_u32, any::<bool>()),
    ) {
        let mut bench = Bench::new(&config, Rings { slots, per_cpu, reclaim: 1 }, cpus);
        for step in &steps {
            bench.step(step);
        }
        bench.drain();
        prop_assert_eq!(bench.reordered, 0);
        prop_assert_eq!(bench.left + bench.tally.dropped(), bench.offered(), "{:?}", bench.tally);
    }
}

/// Rounds of a burst of [`BURST`] of so many flows, which come in turns. One frame leaves the ring in each.
fn congestion(bench: &mut Bench, count: usize) {
    for round in 0..60 {
        let flows = (0..BURST).map(|frame| (round * BURST + frame) % count).collect();
        bench.step(&Step { quiet: false, gap_us: 1_300, flows, leave: [1, 1_000] });
    }
}

/// Rounds of all flows, one after the other. What is in the ring leaves before the next frame comes.
fn calm(bench: &mut Bench, rounds: usize) {
    for flow in (0..rounds).flat_map(|_| 0..FLOWS) {
        bench.step(&Step { quiet: false, gap_us: 110, flows: vec![flow], leave: [1_000, 1_000] });
    }
}

#[test]
fn flows_divert_and_return_in_every_cycle_of_congestion() {
    let config = router(bounded(DIVERT, mbit(400)), shaped(mbit(200), Contender::FqCodel));
    let mut bench = Bench::new(&config, Rings { slots: 256, per_cpu: false, reclaim: 1 }, 1);
    for count in 0..20 {
        let diverted = bench.tally.diverted;
        congestion(&mut bench, 2 * BURST);
        assert!(bench.tally.diverted > diverted + 100, "cycle {count}: {:?}", bench.tally);
        calm(&mut bench, 3);
        let returned = bench.tally.diverted;
        calm(&mut bench, 1);
        assert_eq!(bench.tally.diverted, returned, "cycle {count}");
    }
    bench.drain();
    assert_eq!((bench.reordered, bench.left + bench.tally.dropped()), (0, bench.offered()));
}

#[test]
fn flows_spill_and_return_in_every_cycle_of_congestion() {
    let config = router(SPILL, Contender::Redirect);
    let mut bench = Bench::new(&config, Rings { slots: 256, per_cpu: false, reclaim: 1 }, 1);
    for count in 0..20 {
        let spilled = bench.tally.spilled;
        congestion(&mut bench, FLOWS);
        calm(&mut bench, 3);
        let returned = bench.tally.spilled;
        calm(&mut bench, 1);
        assert!(returned > spilled, "cycle {count}: {:?}", bench.tally);
        assert_eq!(bench.tally.spilled, returned, "cycle {count}");
    }
    bench.drain();
    assert_eq!((bench.reordered, bench.left + bench.tally.dropped()), (0, bench.offered()));
}

/// What the order rests on is the millisecond that a packet may take through the stack.
#[test]
fn a_stack_that_takes_longer_than_it_may_reorders() {
    let mut config = router(bounded(DIVERT, mbit(400)), Contender::Redirect);
    config.stack.delay = Nanos::from_millis(40);
    let mut bench = Bench::new(&config, Rings { slots: 256, per_cpu: false, reclaim: 1 }, 1);
    for _ in 0..4 {
        congestion(&mut bench, 2 * BURST);
        calm(&mut bench, 3);
    }
    bench.drain();
    assert!(bench.reordered > 0, "{:?}", bench.tally);
}
