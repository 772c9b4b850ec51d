//! Open-loop traffic through the router, and what came of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use weir::lab::clock::make_timely;

use super::frame::Udp;
use super::router::{Router, Running};

/// Constant-rate traffic of one kind. The frames take turns.
pub struct Load {
    frames: Vec<Vec<u8>>,
    gap: Duration,
}

impl Load {
    /// `frames` at `bits` per second, Ethernet header included.
    pub fn new(frames: impl IntoIterator<Item = Udp>, bits: u64) -> Self {
        let frames: Vec<Vec<u8>> = frames.into_iter().map(|frame| frame.build()).collect();
        let gap = Duration::from_nanos(frames[0].len() as u64 * 8_000_000_000 / bits);
        Self { frames, gap }
    }
}

/// How the ring of `wan0` is emptied.
#[derive(Clone, Copy)]
pub enum Drain {
    /// As fast as it fills.
    Fast,
    /// By somebody else.
    Not,
    /// At this many bits per second.
    Rate(u64),
    /// As fast as it fills, and not at all in the first half of each of these periods.
    HalfOf(Duration),
}

/// Bits per second and frames of each class over a window.
pub struct Rates {
    pub classes: BTreeMap<String, f64>,
    /// What left the ring.
    pub total: f64,
    /// Counters of the classes, over the window.
    pub counters: BTreeMap<String, BTreeMap<&'static str, u64>>,
}

type Reading = (Instant, u64, BTreeMap<String, BTreeMap<&'static str, u64>>);

fn read(running: &Running) -> Reading {
    let before = Instant::now();
    let port = running.snapshot().ports.remove(0);
    let after = Instant::now();
    let classes = port.classes.into_iter().map(|class| (class.name, class.counters)).collect();
    (before + (after - before) / 2, port.counters["sent_bytes"], classes)
}

/// Offers `loads` for `settle` and then `window`, and gives the window's rates.
pub fn run(
    router: &Router,
    running: &Running,
    loads: &[Load],
    drain: Drain,
    settle: Duration,
    window: Duration,
) -> Rates {
    let stop = AtomicBool::new(false);
    let (first, last) = std::thread::scope(|scope| {
        scope.spawn(|| generate(router, loads, drain, &stop));
        let ends = scope.spawn(|| ends(running, settle, window)).join();
        stop.store(true, Ordering::Relaxed);
        ends.unwrap()
    });
    rates(&first, &last)
}

/// What the counters say after `settle`, and `window` later. Read by a real-time thread: were it kept waiting between the clock and
/// the counters, the window would not be what it is taken for.
fn ends(running: &Running, settle: Duration, window: Duration) -> (Reading, Reading) {
    make_timely(1);
    pause(settle);
    let first = read(running);
    pause(window);
    (first, read(running))
}

/// The same, with what `sample` gives every five milliseconds of the window.
pub fn run_sampled(
    router: &Router,
    running: &Running,
    loads: &[Load],
    drain: Drain,
    (settle, window): (Duration, Duration),
    sample: impl Fn() -> u64,
) -> (Rates, Vec<u64>) {
    let stop = AtomicBool::new(false);
    let (first, samples, last) = std::thread::scope(|scope| {
        scope.spawn(|| generate(router, loads, drain, &stop));
        pause(settle);
        let first = read(running);
        let end = Instant::now() + window;
        let mut samples = Vec::new();
        while Instant::now() < end {
            samples.push(sample());
            pause(Duration::from_millis(5));
        }
        let last = read(running);
        stop.store(true, Ordering::Relaxed);
        (first, samples, last)
    });
    (rates(&first, &last), samples)
}

/// The same from two threads, each on a CPU of its own. What cannot be emptied by both is emptied by the first.
pub fn run_on_two(
    router: &Router,
    running: &Running,
    loads: [&[Load]; 2],
    drain: Drain,
    settle: Duration,
    window: Duration,
) -> Rates {
    let stop = AtomicBool::new(false);
    let (first, last) = std::thread::scope(|scope| {
        for (cpu, load) in loads.into_iter().enumerate() {
            let stop = &stop;
            scope.spawn(move || {
                let mut set = nix::sched::CpuSet::new();
                set.set(cpu).unwrap();
                nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set).unwrap();
                let drain = if cpu == 0 || matches!(drain, Drain::Fast) { drain } else { Drain::Not };
                generate(router, load, drain, stop);
            });
        }
        let ends = scope.spawn(|| ends(running, settle, window)).join();
        stop.store(true, Ordering::Relaxed);
        ends.unwrap()
    });
    rates(&first, &last)
}

/// Waits. The loads' threads keep the machine busy meanwhile.
fn pause(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

fn rates(first: &Reading, last: &Reading) -> Rates {
    let seconds = (last.0 - first.0).as_secs_f64();
    let difference = |name: &String, counter: &'static str| last.2[name][counter] - first.2[name][counter];
    let classes =
        last.2.keys().map(|name| (name.clone(), difference(name, "accepted_bytes") as f64 * 8.0 / seconds));
    let counters = last.2.iter().map(|(name, of)| {
        (name.clone(), of.keys().map(|counter| (*counter, difference(name, counter))).collect())
    });
    Rates {
        classes: classes.collect(),
        total: (last.1 - first.1) as f64 * 8.0 / seconds,
        counters: counters.collect(),
    }
}

fn generate(router: &Router, loads: &[Load], drain: Drain, stop: &AtomicBool) {
    // What a busy machine keeps from being offered, nobody can accept.
    // SAFETY: takes numbers; 0 is the calling thread.
    assert_eq!(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) }, 0, "root may take precedence");
    let start = Instant::now();
    let mut sent = vec![0_u32; loads.len()];
    let mut drained = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        for (load, sent) in loads.iter().zip(&mut sent) {
            // What a pause of this thread held up comes at once, a few frames at a time.
            for _ in 0..4 {
                if start.elapsed() < load.gap * *sent {
                    break;
                }
                router.inject(&load.frames[*sent as usize % load.frames.len()]);
                *sent += 1;
            }
        }
        match drain {
            Drain::Not => {}
            Drain::Fast => while router.take().is_some() {},
            Drain::HalfOf(period) => {
                let open = start.elapsed().as_nanos() % period.as_nanos() >= period.as_nanos() / 2;
                while open && router.take().is_some() {}
            }
            Drain::Rate(bits) => {
                let due = start.elapsed().as_nanos() as u64 * bits / 8_000_000_000;
                while drained < due {
                    match router.take() {
                        Some(frame) => drained += frame.len() as u64,
                        // A link that has nothing to send does not catch up.
                        None => drained = due,
                    }
                }
            }
        }
    }
    while !matches!(drain, Drain::Not) && router.take().is_some() {}
}
