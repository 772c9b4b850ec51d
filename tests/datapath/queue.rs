//! The queue in front of a slow link: marked, bounded, policed, and never stuck.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use weir::lab::clock::{make_timely, now_ns, sleep_until};

use super::frame::{BOTH, RECEIVER, Seen, seen, udp};
use super::router::{Router, Running, WAN, privileged, wait_for};

const MS: u64 = 1_000_000;
/// Payload of a frame of 1,514 bytes.
const FULL: usize = 1_472;
const FRAME: u64 = 1_514;

/// Injects `frame(i)` every `gap` nanoseconds until `end`, without catching up on what a busy machine made late.
fn inject_paced(router: &Router, gap: u64, end: u64, mut frame: impl FnMut(u64) -> Vec<u8>) -> u64 {
    let mut injected = 0;
    let mut due = now_ns();
    while due < end {
        sleep_until(due);
        router.inject(&frame(injected));
        injected += 1;
        due = (due + gap).max(now_ns().saturating_sub(gap));
    }
    injected
}

/// Stamps that are followed by the next one only after more than `gap`: between the two the sender did not run.
fn late_by(stamps: &[u64], gap: u64) -> Vec<u64> {
    stamps.windows(2).filter(|pair| pair[1] - pair[0] > gap).map(|pair| pair[0]).collect()
}

/// Takes a frame from `wan0` whenever the link is free: `gap()` nanoseconds after the last, while `open()`.
/// Returns how many frames it took.
fn link(
    router: &Router,
    done: &AtomicBool,
    gap: impl Fn() -> u64,
    open: impl Fn() -> bool,
    mut each: impl FnMut(Option<Seen>, u64),
) -> u64 {
    make_timely(10);
    let (mut taken, mut free_at) = (0, now_ns());
    while !done.load(Ordering::Relaxed) {
        if !open() {
            sleep_until(now_ns() + MS);
            free_at = now_ns();
            continue;
        }
        sleep_until(free_at);
        match router.take() {
            Some(frame) => {
                // Half a millisecond of lateness is made up for, so that the rate holds.
                let now = now_ns();
                free_at = free_at.max(now.saturating_sub(MS / 2)) + gap();
                taken += 1;
                each(seen(&frame), now);
            }
            None => {
                sleep_until(now_ns() + MS / 10);
                free_at = free_at.max(now_ns());
            }
        }
    }
    taken
}

/// Runs the cases at once, each with a router of its own: most of their time is spent waiting.
fn side_by_side<const N: usize>(cases: [&'static str; N], case: impl Fn(&str) + Sync) {
    thread::scope(|scope| {
        for name in cases {
            let case = &case;
            scope.spawn(move || case(name));
        }
    });
}

/// Ends the link with the scope it runs in, though an assertion fails.
struct StopLink<'a>(&'a AtomicBool);

impl Drop for StopLink<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Everything that came in went out, or was dropped for a reason.
fn assert_accounted(running: &Running) {
    let snapshot = running.snapshot();
    assert_eq!((snapshot.unaccounted(), snapshot.ports[0].unaccounted), (0, 0), "{snapshot:#?}");
}

#[test]
fn a_standing_queue_marks_what_can_be_marked_and_drops_what_cannot() {
    let Some(_machine) = privileged("a_standing_queue_marks") else { return };
    for to in BOTH {
        let router = Router::new();
        // A queue that nobody drains: its sojourn is its age, and a limit far away leaves it to CoDel alone.
        let aqm = "[port.aqm]\ntarget = \"2ms\"\ninterval = \"20ms\"\nlimit = \"20s\"";
        let running = router.start("", aqm);
        let injected = inject_paced(&router, MS, now_ns() + 150 * MS, |i| {
            udp(to).ecn(1 + (i & 1) as u8).stamp(i).build()
        });
        let marked = running.port("marked");
        assert!(marked > 0, "{to}: {injected} ECN-capable packets, none marked");
        assert_eq!(
            (running.port("aqm"), running.port("sent")),
            (0, injected),
            "{to}: a capable one was dropped"
        );
        let frames = router.drain();
        assert_eq!(frames.len() as u64, injected);
        assert_eq!(frames.iter().filter(|f| f.ecn == 3).count() as u64, marked, "{to}");
        let unmarked = frames.iter().filter(|f| f.ecn != 3);
        assert!(unmarked.clone().all(|f| f.ecn == 1 + (f.stamp & 1) as u8), "{to}: an ECN field was changed");

        let injected = inject_paced(&router, MS, now_ns() + 150 * MS, |i| udp(to).stamp(i).build());
        let dropped = running.port("aqm");
        assert!(dropped > 0, "{to}: {injected} packets that cannot be marked, none dropped");
        assert_eq!(running.port("marked"), marked, "{to}");
        let frames = router.drain();
        assert_eq!(frames.len() as u64, injected - dropped);
        assert!(frames.iter().all(|f| f.ecn == 0), "{to}");
        assert_accounted(&running);
    }
}

/// The reserve of a ring of less than 256 slots: a quarter, or a batch for each processor, at most half.
fn small(slots: u32) -> u32 {
    let processors = aya::util::online_cpus().unwrap().len() as u32;
    (slots / 4).max(16 * processors).min(slots / 2)
}

#[test]
fn a_ring_that_nobody_reads_fills_to_its_reserve_and_not_one_slot_further() {
    let Some(_machine) = privileged("a_ring_that_nobody_reads") else { return };
    for (slots, keys, reserve) in
        [(1_000, "", 64), (1_000, "reserve = 200", 200), (100, "", small(100)), (512, "reserve = 0", 0)]
    {
        let router = Router::with_ring(slots);
        let running = router.start("", &format!("{keys}\n[port.aqm]\nalgorithm = \"none\""));
        let injected = 2 * u64::from(slots);
        for i in 0..injected {
            router.inject(&udp(RECEIVER.0).stamp(i).build());
        }
        let admitted = u64::from(slots - reserve);
        let snapshot = running.snapshot();
        let ring = &snapshot.ports[0].rings[0];
        assert_eq!(
            (ring.occupancy, ring.occupancy_max, ring.slots),
            (slots - reserve, slots - reserve, slots)
        );
        let drops = &snapshot.ports[0].drops;
        let sent = running.port("sent");
        assert_eq!(drops["ring_admission"] + drops["backpressure"], injected - sent, "{drops:?}");
        assert_eq!(drops["ring_drops"], 0);
        // Some of what is in the ring is the router's own: it announces its addresses (MLD).
        let all: Vec<_> = std::iter::from_fn(|| router.take()).collect();
        assert_eq!(all.len() as u64, admitted);
        let frames: Vec<_> = all.iter().filter_map(|frame| seen(frame)).collect();
        assert_eq!(frames.len() as u64, sent, "{slots} slots, {keys:?}: {drops:?}");
        assert!(frames.windows(2).all(|f| f[0].stamp < f[1].stamp), "reordered");
        assert_accounted(&running);
    }
}

#[test]
fn a_receiver_that_stops_for_two_seconds_and_goes_on_gets_its_traffic_back_within_one() {
    let Some(_machine) = privileged("a_receiver_that_stops") else { return };
    let cases =
        ["", "rate = \"10mbit\"", "[port.aqm]\nalgorithm = \"pi2\"", "[port.aqm]\nalgorithm = \"none\""];
    side_by_side(cases, |keys| {
        let router = Router::new();
        let running = router.start("", keys);
        let (done, open) = (AtomicBool::new(false), AtomicBool::new(true));
        let gap = FRAME * 800;
        thread::scope(|scope| {
            let _stop = StopLink(&done);
            let reader =
                scope.spawn(|| link(&router, &done, || gap, || open.load(Ordering::Relaxed), |_, _| {}));
            // 1.2 times what the link carries, all the time.
            let sender = scope.spawn(|| {
                inject_paced(&router, gap * 10 / 12, now_ns() + 4_500 * MS, |i| {
                    udp(RECEIVER.0).payload(FULL).stamp(i).build()
                })
            });
            sleep_until(now_ns() + 700 * MS);
            open.store(false, Ordering::Relaxed);
            sleep_until(now_ns() + 2_000 * MS);
            let stopped = running.snapshot();
            let drops = &stopped.ports[0].drops;
            assert!(drops.values().sum::<u64>() > 100, "{keys:?}: {drops:?}");
            assert_eq!(drops["ring_drops"], 0, "{keys:?}");
            assert!(stopped.ports[0].rings[0].occupancy <= 936, "{keys:?}");
            open.store(true, Ordering::Relaxed);
            // A second later the link carries what it can again, and the signal does not stand in the way.
            sleep_until(now_ns() + 1_000 * MS);
            let from = (running.port("sent"), now_ns());
            sleep_until(now_ns() + 500 * MS);
            let sent = running.port("sent") - from.0;
            let possible = (now_ns() - from.1) / gap;
            assert!(
                sent * 10 >= possible * 8,
                "{keys:?}: {sent} frames sent where the link has room for {possible}"
            );
            sender.join().unwrap();
            done.store(true, Ordering::Relaxed);
            reader.join().unwrap();
        });
        router.drain();
        router.inject(&udp(RECEIVER.0).build());
        wait_for("the signal is clear", Duration::from_secs(1), || {
            running.snapshot().ports[0].rings[0].signal == "clear"
        });
        router.inject(&udp(RECEIVER.0).build());
        assert!(!router.drain().is_empty(), "{keys:?}: nothing passes an empty ring");
        assert_accounted(&running);
    });
}

#[test]
fn a_link_slower_or_faster_than_configured_is_kept_busy_by_a_bounded_queue() {
    let Some(_machine) = privileged("a_link_slower_or_faster") else { return };
    // The link's real rate is 10 Mbit/s each time; then it changes to a quarter, and back, while traffic flows.
    side_by_side(["5mbit", "20mbit"], |configured| {
        let router = Router::new();
        let running = router.start("", &format!("rate = \"{configured}\""));
        let (done, slowed, enough) = (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
        let full_gap = FRAME * 800;
        let gap = || if slowed.load(Ordering::Relaxed) { 4 * full_gap } else { full_gap };
        thread::scope(|scope| {
            let _stop = (StopLink(&done), StopLink(&enough));
            let reader = scope.spawn(|| link(&router, &done, gap, || true, |_, _| {}));
            let sender = scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    inject_paced(&router, full_gap * 10 / 13, now_ns() + 100 * MS, |i| {
                        udp(RECEIVER.0).payload(FULL).stamp(i).build()
                    });
                }
            });
            for slow in [false, true, false] {
                slowed.store(slow, Ordering::Relaxed);
                let window = |length: u64| {
                    let (sent, from) = (running.port("sent"), now_ns());
                    let mut longest = 0;
                    while now_ns() < from + length * MS {
                        longest = longest.max(running.reader().ring(0).unwrap().occupancy_pkts);
                        sleep_until(now_ns() + 5 * MS);
                    }
                    ((running.port("sent") - sent) as f64 * gap() as f64 / (now_ns() - from) as f64, longest)
                };
                // A second to find the new rate; after that the link is busy.
                window(1_000);
                // A machine that keeps the sender from sending for longer than the queue lasts says nothing: again.
                let mut tries = vec![window(500)];
                while tries.len() < 4 && tries[tries.len() - 1].0 < 0.9 {
                    tries.push(window(500));
                }
                let (share, longest) = tries[tries.len() - 1];
                assert!(share >= 0.9, "{configured}, slowed {slow}: shares of the link's rate {tries:?}");
                // The limit is 15 ms or eight frames: 13 frames at 10 Mbit/s; what the rate's error adds is bounded, too.
                assert!(longest <= 80, "{configured}, slowed {slow}: {longest} frames in the ring");
            }
            enough.store(true, Ordering::Relaxed);
            sender.join().unwrap();
            done.store(true, Ordering::Relaxed);
            reader.join().unwrap();
        });
        assert_eq!(running.port("ring_drops"), 0);
        assert_accounted(&running);
    });
}

#[test]
fn the_observers_sojourn_agrees_with_the_delay_measured_outside_of_a_taps_ring() {
    let Some(_machine) = privileged("the_observers_sojourn_on_a_tap") else { return };
    let router = Router::new();
    let running = router.start("", "[port.aqm]\nalgorithm = \"none\"");
    let done = AtomicBool::new(false);
    let gap = FRAME * 800;
    let (mut compared, mut late) = (Vec::new(), Vec::new());
    thread::scope(|scope| {
        let _stop = StopLink(&done);
        let reader = running.reader();
        let receiver = scope.spawn(|| {
            let mut compared = Vec::new();
            let each = |frame: Option<Seen>, read_at: u64| {
                let ring = reader.ring(0).unwrap();
                let asked_at = now_ns();
                // The observer sees the ring when a frame enters it, every millisecond here. A look that is older, or
                // a reader that was kept from the clock, says nothing about the frame that was read just now.
                let fresh = ring.observed_ns + 2 * MS >= read_at && asked_at < read_at + MS;
                if let Some(frame) = frame
                    && fresh
                {
                    // The head has waited on since the observer looked.
                    let seen = ring.head_sojourn_ns + read_at.saturating_sub(ring.observed_ns);
                    compared.push((frame.stamp, read_at - frame.stamp, seen));
                }
            };
            link(&router, &done, || gap, || true, each);
            compared
        });
        // 1.2 times the link's rate: the queue grows from nothing to 300 ms.
        let sender = scope.spawn(|| {
            make_timely(5);
            let stamps = RefCell::new(Vec::new());
            inject_paced(&router, gap * 10 / 12, now_ns() + 1_500 * MS, |_| {
                let stamp = now_ns();
                stamps.borrow_mut().push(stamp);
                udp(RECEIVER.0).payload(FULL).stamp(stamp).build()
            });
            stamps.into_inner()
        });
        late = late_by(&sender.join().unwrap(), 2 * gap);
        done.store(true, Ordering::Relaxed);
        compared = receiver.join().unwrap();
    });
    // A sender that was kept from the processor may have stamped a frame long before it wrote it.
    let compared: Vec<(u64, u64)> = compared
        .into_iter()
        .filter(|(stamp, _, _)| !late.contains(stamp))
        .map(|(_, measured, seen)| (measured, seen))
        .collect();
    let longest = compared.iter().map(|(measured, _)| *measured).max().unwrap_or(0);
    assert!(compared.len() > 200 && longest > 150 * MS, "{} comparisons, up to {longest} ns", compared.len());
    let tolerance = 2 * MS + 2 * gap;
    let mut errors: Vec<u64> = compared.iter().map(|(measured, seen)| measured.abs_diff(*seen)).collect();
    errors.sort_unstable();
    let worst = errors[errors.len() - 1];
    assert!(
        worst <= tolerance,
        "{WAN}: {worst} ns apart, half of all by at most {} ns",
        errors[errors.len() / 2]
    );
}

#[test]
fn a_policer_of_10_mbit_passes_10_mbit_of_an_overload_and_no_more_than_its_burst_at_once() {
    let Some(_machine) = privileged("a_policer_of_10_mbit") else { return };
    let router = Router::new();
    let (overhead, burst) = (24, 60_000);
    let keys = format!(
        "mode = \"policer\"\nrate = \"10mbit\"\noverhead = {overhead}\nburst = \"{burst}b\"\n[port.aqm]\nalgorithm = \"none\""
    );
    let running = router.start("", &keys);
    let metered = || {
        let snapshot = running.snapshot();
        let counters = &snapshot.ports[0].counters;
        (counters["sent_bytes"] + overhead * counters["sent"], now_ns())
    };
    let done = AtomicBool::new(false);
    let start = now_ns();
    thread::scope(|scope| {
        let _stop = StopLink(&done);
        scope.spawn(|| link(&router, &done, || 0, || true, |_, _| {}));
        // Three times the rate, in frames of changing size.
        scope.spawn(|| {
            inject_paced(&router, FRAME * 800 / 3, start + 3_600 * MS, |i| {
                udp(RECEIVER.0).payload(FULL - (i % 7 * 100) as usize).build()
            });
            done.store(true, Ordering::Relaxed);
        });
        // The burst is used up after 60,000 bytes at twice the rate beyond the rate: 24 ms.
        sleep_until(start + 300 * MS);
        let (bytes_0, at_0) = metered();
        assert!(
            bytes_0 <= burst + (at_0 - start) / 800 + FRAME + overhead,
            "{bytes_0} bytes in the first {} ns",
            at_0 - start
        );
        sleep_until(start + 3_300 * MS);
        let (bytes_1, at_1) = metered();
        let rate = (bytes_1 - bytes_0) as f64 * 8e9 / (at_1 - at_0) as f64;
        assert!((rate - 10e6).abs() <= 0.01 * 10e6, "{rate:.0} bit/s");
    });
    let drops = &running.snapshot().ports[0].drops;
    assert_eq!(drops["policer"], drops.values().sum::<u64>(), "{drops:?}");
    assert_accounted(&running);
}

#[test]
fn frames_that_the_driver_refuses_are_refunded_and_do_not_lower_the_policers_rate() {
    let Some(_machine) = privileged("frames_that_the_driver_refuses") else { return };
    let router = Router::new();
    let keys = "mode = \"policer\"\nrate = \"10mbit\"\nburst = \"100000b\"\nreserve = 0\non_full = \"none\"\n[port.aqm]\nalgorithm = \"none\"";
    // A ring that weir follows is not overfilled, and ingress backs off from one that refuses: here neither.
    let running = router.start_blind(keys);
    router.set_queue_len(16);
    let done = AtomicBool::new(false);
    let start = now_ns();
    // The receiver stands still for half of every 60 ms: 16 of the 25 frames of that time find no room.
    let open = || ((now_ns() - start) / (30 * MS)).is_multiple_of(2);
    thread::scope(|scope| {
        let _stop = StopLink(&done);
        scope.spawn(|| link(&router, &done, || 0, open, |_, _| {}));
        scope.spawn(|| {
            inject_paced(&router, FRAME * 800 / 4, start + 2_700 * MS, |_| {
                udp(RECEIVER.0).payload(FULL).build()
            });
            done.store(true, Ordering::Relaxed);
        });
        sleep_until(start + 300 * MS);
        let (bytes, from) = (running.port("sent_bytes"), now_ns());
        // Whole periods.
        sleep_until(from + 2_100 * MS);
        let (bytes, time) = (running.port("sent_bytes") - bytes, now_ns() - from);
        let rate = bytes as f64 * 8e9 / time as f64;
        assert!(
            (rate - 10e6).abs() <= 0.03 * 10e6,
            "{rate:.0} bit/s, {} refused",
            running.port("ring_drops")
        );
    });
    assert!(running.port("ring_drops") > 100, "the driver refused nothing");
    assert_accounted(&running);
}
