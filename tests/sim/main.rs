//! `weir sim` on the command line, and the table of every shipped experiment.

#![allow(clippy::unwrap_used, clippy::panic, reason = "functions that tests share are tests, too")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rayon::prelude::*;
use weir::experiment::{Experiment, units};
use weir::report::{self, Report, Run};
use weir::simulate::{Jobs, Journal, Options, run};

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

fn weir(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments).current_dir(directory).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const SMALL: &str = r#"
name = "small"
duration = "2s"
seeds = 2
contenders = ["redirect", "weir"]
[link]
rate = "10mbit"
delay = "5ms"
ring = 200
[[tcp]]
count = 2
congestion = "cubic"
[[probe]]
interval = "10ms"
"#;

const SWEEP: &str = "[[sweep]]\nkey = \"link.rate\"\nvalues = [\"5mbit\", \"10mbit\", \"20mbit\"]\n";

#[test]
fn the_same_seed_gives_the_same_bytes_whatever_the_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("e.toml"), SMALL).unwrap();
    let files = ["json", "csv", "html", "svg", "flent"];
    let write = |prefix: &str, jobs: &str| {
        let mut arguments = vec!["sim".to_owned(), "e.toml".to_owned(), "--jobs".to_owned(), jobs.to_owned()];
        for kind in files {
            arguments.extend([format!("--{kind}"), format!("{prefix}.{kind}")]);
        }
        let output = weir(dir.path(), &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(output.status.success(), "{}", said(&output));
        output.stdout
    };
    assert_eq!(write("a", "1"), write("b", "4"));
    for kind in ["json", "csv", "html", "svg"] {
        let read = |prefix| std::fs::read(dir.path().join(format!("{prefix}.{kind}"))).unwrap();
        assert!(!read("a").is_empty());
        assert_eq!(read("a"), read("b"), "{kind}");
    }
    for contender in ["redirect", "weir"] {
        let read = |prefix| std::fs::read(dir.path().join(format!("{prefix}-{contender}.flent"))).unwrap();
        assert_eq!(read("a"), read("b"), "flent of {contender}");
    }
    let other = weir(dir.path(), &["sim", "e.toml", "--seed", "9", "--json", "c.json"]);
    assert!(other.status.success());
    assert_ne!(
        std::fs::read(dir.path().join("a.json")).unwrap(),
        std::fs::read(dir.path().join("c.json")).unwrap(),
        "another seed is another run"
    );
}

#[test]
fn a_run_as_json_has_the_labs_fields_and_its_own() {
    let experiment = Experiment::parse("small.toml", SMALL).unwrap();
    let json = serde_json::to_value(simulate(&experiment)).unwrap();
    let run = &json["runs"][2];
    assert_eq!((run["contender"].as_str(), run["seed"].as_u64()), (Some("weir"), Some(1)));
    for path in [
        "/goodput_bps",
        "/utilisation",
        "/jain",
        "/delay_ns/min",
        "/delay_ns/p95",
        "/offered_pkts",
        "/delivered_pkts",
        "/drops/backpressure",
        "/marks",
        "/silent_drops",
        "/ring_drops",
        "/unaccounted",
        "/ring/slots",
        "/ring/occupancy_p50",
        "/ring/occupancy_p99",
        "/flows/0/goodput_bps",
        "/samples/goodput/0/bps",
    ] {
        assert!(run.pointer(path).is_some_and(|value| value.is_number()), "{path} in {run}");
    }
    assert!(run.get("link_errors").is_none() && json.get("kernel").is_none(), "the lab's are left out");
    let flows: u64 = run["flows"].as_array().unwrap().iter().filter_map(|flow| flow["bytes"].as_u64()).sum();
    let goodput = run["goodput_bps"].as_u64().unwrap();
    let probes = run["flows"][2]["bytes"].as_u64().unwrap();
    assert_eq!(goodput, (flows - probes) * 8 / 2, "two seconds of TCP");
    assert_eq!(
        json["runs"][3]["samples"]["ring"].as_array().map(Vec::len),
        Some(0),
        "the second seed has no samples"
    );
}

#[test]
fn flents_format_has_a_value_of_each_series_for_each_time() {
    let text = format!("{SMALL}[[udp]]\nrate = \"1mbit\"\n");
    let report = simulate(&Experiment::parse("small.toml", &text).unwrap());
    let data = report::flent(&report, &report.runs[0]).unwrap();
    assert_eq!((data["version"].as_u64(), data["metadata"]["NAME"].as_str()), (Some(4), Some("tcp_nup")));
    let times = data["x_values"].as_array().unwrap();
    assert_eq!((times.len(), times[0].as_f64(), times[19].as_f64()), (20, Some(0.1), Some(2.0)));
    let results = data["results"].as_object().unwrap();
    assert!(results.values().all(|series| series.as_array().unwrap().len() == 20));
    let names: Vec<&str> = results.keys().map(String::as_str).collect();
    let wanted = [
        "Ping (ms) ICMP",
        "TCP upload avg",
        "TCP upload fairness",
        "TCP upload sum",
        "TCP upload::1",
        "TCP upload::2",
    ];
    assert_eq!(names, wanted, "UDP is no TCP upload");
    let ping = results["Ping (ms) ICMP"][0].as_f64().unwrap();
    assert!(ping >= 10.0, "a round trip has twice 5 ms: {ping}");
    assert!(report::flent(&report, &report.runs[1]).is_none(), "the second seed has no samples");
}

#[test]
fn a_sweep_goes_on_where_it_was_cut_short_and_ends_with_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("e.toml"), format!("{SMALL}{SWEEP}")).unwrap();
    let whole = weir(dir.path(), &["sim", "e.toml", "--quiet", "--json", "whole.json", "--out", "whole"]);
    assert!(whole.status.success(), "{}", said(&whole));
    // A head, 3 x 2 x 2 runs.
    let journal = std::fs::read_to_string(dir.path().join("whole/journal.jsonl")).unwrap();
    assert_eq!(journal.lines().count(), 13);

    // Four runs are done, the fifth was being written.
    let kept: Vec<&str> = journal.lines().take(5).collect();
    let torn = format!("{}\n{}", kept.join("\n"), journal.lines().nth(5).unwrap().get(..40).unwrap());
    std::fs::create_dir(dir.path().join("cut")).unwrap();
    std::fs::write(dir.path().join("cut/journal.jsonl"), torn).unwrap();
    let resumed = weir(dir.path(), &["sim", "e.toml", "--quiet", "--json", "cut.json", "--out", "cut"]);
    assert!(resumed.status.success(), "{}", said(&resumed));
    let again = std::fs::read_to_string(dir.path().join("cut/journal.jsonl")).unwrap();
    assert!(again.starts_with(&kept.join("\n")), "what was done is not done again");
    assert_eq!(again.lines().count(), 13);
    let read = |name| std::fs::read(dir.path().join(name)).unwrap();
    assert_eq!(read("whole.json"), read("cut.json"));

    std::fs::write(dir.path().join("other.toml"), SMALL).unwrap();
    let other = weir(dir.path(), &["sim", "other.toml", "--out", "cut"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(said(&other).contains("results of another experiment"), "{}", said(&other));
}

#[test]
fn a_run_with_samples_is_the_same_from_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let experiment = Experiment::parse("small.toml", SMALL).unwrap();
    let pages: Vec<String> = (0..2)
        .map(|_| {
            let journal = Some(Journal::open(dir.path(), &experiment).unwrap());
            let options = Options { journal, ..Options::default() };
            let report = run(&experiment, Jobs::of(&experiment).unwrap(), options, &()).unwrap();
            report::html(&report).unwrap()
        })
        .collect();
    assert!(pages[0].contains("<svg") && pages[0] == pages[1]);
}

#[test]
fn an_interrupt_keeps_what_is_done_and_says_how_much() {
    let dir = tempfile::tempdir().unwrap();
    let text = SMALL.replace("seeds = 2", "seeds = 200").replace("\"2s\"", "\"60s\"");
    std::fs::write(dir.path().join("e.toml"), format!("{text}{SWEEP}")).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["sim", "e.toml", "--quiet", "--out", "kept", "--jobs", "2"])
        .current_dir(dir.path())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let journal = dir.path().join("kept/journal.jsonl");
    let lines = || std::fs::read_to_string(&journal).unwrap_or_default().lines().count();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while lines() < 4 {
        assert!(std::time::Instant::now() < deadline, "nothing is done after a minute");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    assert!(
        said(&output).contains(&format!("interrupted: {} of 1200 runs are done", lines() - 1)),
        "{}",
        said(&output)
    );
}

#[test]
fn a_sweeps_page_has_its_heat_maps_and_its_table_a_column_for_each_key() {
    let experiment = Experiment::parse("sweep.toml", &format!("{SMALL}{SWEEP}")).unwrap();
    let report = simulate(&experiment);
    let page = report::html(&report).unwrap();
    assert!(page.contains("95th percentile, ms") && page.contains("Utilisation of the slow link"), "{page}");
    assert!(!page.contains("over time") && !page.contains("<script"));
    let csv = report::csv(&report);
    assert_eq!(csv.lines().count(), 13);
    assert!(csv.starts_with("link.rate,contender,seed,goodput_bps,"), "{csv}");
    assert!(csv.lines().nth(1).unwrap().starts_with("5mbit,redirect,1,"), "{csv}");
    let table = report::table(&report);
    assert!(table.contains("link.rate") && table.contains("medians over 2 seeds"), "{table}");
}

#[test]
fn a_wrong_experiment_contender_or_option_ends_with_status_2_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |text: &str, options: &[&str], word: &str| {
        std::fs::write(dir.path().join("e.toml"), text).unwrap();
        let output = weir(dir.path(), &[&["sim", "e.toml"], options].concat());
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(word), "{word} is not in {}", said(&output));
    };
    refused(&SMALL.replace("ring = 200", "ring = 200\nloss = 2.0"), &[], "e.toml:10: link.loss");
    refused(
        &SMALL.replace("\"cubic\"", "\"vegas\""),
        &[],
        "no congestion control `vegas`; it has cubic, reno",
    );
    refused(&SMALL.replace("[link]", "family = \"ipv6\"\n[link]"), &[], "family");
    refused(SMALL, &["--only", "sfq"], "`sfq` is no contender");
    refused(SMALL, &["--seeds", "0"], "--seeds");
    refused(&format!("{SMALL}{SWEEP}"), &["--flent", "e.flent"], "without [[sweep]]");
    let swept = format!("{SMALL}{SWEEP}").replace("\"20mbit\"]", "\"20\"]");
    refused(&swept, &[], "e.toml:17: sweep.values");
}

#[test]
fn settings_of_weir_that_do_not_fit_a_ring_fail_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("e.toml"), format!("{SMALL}[weir]\nreserve = 150\n")).unwrap();
    let output = weir(dir.path(), &["sim", "e.toml", "--csv", "e.csv"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("FAILED weir: port slow0: reserve = 150"));
    assert_eq!(std::fs::read_to_string(dir.path().join("e.csv")).unwrap().lines().count(), 3);
}

#[test]
fn the_lab_names_the_key_that_only_the_simulator_can_do() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("e.toml"), SMALL).unwrap();
    let output = weir(dir.path(), &["lab", "e.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("e.toml:4: seeds: only the simulator can do this"), "{}", said(&output));
}
