//! The table, the ratios, and the JSON with every sample.

use std::{fmt, process::Command};

use comfy_table::{CellAlignment, Table, presets::UTF8_HORIZONTAL_ONLY};
use miette::{IntoDiagnostic, Result};
use serde::Serialize;
use weir::lab::clock;

use super::{bed::FRAME_LEN, contender::Contender};

/// One contender's samples.
#[derive(Debug, Serialize)]
pub struct Series {
    contender: &'static str,
    /// Median nanoseconds per frame.
    ns: f64,
    /// The same less the median of its generator.
    net_ns: f64,
    /// One per round, in order.
    samples_ns: Vec<f64>,
}

/// Everything measured in one run.
#[derive(Debug, Serialize)]
pub struct Report {
    command: String,
    commit: String,
    kernel: String,
    machine: String,
    /// One, five and fifteen minutes' load at the end. Above 1 something else ran, and took its share of the caches
    /// and, where two CPUs share a core, of the core.
    load: String,
    cpu: usize,
    frame_bytes: usize,
    rounds: u32,
    calls_per_turn: u32,
    ratios: Vec<Ratio>,
    contenders: Vec<Series>,
}

/// Net cost of one contender against another's.
#[derive(Debug, Serialize)]
struct Ratio {
    of: &'static str,
    to: &'static str,
    /// Of the medians.
    ratio: f64,
    /// Of the fastest rounds: what remains when nothing else ran on the machine.
    of_lowest: f64,
}

impl Report {
    /// Computes net costs and ratios of what was measured.
    pub fn new(
        measured: &[(Contender, Vec<f64>)],
        only: &[String],
        rounds: u32,
        calls_per_turn: u32,
        cpu: usize,
    ) -> Self {
        let only: String = only.iter().map(|text| format!(" --only \"{text}\"")).collect();
        let of = |contender: Contender| measured.iter().find(|(other, _)| *other == contender);
        let generator = |contender: Contender, number: fn(&[f64]) -> f64| {
            of(contender.generator()).map_or(0.0, |(_, samples)| number(samples))
        };
        let net = |contender: Contender, number: fn(&[f64]) -> f64| {
            of(contender).map(|(_, samples)| number(samples) - generator(contender, number))
        };
        let pairs = [
            (Contender::Weir, Contender::Fib),
            (Contender::WeirHybrid, Contender::Weir),
            (Contender::WeirPolicer, Contender::Fib),
            (Contender::Weir, Contender::FibEgress),
            (Contender::Kernel, Contender::Weir),
            (Contender::KernelHtb, Contender::WeirPolicer),
            (Contender::WeirManyFound, Contender::WeirFewFound),
            (Contender::WeirMany, Contender::WeirFew),
        ];
        let ratios = pairs
            .into_iter()
            .filter_map(|(of, to)| {
                Some(Ratio {
                    of: of.name(),
                    to: to.name(),
                    ratio: net(of, median)? / net(to, median)?,
                    of_lowest: net(of, lowest)? / net(to, lowest)?,
                })
            })
            .collect();
        let contenders = measured.iter().map(|(contender, samples)| Series {
            contender: contender.name(),
            ns: median(samples),
            net_ns: median(samples) - generator(*contender, median),
            samples_ns: samples.clone(),
        });
        let contenders = contenders.collect();
        Self {
            command: format!("cargo xtask bench --rounds {rounds} --calls {calls_per_turn}{only}"),
            commit: commit(),
            kernel: clock::kernel(),
            machine: machine(),
            load: load(),
            cpu,
            frame_bytes: FRAME_LEN,
            rounds,
            calls_per_turn,
            ratios,
            contenders,
        }
    }

    /// Net cost of weir over that of FIB + redirect: the bar.
    pub fn weir_to_fib(&self) -> Option<f64> {
        let bar = |r: &&Ratio| r.of == Contender::Weir.name() && r.to == Contender::Fib.name();
        self.ratios.iter().find(bar).map(|r| r.ratio)
    }

    /// Everything, sample by sample.
    ///
    /// # Errors
    ///
    /// None that JSON of numbers and text can have.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map(|text| text + "\n").into_diagnostic()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.command)?;
        writeln!(f, "{}; {}; commit {}", self.machine, self.kernel, self.commit)?;
        writeln!(
            f,
            "{} bytes, one CPU ({}), medians of {} rounds; load {}",
            self.frame_bytes, self.cpu, self.rounds, self.load
        )?;
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY).set_header(["", "ns/packet", "net", "lowest", "highest"]);
        for series in &self.contenders {
            let highest = series.samples_ns.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let numbers =
                [series.ns, series.net_ns, lowest(&series.samples_ns), highest].map(|n| format!("{n:.0}"));
            table.add_row(std::iter::once(series.contender.to_owned()).chain(numbers));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        writeln!(f, "{table}")?;
        for ratio in &self.ratios {
            writeln!(
                f,
                "net cost, {} / {}: {:.2} (of the fastest rounds: {:.2})",
                ratio.of, ratio.to, ratio.ratio, ratio.of_lowest
            )?;
        }
        Ok(())
    }
}

fn lowest(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Middle value, or the mean of the two in the middle; 0 of nothing.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |i: usize| sorted.get(i).copied().unwrap_or(0.0);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { at(half) } else { (at(half.wrapping_sub(1)) + at(half)) / 2.0 }
}

fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if changes.is_empty() => commit,
        Some(_) | None => format!("{commit} with changes"),
    }
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name").and_then(|rest| rest.split_once(':')))
        .map_or("unknown processor", |(_, name)| name.trim());
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!("{model}, {cpus} CPUs")
}
