//! A small experiment by `weir sim` and `weir lab`: the command line, what it prints, its reports and its journal.

use std::path::Path;
use std::process::{Command, Output};

use weir::experiment::Experiment;
use weir::report;
use weir::simulate::{Jobs, Journal, Options, run};

use super::simulate;

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
