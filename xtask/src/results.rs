//! The tables of docs/sim-results.md: experiments of RFC 7928 in the simulator.

use std::{collections::BTreeSet, fmt::Write as _, path::Path};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;

use crate::{
    report::{build, measure, median, name, number, runs},
    tool::root,
};

const DOCUMENT: &str = "docs/sim-results.md";
const EXPERIMENTS: &str = "examples/sim";
/// A table stands between a line `<!-- results: EXPERIMENT ... -->` and the end's line.
const BEGIN: (&str, &str) = ("<!-- results: ", " -->");
const END: &str = "<!-- /results -->";
/// Of the files that all have to be in a table.
const PREFIX: &str = "rfc7928-";

#[derive(Args)]
pub struct ResultsArgs {
    /// How many seeds; medians are shown
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(5..=1000))]
    seeds: u32,
    /// Change nothing, and fail if a table is not what the simulator gives
    #[arg(long)]
    check: bool,
}

/// Runs the experiments that the document names and writes their tables into it; what stands around them stays.
///
/// # Errors
///
/// A run that fails, markers that do not pair, an experiment of RFC 7928 in no table, or with `--check` a table that differs.
pub fn run(args: &ResultsArgs) -> Result<()> {
    let path = root().join(DOCUMENT);
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {DOCUMENT}"))?;
    let named: BTreeSet<&str> =
        text.lines().filter_map(experiments).flat_map(str::split_whitespace).collect();
    for shipped in shipped()? {
        ensure!(named.contains(shipped.as_str()), "{shipped} is in no table of {DOCUMENT}");
    }
    build()?;
    let options = ["--seeds".to_owned(), args.seeds.to_string()];
    let new = rewrite(&text, |experiment| {
        println!("{experiment} ...");
        rows(&measure("sim", Path::new(&format!("{EXPERIMENTS}/{experiment}.toml")), &options)?)
    })?;
    if args.check {
        ensure!(new == text, "{DOCUMENT} is not what the simulator gives: cargo xtask results");
        return Ok(());
    }
    std::fs::write(&path, new).with_context(|| format!("writing {DOCUMENT}"))
}

/// Names of the repository's experiments of RFC 7928.
fn shipped() -> Result<Vec<String>> {
    let folder = root().join(EXPERIMENTS);
    let entries = std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("reading {}", folder.display()))?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(PREFIX) {
            names.push(name);
        }
    }
    Ok(names)
}

/// What a line that begins a table names.
fn experiments(line: &str) -> Option<&str> {
    line.strip_prefix(BEGIN.0)?.strip_suffix(BEGIN.1)
}

/// The document with new tables of what `rows` gives for each experiment.
fn rewrite(text: &str, mut rows: impl FnMut(&str) -> Result<String>) -> Result<String> {
    let mut new = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        writeln!(new, "{line}")?;
        let Some(names) = experiments(line) else {
            ensure!(line != END, "`{END}` without a beginning");
            continue;
        };
        new.push_str(HEAD);
        for name in names.split_whitespace() {
            new.push_str(&rows(name)?);
        }
        let end = lines.find(|line| *line == END || experiments(line).is_some());
        ensure!(end == Some(END), "the table of {names} has no end, `{END}`");
        writeln!(new, "\n{END}")?;
    }
    Ok(new)
}

const HEAD: &str = "\n| experiment | contender | delay p99 ms | probes lost % | link % | goodput Mbit/s | Jain | FCT p50 ms | FCT p99 ms | drops % |\n\
                    |---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n";

/// A row for each combination of swept values and contender: medians over the seeds.
fn rows(report: &Value) -> Result<String> {
    let experiment = report.get("experiment").and_then(Value::as_str).unwrap_or_default();
    let experiment = experiment.strip_prefix("RFC 7928, ").unwrap_or(experiment);
    let failed = report.get("failed").and_then(Value::as_array).map_or(0, Vec::len);
    ensure!(failed == 0, "{experiment}: {failed} contenders failed");
    let mut text = String::new();
    let mut before = None;
    for runs in runs(report).chunk_by(|a, b| name(a) == name(b) && a.get("point") == b.get("point")) {
        let Some(first) = runs.first() else { continue };
        let point = first.get("point");
        let label = if before == Some(point) { String::new() } else { label(experiment, point) };
        before = Some(point);
        write!(text, "| {label} | `{}` ", name(first))?;
        let known = |path: &'static str| move |run: &Value| run.pointer(path).and_then(Value::as_f64);
        cell(&mut text, runs, 1, |run| known("/delay_ns/p99")(run).map(|ns| ns / 1e6))?;
        cell(&mut text, runs, 1, |run| probes_lost(run).ok().map(|share| share * 100.0))?;
        cell(&mut text, runs, 1, |run| known("/utilisation")(run).map(|share| share * 100.0))?;
        cell(&mut text, runs, 2, |run| known("/goodput_bps")(run).map(|bps| bps / 1e6))?;
        cell(&mut text, runs, 2, known("/jain"))?;
        cell(&mut text, runs, 0, |run| known("/completion_ns/p50")(run).map(|ns| ns / 1e6))?;
        cell(&mut text, runs, 0, |run| known("/completion_ns/p99")(run).map(|ns| ns / 1e6))?;
        cell(&mut text, runs, 2, |run| drops(run).ok().map(|share| share * 100.0))?;
        text.push_str("|\n");
    }
    Ok(text)
}

/// "5.2: aggressive", with the swept values behind it.
fn label(experiment: &str, point: Option<&Value>) -> String {
    let mut label = experiment.to_owned();
    for (key, value) in point.and_then(Value::as_object).into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        label.push_str(&format!(", `{key} = {}`", value.trim_matches(['"', '\''])));
    }
    label
}

/// The median of what is known, with so many decimals.
fn cell(
    text: &mut String,
    runs: &[Value],
    decimals: usize,
    value: impl Fn(&Value) -> Option<f64>,
) -> Result<()> {
    match median(runs.iter().filter_map(value)) {
        Some(median) => write!(text, "| {median:.decimals$} ")?,
        None => text.push_str("| – "),
    }
    Ok(())
}

/// Share of the frames offered that were lost at the router, counted or not.
fn drops(run: &Value) -> Result<f64> {
    let counted = run.get("drops").and_then(Value::as_object).context("the report has no drops")?;
    let counted: f64 = counted.values().filter_map(Value::as_f64).sum();
    Ok((counted + number(run, "/silent_drops")?) / number(run, "/offered_pkts")?.max(1.0))
}

fn probes_lost(run: &Value) -> Result<f64> {
    let (sent, received) = (number(run, "/probes/sent")?, number(run, "/probes/received")?);
    Ok(1.0 - received / sent.max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(contender: &str, count: &str, p99_ms: f64, jain: Option<f64>) -> Value {
        json!({"contender": contender, "point": {"tcp.count": count}, "delay_ns": {"p99": p99_ms * 1e6},
               "utilisation": 0.987, "goodput_bps": 9_400_000, "probes": {"sent": 200, "received": 199}, "jain": jain, "completion_ns": null, "drops": {"aqm": 20, "limit": 5},
               "silent_drops": 5, "offered_pkts": 1000})
    }

    #[test]
    fn a_row_has_the_medians_over_the_seeds_and_a_block_its_name_once() {
        let report = json!({"experiment": "RFC 7928, 8.2.2: levels", "failed": [], "runs": [
            run("weir", "6", 61.0, Some(0.9)), run("weir", "6", 63.0, None), run("weir", "6", 62.0, Some(0.8)),
            run("pie", "6", 70.0, None),
            run("pie", "14", 80.0, None),
        ]});
        assert_eq!(
            rows(&report).unwrap(),
            "| 8.2.2: levels, `tcp.count = 6` | `weir` | 62.0 | 0.5 | 98.7 | 9.40 | 0.90 | – | – | 3.00 |\n\
             |  | `pie` | 70.0 | 0.5 | 98.7 | 9.40 | – | – | – | 3.00 |\n\
             | 8.2.2: levels, `tcp.count = 14` | `pie` | 80.0 | 0.5 | 98.7 | 9.40 | – | – | – | 3.00 |\n"
        );
    }

    #[test]
    fn a_contender_that_failed_is_not_left_out_in_silence() {
        let report =
            json!({"experiment": "e", "failed": [{"contender": "weir", "reason": "no"}], "runs": []});
        assert!(rows(&report).unwrap_err().to_string().contains("1 contenders failed"));
    }

    #[test]
    fn tables_are_written_anew_and_prose_stays() {
        let text = "# A\n<!-- results: a b -->\nold\n<!-- /results -->\nprose\n<!-- results: c -->\n<!-- /results -->\n";
        let new = rewrite(text, |name| Ok(format!("| {name} |\n"))).unwrap();
        let wanted = format!(
            "# A\n<!-- results: a b -->\n{HEAD}| a |\n| b |\n\n<!-- /results -->\nprose\n\
             <!-- results: c -->\n{HEAD}| c |\n\n<!-- /results -->\n"
        );
        assert_eq!(new, wanted);
        assert_eq!(rewrite(&new, |name| Ok(format!("| {name} |\n"))).unwrap(), wanted, "once more");
    }

    #[test]
    fn markers_that_do_not_pair_are_an_error_that_names_them() {
        for text in ["<!-- results: a -->\n", "<!-- results: a -->\n<!-- results: b -->\n<!-- /results -->\n"]
        {
            let error = rewrite(text, |_| Ok(String::new())).unwrap_err().to_string();
            assert!(error.contains("table of a has no end"), "{error}");
        }
        assert!(rewrite("<!-- /results -->\n", |_| Ok(String::new())).is_err());
    }
}
