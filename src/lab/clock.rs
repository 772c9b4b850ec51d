//! One clock for everything the lab measures, and threads that wake on time.

use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};

/// `CLOCK_MONOTONIC` in nanoseconds: the clock of the kernel's `bpf_ktime_get_ns` as well.
///
/// Returns 0 if the clock cannot be read, which Linux does not do for this clock.
#[must_use]
pub fn now_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |t| {
        let seconds = u64::try_from(t.tv_sec()).unwrap_or(0);
        let nanos = u64::try_from(t.tv_nsec()).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
    })
}

/// Sleeps until the monotonic clock shows `deadline_ns`; returns at once when that has passed.
pub fn sleep_until(deadline_ns: u64) {
    let deadline = TimeSpec::from_duration(Duration::from_nanos(deadline_ns));
    while now_ns() < deadline_ns {
        // An interrupted sleep (EINTR) goes back to sleep; the deadline is absolute, so nothing is added up.
        let _ = clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &deadline);
    }
}

/// Makes the calling thread wake as close to its deadlines as it is allowed to: timer slack of 1 ns, and
/// `SCHED_FIFO` at `priority` (1 to 99) where the process may. Returns whether the real-time class was granted.
pub fn make_timely(priority: i32) -> bool {
    // SAFETY: PR_SET_TIMERSLACK takes one integer argument and touches only the calling thread's slack.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64) };
    let param = libc::sched_param { sched_priority: priority };
    // SAFETY: pid 0 names the calling thread, and `param` lives for the duration of the call.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) == 0 }
}

/// What the kernel calls itself: `uname -sr` and the machine.
#[must_use]
pub fn kernel() -> String {
    nix::sys::utsname::uname().map_or_else(
        |_| "unknown".to_owned(),
        |u| {
            format!(
                "{} {} {}",
                u.sysname().to_string_lossy(),
                u.release().to_string_lossy(),
                u.machine().to_string_lossy()
            )
        },
    )
}
