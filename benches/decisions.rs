//! What the pure code costs per packet: the same functions that the programs inline, on the host.
//!
//! Every input goes through `black_box`, so that nothing is computed at compile time. States are carried from one call
//! to the next, as in the maps.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use weir::config::policy::{MatchRule, compile::compile};
use weir_aqm::{
    Bytes, CodelParams, CodelVars, GcraParams, Nanos, Pace, Pi2Params, Pi2Vars, PieParams, PieVars, gcra,
};
use weir_egress::{
    Queue, bottleneck,
    observe::{Look, observe},
};
use weir_ingress::{
    key::{size, transport},
    rules::first_match,
};
use weir_shared_maps::{
    AQM_CODEL, AQM_PI2, AqmState, DrainState, FLAG_ECN, HistoryEntry, MODE_BOTTLENECK, PortConfig,
    SignalState,
};
use zerocopy::FromZeros;

const FRAME: u64 = 1_514;
const RATE: u64 = 10_000_000;
/// Time of one frame at the rate.
const FRAME_NS: u64 = FRAME * 8 * 1_000_000_000 / RATE;

criterion_group! {
    name = decisions;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = parse, classify, controllers, pie, meter, decide, look, rules
}
criterion_main!(decisions);

/// An IPv4 or IPv6 UDP datagram, with as many VLAN tags as given. Checksums are not looked at by the parser.
fn packet(version: u8, tags: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for _ in 0..tags {
        frame.extend([0x81, 0, 0, 7]);
    }
    let payload = 22_u16;
    let udp = payload + 8;
    if version == 4 {
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend((udp + 20).to_be_bytes());
        frame.extend([0, 1, 0x40, 0, 64, 17, 0, 0, 10, 0, 1, 2, 10, 0, 2, 2]);
    } else {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(udp.to_be_bytes());
        frame.extend([17, 64]);
        for host in [2, 3] {
            frame.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
        }
    }
    frame.extend([0x0f, 0xa0, 0x0f, 0xa1]);
    frame.extend(udp.to_be_bytes());
    frame.extend([0, 0]);
    frame.resize(frame.len() + usize::from(payload), 0);
    frame
}

fn frames() -> [(&'static str, Vec<u8>); 3] {
    [("IPv4", packet(4, 0)), ("IPv4, one tag", packet(4, 1)), ("IPv6", packet(6, 0))]
}

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("wire::parse");
    for (name, frame) in frames() {
        group.bench_function(name, |b| b.iter(|| weir_wire::parse(black_box(frame.as_slice()))));
    }
}

fn classify(c: &mut Criterion) {
    let mut group = c.benchmark_group("ingress::classify");
    for (name, frame) in frames() {
        group.bench_function(name, |b| b.iter(|| weir_ingress::classify(black_box(frame.as_slice()))));
    }
}

/// A clock that moves by one frame time with each packet.
struct Clock(u64);

impl Clock {
    fn tick(&mut self) -> Nanos {
        self.0 = self.0.wrapping_add(FRAME_NS);
        Nanos::from_nanos(self.0)
    }
}

fn controllers(c: &mut Criterion) {
    let mut group = c.benchmark_group("aqm");
    let max_packet = Bytes::new(FRAME);
    let backlog = Bytes::new(FRAME * 20);
    for (name, sojourn_ms) in [("codel on_enqueue, below target", 1), ("codel on_enqueue, signalling", 20)] {
        let (params, mut vars) = (CodelParams::internet(max_packet), CodelVars::default());
        let mut clock = Clock(1);
        group.bench_function(name, |b| {
            b.iter(|| {
                let sojourn = Nanos::from_millis(black_box(sojourn_ms));
                vars.on_enqueue(&params, clock.tick(), sojourn, backlog)
            });
        });
    }
    let (params, mut vars) = (Pi2Params::linux(max_packet), Pi2Vars::default());
    let (mut clock, mut random) = (Clock(1), 1_u32);
    group.bench_function("pi2 on_enqueue", |b| {
        b.iter(|| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            vars.on_enqueue(&params, clock.tick(), Nanos::from_millis(black_box(20)), backlog, random)
        });
    });
}

fn pie(c: &mut Criterion) {
    let (params, mut vars) = (PieParams::rfc_8033(Bytes::new(FRAME)), PieVars::default());
    let (mut clock, mut random) = (Clock(1), 1_u32);
    c.bench_function("aqm/pie on_enqueue", |b| {
        b.iter(|| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let delay = Nanos::from_millis(black_box(20));
            vars.on_enqueue(&params, clock.tick(), delay, Bytes::new(FRAME * 20), random)
        });
    });
}

fn meter(c: &mut Criterion) {
    // Within the range that a pace takes, as every constant rate here.
    let Some(pace) = Pace::from_bits_per_second(RATE) else { return };
    let params = GcraParams::with_burst(pace, Bytes::new(FRAME * 20));
    let (mut clock, mut tat) = (Clock(1), Nanos::ZERO);
    c.bench_function("gcra conform", |b| {
        b.iter(|| {
            let verdict = gcra::conform(&params, tat, clock.tick(), Bytes::new(black_box(FRAME)));
            if let gcra::Conformance::Conform { tat: charged } = verdict {
                tat = charged;
            }
            verdict
        });
    });
}

/// A port of the defaults at 10 Mbit/s; what these functions do not read stays zero.
fn port() -> PortConfig {
    let mut config = PortConfig::new_zeroed();
    config.target_ns = 5_000_000;
    config.interval_ns = 100_000_000;
    config.limit_ns = 25_000_000;
    config.signal_hold_ns = 25_000_000;
    config.t_update_ns = 16_000_000;
    config.mode = MODE_BOTTLENECK;
    config.flags = FLAG_ECN;
    config.rings = 1;
    config.ring_slots = 1_000;
    config.reserve_slots = 64;
    config.max_packet_bytes = FRAME as u32;
    config.alpha = 44;
    config.beta = 879;
    config
}

fn decide(c: &mut Criterion) {
    let mut group = c.benchmark_group("bottleneck::decide");
    let config = port();
    let pace = Pace::from_bits_per_second(RATE);
    for (name, aqm, frames) in [
        ("empty ring", AQM_CODEL, 0_u32),
        ("codel, below target", AQM_CODEL, 2),
        ("codel, signalling", AQM_CODEL, 15),
        ("pi2, above target", AQM_PI2, 15),
        ("beyond the limit", AQM_CODEL, 30),
    ] {
        let (mut clock, mut state) = (Clock(1), AqmState::new_zeroed());
        group.bench_function(name, |b| {
            b.iter(|| {
                let queue = Queue {
                    now: clock.tick(),
                    backlog: Bytes::new(u64::from(frames) * FRAME),
                    occupancy: black_box(frames),
                    slots: 1_000,
                    head_sojourn: Nanos::from_nanos(u64::from(frames) * FRAME_NS),
                    pace,
                    ..Queue::NONE
                };
                bottleneck::decide(&config, aqm, &queue, &mut state)
            });
        });
    }
}

fn look(c: &mut Criterion) {
    let mut group = c.benchmark_group("observe");
    let config = port();
    for (name, frames) in [("empty ring", 0_u32), ("ten frames stand", 10)] {
        let (mut drain, mut signal) = (DrainState::new_zeroed(), SignalState::new_zeroed());
        let (mut clock, mut sent) = (Clock(1_000_000_000), 1_000_u64);
        group.bench_function(name, |b| {
            b.iter(|| {
                let now = clock.tick();
                sent = sent.wrapping_add(1);
                let standing = u64::from(black_box(frames));
                let head = (standing > 0).then(|| HistoryEntry {
                    enqueued_ns: now.as_nanos().saturating_sub(standing * FRAME_NS),
                    bytes_before: sent.saturating_sub(standing) * FRAME,
                });
                let look = Look {
                    now,
                    occupancy: frames,
                    slots: 1_000,
                    sent_bytes: sent * FRAME,
                    head,
                    refused: false,
                };
                observe(&config, &look, &mut drain, &mut signal)
            });
        });
    }
}

/// Rules on five dimensions of which the last matches: as bit vectors, and read from the top.
fn rules(c: &mut Criterion) {
    let mut group = c.benchmark_group("rules");
    let frame = packet(4, 0);
    let l3 = weir_wire::parse(frame.as_slice()).map(|parsed| parsed.l3);
    let Ok(l3) = l3 else { return };
    for count in [1_u16, 8, 64] {
        let list: Vec<MatchRule> = (1..=count)
            .map(|i| MatchRule {
                dscp: Some(vec![0, 46]),
                protocol: Some(vec![17]),
                source_port: Some(vec![1..=u16::MAX]),
                // All but the last ask for a port that the frame does not go to.
                destination_port: Some(vec![if i == count { 1..=u16::MAX } else { 60_000 + i..=60_000 + i }]),
                size: Some(vec![0..=16_383]),
                ..MatchRule::default()
            })
            .collect();
        let compiled = compile(&list, 1);
        let start = compiled.ingress.first().copied().unwrap_or(0);
        group.bench_function(format!("{count} as bit vectors"), |b| {
            b.iter(|| {
                first_match(
                    black_box(&compiled),
                    start,
                    compiled.dimensions,
                    0,
                    black_box(&l3),
                    frame.as_slice(),
                )
            });
        });
        group.bench_function(format!("{count} from the top"), |b| {
            b.iter(|| {
                let (l3, transport) = (black_box(&l3), transport(&l3, frame.as_slice()));
                let (dscp, size) = (l3.dscp().get(), size(l3));
                black_box(&list).iter().position(|rule| {
                    let MatchRule {
                        dscp: d, protocol: p, source_port: s, destination_port: t, size: z, ..
                    } = rule;
                    d.as_ref().is_none_or(|list| list.contains(&dscp))
                        && p.as_ref().is_none_or(|list| list.contains(&transport.protocol))
                        && s.as_ref()
                            .is_none_or(|list| list.iter().any(|r| r.contains(&transport.source_port)))
                        && t.as_ref()
                            .is_none_or(|list| list.iter().any(|r| r.contains(&transport.destination_port)))
                        && z.as_ref().is_none_or(|list| list.iter().any(|r| r.contains(&size)))
                })
            });
        });
    }
}
