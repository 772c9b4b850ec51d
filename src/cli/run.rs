//! `weir run`: prepares and attaches, watches until a signal, detaches.

use std::io::{IsTerminal as _, Write};
use std::path::Path;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tracing_subscriber::EnvFilter;

use super::Error;
use crate::config::Config;
use crate::datapath::{Instance, StartOptions};
use crate::telemetry::{self, EventLog};

/// Time between two looks at the maps.
const PERIOD: Duration = Duration::from_millis(250);
/// Time between two looks at the ports' devices.
const FOLLOW: Duration = Duration::from_secs(1);

/// Runs the configuration `path` until SIGINT or SIGTERM.
pub(super) fn run(path: &Path, options: &StartOptions, out: &mut impl Write) -> Result<(), Error> {
    let config = Config::load(path)?;
    log_to_stderr();
    let runtime = Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    // Whatever can fail without touching a device comes first; and a signal that arrives while devices are being
    // prepared must not skip their clean-up.
    let mut signals = runtime.block_on(async { Signals::listen() }).map_err(Error::Runtime)?;
    if let Some(metrics) = &config.metrics {
        runtime.block_on(async { telemetry::serve(metrics.listen) })?;
    }
    let mut instance = Instance::start(&config, options)?;
    let watched = announce(&config, &instance, out).and_then(|()| {
        let stopped_by = watch(&runtime, &mut instance, &mut signals);
        writeln!(out, "{stopped_by}: detaching")
    });
    // Detach even if nobody reads the output any more.
    instance.stop()?;
    watched?;
    Ok(())
}

fn announce(config: &Config, instance: &Instance, out: &mut impl Write) -> std::io::Result<()> {
    for action in instance.actions() {
        writeln!(out, "prepared: {action}")?;
    }
    let ingress: Vec<&str> = config.ingress.iter().map(|ingress| ingress.device.as_str()).collect();
    let ports: Vec<&str> = config.ports.iter().map(|port| port.device.as_str()).collect();
    writeln!(out, "instance {}: {} -> {}", config.instance, ingress.join(" "), ports.join(" "))?;
    if let Some(metrics) = &config.metrics {
        writeln!(out, "metrics on http://{}/metrics", metrics.listen)?;
    }
    writeln!(out, "running; SIGINT or SIGTERM stops")?;
    out.flush()
}

/// Publishes and logs until a signal comes; returns its name.
fn watch(runtime: &Runtime, instance: &mut Instance, signals: &mut Signals) -> &'static str {
    runtime.block_on(async {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut log = EventLog::new();
        let mut looks = interval(FOLLOW);
        looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut before = None;
        loop {
            tokio::select! {
                name = signals.next() => return name,
                _ = looks.tick() => match instance.follow() {
                    Ok(said) => said.iter().for_each(|sentence| tracing::warn!("{sentence}")),
                    Err(error) => tracing::warn!("looking at the devices: {error}"),
                },
                _ = ticks.tick() => match instance.reader().snapshot() {
                    Ok(now) => {
                        telemetry::publish(&now);
                        if let Some(before) = &before {
                            log.record(&telemetry::changes(before, &now));
                        }
                        before = Some(now);
                    }
                    // The programs run on without the daemon's eyes.
                    Err(error) => log.record(&[telemetry::Event::unreadable(&error)]),
                },
            }
        }
    })
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// Logs to standard error at level `info`, or as `WEIR_LOG` says (the syntax of `RUST_LOG`).
fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("WEIR_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // Fails only where the process logs already.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .try_init();
}
