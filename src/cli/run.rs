//! `weir run`: prepares and attaches, watches until a signal, detaches.

use std::io::{IsTerminal as _, Write};
use std::path::Path;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing_subscriber::EnvFilter;
use weir_aqm::Nanos;

use super::Error;
use crate::config::Config;
use crate::datapath::events::Events;
use crate::datapath::pause::Pauser;
use crate::datapath::{Instance, StartOptions};
use crate::lab::clock::now_ns;
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
    let events = Events::open(config.instance.as_str())?;
    let mut actions = instance.actions().to_vec();
    let pauser = Pauser::open(&config, &mut actions)?;
    let watched = announce(&config, &actions, out).and_then(|()| {
        let stopped_by = watch(&runtime, &mut instance, events, pauser, &mut signals)?;
        writeln!(out, "{stopped_by}: detaching")
    });
    // Detach even if nobody reads the output any more.
    instance.stop()?;
    watched?;
    Ok(())
}

fn announce(config: &Config, actions: &[String], out: &mut impl Write) -> std::io::Result<()> {
    for action in actions {
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
fn watch(
    runtime: &Runtime,
    instance: &mut Instance,
    events: Events,
    mut pauser: Option<Pauser>,
    signals: &mut Signals,
) -> std::io::Result<&'static str> {
    let ports = instance.reader().port_names();
    runtime.block_on(async {
        // SAFETY: the descriptor is the map's, which `events` keeps open and never exchanges.
        let mut events = unsafe { AsyncFd::register_with_interest(events, Interest::READABLE) }?;
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut log = EventLog::new();
        let mut looks = interval(FOLLOW);
        looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut before = None;
        loop {
            if let Some(pauser) = &mut pauser {
                match pauser.act(now()) {
                    Ok(sent) => log.record(&sent.iter().map(telemetry::asked).collect::<Vec<_>>()),
                    Err(error) => log.record(&[telemetry::Event::unreadable(&error)]),
                }
            }
            let due = pauser.as_ref().and_then(|pauser| pauser.due(now()));
            tokio::select! {
                name = signals.next() => {
                    // What the programs told before the stop is known, too.
                    log.record(&at_hand(events.get_mut(), &ports).told);
                    return Ok(name);
                }
                told = take(&mut events, &ports) => log.record(&told?),
                () = until(due), if due.is_some() => {}
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

fn now() -> Nanos {
    Nanos::from_nanos(now_ns())
}

/// Sleeps until `due`, within tokio's millisecond.
async fn until(due: Option<Nanos>) {
    let left = due.map_or(Nanos::ZERO, |due| due.saturating_sub(now()));
    sleep(Duration::from_nanos(left.as_nanos())).await;
}

/// Events that are taken at once, so that a flood of them leaves room for the rest.
const EVENTS_AT_ONCE: usize = 256;

/// Waits for events; those of them that may be logged.
async fn take(events: &mut AsyncFd<Events>, ports: &[String]) -> std::io::Result<Vec<telemetry::Event>> {
    let mut ready = events.readable_mut().await?;
    let AtHand { told, all } = at_hand(ready.get_inner_mut(), ports);
    if all {
        ready.clear_ready();
    }
    Ok(told)
}

/// Events that were there already.
struct AtHand {
    told: Vec<telemetry::Event>,
    /// Whether none is left.
    all: bool,
}

fn at_hand(events: &mut Events, ports: &[String]) -> AtHand {
    let mut told = Vec::new();
    for _ in 0..EVENTS_AT_ONCE {
        match events.next() {
            Some(event) => told.extend(telemetry::told(&event, ports)),
            None => return AtHand { told, all: true },
        }
    }
    AtHand { told, all: false }
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
