//! The verifier's opinion of every program: builds and runs `weir-verify`.

use anyhow::{Result, ensure};

use crate::tool::{cargo, is_root, run as run_command};

/// Arguments that build the binary; the profile is the caller's.
pub const BUILD: [&str; 5] = ["--package", "xtask", "--features", "datapath", "--bin=weir-verify"];

/// Runs it here.
///
/// # Errors
///
/// Not root, a program that does not load, a cost that rose.
pub fn run(bless: bool) -> Result<()> {
    ensure!(is_root(), "`cargo xtask verify` needs root: it loads programs into the kernel");
    let mut command = cargo(&["run", "--quiet"]);
    command.args(BUILD);
    if bless {
        command.args(["--", "--bless"]);
    }
    run_command(&mut command)
}
