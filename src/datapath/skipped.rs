//! Runs of tracing programs that the kernel skipped, because the program was already running on the CPU
//! (`bpf_prog_inc_misses_counter`, `kernel/bpf/syscall.c` at v6.18). Minimum kernel 5.12; 0 before.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use weir_shared_maps::names;

use super::pins;

/// The line of a program's `/proc/self/fdinfo` that says it (`bpf_prog_show_fdinfo`, same file).
const FIELD: &str = "recursion_misses:";

/// The observers of one instance.
pub(super) struct Observers(Vec<(&'static str, OwnedFd)>);

impl Observers {
    /// Opens those that are pinned in `directory`.
    pub fn open(directory: &Path) -> Self {
        let programs = names::OBSERVERS.into_iter();
        Self(programs.filter_map(|name| Some((name, pins::object(&directory.join(name)).ok()?))).collect())
    }

    /// Skipped runs by program.
    ///
    /// # Errors
    ///
    /// Those of reading `/proc`.
    pub fn skipped(&self) -> io::Result<BTreeMap<&'static str, u64>> {
        let read = |(name, program): &(&'static str, OwnedFd)| {
            let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd()))?;
            Ok((*name, field(&text)))
        };
        self.0.iter().map(read).collect()
    }
}

fn field(text: &str) -> u64 {
    let found = text.lines().find_map(|line| line.strip_prefix(FIELD)?.trim().parse().ok());
    found.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_runs_are_read_as_the_kernel_shows_them() {
        let shown = "pos:\t0\nprog_type:\t26\nrun_cnt:\t0\nrecursion_misses:\t7\nverified_insns:\t120\n";
        assert_eq!(field(shown), 7);
        assert_eq!(field("prog_type:\t26\n"), 0, "a kernel before 5.12");
    }
}
