//! What an event costs: the agenda beside `std`'s heap, and whole runs.
//!
//! `cargo bench -p weir-sim --bench engine`. Elements are events, so that criterion's `elem/s` are events per second.
#![allow(missing_docs, reason = "criterion's macros expand to undocumented functions")]

use std::{cmp::Reverse, collections::BinaryHeap, hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use weir_aqm::{Nanos, Rate};
use weir_shared_maps::{ACTION_SPILL, BackOff};
use weir_sim::queue::{PortSetup, RouterConfig, StackConfig};
use weir_sim::{
    Agenda, Congestion, Contender, Ecn, Flow, Path, Random, Scenario, SpillLink, Traffic, port_config,
};

criterion_group! {
    name = engine;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(4))
        .sample_size(10);
    targets = hold, runs
}
criterion_main!(engine);

/// The hold model (Jones, CACM 29(4), 1986): the next event is taken and set again, an exponential time later; each fourth
/// time another event is moved, as a timer that is restarted.
fn hold(criterion: &mut Criterion) {
    const STEPS: u64 = 100_000;
    let mut group = criterion.benchmark_group("hold");
    group.throughput(Throughput::Elements(STEPS));
    for size in [16_u32, 256, 4096] {
        let delays: Vec<Nanos> = {
            let mut random = Random::new(1);
            (0..4096).map(|_| Nanos::from_nanos(random.exponential(1e6) as u64 + 1)).collect()
        };
        let delay = |i: u64| delays.get(i as usize % delays.len()).copied().unwrap_or_default();
        group.bench_function(BenchmarkId::new("agenda", size), |bencher| {
            let mut agenda = Agenda::new();
            let dues: Vec<_> = (0..size).map(|i| agenda.register(i)).collect();
            for (due, i) in dues.iter().zip(0..) {
                agenda.set(*due, delay(i));
            }
            bencher.iter(|| {
                for i in 0..STEPS {
                    let Some((now, event)) = agenda.pop() else { return };
                    let Some(due) = dues.get(event as usize) else { return };
                    agenda.set(*due, now.saturating_add(delay(i)));
                    if i % 4 == 0
                        && let Some(other) = dues.get(i as usize / 4 % dues.len())
                    {
                        agenda.set(*other, now.saturating_add(delay(i + 7)));
                    }
                }
            });
        });
        // What is set again leaves a stale entry, which is told by its order and passed over.
        group.bench_function(BenchmarkId::new("std heap", size), |bencher| {
            let mut heap = BinaryHeap::new();
            let mut valid: Vec<u64> = vec![0; size as usize];
            let mut order = 0_u64;
            let mut set = |heap: &mut BinaryHeap<_>, valid: &mut Vec<u64>, at: Nanos, event: u32| {
                order += 1;
                if let Some(valid) = valid.get_mut(event as usize) {
                    *valid = order;
                }
                heap.push(Reverse((at, order, event)));
            };
            for event in 0..size {
                set(&mut heap, &mut valid, delay(u64::from(event)), event);
            }
            bencher.iter(|| {
                let mut i = 0;
                while i < STEPS {
                    let Some(Reverse((now, order, event))) = heap.pop() else { return };
                    if valid.get(event as usize) != Some(&order) {
                        continue;
                    }
                    set(&mut heap, &mut valid, now.saturating_add(delay(i)), event);
                    if i % 4 == 0 {
                        let other = (i / 4 % u64::from(size)) as u32;
                        set(&mut heap, &mut valid, now.saturating_add(delay(i + 7)), other);
                    }
                    i += 1;
                }
            });
        });
    }
    group.finish();
}

fn scenario(contender: Contender, flows: Vec<Flow>, seconds: u64) -> Scenario {
    let path = Path::new(Rate::from_bits_per_second(100_000_000), Nanos::from_millis(10), 1000);
    Scenario { flows, ..Scenario::new(path, contender, Nanos::from_secs(seconds)) }
}

fn runs(criterion: &mut Criterion) {
    let cubic = || Flow::bulk(Congestion::Cubic, false).jittered(Nanos::from_millis(100)).times(10);
    let flood = Rate::from_bits_per_second(150_000_000);
    let udp = Flow::new(Traffic::Constant { rate: flood, bytes: 1514, ecn: Ecn::NotEct });
    let spilling = {
        let port = || PortSetup::Plain(Box::new(port_config()));
        let actions = BackOff { on_congested: ACTION_SPILL, on_full: ACTION_SPILL, ..BackOff::NONE };
        let stack = StackConfig { qdisc: Contender::FqCodel, limit: 1000, delay: Nanos::from_micros(20) };
        let router = RouterConfig { port: port(), back_off: vec![actions], stack, spill: Some(port()) };
        let mut scenario = scenario(Contender::WeirRouter(Box::new(router)), vec![cubic().times(64)], 10);
        let second = SpillLink::new(scenario.path.rate, scenario.path.delay, 1000);
        scenario.path.spill = Some(Box::new(second));
        scenario
    };
    let scenarios = [
        ("redirect, 10 CUBIC, 60 s", scenario(Contender::Redirect, vec![cubic()], 60)),
        ("weir, 10 CUBIC, 60 s", scenario(Contender::weir(), vec![cubic()], 60)),
        ("weir, 1,000 CUBIC, 10 s", scenario(Contender::weir(), vec![cubic().times(1000)], 10)),
        ("redirect, UDP flood, 10 s", scenario(Contender::Redirect, vec![udp], 10)),
        ("weir spilling, 64 CUBIC, two links, 10 s", spilling),
    ];
    let mut group = criterion.benchmark_group("run at 100 Mbit/s");
    for (name, scenario) in scenarios {
        let outcome = scenario.run();
        println!("{name}: {} events, {} frames", outcome.events, outcome.offered);
        group.throughput(Throughput::Elements(outcome.events));
        group.bench_function(name, |bencher| bencher.iter(|| black_box(&scenario).run()));
    }
    group.finish();
}
