//! The lab on the real kernel. These tests need root and make namespaces of their own; without root they are
//! skipped with a word, except where `CI=true` or `WEIR_REQUIRE_PRIVILEGED=1` says that a skip is a failure.

#![allow(clippy::unwrap_used, clippy::panic, reason = "functions that tests share are tests, too")]

mod hybrid;
mod identity;
mod rival;

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use weir::experiment::units::BitRate;
use weir::experiment::{Experiment, Family};
use weir::lab::{Error, Host, LinkSettings, SlowLink, Stop, Topology, TopologySettings, run};

/// Holds the machine for one test: what is measured here is time, and two links at once share two processors.
fn privileged(test: &str) -> Option<MutexGuard<'static, ()>> {
    static MACHINE: Mutex<()> = Mutex::new(());
    if nix::unistd::geteuid().is_root() {
        return Some(MACHINE.lock().unwrap_or_else(PoisonError::into_inner));
    }
    let required = std::env::var("CI").is_ok_and(|v| v == "true")
        || std::env::var("WEIR_REQUIRE_PRIVILEGED").is_ok_and(|v| v == "1");
    assert!(!required, "{test} needs root, and this environment does not allow a skip");
    eprintln!("{test}: skipped, it needs root to make network namespaces");
    None
}

fn namespaces_of_this_process() -> Vec<String> {
    let own = format!("weir-{}-", std::process::id());
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(&own)).collect()
}

fn topology(ring_slots: u32) -> Topology {
    Topology::build(TopologySettings { family: Family::Ipv4, ring_slots, ecn: false }).unwrap()
}

fn link(topology: &Topology, mbit: u64, delay: Duration) -> SlowLink {
    let settings = LinkSettings {
        rate: BitRate::from_bps(mbit * 1_000_000),
        delay,
        overhead: 0,
        reverse_rate: None,
        family: Family::Ipv4,
        extra: Vec::new(),
    };
    SlowLink::start(&topology.slow_tap(), &topology.receiver_tap(), &settings).unwrap()
}

/// Keeps the router's ring full with frames of 1,514 bytes, sent by the router itself, while `measure` runs.
fn while_the_ring_is_full<T>(topology: &Topology, mbit: u64, measure: impl FnOnce() -> T) -> T {
    /// Bytes of UDP payload in a frame, and frames in a send: together they fit a datagram.
    const PAYLOAD: i32 = 1_472;
    const FRAMES: usize = 40;
    let socket = topology.host(Host::Router).run(|| Ok(UdpSocket::bind("0.0.0.0:0").unwrap())).unwrap();
    socket.connect(SocketAddr::new(Family::Ipv4.receiver(), 9)).unwrap();
    // The kernel cuts one send into many frames: one call each would be more work than the fastest link leaves time for.
    setsockopt(&socket, sockopt::UdpGsoSegment, &PAYLOAD).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Before everything that is not of the lab, behind the link's own threads: the ring must not run dry.
            let param = libc::sched_param { sched_priority: 1 };
            // SAFETY: pid 0 names the calling thread, and `param` lives for the duration of the call.
            unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) };
            let send = vec![0_u8; usize::try_from(PAYLOAD).unwrap() * FRAMES];
            // Per 2 ms what the link takes in 6 ms, after a first burst that fills the ring.
            let burst = mbit as usize * 1_000_000 * 6 / 1_000 / (1_514 * 8) + 2;
            let mut frames = 5_000_usize;
            while !done.load(Ordering::Relaxed) {
                for _ in 0..frames.div_ceil(FRAMES) {
                    let _ = socket.send(&send);
                }
                frames = burst;
                thread::sleep(Duration::from_millis(2));
            }
        });
        let measured = measure();
        done.store(true, Ordering::Relaxed);
        measured
    })
}

/// The rate over `over` at least, in bits per second, from the moment that the link read one frame to the moment that it
/// read another. Both are frames it read on time: one that a busy machine made late is made up for by those that follow,
/// so a window that ends with it says less than the link carries.
fn measured_rate(link: &SlowLink, over: Duration) -> f64 {
    const ON_TIME_NS: u64 = 100_000;
    let edge = || loop {
        let (counters, again) = (link.counters(), link.counters());
        if counters == again && counters.last_late_ns <= ON_TIME_NS {
            return (counters.last_in_ns, counters.bytes_in);
        }
        thread::sleep(Duration::from_micros(50));
    };
    let (start, first) = edge();
    thread::sleep(over);
    let (end, last) = edge();
    (last - first) as f64 * 8e9 / (end - start) as f64
}

#[test]
fn a_slow_link_carries_its_rate_within_three_per_mille() {
    /// A second each: a machine that takes the sender's processor away now and then has one that is whole.
    const WINDOWS: u32 = 30;
    let Some(_machine) = privileged("a_slow_link_carries_its_rate_within_three_per_mille") else { return };
    for mbit in [2_u64, 10, 50, 200] {
        let topology = topology(4_000);
        let link = link(&topology, mbit, Duration::from_millis(1));
        let rate = while_the_ring_is_full(&topology, mbit, || {
            thread::sleep(Duration::from_millis(200));
            // A link that fell idle, or stood still for longer than it makes up for, says nothing of its rate: then this
            // machine could not fill the ring that fast, or was away.
            let disturbed = || (link.counters().idle, link.counters().lost_ns);
            (0..WINDOWS).find_map(|_| {
                let before = disturbed();
                let rate = measured_rate(&link, Duration::from_secs(1));
                (disturbed() == before).then_some(rate)
            })
        });
        let rate = rate.unwrap_or_else(|| {
            panic!("the link was disturbed at {mbit} Mbit/s, in each of {WINDOWS} windows")
        });
        let wanted = mbit as f64 * 1e6;
        let off = (rate - wanted) / wanted;
        eprintln!("{mbit} Mbit/s: measured {rate:.0} bit/s, off by {:.3} per mille", off * 1_000.0);
        let counters = link.counters();
        assert!(off.abs() <= 0.003, "{mbit} Mbit/s came out as {rate:.0} bit/s: {counters:?}");
        assert_eq!(counters.errors, 0);
    }
}

#[test]
fn a_paused_link_carries_nothing_and_a_resumed_one_its_rate_and_a_new_rate_holds_at_once() {
    let Some(_machine) = privileged("a_paused_link_carries_nothing") else { return };
    let topology = topology(500);
    let link = link(&topology, 10, Duration::from_millis(1));
    while_the_ring_is_full(&topology, 20, || {
        thread::sleep(Duration::from_millis(200));
        link.pause();
        thread::sleep(Duration::from_millis(50));
        let before = link.counters().bytes_in;
        thread::sleep(Duration::from_millis(300));
        assert_eq!(link.counters().bytes_in, before, "a paused link carried frames");
        link.resume();
        thread::sleep(Duration::from_millis(100));
        let rate = measured_rate(&link, Duration::from_secs(1));
        assert!((rate - 10e6).abs() <= 0.01 * 10e6, "after the pause: {rate:.0} bit/s");
        link.set_rate(BitRate::from_bps(20_000_000));
        thread::sleep(Duration::from_millis(50));
        let rate = measured_rate(&link, Duration::from_secs(1));
        assert!((rate - 20e6).abs() <= 0.01 * 20e6, "after the change: {rate:.0} bit/s");
    });
}

const SHORT: &str = r#"
name = "kernel, short"
duration = "3s"
contenders = ["kernel"]
[link]
rate = "10mbit"
delay = "10ms"
ring = 100
[[tcp]]
count = 2
congestion = "cubic"
[[probe]]
interval = "10ms"
"#;

#[test]
fn the_kernel_fills_the_ring_loses_nothing_uncounted_and_leaves_nothing_behind() {
    let Some(_machine) = privileged("the_kernel_fills_the_ring") else { return };
    for family in ["ipv4", "ipv6"] {
        let text = SHORT.replace("[link]", &format!("family = \"{family}\"\n[link]"));
        let experiment = Experiment::parse("short.toml", &text).unwrap();
        let report = run(&experiment, &Stop::default(), &mut ()).unwrap();
        assert_eq!(namespaces_of_this_process(), Vec::<String>::new());

        let run = &report.runs[0];
        assert!(run.goodput_bps > 8_000_000, "{family}: goodput {} bit/s", run.goodput_bps);
        assert!(run.goodput_bps < 10_000_000, "{family}: more goodput than the link has");
        let known: u64 = run.drops.values().sum();
        assert!(known > 0, "{family}: two CUBIC flows overflow a ring of 100");
        assert_eq!(run.offered_pkts, run.delivered_pkts + known, "{family}: {:?}", run.drops);
        assert_eq!((run.silent_drops, run.lab.unwrap().link_errors), (0, 0));
        // 10 ms, and a probe's own time on the link; 100 frames of 1,514 bytes take 121 ms more.
        let delay = run.delay_ns.unwrap();
        assert!(delay.min >= 10_000_000, "{family}: a probe was faster than the link: {} ns", delay.min);
        assert!(delay.min < 15_000_000, "{family}: no probe found the link idle: {} ns", delay.min);
        assert!(delay.p50 > 50_000_000, "{family}: the ring did not fill: {} ns", delay.p50);
        assert!(run.probes.received <= run.probes.sent && run.probes.sent >= 290);

        let json = serde_json::to_value(&report).unwrap();
        for key in
            ["contender", "goodput_bps", "delay_ns", "offered_pkts", "delivered_pkts", "drops", "marks"]
        {
            assert!(json["runs"][0].get(key).is_some(), "the JSON lacks {key}");
        }
        assert_eq!(json["runs"][0]["ring"]["slots"], 100);
        let page = weir::report::html(&report).unwrap();
        assert!(page.contains("<svg") && !page.contains("http://localhost") && !page.contains("<script"));
    }
}

#[test]
fn a_run_that_cannot_start_or_is_interrupted_leaves_nothing_behind() {
    let Some(_machine) = privileged("a_run_that_cannot_start") else { return };
    let wrong = Experiment::parse("wrong.toml", &SHORT.replace("cubic", "no_such_cc")).unwrap();
    let error = run(&wrong, &Stop::default(), &mut ()).unwrap_err();
    assert!(matches!(&error, Error::Congestion { name, .. } if name == "no_such_cc"), "{error}");
    assert_eq!(namespaces_of_this_process(), Vec::<String>::new());

    let stop = Stop::default();
    let experiment = Experiment::parse("short.toml", &SHORT.replace("\"3s\"", "\"60s\"")).unwrap();
    let error = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(700));
            stop.set();
        });
        run(&experiment, &stop, &mut ()).unwrap_err()
    });
    assert!(matches!(error, Error::Interrupted), "{error}");
    assert_eq!(namespaces_of_this_process(), Vec::<String>::new());
}

#[test]
fn a_contender_that_only_the_simulator_has_is_left_out_with_that_reason() {
    let experiment = Experiment::parse("short.toml", &SHORT.replace("\"kernel\"]", "\"codel\"]")).unwrap();
    let report = run(&experiment, &Stop::default(), &mut ()).unwrap();
    assert_eq!((report.runs.len(), report.skipped.len()), (0, 1));
    assert!(report.skipped[0].reason.contains("only the simulator"), "{:?}", report.skipped);
}

#[test]
fn every_example_is_a_valid_experiment() {
    let mut count = 0;
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/lab");
    let entries = ["", "hybrid"].map(|inner| std::fs::read_dir(directory.join(inner)).unwrap());
    for entry in entries.into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "toml") {
            Experiment::load(&path).unwrap_or_else(|error| panic!("{error}"));
            count += 1;
        }
    }
    assert!(count >= 11, "only {count} examples");
}

fn weir(arguments: &[&str]) -> std::process::Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments).output().unwrap()
}

#[test]
fn a_wrong_experiment_or_contender_ends_with_status_2_and_says_where() {
    let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    std::fs::write(file.path(), SHORT.replace("delay = \"10ms\"", "delay = \"10\"")).unwrap();
    let path = file.path().to_str().unwrap();
    let output = weir(&["lab", path]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(&format!("{path}:7: link.delay")) && said.contains("has no unit"), "{said}");

    std::fs::write(file.path(), SHORT).unwrap();
    let output = weir(&["lab", path, "--only", "kernal"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("kernal"));

    let output = weir(&["lab", "/nonexistent/experiment.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/experiment.toml"));
}

#[test]
fn a_lab_that_is_up_runs_commands_on_its_hosts_until_it_is_taken_down() {
    let Some(_machine) = privileged("a_lab_that_is_up_runs_commands") else { return };
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/lab/fast-to-slow.toml");
    let output = weir(&["lab", "up", file]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let again = weir(&["lab", "up", file]);
    let counters = weir(&["lab", "exec", "router", "--", "cat", "/proc/thread-self/net/dev"]);
    let status = weir(&["lab", "exec", "sender", "--", "sh", "-c", "exit 7"]);
    let down = weir(&["lab", "down"]);
    let gone = weir(&["lab", "exec", "sender", "--", "true"]);

    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("up already"));
    let devices = String::from_utf8_lossy(&counters.stdout).into_owned();
    assert!(devices.contains("fast0") && devices.contains("slow0"), "{devices}");
    assert_eq!(status.status.code(), Some(7));
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    assert_eq!(gone.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for namespace in said.split_whitespace().filter(|word| word.starts_with("weir-")) {
        assert!(!std::path::Path::new("/run/netns").join(namespace).exists(), "{namespace} is still there");
    }
}

/// UDP at three times the link's rate, for as long as it takes to overflow the ring twice.
const OVERLOAD: &str = r#"
name = "overload"
duration = "3s"
contenders = ["redirect", "weir"]
[link]
rate = "10mbit"
delay = "5ms"
ring = 300
[[udp]]
rate = "30mbit"
[[probe]]
interval = "10ms"
"#;

#[test]
fn a_plain_redirect_loses_packets_silently_and_weir_gives_every_drop_a_cause() {
    let Some(_machine) = privileged("a_plain_redirect_loses_packets_silently") else { return };
    let experiment = Experiment::parse("overload.toml", OVERLOAD).unwrap();
    let report = run(&experiment, &Stop::default(), &mut ()).unwrap();
    assert!(report.failed.is_empty() && report.skipped.is_empty(), "{:?}", report.failed);
    let (redirect, weir) = (&report.runs[0], &report.runs[1]);

    assert!(redirect.silent_drops > 1_000, "redirect lost {} packets", redirect.silent_drops);
    assert_eq!(redirect.ring_drops, Some(redirect.silent_drops), "the meter saw what redirect does not");
    assert!(redirect.ring.occupancy_p50.unwrap() > 270, "the ring of 300 stands full: {:?}", redirect.ring);

    assert_eq!(weir.offered_pkts, weir.delivered_pkts + weir.drops.values().sum::<u64>(), "{:?}", weir.drops);
    assert_eq!((weir.silent_drops, weir.ring_drops, weir.unaccounted), (0, Some(0), Some(0)));
    assert_eq!(namespaces_of_this_process(), Vec::<String>::new());
}
