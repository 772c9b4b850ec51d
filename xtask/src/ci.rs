//! What CI runs, in its order.

use std::time::Instant;

use anyhow::{Result, ensure};

use crate::{
    bpf, lab, readme, report,
    tool::{cargo, is_root, root, run as run_command},
    verify,
};

/// One step: its name, whether it needs root, whether `--short` leaves it out, and what it does; `Ok` may say more.
struct Step {
    name: &'static str,
    root: bool,
    long: bool,
    run: fn() -> Result<String>,
}

const STEPS: [Step; 8] = [
    Step { name: "fmt", root: false, long: false, run: fmt },
    Step { name: "clippy", root: false, long: false, run: clippy },
    Step { name: "test", root: false, long: false, run: test },
    Step { name: "benches compile", root: false, long: false, run: benches },
    Step { name: "bpf --check", root: false, long: true, run: objects },
    Step { name: "verify", root: true, long: false, run: costs },
    Step { name: "lab examples/lab/short.toml", root: true, long: true, run: experiment },
    Step { name: "README commands", root: false, long: false, run: readme::check },
];

/// Runs the steps until one fails; the last line counts them.
///
/// # Errors
///
/// The step that failed.
pub fn run(short: bool) -> Result<()> {
    let privileged = is_root();
    let (mut passed, mut left_out) = (0, Vec::new());
    for step in &STEPS {
        if (step.long && short) || (step.root && !privileged) {
            left_out.push(step.name);
            continue;
        }
        println!("ci: {} ...", step.name);
        let started = Instant::now();
        let outcome = (step.run)();
        let seconds = started.elapsed().as_secs_f64();
        match outcome {
            Ok(note) => {
                let note = if note.is_empty() { note } else { format!(": {note}") };
                println!("ci: {} ok, {seconds:.0} s{note}", step.name);
                passed += 1;
            }
            Err(error) => {
                println!("ci: {} FAILED, {seconds:.0} s: {error:#}", step.name);
                println!("ci: {passed} passed, 1 failed");
                return Err(error.context(format!("step {}", step.name)));
            }
        }
    }
    if !left_out.is_empty() {
        let why = if privileged { "--short" } else { "not root, or --short" };
        println!("ci: left out ({why}): {}", left_out.join(", "));
    }
    println!("ci: {passed} passed, 0 failed");
    Ok(())
}

fn silently(args: &[&str]) -> Result<String> {
    run_command(&mut cargo(args)).map(|()| String::new())
}

fn fmt() -> Result<String> {
    silently(&["fmt", "--all", "--check"])
}

fn clippy() -> Result<String> {
    silently(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    silently(&[
        "clippy",
        "--quiet",
        "--package",
        "xtask",
        "--features",
        "datapath",
        "--bins",
        "--",
        "-D",
        "warnings",
    ])
}

fn test() -> Result<String> {
    let mut command = cargo(&["test", "--workspace"]);
    if is_root() {
        // Here a privileged test that skips is a failure.
        command.env("WEIR_REQUIRE_PRIVILEGED", "1");
    }
    run_command(&mut command).map(|()| String::new())
}

/// Runs each criterion benchmark once, unmeasured.
fn benches() -> Result<String> {
    silently(&["test", "--quiet", "--package", "weir", "--bench", "decisions"])
}

fn objects() -> Result<String> {
    bpf::run(true).map(|()| String::new())
}

fn costs() -> Result<String> {
    verify::run(false).map(|()| String::new())
}

fn experiment() -> Result<String> {
    let json = root().join("target/lab-short.json");
    let mut command =
        cargo(&["run", "--quiet", "--package", "weir", "--", "lab", "examples/lab/short.toml", "--json"]);
    run_command(command.arg(&json))?;
    let report = report::read(&json)?;
    ensure!(report.get("runs").is_some(), "{} has no runs", json.display());
    lab::check(&report)
}
