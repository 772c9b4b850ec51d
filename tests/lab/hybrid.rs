//! Hybrid mode: XDP while the ring is short, the owner's queueing discipline while it stands.

use std::path::Path;
use std::time::Duration;

use weir::experiment::Experiment;
use weir::lab::{Stop, run};
use weir::report::{DelaySummary, Group, Run};

use super::privileged;

/// Runs an example of `examples/lab/hybrid` with these contenders.
fn runs<const N: usize>(file: &str, contenders: [&str; N], duration: Duration) -> [Run; N] {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/lab/hybrid").join(file);
    let mut experiment = Experiment::load(&path).unwrap_or_else(|error| panic!("{error}"));
    experiment.contenders = contenders.map(str::to_owned).to_vec();
    experiment.set_duration(duration);
    let report = run(&experiment, &Stop::default(), &mut ()).unwrap();
    assert!(
        report.failed.is_empty() && report.skipped.is_empty(),
        "{:?} {:?}",
        report.failed,
        report.skipped
    );
    report.runs.try_into().unwrap_or_else(|runs: Vec<Run>| panic!("{} runs", runs.len()))
}

fn group<'r>(run: &'r Run, name: &str) -> &'r Group {
    run.groups.iter().find(|group| group.group == name).unwrap()
}

fn delay(run: &Run, name: &str) -> DelaySummary {
    group(run, name).delay_ns.unwrap()
}

/// Nothing is lost but what a counter says, by weir or by the discipline.
fn adds_up(run: &Run) {
    assert_eq!((run.silent_drops, run.unaccounted), (0, Some(0)), "{:?}", run.drops);
}

#[test]
fn a_sparse_flow_of_a_hybrid_waits_no_longer_than_in_the_kernels_path_alone() {
    let Some(_machine) = privileged("a_sparse_flow_of_a_hybrid") else { return };
    let [hybrid, kernel] = runs("fifo.toml", ["weir+htb", "kernel+htb"], Duration::from_secs(6));
    adds_up(&hybrid);
    let (sparse, alone) = (delay(&hybrid, "sparse"), delay(&kernel, "sparse"));
    assert!(sparse.p99 <= alone.p99, "{sparse:?}, and {alone:?} alone");
    // It passed by the discipline's queue, which the bulk flows stood in.
    assert!(sparse.p50 < alone.p50 / 2, "{sparse:?}, and {alone:?} alone");
    let (diverted, offered) = (hybrid.lab.as_ref().unwrap().diverted_pkts.unwrap(), hybrid.offered_pkts);
    assert!(diverted >= offered * 8 / 10, "{diverted} of {offered} diverted");
    let both = [&hybrid, &kernel].map(|run| group(run, "bulk").goodput_bps);
    assert!(both[0] >= both[1] * 9 / 10, "{both:?}");
}

#[test]
fn a_class_that_never_diverts_passes_the_bulk_that_does() {
    let Some(_machine) = privileged("a_class_that_never_diverts") else { return };
    let [hybrid, straight] = runs("classes.toml", ["weir+htb", "weir+straight"], Duration::from_secs(5));
    adds_up(&hybrid);
    let (high, bulk) = (delay(&hybrid, "probe of high priority"), delay(&hybrid, "bulk"));
    assert!(high.p99 < bulk.p50, "{high:?}, and {bulk:?} of the bulk");
    let probe = group(&hybrid, "probe of high priority");
    assert_eq!(probe.sent, probe.received);
    // A ring is a FIFO: there priority says who is dropped, and not who is first.
    let (high, bulk) = (delay(&straight, "probe of high priority"), delay(&straight, "bulk"));
    assert!(high.p99 > bulk.p50 / 2, "{high:?}, and {bulk:?} of the bulk");
    assert_eq!(straight.lab.unwrap().diverted_pkts, Some(0));
}

#[test]
fn a_policed_port_and_its_qdisc_keep_one_rate_together() {
    let Some(_machine) = privileged("a_policed_port_and_its_qdisc") else { return };
    let [hybrid] = runs("joint-rate.toml", ["weir+htb"], Duration::from_secs(6));
    adds_up(&hybrid);
    // 20 Mbit/s; the bursts of both meters, and what a busy machine's senders left unused.
    let lab = hybrid.lab.as_ref().unwrap();
    assert!((19_000_000..=20_400_000).contains(&lab.delivered_bps), "{} bit/s", lab.delivered_bps);
    // Both have their parts: the HTB its rate, those that go straight the rest.
    let [bulk, high] = ["bulk", "high"].map(|name| group(&hybrid, name).goodput_bps);
    assert!(bulk > 9_000_000 && high > 5_000_000, "{bulk} and {high} bit/s");
    assert!(lab.diverted_pkts.unwrap() > 0);
}
