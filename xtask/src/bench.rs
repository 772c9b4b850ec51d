//! Live frames: builds and runs benches/live.

use std::path::{Path, absolute};

use anyhow::{Context, Result, ensure};

use crate::tool::{cargo, is_root, run as run_command};

/// Runs the benchmark; absent options keep its defaults.
///
/// # Errors
///
/// Not root, or the benchmark fails.
pub fn run(
    numbers: &[(&str, Option<u32>)],
    only: &[String],
    json: Option<&Path>,
    limit: Option<f64>,
) -> Result<()> {
    ensure!(is_root(), "`cargo xtask bench` needs root: network namespaces and BPF programs");
    let mut command = cargo(&["bench", "--quiet", "--package", "weir", "--bench", "live", "--"]);
    for (option, value) in numbers {
        if let Some(value) = value {
            command.args([*option, &value.to_string()]);
        }
    }
    for text in only {
        command.args(["--only", text]);
    }
    if let Some(path) = json {
        // The benchmark runs in the workspace's root.
        let path = absolute(path).with_context(|| path.display().to_string())?;
        command.arg("--json").arg(path);
    }
    if let Some(limit) = limit {
        command.args(["--limit", &limit.to_string()]);
    }
    run_command(&mut command)
}
