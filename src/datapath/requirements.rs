//! What must be so before anything is touched: the caller's capabilities and the kernel's version.

use aya::util::KernelVersion;

use super::{Error, Result};

/// The capabilities that loading and attaching take; `CAP_SYS_ADMIN` holds those of BPF, too (capabilities(7)).
pub(super) fn check_privilege() -> Result<()> {
    const NEEDED: [(&str, u32); 3] = [("CAP_NET_ADMIN", 12), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];
    const SYS_ADMIN: u32 = 21;
    let status = std::fs::read_to_string("/proc/thread-self/status")
        .map_err(Error::os("read /proc/thread-self/status"))?;
    let effective = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok())
        .unwrap_or(0);
    let has = |bit: u32| effective >> bit & 1 == 1;
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(_, bit)| !(has(*bit) || (*bit != 12 && has(SYS_ADMIN))))
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::NotPrivileged { missing: missing.join(", "), uid: nix::unistd::geteuid().as_raw() })
}

/// A kernel that does not say its version is tried: what it lacks, loading and attaching will say.
pub(super) fn check_kernel() -> Result<()> {
    match KernelVersion::current() {
        Ok(version) if version < KernelVersion::new(5, 14, 0) => {
            Err(Error::KernelTooOld { found: crate::lab::clock::kernel() })
        }
        Ok(_) | Err(_) => Ok(()),
    }
}
