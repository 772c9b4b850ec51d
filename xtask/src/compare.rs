//! The lab and the simulator side by side: the same files, run in both.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;

use crate::{
    report::{build, contender, measure, median, name, number, runs},
    tool::is_root,
};

/// The slowest, and how long it runs. Its drop-tail ring holds four seconds and its sawtooth takes half a minute: a run must
/// see more than one, or what still waits behind a hole at the end is a sixth of the goodput.
const SLOWEST: (&str, &str) = ("examples/lab/fast-to-slow-2mbit.toml", "60s");
/// What is compared where no file is named: three orders of magnitude of rate, and traffic that does not listen.
const FILES: [&str; 5] = [
    SLOWEST.0,
    "examples/lab/fast-to-slow.toml",
    "examples/lab/fast-to-slow-50mbit.toml",
    "examples/lab/fast-to-slow-200mbit.toml",
    "examples/lab/udp-overload.toml",
];
/// How far goodputs may be apart, as a share of the lab's.
const GOODPUT_SHARE: f64 = 0.10;
/// How far delays may be apart: as a share of the lab's, or by this much, whichever is more.
const DELAY_SHARE: f64 = 0.25;
const DELAY_NS: f64 = 3e6;

#[derive(Args)]
pub struct CompareArgs {
    /// Experiments instead of the five of examples/lab
    files: Vec<PathBuf>,
    /// Run each for this long instead of the file's duration ("10s")
    #[arg(long)]
    duration: Option<String>,
    /// Run only this contender (may be repeated)
    #[arg(long, value_name = "CONTENDER")]
    only: Vec<String>,
    /// How many seeds the simulator runs; its median is compared
    #[arg(long, default_value_t = 5)]
    seeds: u32,
    /// Write the table to this file as well
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Fail if a difference is beyond its bound
    #[arg(long)]
    check: bool,
}

/// Runs every file in the lab and in the simulator and prints goodput and delay side by side.
///
/// # Errors
///
/// Not root, a run that fails, or with `--check` a difference beyond its bound.
pub fn run(args: &CompareArgs) -> Result<()> {
    ensure!(is_root(), "`cargo xtask compare` needs root: the lab makes network namespaces");
    build()?;
    let files: Vec<PathBuf> =
        if args.files.is_empty() { FILES.iter().map(PathBuf::from).collect() } else { args.files.clone() };
    let mut text = format!(
        "<!-- `cargo xtask compare`: {} seeds of the simulator, their median; bounds: goodput {:.0} %, delays {:.0} % or {:.0} ms -->\n\n{HEAD}",
        args.seeds,
        GOODPUT_SHARE * 100.0,
        DELAY_SHARE * 100.0,
        DELAY_NS / 1e6
    );
    let (mut rows, mut beyond) = (0, 0);
    for file in &files {
        let lab = results("lab", file, args)?;
        let sim = results("sim", file, args)?;
        for row in compare(&lab, &sim)? {
            rows += 1;
            beyond += u32::from(!row.holds());
            text.push_str(&row.line()?);
        }
    }
    writeln!(text, "\n{} of {rows} within the bounds.", rows - beyond)?;
    print!("{text}");
    if let Some(out) = &args.out {
        std::fs::write(out, &text).with_context(|| format!("writing {}", out.display()))?;
    }
    ensure!(!args.check || beyond == 0, "{beyond} of {rows} rows are beyond the bounds");
    Ok(())
}

/// What `weir lab` or `weir sim` reports of a file.
fn results(command: &str, file: &Path, args: &CompareArgs) -> Result<Value> {
    let mut options = Vec::new();
    for name in &args.only {
        options.extend(["--only".to_owned(), name.clone()]);
    }
    let of_the_file = (file == Path::new(SLOWEST.0)).then_some(SLOWEST.1);
    if let Some(duration) = args.duration.as_deref().or(of_the_file) {
        options.extend(["--duration".to_owned(), duration.to_owned()]);
    }
    if command == "sim" {
        options.extend(["--seeds".to_owned(), args.seeds.to_string()]);
    }
    measure(command, file, &options)
}

const HEAD: &str = "| experiment | contender | goodput Mbit/s lab | sim | diff | p50 ms lab | sim | diff | p95 ms lab | sim | diff | within |\n\
                    |---|---|---|---|---|---|---|---|---|---|---|---|\n";

/// One contender in both.
struct Row {
    experiment: String,
    contender: String,
    goodput: Pair,
    p50: Pair,
    p95: Pair,
}

#[derive(Clone, Copy)]
struct Pair {
    lab: f64,
    sim: f64,
}

impl Pair {
    fn difference(self) -> f64 {
        if self.lab == 0.0 { 0.0 } else { (self.sim - self.lab) / self.lab }
    }

    fn within(self, share: f64, absolute: f64) -> bool {
        (self.sim - self.lab).abs() <= (share * self.lab).max(absolute)
    }
}

impl Row {
    fn holds(&self) -> bool {
        self.goodput.within(GOODPUT_SHARE, 0.0)
            && self.p50.within(DELAY_SHARE, DELAY_NS)
            && self.p95.within(DELAY_SHARE, DELAY_NS)
    }

    fn line(&self) -> Result<String> {
        let mut text = format!("| {} | `{}` ", self.experiment, self.contender);
        for pair in [self.goodput, self.p50, self.p95] {
            let Pair { lab, sim } = pair;
            write!(text, "| {:.2} | {:.2} | {:+.1} % ", lab / 1e6, sim / 1e6, pair.difference() * 100.0)?;
        }
        writeln!(text, "| {} |", if self.holds() { "yes" } else { "**no**" })?;
        Ok(text)
    }
}

/// A row for each contender that ran in the lab; what it skipped is left out.
fn compare(lab: &Value, sim: &Value) -> Result<Vec<Row>> {
    let experiment = lab.get("experiment").and_then(Value::as_str).unwrap_or_default();
    let mut rows = Vec::new();
    for run in runs(lab) {
        let name = name(run);
        contender(sim, name)?;
        let pair = |path| {
            Ok::<Pair, anyhow::Error>(Pair { lab: number(run, path)?, sim: over_seeds(sim, name, path)? })
        };
        rows.push(Row {
            experiment: experiment.to_owned(),
            contender: name.to_owned(),
            goodput: pair("/goodput_bps")?,
            p50: pair("/delay_ns/p50")?,
            p95: pair("/delay_ns/p95")?,
        });
    }
    Ok(rows)
}

/// The median over the seeds.
fn over_seeds(report: &Value, contender: &str, path: &str) -> Result<f64> {
    let own = runs(report).iter().filter(|run| name(run) == contender);
    let values = own.map(|run| number(run, path)).collect::<Result<Vec<f64>>>()?;
    median(values.into_iter()).with_context(|| format!("{contender} has no {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(goodput: f64, p50: f64, p95: f64) -> Value {
        json!({"contender": "weir", "goodput_bps": goodput, "delay_ns": {"p50": p50, "p95": p95}})
    }

    #[test]
    fn the_median_over_seeds_is_compared_with_the_lab() {
        let lab = json!({"experiment": "e", "runs": [run(9e6, 20e6, 24e6)]});
        let sim = json!({"runs": [run(1e6, 1e6, 1e6), run(9.5e6, 22e6, 25e6), run(9.6e6, 90e6, 99e6)]});
        let rows = compare(&lab, &sim).unwrap();
        let line = rows[0].line().unwrap();
        assert_eq!(
            line,
            "| e | `weir` | 9.00 | 9.50 | +5.6 % | 20.00 | 22.00 | +10.0 % | 24.00 | 25.00 | +4.2 % | yes |\n"
        );
    }

    #[test]
    fn small_delays_may_differ_by_milliseconds_and_large_ones_by_a_share() {
        let within = |lab, sim| Pair { lab, sim }.within(DELAY_SHARE, DELAY_NS);
        assert!(within(1e6, 3.9e6) && !within(1e6, 4.1e6));
        assert!(within(100e6, 124e6) && !within(100e6, 126e6));
        let far = Row {
            experiment: String::new(),
            contender: String::new(),
            goodput: Pair { lab: 9e6, sim: 8e6 },
            p50: Pair { lab: 1.0, sim: 1.0 },
            p95: Pair { lab: 1.0, sim: 1.0 },
        };
        assert!(!far.holds() && far.line().unwrap().contains("**no**"));
    }
}
