//! `cargo xtask`: the one command set for people and CI.

mod bench;
mod bpf;
mod ci;
mod compare;
mod lab;
mod rates;
mod readme;
mod report;
mod results;
mod tool;
mod verify;
mod vm;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", about = "Builds, checks and measures weir")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the eBPF objects from source into src/datapath/objects/.
    Bpf {
        /// Build, compare with the committed objects and fail on any difference or warning; change nothing.
        #[arg(long)]
        check: bool,
    },
    /// Measure nanoseconds per packet with live frames: baselines, weir and the kernel's forwarding, in turns (root).
    ///
    /// Every turn proves by counters that each frame took the intended way. Net cost is what a contender costs beyond
    /// making a frame and dropping it. Builds for release and runs benches/live in network namespaces of its own.
    Bench {
        /// Rounds; each contender takes one turn in each [default: 31]
        #[arg(long)]
        rounds: Option<u32>,
        /// Test runs of 8,192 frames in one turn [default: 12]
        #[arg(long)]
        calls: Option<u32>,
        /// The CPU that does everything [default: the last one]
        #[arg(long)]
        cpu: Option<u32>,
        /// Measure those contenders alone whose name is this, or else contains it, and their generators; may be repeated
        #[arg(long, value_name = "TEXT")]
        only: Vec<String>,
        /// Write everything measured, sample by sample
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Fail if weir's net cost is more than this many times that of FIB + redirect
        #[arg(long, value_name = "RATIO")]
        limit: Option<f64>,
    },
    /// Load every program in every configuration that matters and compare its cost with tests/golden/verifier.toml (root).
    ///
    /// A rise over the golden number fails, a fall is reported. On a kernel without golden numbers the programs are
    /// loaded and reported.
    Verify {
        /// Write what was found as the golden numbers of this kernel.
        #[arg(long)]
        bless: bool,
    },
    /// Write the golden tables of the simulator's experiments, tests/golden/sim; the commit says why they changed.
    Bless,
    /// Run experiments in the lab and in the simulator and print goodput and delay side by side (root).
    Compare(compare::CompareArgs),
    /// Measure how exactly policed rates are kept, by UDP and by TCP, and print the tables of docs/rate-accuracy.md (root).
    ///
    /// Takes ten minutes.
    Rates(rates::RatesArgs),
    /// Run the simulator's experiments of RFC 7928 and write the tables of docs/sim-results.md; its prose stays.
    Results(results::ResultsArgs),
    /// Run what CI runs, in its order, and stop at the first failure.
    ///
    /// fmt, clippy, tests, bpf --check, verify, examples/lab/short.toml with its bounds, the README's commands. Steps
    /// that need root are left out without it, and named.
    Ci {
        /// Leave out what takes minutes: the rebuild of the objects and the lab.
        #[arg(long)]
        short: bool,
    },
    /// Run the programs and the short lab experiment inside guests with other kernels.
    ///
    /// Needs a runner: a command that boots a guest with the host's root file system and the current directory, runs a
    /// command there as root and exits with its status: `RUNNER --kernel K --cpus N --icount S --timeout S -- COMMAND`.
    Vm(vm::VmArgs),
}

/// The test that compares the tables writes them instead.
fn bless() -> anyhow::Result<()> {
    let mut command = tool::cargo(&["test", "--package", "weir", "--test", "sim", "golden"]);
    tool::run(command.env("WEIR_BLESS", "1"))
}

fn main() -> anyhow::Result<()> {
    match Args::parse().task {
        Task::Bpf { check } => bpf::run(check),
        Task::Bench { rounds, calls, cpu, only, json, limit } => {
            let numbers = [("--rounds", rounds), ("--calls", calls), ("--cpu", cpu)];
            bench::run(&numbers, &only, json.as_deref(), limit)
        }
        Task::Verify { bless } => verify::run(bless),
        Task::Bless => bless(),
        Task::Compare(args) => compare::run(&args),
        Task::Rates(args) => rates::run(&args),
        Task::Results(args) => results::run(&args),
        Task::Ci { short } => ci::run(short),
        Task::Vm(args) => vm::run(&args),
    }
}
