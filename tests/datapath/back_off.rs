//! What ingress does with single packets while a signal stands: marks and drops, by class.
//!
//! The ring of `wan0` has 1,000 slots, 64 of them in reserve, and nobody reads it: its signal is `congested` while its oldest frame
//! is older than the target, and `full` at 936 frames. The pressure between is that of the slots, from 702 on.

use std::time::Duration;

use weir::lab::clock::{now_ns, sleep_until};

use super::frame::{BOTH, PORT, RECEIVER, udp};
use super::router::{Router, Running, privileged, wait_for};

const MS: u64 = 1_000_000;
/// Ring admission and the meter alone: egress neither marks nor drops before the ring is full.
const NO_AQM: &str = "[port.aqm]\nalgorithm = \"none\"";
/// Frames from which the pressure rises, and at which the ring is full.
const LOW: u64 = 702;
const HIGH: u64 = 936;

/// Frames in the ring of `wan0` as the last observation found them.
fn occupancy(running: &Running) -> u64 {
    u64::from(running.reader().ring(0).unwrap().occupancy_pkts)
}

fn signal(running: &Running) -> &'static str {
    running.snapshot().ports[0].rings[0].signal
}

/// Longest time that a level holds without an observation.
const HOLD: u64 = 100 * MS;

/// Makes the ring of `wan0` congested: frames stand in it, so long that the level holds for as long as it can.
fn congest(router: &Router, running: &Running) {
    for _ in 0..20 {
        router.inject(&udp(RECEIVER.0).build());
    }
    wait_for("the ring is congested", Duration::from_secs(5), || {
        sleep_until(now_ns() + 10 * MS);
        router.inject(&udp(RECEIVER.0).build());
        running.reader().ring(0).unwrap().head_sojourn_ns > 2 * HOLD
    });
    assert_eq!(signal(running), "congested");
}

#[test]
fn a_congested_port_marks_all_of_ect1_some_of_ect0_and_nothing_that_cannot_be_marked() {
    let Some(_machine) = privileged("a_congested_port_marks") else { return };
    for to in BOTH {
        let router = Router::new();
        let running = router.start("", &format!("on_congested = \"mark\"\n{NO_AQM}"));
        congest(&router, &running);
        let first = occupancy(&running);
        let (mut stamp, mut before) = (0, now_ns());
        let mut late = Vec::new();
        while occupancy(&running) < HIGH - 1 {
            router.inject(&udp(to).ecn((stamp % 3) as u8).stamp(stamp).build());
            // On a busy machine the level may have expired before this one came.
            if now_ns() - before >= HOLD {
                late.push(stamp);
            }
            before = now_ns();
            stamp += 1;
        }
        // Those before were Not-ECT, too; from here on the place in the ring is `first` plus the stamp.
        let frames = router.drain();
        let ours = &frames[frames.len() - stamp as usize..];
        assert!(ours.iter().enumerate().all(|(i, frame)| frame.stamp == i as u64), "{to}: lost or reordered");
        let marked = |ecn: u64, from: u64, to: u64| {
            let of = ours.iter().filter(|f| !late.contains(&f.stamp));
            let of = of.filter(|f| f.stamp % 3 == ecn && (from..to).contains(&(first + f.stamp)));
            (of.clone().filter(|f| f.ecn == 3).count(), of.count())
        };
        let (ect1, all) = marked(1, 0, u64::MAX);
        assert_eq!(ect1, all, "{to}: ECT(1)");
        assert_eq!(marked(0, 0, u64::MAX).0, 0, "{to}: Not-ECT");
        assert_eq!(marked(2, 0, LOW).0, 0, "{to}: ECT(0) below the low mark");
        // The mean of the square over the rise is a third.
        let (ect0, all) = marked(2, LOW, HIGH);
        assert!(all > 60 && (all / 8..all * 3 / 5).contains(&ect0), "{to}: {ect0} of {all} ECT(0)");
        let total = ours.iter().filter(|frame| frame.ecn == 3).count() as u64;
        assert_eq!((running.port("ingress_marked"), running.port("marked")), (total, 0), "{to}");
        assert_eq!(running.snapshot().unaccounted(), 0);
    }
}

#[test]
fn a_congested_port_drops_by_the_pressure_and_a_full_one_everything() {
    let Some(_machine) = privileged("a_congested_port_drops") else { return };
    let router = Router::new();
    let running = router.start("", &format!("on_congested = \"drop\"\n{NO_AQM}"));
    congest(&router, &running);
    let inject = |count: u64| {
        let before = running.port("backpressure");
        for _ in 0..count {
            router.inject(&udp(RECEIVER.0).build());
        }
        running.port("backpressure") - before
    };
    assert_eq!(inject(LOW - 1 - occupancy(&running)), 0, "below the low mark");
    // On the way to the ring's last slots ever more of them are lost: three times as many as there is room for.
    let dropped = inject(3 * (HIGH - LOW));
    assert!((HIGH - LOW..3 * (HIGH - LOW)).contains(&dropped), "{dropped} dropped on the rise");
    assert!(occupancy(&running) > LOW + (HIGH - LOW) / 2, "{}", occupancy(&running));
    wait_for("the ring is full", Duration::from_secs(5), || {
        router.inject(&udp(RECEIVER.0).build());
        signal(&running) == "full"
    });
    assert_eq!(running.ingress("backpressure"), running.port("backpressure"));
    assert_eq!((running.port("ring_drops"), running.snapshot().unaccounted()), (0, 0));
}

#[test]
fn one_class_is_dropped_at_ingress_while_the_other_goes_on() {
    let Some(_machine) = privileged("one_class_is_dropped") else { return };
    let router = Router::new();
    let text = router.config_text("", "")
        + "[[port.class]]\nname = \"voice\"\npriority = 0\n[[port.class]]\nname = \"bulk\"\non_full = \"drop\"\n\
           [[rule]]\nclass = \"voice\"\ndscp = 46\n";
    let running = router.start_text(&text);
    let class = |index: usize, counter: &str| running.snapshot().ports[0].classes[index].counters[counter];
    let bulk = udp(RECEIVER.0).ports(1, PORT).build();
    let voice = udp(RECEIVER.0).dscp(46).build();
    for _ in 0..50 {
        router.inject(&bulk);
    }
    // A ring that nobody reads is full when its oldest frame is older than the limit.
    wait_for("the ring is full", Duration::from_secs(5), || {
        sleep_until(now_ns() + 20 * MS);
        router.inject(&voice);
        signal(&running) == "full"
    });
    let (seen, dropped) = (class(0, "seen"), class(1, "backpressure"));
    for _ in 0..100 {
        // Each of these is looked at by egress, whose observer keeps the signal up.
        router.inject(&voice);
        router.inject(&bulk);
    }
    assert_eq!((class(0, "seen") - seen, class(0, "backpressure")), (100, 0));
    assert_eq!(class(1, "backpressure") - dropped, 100);
    assert_eq!(running.port("backpressure"), class(1, "backpressure"));
    assert_eq!(running.snapshot().unaccounted(), 0);
}
