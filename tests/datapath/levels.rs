//! The signal: how soon ingress acts, what a lasting overload costs the driver, and what ends a level.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use weir::datapath::Snapshot;
use weir_shared_maps::SIGNAL_FULL;

use super::frame::{RECEIVER, udp};
use super::live::{Live, POLL, run_on};
use super::router::{Router, Running, privileged, wait_for};
use super::veth::{Pair, slow_napi_on_cpu_1};

/// What ingress may still send after the ring has reached its high mark.
const REACTION: u64 = 64;
const NO_AQM: &str = "[port.aqm]\nalgorithm = \"none\"";

fn assert_accounted(snapshot: &Snapshot) {
    assert_eq!((snapshot.unaccounted(), snapshot.ports[0].unaccounted), (0, 0), "{snapshot:#?}");
}

#[test]
fn ingress_drops_within_64_frames_of_the_one_that_fills_the_ring() {
    let Some(_machine) = privileged("ingress_drops_within_64_frames") else { return };
    for slots in [64, 256, 1_000] {
        let router = Router::with_ring(slots);
        let running = router.start("", NO_AQM);
        // Nobody reads: the first frame that ingress drops, by its number.
        let dropped = (0..2 * u64::from(slots)).find(|number| {
            router.inject(&udp(RECEIVER.0).stamp(*number).build());
            running.port("backpressure") > 0
        });
        let dropped = dropped.expect("ingress drops in front of a full ring");
        // The last frame in the ring is the one that brought it to its mark.
        let numbers: Vec<u64> = router.drain().iter().map(|frame| frame.stamp).collect();
        let last = *numbers.last().unwrap();
        assert_eq!(numbers, (0..=last).collect::<Vec<_>>(), "{slots} slots");
        assert!(
            last < dropped && dropped - last <= REACTION,
            "{slots} slots: full with frame {last}, {dropped} dropped first"
        );
        assert_eq!(running.port("ring_drops"), 0);
        assert_accounted(&running.snapshot());
    }
}

#[test]
fn of_a_burst_of_live_frames_egress_refuses_at_most_64_before_ingress_does() {
    let Some(_machine) = privileged("of_a_burst_of_live_frames") else { return };
    for slots in [64, 256, 1_000] {
        let router = Router::looped(slots);
        let running = router.start("", NO_AQM);
        router.run(|| {
            let live = Live::attached(udp(RECEIVER.0).hops(255).build());
            // A poll at a time, until ingress has acted: what egress has refused by then came between.
            let polls = (0..2 * slots / POLL + 2).find(|_| {
                live.send(POLL);
                running.port("backpressure") > 0
            });
            assert!(polls.is_some(), "{slots} slots: ingress never acted");
        });
        let refused = running.port("ring_admission");
        assert!(refused <= REACTION, "{slots} slots: egress refused {refused}");
        assert_eq!(running.port("ring_drops"), 0);
        assert_accounted(&running.snapshot());
    }
}

/// Overload from these processors for `time`; `drain` takes a few frames from the far end.
fn overload(run: impl Fn(&(dyn Fn() + Sync)), cpus: &[usize], time: Duration, drain: impl Fn() + Sync) {
    let done = AtomicBool::new(false);
    run(&|| {
        thread::scope(|scope| {
            let senders: Vec<_> = cpus
                .iter()
                .map(|cpu| {
                    scope.spawn(move || {
                        run_on(*cpu);
                        let live = Live::attached(udp(RECEIVER.0).hops(255).build());
                        let end = Instant::now() + time;
                        while Instant::now() < end {
                            live.send(32 * POLL);
                        }
                    })
                })
                .collect();
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    drain();
                }
            });
            let sent: Vec<_> = senders.into_iter().map(thread::ScopedJoinHandle::join).collect();
            done.store(true, Ordering::Relaxed);
            assert!(sent.iter().all(Result::is_ok), "a sender died");
        });
    });
}

fn assert_overloaded_without_ring_drops(what: &str, snapshot: &Snapshot) {
    let counters = &snapshot.ports[0].counters;
    let offered = counters["seen"] + counters["backpressure"];
    assert!(
        counters["sent"] > 0 && offered >= 5 * counters["sent"],
        "{what}: {offered} offered, {} sent",
        counters["sent"]
    );
    assert_eq!(counters["ring_drops"], 0, "{what}: of {offered} offered, {} sent", counters["sent"]);
    assert_accounted(snapshot);
}

fn overload_of_a_tap(time: Duration) {
    let (one, both): (&[usize], &[usize]) = (&[0], &[0, 1]);
    for (slots, cpus) in [(64, one), (64, both), (256, both), (1_000, one), (1_000, both)] {
        for keys in [NO_AQM, ""] {
            let router = Router::looped(slots);
            let running = router.start("", keys);
            overload(
                |senders| router.run(senders),
                cpus,
                time,
                || {
                    // A fifth of the overload at most: a frame now and then.
                    router.take();
                    thread::park_timeout(Duration::from_micros(50));
                },
            );
            let what = format!("{slots} slots, processors {cpus:?}, {keys:?}");
            assert_overloaded_without_ring_drops(&what, &running.snapshot());
        }
    }
}

#[test]
fn two_seconds_of_overload_from_two_processors_make_the_driver_of_a_tap_refuse_nothing() {
    let Some(_machine) = privileged("two_seconds_of_overload_of_a_tap") else { return };
    overload_of_a_tap(Duration::from_secs(2));
}

#[test]
#[ignore = "twenty seconds for each ring: docs/signal.md"]
fn twenty_seconds_of_overload_from_two_processors_make_the_driver_of_a_tap_refuse_nothing() {
    let Some(_machine) = privileged("twenty_seconds_of_overload_of_a_tap") else { return };
    overload_of_a_tap(Duration::from_secs(20));
}

/// The peer's NAPI is a thread of the lowest priority on processor 1, which a sender holds: it takes what is left over.
fn overload_of_a_veth(time: Duration) {
    let (one, both): (&[usize], &[usize]) = (&[1], &[0, 1]);
    for cpus in [one, both] {
        let pair = Pair::looped();
        let instance = pair.start(NO_AQM);
        assert!(slow_napi_on_cpu_1(&pair), "the peer's NAPI could not be made a thread");
        let everywhere = sched_getaffinity(Pid::from_raw(0)).unwrap();
        overload(
            |senders| {
                pair.router.run(|| {
                    senders();
                    Ok(())
                });
            },
            cpus,
            time,
            || thread::park_timeout(Duration::from_millis(1)),
        );
        sched_setaffinity(Pid::from_raw(0), &everywhere).unwrap();
        let snapshot = instance.reader().snapshot().unwrap();
        assert_overloaded_without_ring_drops(&format!("veth, processors {cpus:?}"), &snapshot);
    }
}

#[test]
fn two_seconds_of_overload_from_two_processors_make_the_driver_of_a_veth_refuse_nothing() {
    let Some(_machine) = privileged("two_seconds_of_overload_of_a_veth") else { return };
    overload_of_a_veth(Duration::from_secs(2));
}

#[test]
#[ignore = "twenty seconds for each: docs/signal.md"]
fn twenty_seconds_of_overload_from_two_processors_make_the_driver_of_a_veth_refuse_nothing() {
    let Some(_machine) = privileged("twenty_seconds_of_overload_of_a_veth") else { return };
    overload_of_a_veth(Duration::from_secs(20));
}

/// Fills the ring of `wan0` until ingress drops.
fn fill(router: &Router, running: &Running) {
    let dropped = running.port("backpressure");
    for _ in 0..4_000 {
        router.inject(&udp(RECEIVER.0).build());
        if running.port("backpressure") > dropped {
            return;
        }
    }
    panic!("ingress never acted: {:#?}", running.snapshot());
}

#[test]
fn a_signal_that_nobody_clears_expires_and_traffic_goes_on() {
    let Some(_machine) = privileged("a_signal_that_nobody_clears") else { return };
    let router = Router::new();
    let running = router.start("", NO_AQM);
    fill(&router, &running);
    // The observers go, by hand.
    let links = std::path::Path::new("/sys/fs/bpf/weir").join(router.instance()).join("v3/links");
    let observers = std::fs::read_dir(&links).unwrap().flatten().map(|entry| entry.path());
    let observers: Vec<_> =
        observers.filter(|path| path.file_name().unwrap().to_str().unwrap().contains("obs")).collect();
    assert_eq!(observers.len(), 2, "{observers:?}");
    observers.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    router.drain();
    wait_for("the signal expires", Duration::from_secs(5), || {
        running.snapshot().ports[0].rings[0].signal == "clear"
    });
    let signal = running.reader().ring(0).unwrap().signal;
    assert_eq!(signal.level, SIGNAL_FULL, "somebody looked at the ring, and cleared the level");
    let dropped = running.port("backpressure");
    for number in 0..100 {
        router.inject(&udp(RECEIVER.0).stamp(number).build());
    }
    assert_eq!(router.drain().len(), 100);
    assert_eq!(running.port("backpressure"), dropped);
}

#[test]
fn a_ring_that_nobody_can_read_is_signalled_by_its_virtual_queue_and_by_refusals() {
    let Some(_machine) = privileged("a_ring_that_nobody_can_read") else { return };
    // 100 frames of 142 bytes are 11.4 ms at 10 Mbit/s. From 7.8 on a full frame would pass the limit of 9.
    let limited = "rate = \"10mbit\"\n[port.aqm]\nalgorithm = \"codel\"\ntarget = \"3ms\"\nlimit = \"9ms\"";
    let router = Router::new();
    let running = router.start_blind(limited);
    assert_eq!(running.snapshot().ports[0].mode, "virtual");
    for number in 0..100 {
        router.inject(&udp(RECEIVER.0).stamp(number).build());
    }
    let snapshot = running.snapshot();
    assert!(snapshot.ports[0].drops["backpressure"] > 0, "{:?}", snapshot.ports[0].drops);
    assert!(snapshot.ports[0].rings[0].signal_raised > 0, "{snapshot:#?}");
    // The ring itself is as long as ever: what was sent is in it.
    assert_eq!(router.drain().len() as u64, running.port("sent"));
    assert_accounted(&snapshot);

    // A ring of 16 slots, which weir does not see, and a virtual queue far from its limit.
    let router = Router::with_ring(16);
    let running = router.start_blind("rate = \"1gbit\"\n[port.aqm]\nlimit = \"40ms\"");
    for number in 0..40 {
        router.inject(&udp(RECEIVER.0).stamp(number).build());
    }
    let drops = running.snapshot().ports[0].drops.clone();
    assert!(drops["ring_drops"] > 0, "{drops:?}");
    assert!(drops["backpressure"] > drops["ring_drops"], "a refusal raises full at once: {drops:?}");
    router.drain();
    wait_for("the hold ends", Duration::from_secs(2), || {
        running.snapshot().ports[0].rings[0].signal == "clear"
    });
    assert_accounted(&running.snapshot());
}
