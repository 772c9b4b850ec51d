//! The threads of flows: they work in slices, so that a stop is noticed.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::experiment::units::nanos;
use crate::lab::clock::{now_ns, sleep_until};
use crate::lab::error::{Error, Result};

/// The longest that a thread waits for anything.
pub(super) const SLICE: Duration = Duration::from_millis(50);

pub(super) fn spawn(
    flow: &str,
    f: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<JoinHandle<Result<()>>> {
    let name = flow.to_owned();
    thread::Builder::new()
        .name(flow.split(" (").next().unwrap_or(flow).to_owned())
        .spawn(move || f().map_err(|source| Error::Flow { flow: name, source }))
        .map_err(Error::os(format!("start a thread for {flow}")))
}

pub(super) fn join_all(threads: &mut Vec<JoinHandle<Result<()>>>) -> Result<()> {
    let mut first = Ok(());
    for thread in threads.drain(..) {
        let name = thread.thread().name().unwrap_or("a flow").to_owned();
        let panicked = |_| Err(Error::Flow { flow: name, source: io::Error::other("its thread panicked") });
        let result = thread.join().unwrap_or_else(panicked);
        if first.is_ok() {
            first = result;
        }
    }
    first
}

/// Whether a socket call ended only because its slice was over.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

pub(super) fn stopped(stop: &AtomicBool) -> bool {
    stop.load(Ordering::Acquire)
}

/// Sleeps until `deadline_ns`; false when a stop came first.
pub(super) fn wait_until(deadline_ns: u64, stop: &AtomicBool) -> bool {
    loop {
        if stopped(stop) {
            return false;
        }
        let now = now_ns();
        if now >= deadline_ns {
            return true;
        }
        sleep_until(deadline_ns.min(now + nanos(SLICE)));
    }
}
