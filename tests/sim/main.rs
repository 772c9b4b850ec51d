//! The table of every shipped experiment, what its numbers must be, and `weir sim` on the command line.

#![allow(clippy::unwrap_used, clippy::panic, reason = "functions that tests share are tests, too")]

mod command;

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use weir::experiment::{Experiment, units};
use weir::report::{self, Report, Run};
use weir::simulate::{Jobs, Options, run};

/// How long an experiment of more simulated work than this runs for its golden table.
const SHORT: &str = "3s";
const LONG_SWEEPS: &[&str] = &["sweep-rate-delay", "rate-1gbit", "rate-1gbit-class"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every experiment that the repository ships for the simulator, by name.
fn shipped() -> Vec<(String, PathBuf)> {
    let mut files = Vec::new();
    for folder in [
        "examples/sim",
        "examples/sim/policy",
        "examples/sim/signal",
        "examples/lab",
        "examples/lab/aqm",
        "examples/lab/policy",
    ] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            if path.extension().is_some_and(|extension| extension == "toml") && name != "ipv6" {
                files.push((name, path));
            }
        }
    }
    files.sort();
    let names: std::collections::BTreeSet<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), files.len(), "two experiments would have one golden table");
    files
}

fn simulate(experiment: &Experiment) -> Report {
    run(experiment, Jobs::of(experiment).unwrap(), Options::default(), &()).unwrap()
}

#[test]
fn every_shipped_experiment_gives_its_golden_table() {
    let bless = std::env::var_os("WEIR_BLESS").is_some();
    let files = shipped();
    assert!(files.len() >= 40, "only {} experiments", files.len());
    let differences: Vec<String> = files
        .par_iter()
        .filter_map(|(name, path)| {
            let mut experiment = Experiment::load(path).unwrap_or_else(|error| panic!("{error}"));
            experiment.check_for_simulator().unwrap_or_else(|error| panic!("{error}"));
            if LONG_SWEEPS.contains(&name.as_str()) {
                experiment.set_duration(units::parse_duration(SHORT).unwrap());
            }
            let report = simulate(&experiment);
            let unaccounted: Vec<i64> = report.runs.iter().filter_map(|run| run.unaccounted).collect();
            assert!(unaccounted.iter().all(|frames| *frames == 0), "{name}: {unaccounted:?}");
            let table = report::table(&report);
            let golden = root().join(format!("tests/golden/sim/{name}.txt"));
            if bless {
                std::fs::write(&golden, &table).unwrap();
                return None;
            }
            let wanted = std::fs::read_to_string(&golden).unwrap_or_default();
            (table != wanted).then(|| format!("{name} should give\n{wanted}\nand gives\n{table}"))
        })
        .collect();
    assert!(
        differences.is_empty(),
        "{}\nif the change is wanted: cargo xtask bless, and say why in the commit",
        differences.join("\n")
    );
}

fn policy(name: &str) -> Report {
    let path = root().join(format!("examples/sim/policy/{name}.toml"));
    simulate(&Experiment::load(&path).unwrap_or_else(|error| panic!("{error}")))
}

fn run_of<'r>(report: &'r Report, contender: &str) -> &'r Run {
    report.runs.iter().find(|run| run.contender == contender).unwrap()
}

/// Goodput of the flows whose names begin so, Mbit/s.
fn goodputs(run: &Run, prefix: &str) -> Vec<f64> {
    let flows = run.flows.iter().filter(|flow| flow.flow.starts_with(prefix));
    flows.map(|flow| flow.goodput_bps as f64 / 1e6).collect()
}

#[test]
fn flows_of_one_class_share_it_evenly_whatever_their_round_trip_times() {
    for (name, least) in [("fairness-equal-rtt", 0.95), ("fairness-rtts", 0.85)] {
        let report = policy(name);
        for contender in ["weir", "weir+policer"] {
            let run = run_of(&report, contender);
            let jain = run.simulated.as_ref().unwrap().jain.unwrap();
            assert!(jain >= least, "{name}, {contender}: {jain}");
            // The probe is the sparse flow beside them.
            assert_eq!(run.probes.sent, run.probes.received, "{name}, {contender}");
        }
    }
}

#[test]
fn a_flood_gets_its_fair_share_and_a_twentieth_of_it_at_most_and_a_sparse_flow_loses_nothing() {
    for (name, rate) in [("udp-flood", 40.0), ("udp-flood-policer", 38.0)] {
        let report = policy(name);
        let weir = run_of(&report, "weir");
        let udp = goodputs(weir, "udp");
        // Four flows ask for all they can get. Frames of 1,242 bytes carry 1,200.
        let most = 1.05 * rate / 4.0 * 1_200.0 / 1_242.0;
        assert!(udp[0] <= most, "{name}: {udp:?} above {most}");
        let tcp = goodputs(weir, "tcp");
        assert!(tcp.iter().all(|tcp| *tcp >= 0.8 * rate / 4.0), "{name}: {tcp:?}");
        let all: f64 = tcp.iter().chain(&udp).sum();
        assert!(all >= 0.9 * rate, "{name}: {all}");
        let sparse = weir.flows.iter().find(|flow| flow.flow.starts_with("udp 1")).unwrap();
        assert_eq!((sparse.sent, sparse.received), (Some(1_000), Some(1_000)), "{name}");
    }
}

#[test]
fn without_an_algorithm_a_class_in_front_of_a_ring_keeps_its_limit_and_its_flows_their_shares() {
    let path = root().join("examples/sim/policy/udp-flood.toml");
    let none = "aqm = { algorithm = \"none\" }\n[[weir.class]]";
    let text = std::fs::read_to_string(&path).unwrap().replace("[[weir.class]]", none);
    let report = simulate(&Experiment::parse("none.toml", &text).unwrap_or_else(|error| panic!("{error}")));
    let weir = run_of(&report, "weir");
    assert!(!weir.drops.contains_key("ring_admission"), "{:?}", weir.drops);
    assert!(goodputs(weir, "tcp").iter().all(|tcp| *tcp >= 8.0), "{:?}", weir.flows);
    let sparse = weir.flows.iter().find(|flow| flow.flow.starts_with("udp 1")).unwrap();
    assert_eq!(sparse.received, Some(1_000));
    // 10 ms of the link, the limit of 15 ms, and a frame.
    let delay = sparse.delay_ns.as_ref().unwrap();
    assert!(delay.max < 26_000_000, "{delay:?}");
}

#[test]
fn prague_in_a_class_with_the_coupled_pair_waits_less_than_2_ms_on_a_link_in_use() {
    let report = policy("l4s-class");
    for contender in ["weir", "weir+policer"] {
        let run = run_of(&report, contender);
        let base = 5_000_000;
        let p99 = run.delay_ns.as_ref().unwrap().p99 - base;
        let used = run.simulated.as_ref().unwrap().utilisation;
        assert!(p99 < 2_000_000 && used > 0.9, "{contender}: {p99} ns, {used}");
    }
}

#[test]
fn tcp_in_three_classes_has_their_weights_within_5_percent() {
    let report = policy("weights");
    for contender in ["weir", "weir+policer"] {
        let tcp = goodputs(run_of(&report, contender), "tcp");
        let all: f64 = tcp.iter().sum();
        for (flows, weight) in tcp.chunks(4).zip([1.0, 2.0, 4.0]) {
            let (got, wanted) = (flows.iter().sum::<f64>(), all * weight / 7.0);
            assert!((got / wanted - 1.0).abs() <= 0.05, "{contender}: {got} for {wanted}");
        }
    }
}

#[test]
fn no_golden_table_is_left_of_an_experiment_that_is_gone() {
    let known: Vec<String> = shipped().into_iter().map(|(name, _)| name).collect();
    for entry in std::fs::read_dir(root().join("tests/golden/sim")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(known.contains(&name), "{} is of no experiment", path.display());
    }
}
