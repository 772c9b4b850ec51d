//! How exactly policed rates are kept, by UDP and by TCP: the tables of docs/rate-accuracy.md.

use std::{fmt::Write as _, path::PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{
    report::{build, contender, measure, median, number},
    tool::{cargo, is_root},
};

/// Of `examples/lab/policy`, and the rate that each polices, in Mbit/s.
const FILES: [(&str, f64); 8] = [
    ("rate-1mbit", 1.0),
    ("rate-1mbit-class", 1.0),
    ("rate-10mbit", 10.0),
    ("rate-10mbit-class", 10.0),
    ("rate-100mbit", 100.0),
    ("rate-100mbit-class", 100.0),
    ("rate-1gbit", 1_000.0),
    ("rate-1gbit-class", 1_000.0),
];
/// How far below and above the rate TCP may be, in per cent.
const TCP_BOUNDS: (f64, f64) = (-3.0, 0.5);

#[derive(Args)]
pub struct RatesArgs {
    /// How often each experiment of TCP runs; its median is held to the bounds
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Leave UDP out
    #[arg(long)]
    tcp_only: bool,
    /// Write the tables to this file as well
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs UDP through the datapath's long test and TCP through the lab, and prints a table of each.
///
/// # Errors
///
/// Not root, a run that fails, or a rate beyond its bounds.
pub fn run(args: &RatesArgs) -> Result<()> {
    ensure!(is_root(), "`cargo xtask rates` needs root: it makes network namespaces");
    let mut text = String::new();
    if !args.tcp_only {
        text.push_str(&udp()?);
    }
    build()?;
    let (table, beyond) = tcp(args.runs)?;
    text.push_str(&table);
    print!("{text}");
    if let Some(out) = &args.out {
        std::fs::write(out, &text).with_context(|| format!("writing {}", out.display()))?;
    }
    ensure!(beyond.is_empty(), "beyond the bounds: {}", beyond.join(", "));
    Ok(())
}

/// The rows that the test prints; it holds them to its bounds itself.
fn udp() -> Result<String> {
    let test = [
        "test",
        "--package",
        "weir",
        "--test",
        "datapath",
        "rate_accuracy",
        "--",
        "--ignored",
        "--nocapture",
    ];
    let output = cargo(&test).output().context("running the datapath's tests")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let rows: Vec<&str> = said.lines().filter(|line| line.starts_with("| ")).collect();
    ensure!(output.status.success() && !rows.is_empty(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(format!(
        "| rate | port | CPUs | offered, Mbit/s | accepted | off |\n|---|---|--:|--:|--:|--:|\n{}\n\n",
        rows.join("\n")
    ))
}

/// The table, and which files are beyond the bounds.
fn tcp(runs: u32) -> Result<(String, Vec<String>)> {
    let mut text = format!(
        "| experiment | on the wire, Mbit/s, of {runs} runs: least | median | most | median off | goodput, median |\n\
         |---|--:|--:|--:|--:|--:|\n"
    );
    let mut beyond = Vec::new();
    for (name, mbit) in FILES {
        let file = PathBuf::from(format!("examples/lab/policy/{name}.toml"));
        let (mut wire, mut goodput) = (Vec::new(), Vec::new());
        for _ in 0..runs.max(1) {
            let report = measure("lab", &file, &[])?;
            let run = contender(&report, "weir")?;
            wire.push(number(run, "/delivered_bps")? / 1e6);
            goodput.push(number(run, "/goodput_bps")? / 1e6);
        }
        let row = Row::of(&wire, &goodput, mbit).context("no runs")?;
        if row.off < TCP_BOUNDS.0 || row.off > TCP_BOUNDS.1 {
            beyond.push(format!("{name} by {:+.2} %", row.off));
        }
        let Row { least, middle, most, off, goodput } = row;
        writeln!(text, "| `{name}` | {least:.3} | {middle:.3} | {most:.3} | {off:+.2} % | {goodput:.3} |")?;
    }
    Ok((text, beyond))
}

/// What the runs of one file say.
struct Row {
    least: f64,
    middle: f64,
    most: f64,
    /// Of the median from the rate, in per cent.
    off: f64,
    goodput: f64,
}

impl Row {
    fn of(wire: &[f64], goodput: &[f64], mbit: f64) -> Option<Self> {
        let middle = median(wire.iter().copied())?;
        Some(Self {
            least: wire.iter().copied().fold(f64::INFINITY, f64::min),
            middle,
            most: wire.iter().copied().fold(0.0, f64::max),
            off: (middle / mbit - 1.0) * 100.0,
            goodput: median(goodput.iter().copied())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_the_runs_is_compared_with_the_rate() {
        let row = Row::of(&[9.9, 10.2, 9.8], &[9.4, 9.5, 9.3], 10.0).unwrap();
        assert_eq!((row.least, row.middle, row.most, row.goodput), (9.8, 9.9, 10.2, 9.4));
        assert!((row.off + 1.0).abs() < 1e-9, "{}", row.off);
    }
}
