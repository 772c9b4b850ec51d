//! Guests with other kernels, through an external runner.

use std::{
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf, absolute},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;

use crate::{
    lab, report,
    tool::{cargo, root, run as run_command},
    verify,
};

/// Kernels that must load every program and pass the short experiment.
const KERNELS: [&str; 2] = ["6.12", "7.3"];
/// The kernel of the comparison: its guest has every queueing discipline.
const COMPARE_KERNEL: &str = "6.18";
/// Modules that a distribution's kernel does not have built in; each may be built in, or missing and then reported by
/// what needs it.
const MODULES: &str = "veth tun sch_htb sch_tbf sch_fq_codel sch_cake sch_fifo tcp_cubic";
/// Contenders of the comparison, in the order of its table.
const CONTENDERS: [&str; 5] = ["redirect", "kernel", "kernel+fq_codel", "kernel+cake", "weir"];
const COMPARE_FILE: &str = "examples/lab/fast-to-slow.toml";

#[derive(Debug, Args)]
pub struct VmArgs {
    /// Kernel of the guest, as the runner names it (may be repeated) [default: 6.12 and 7.3; 6.18 with --compare or --virtio]
    #[arg(long, value_name = "KERNEL")]
    kernel: Vec<String>,
    /// The runner [default: $WEIR_VM_RUNNER, or `vmrun` in PATH]
    #[arg(long, value_name = "PATH")]
    runner: Option<PathBuf>,
    /// Instead: the 10 Mbit/s experiment beside fq_codel and CAKE, in instruction-counted time on one CPU
    #[arg(long, requires = "out")]
    compare: bool,
    /// Instead: a virtio_net port on a cable of 10 Mbit/s, its sojourn against the delay measured outside of the ring
    #[arg(long, conflicts_with = "compare")]
    virtio: bool,
    /// Run the experiment of the comparison for this long instead of the file's duration ("10s")
    #[arg(long, value_name = "DURATION", requires = "compare")]
    duration: Option<String>,
    /// Where the comparison's Markdown table goes; the JSON goes beside it as FILE with the extension json
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Seconds until a guest is killed
    #[arg(long, default_value_t = 1800)]
    timeout: u32,
}

/// Builds on the host and runs in the guests, one at a time.
///
/// # Errors
///
/// No runner, a guest that fails, a bound that does not hold; every kernel is tried before the first error is returned.
pub fn run(args: &VmArgs) -> Result<()> {
    let runner = runner(args.runner.as_deref());
    // A guest is slow: optimised binaries, for any processor.
    run_command(&mut cargo(&["build", "--quiet", "--release", "--package", "weir", "--bin", "weir"]))?;
    run_command(cargo(&["build", "--quiet", "--release"]).args(verify::BUILD))?;
    let output = root().join("target/vm");
    fs::create_dir_all(&output).with_context(|| output.display().to_string())?;
    if args.compare {
        return compare(args, &runner);
    }
    let defaults = if args.virtio { vec![COMPARE_KERNEL] } else { KERNELS.to_vec() };
    let given = args.kernel.iter().map(String::as_str).collect();
    let kernels: Vec<&str> = if args.kernel.is_empty() { defaults } else { given };
    let check = if args.virtio { virtio_agrees } else { loads_and_forwards };
    let (mut passed, mut first) = (0, None);
    for kernel in &kernels {
        match check(kernel, &runner, args.timeout) {
            Ok(note) => {
                println!("vm: kernel {kernel} ok: {note}");
                passed += 1;
            }
            Err(error) => {
                println!("vm: kernel {kernel} FAILED: {error:#}");
                first.get_or_insert(error);
            }
        }
    }
    println!("vm: {passed} passed, {} failed", kernels.len() - passed);
    first.map_or(Ok(()), Err)
}

fn runner(given: Option<&Path>) -> PathBuf {
    let from_env = || env::var_os("WEIR_VM_RUNNER").map(PathBuf::from);
    given.map(Path::to_path_buf).or_else(from_env).unwrap_or_else(|| PathBuf::from("vmrun"))
}

/// Every program loads, and the short experiment holds its bounds.
fn loads_and_forwards(kernel: &str, runner: &Path, timeout: u32) -> Result<String> {
    let json = root().join(format!("target/vm/short-{kernel}.json"));
    remove(&json)?;
    let script = format!(
        "target/release/weir-verify && target/release/weir lab examples/lab/short.toml --quiet --json {}",
        json.display()
    );
    guest(kernel, runner, timeout, &COUNTED, &script)?;
    lab::check(&report::read(&json)?)
}

/// What the observer says of a virtio_net ring is what the receiver sees, and CoDel keeps it short.
fn virtio_agrees(kernel: &str, runner: &Path, timeout: u32) -> Result<String> {
    // The cable's rate is kept by the host's clock, so the guest's must not count instructions.
    let cable = ["--nic", "virtio", "--link", "10"];
    guest(kernel, runner, timeout, &cable, "python3 tests/guest/virtio.py target/release/weir")?;
    Ok("sojourn and delay agree on virtio_net".to_owned())
}

fn compare(args: &VmArgs, runner: &Path) -> Result<()> {
    let kernel = args.kernel.first().map_or(COMPARE_KERNEL, String::as_str);
    let out = args.out.as_deref().context("--compare needs --out FILE")?;
    let out = absolute(out).with_context(|| out.display().to_string())?;
    let json = root().join("target/vm/compare.json");
    remove(&json)?;
    let only: String = CONTENDERS.iter().map(|name| format!(" --only {name}")).collect();
    let duration = args.duration.as_deref().map(|d| format!(" --duration {d}")).unwrap_or_default();
    let lab = format!("weir lab {COMPARE_FILE}{only}{duration}");
    let script = format!("target/release/{lab} --quiet --json {}", json.display());
    guest(kernel, runner, args.timeout, &COUNTED, &script)?;
    let report = report::read(&json)?;
    let table = table(&report, &lab)?;
    fs::write(&out, &table).with_context(|| format!("writing {}", out.display()))?;
    let raw = out.with_extension("json");
    fs::copy(&json, &raw).with_context(|| format!("writing {}", raw.display()))?;
    println!("{table}\nwritten: {} and {}", out.display(), raw.display());
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A guest whose time counts instructions, so that delays do not depend on what else the host does; that needs one CPU.
const COUNTED: [&str; 4] = ["--icount", "0", "--cpus", "1"];

/// Runs a script as root in the guest, in the workspace's root.
fn guest(kernel: &str, runner: &Path, timeout: u32, options: &[&str], script: &str) -> Result<()> {
    let script = format!("for m in {MODULES}; do modprobe -q $m || :; done; {script}");
    let mut command = Command::new(runner);
    command.current_dir(root());
    command.args(["--kernel", kernel, "--timeout", &timeout.to_string()]).args(options);
    command.args(["--", "sh", "-c", &script]);
    let status = command.status().with_context(|| {
        format!("cannot run {}: name a runner by --runner or WEIR_VM_RUNNER", runner.display())
    })?;
    ensure!(status.success(), "the guest with kernel {kernel} failed ({status})");
    Ok(())
}

/// The comparison for people.
fn table(report: &Value, command: &str) -> Result<String> {
    let kernel = report.get("kernel").and_then(Value::as_str).unwrap_or("unknown");
    let mut text = format!(
        "<!-- `cargo xtask vm --compare`: {command}, in a guest whose time counts instructions; {kernel} -->\n\n\
         | contender | goodput Mbit/s | delay p50 ms | p95 | p99 | max | drops | marks | ring drops | silent drops |\n\
         |---|---|---|---|---|---|---|---|---|---|\n"
    );
    for name in CONTENDERS {
        let run = match report::contender(report, name) {
            Ok(run) => run,
            Err(why) => {
                writeln!(text, "| `{name}` | {why} | | | | | | | | |")?;
                continue;
            }
        };
        let ms = |path| report::number(run, path).map(|ns| format!("{:.1}", ns / 1e6));
        let count = |path| report::number(run, path).map_or("unknown".to_owned(), |n| format!("{n:.0}"));
        let drops = run.get("drops").and_then(Value::as_object);
        let drops: u64 = drops.map_or(0, |drops| drops.values().filter_map(Value::as_u64).sum());
        writeln!(
            text,
            "| `{name}` | {:.2} | {} | {} | {} | {} | {drops} | {} | {} | {} |",
            report::number(run, "/goodput_bps")? / 1e6,
            ms("/delay_ns/p50")?,
            ms("/delay_ns/p95")?,
            ms("/delay_ns/p99")?,
            ms("/delay_ns/max")?,
            count("/marks"),
            count("/ring_drops"),
            count("/silent_drops"),
        )?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_has_a_line_for_each_contender_and_the_reason_of_those_that_did_not_run() {
        let delay = json!({"p50": 10_400_000, "p95": 12e6, "p99": 14e6, "max": 20e6});
        let report = json!({"kernel": "Linux 6.18", "failed": [], "runs": [
            {"contender": "weir", "goodput_bps": 9.5e6, "delay_ns": delay, "drops": {"aqm": 3, "limit": 2},
             "marks": 0, "ring_drops": null, "silent_drops": 0}
        ], "skipped": [{"contender": "kernel+cake", "reason": "no cake"}]});
        let text = table(&report, "weir lab x").unwrap();
        assert!(
            text.contains("| `weir` | 9.50 | 10.4 | 12.0 | 14.0 | 20.0 | 5 | 0 | unknown | 0 |"),
            "{text}"
        );
        assert!(text.contains("no cake"), "{text}");
        assert_eq!(text.lines().filter(|l| l.starts_with("| `")).count(), CONTENDERS.len());
    }
}
