//! The cost of one packet, measured on the real programs with live frames.
//!
//! `BPF_PROG_TEST_RUN` with `BPF_F_TEST_XDP_LIVE_FRAMES` (kernel 5.18) makes frames and runs them through an XDP
//! program as a driver's NAPI poll does: redirects leave by the device map and its egress program, passes enter the
//! stack. Contenders take turns in each round; figures are medians of the rounds. The cost of making a frame and
//! throwing it away is measured beside the others and subtracted: what remains is net. Where each frame goes to another
//! address, a program in front of the contender's draws it and writes it; what that costs is measured and subtracted alike.
//!
//! Everything happens in network namespaces of this process. Run it by `cargo xtask bench`.

mod bed;
mod contender;
mod report;

use std::path::PathBuf;

use clap::Parser;
use miette::{IntoDiagnostic, Result, WrapErr, ensure};

use contender::{Contender, Stage};
use report::Report;

#[derive(Parser)]
#[command(name = "live", about = "Nanoseconds per packet of weir and its baselines, with live frames (root)")]
struct Args {
    /// Rounds; each contender takes one turn in each.
    #[arg(long, default_value_t = 31, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Test runs of 8,192 frames in one turn.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    calls: u32,
    /// The CPU that does everything; the last one by default.
    #[arg(long)]
    cpu: Option<usize>,
    /// Measure those contenders alone whose name is this, or else contains it; may be repeated. Their generators are measured, too.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Write everything measured, sample by sample.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if weir's net cost is more than this many times that of FIB + redirect.
    #[arg(long, value_name = "RATIO")]
    limit: Option<f64>,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(nix::unistd::geteuid().is_root(), "live frames need root: network namespaces and BPF programs");
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cpu = args.cpu.unwrap_or(cpus - 1);

    let mut stages = Vec::new();
    let asked = |contender: &Contender| {
        let is = |text: &String| match Contender::ALL.into_iter().find(|other| other.name() == text) {
            Some(other) => other == *contender,
            None => contender.name().contains(text.as_str()),
        };
        args.only.is_empty() || args.only.iter().any(is)
    };
    let generators: Vec<Contender> =
        Contender::ALL.into_iter().filter(asked).map(Contender::generator).collect();
    for contender in Contender::ALL {
        if !asked(&contender) && !generators.contains(&contender) {
            continue;
        }
        stages.push((Stage::build(contender)?, Vec::new()));
    }
    let bar = indicatif::ProgressBar::new(u64::from(args.rounds));
    for _ in 0..args.rounds {
        for (stage, samples) in &mut stages {
            samples.push(stage.turn(args.calls, cpu)?);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();

    let measured: Vec<_> = stages.into_iter().map(|(stage, samples)| (stage.contender(), samples)).collect();
    let report = Report::new(&measured, &args.only, args.rounds, args.calls, cpu);
    println!("{report}");
    if let Some(path) = &args.json {
        std::fs::write(path, report.to_json()?)
            .into_diagnostic()
            .wrap_err_with(|| format!("writing {}", path.display()))?;
    }
    if let (Some(limit), Some(ratio)) = (args.limit, report.weir_to_fib()) {
        ensure!(
            ratio <= limit,
            "weir's net cost is {ratio:.2} times that of FIB + redirect, more than {limit}"
        );
    }
    Ok(())
}
