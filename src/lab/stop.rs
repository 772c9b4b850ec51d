//! A request to stop, from a signal or from code, that sleepers notice at once.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::clock::now_ns;
use super::error::{Error, Result};

/// A flag that can be waited on; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    shared: Arc<(Mutex<bool>, Condvar)>,
}

impl Stop {
    /// A flag that SIGINT and SIGTERM set from now on (instead of ending the process), so that guards run.
    ///
    /// # Errors
    /// [`Error::Os`] when the handlers cannot be installed.
    pub fn on_signals() -> Result<Self> {
        let stop = Self::default();
        let on_signal = stop.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(Error::os("start a runtime for signals"))?;
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            let install = |kind| signal(kind).map_err(Error::os("install a signal handler"));
            (install(SignalKind::interrupt())?, install(SignalKind::terminate())?)
        };
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                });
                on_signal.set();
            })
            .map_err(Error::os("start the thread signals"))?;
        Ok(stop)
    }

    /// Asks everyone to stop.
    pub fn set(&self) {
        // The flag is a bool: a thread that panicked while holding it cannot have left it half-written.
        *self.shared.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.1.notify_all();
    }

    /// Whether a stop was asked for.
    #[must_use]
    pub fn is_set(&self) -> bool {
        *self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until the monotonic clock shows `deadline_ns`.
    ///
    /// # Errors
    /// [`Error::Interrupted`] as soon as a stop is asked for.
    pub fn sleep_until(&self, deadline_ns: u64) -> Result<()> {
        let mut stopped = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if *stopped {
                return Err(Error::Interrupted);
            }
            let now = now_ns();
            if now >= deadline_ns {
                return Ok(());
            }
            let wait = Duration::from_nanos(deadline_ns - now);
            stopped = self.shared.1.wait_timeout(stopped, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sleeps until a stop is asked for.
    pub fn wait(&self) {
        let mut stopped = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !*stopped {
            stopped = self.shared.1.wait(stopped).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
