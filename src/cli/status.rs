//! `weir status`: what runs, read back from the maps.

use std::collections::BTreeMap;
use std::io::Write;

use serde::Serialize;
use weir_aqm::{Nanos, Rate};
use weir_shared_maps::{ClassCounter, CounterId as _, IngressCounter, PortCounter};

use super::{Error, table::table};
use crate::config::back_off::RunningBackOff;
use crate::config::decode::MIN_FRAME;
use crate::config::units::{show_rate, show_time};
use crate::datapath::{
    ClassSnapshot, HeldSnapshot, IngressSnapshot, PortSnapshot, Reader, RingSnapshot, Snapshot,
};

/// Shows the instance, as tables or as JSON.
pub(super) fn run(instance: &str, json: bool, out: &mut impl Write) -> Result<(), Error> {
    let reader = Reader::open(instance)?;
    let roster = reader.roster()?;
    let status = Status {
        snapshot: reader.snapshot()?,
        plans: roster.plans.iter().flatten().count(),
        subscribers: roster.members().count(),
    };
    if json {
        print_json(&status, out)?;
    } else {
        write!(out, "{}", render(&status.snapshot))?;
        if status.plans > 0 || status.subscribers > 0 {
            writeln!(out, "\n{} subscribers of {} plans", status.subscribers, status.plans)?;
        }
    }
    Ok(())
}

/// The snapshot, and how many there are of what it does not show one by one.
#[derive(Serialize)]
struct Status {
    #[serde(flatten)]
    snapshot: Snapshot,
    plans: usize,
    subscribers: usize,
}

pub(super) fn print_json(value: &impl Serialize, out: &mut impl Write) -> std::io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// The whole status as text.
fn render(snapshot: &Snapshot) -> String {
    let mut text = format!("instance {}\n\n", snapshot.instance);
    text.push_str(&table(
        &["ingress", "received", "redirected", "dropped", "to the stack", "unaccounted"],
        snapshot.ingress.iter().map(ingress_row),
    ));
    for ingress in &snapshot.ingress {
        text.push_str(&nonzero(&ingress.device, "to the stack", to_stack(&ingress.counters)));
        let pause = IngressCounter::PauseReceived.name();
        let paused = std::iter::once((pause, value(&ingress.counters, pause)));
        text.push_str(&nonzero(&ingress.device, "heeded", paused));
    }
    text.push('\n');
    text.push_str(&table(
        &[
            "port",
            "queue",
            "rate",
            "AQM",
            "target",
            "limit",
            "seen",
            "sent",
            "marked",
            "dropped",
            "unaccounted",
        ],
        snapshot.ports.iter().map(port_row),
    ));
    for port in &snapshot.ports {
        text.push_str(&on_the_wire(port));
        if let Some(why) = &port.mode_reason {
            text.push_str(&format!("{} is in mode {}: {why}\n", port.device, port.mode));
        }
        text.push_str(&nonzero(&port.device, "drops", port.drops.iter().map(|(cause, n)| (*cause, *n))));
        text.push_str(&nonzero(&port.device, "beside", beside(&port.counters)));
        text.push_str(&nonzero(&port.device, "by ingress", by_ingress(&port.counters)));
    }
    for (name, actions) in back_offs(snapshot) {
        text.push_str(&format!("{name} backs off: {}\n", back_off_words(actions)));
    }
    if snapshot.ports.iter().any(|port| !port.classes.is_empty()) {
        text.push('\n');
        text.push_str(&table(
            &["class", "priority", "weight", "rate", "ceil", "AQM", "seen", "accepted", "marked", "dropped"],
            snapshot
                .ports
                .iter()
                .flat_map(|port| port.classes.iter().map(move |class| class_row(&port.device, class))),
        ));
    }
    text.push_str(&nonzero(
        "observers",
        "skipped by the kernel",
        snapshot.skipped_runs.iter().map(|(name, n)| (*name, *n)),
    ));
    let rings = || snapshot.ports.iter().flat_map(|port| port.rings.iter().map(move |ring| (port, ring)));
    text.push('\n');
    text.push_str(&table(
        &["ring", "frames", "most", "backlog", "oldest", "predicted", "drain", "last seen"],
        rings().map(|(port, ring)| ring_row(snapshot.taken_ns, port, ring)),
    ));
    text.push('\n');
    text.push_str(&table(
        &["signal", "level", "pressure", "raised", "clear for", "congested for", "full for", "paused for"],
        rings().map(|(port, ring)| signal_row(port, ring)),
    ));
    text
}

fn ingress_row(ingress: &IngressSnapshot) -> Vec<String> {
    let count = |counter: IngressCounter| value(&ingress.counters, counter.name());
    let dropped = count(IngressCounter::DropBackpressure);
    vec![
        ingress.device.clone(),
        ingress.received.to_string(),
        count(IngressCounter::Redirected).to_string(),
        dropped.to_string(),
        to_stack(&ingress.counters).map(|(_, frames)| frames).sum::<u64>().to_string(),
        ingress.unaccounted.to_string(),
    ]
}

fn port_row(port: &PortSnapshot) -> Vec<String> {
    let count = |counter: PortCounter| value(&port.counters, counter.name()).to_string();
    let config = &port.config;
    let queue = if port.observed { format!("{} ({})", port.mode, port.driver) } else { port.mode.to_owned() };
    vec![
        port.device.clone(),
        queue,
        config.rate_bps.map_or_else(|| "-".to_owned(), bits),
        config.algorithm.to_owned(),
        time(config.target_ns),
        config.limit_ns.map_or_else(|| "-".to_owned(), time),
        count(PortCounter::Seen),
        count(PortCounter::Sent),
        count(PortCounter::Marked),
        port.drops.values().sum::<u64>().to_string(),
        port.unaccounted.to_string(),
    ]
}

fn class_row(device: &str, class: &ClassSnapshot) -> Vec<String> {
    let count = |counter: ClassCounter| value(&class.counters, counter.name());
    let rate = |rate: Option<u64>| rate.map_or_else(|| "-".to_owned(), bits);
    let config = &class.config;
    let default = if class.default { " (default)" } else { "" };
    vec![
        format!("{device}/{}{default}", class.name),
        config.priority.to_string(),
        config.weight.to_string(),
        rate(config.rate_bps),
        rate(config.ceil_bps),
        config.algorithm.to_owned(),
        count(ClassCounter::Seen).to_string(),
        count(ClassCounter::Accepted).to_string(),
        count(ClassCounter::Marked).to_string(),
        CLASS_DROPS.into_iter().map(count).sum::<u64>().to_string(),
    ]
}

/// Losses of a class.
const CLASS_DROPS: [ClassCounter; 9] = [
    ClassCounter::DropAqm,
    ClassCounter::DropLimit,
    ClassCounter::DropAdmission,
    ClassCounter::DropCeil,
    ClassCounter::DropShare,
    ClassCounter::DropSubscriber,
    ClassCounter::DropFairness,
    ClassCounter::DropColour,
    ClassCounter::DropBusy,
];

fn ring_row(now_ns: u64, port: &PortSnapshot, ring: &RingSnapshot) -> Vec<String> {
    // A ring that no frame has reached yet has nothing to show.
    if ring.observed_ns == 0 {
        let mut row = vec![format!("{}/{}", port.device, ring.index)];
        row.resize_with(7, || "-".to_owned());
        row.push("never".to_owned());
        return row;
    }
    vec![
        format!("{}/{}", port.device, ring.index),
        format!("{} of {}", ring.occupancy, ring.slots),
        ring.occupancy_max.to_string(),
        format!("{} B", ring.backlog_bytes),
        time(ring.head_sojourn_ns),
        time(ring.predicted_ns),
        ring.drain_bps.map_or_else(|| "-".to_owned(), bits),
        format!("{} ago", time(now_ns.saturating_sub(ring.observed_ns))),
    ]
}

fn signal_row(port: &PortSnapshot, ring: &RingSnapshot) -> Vec<String> {
    let HeldSnapshot { clear, congested, full } = ring.held_ns;
    let some = |ns: u64| if ns == 0 { "-".to_owned() } else { time(ns) };
    vec![
        format!("{}/{}", port.device, ring.index),
        ring.signal.to_owned(),
        format!("{:.0} %", ring.pressure * 100.0),
        ring.signal_raised.to_string(),
        some(clear),
        some(congested),
        some(full),
        some(ring.paused_ns),
    ]
}

/// Outcomes that end at the kernel's stack.
fn to_stack(counters: &BTreeMap<&'static str, u64>) -> impl Iterator<Item = (&'static str, u64)> {
    counters.iter().filter(|(name, _)| name.starts_with("pass_")).map(|(name, frames)| (*name, *frames))
}

/// What went past the decision, and what it could not do.
fn beside(counters: &BTreeMap<&'static str, u64>) -> impl Iterator<Item = (&'static str, u64)> {
    let watched = [
        PortCounter::StackSeen,
        PortCounter::StackMarked,
        PortCounter::StackDropped,
        PortCounter::StackSent,
        PortCounter::StackDrops,
        PortCounter::FailOpen,
        PortCounter::AqmBusy,
        PortCounter::NoMetadata,
        PortCounter::Unobserved,
    ];
    watched.into_iter().map(|counter| (counter.name(), value(counters, counter.name())))
}

/// What ingress did because of the port's signal, drops apart.
fn by_ingress(counters: &BTreeMap<&'static str, u64>) -> impl Iterator<Item = (&'static str, u64)> {
    let watched = [PortCounter::IngressMarked, PortCounter::Diverted, PortCounter::Spilled];
    watched.into_iter().map(|counter| (counter.name(), value(counters, counter.name())))
}

/// What ingress does while a signal stands, of each port and class where it does anything.
fn back_offs(snapshot: &Snapshot) -> impl Iterator<Item = (String, &RunningBackOff)> {
    let all = snapshot.ports.iter().flat_map(|port| {
        let classes = port.classes.iter();
        let classes = classes.map(|class| (format!("{}/{}", port.device, class.name), Some(&class.back_off)));
        std::iter::once((port.device.clone(), port.back_off.as_ref())).chain(classes)
    });
    all.filter_map(|(name, actions)| Some((name, actions?)))
        .filter(|(_, actions)| (actions.on_congested, actions.on_full) != ("none", "none"))
}

/// `congested mark, full spill to wan1`.
fn back_off_words(actions: &RunningBackOff) -> String {
    let word = |action: &'static str| match (&actions.spill_to, action) {
        (Some(device), "spill") => format!("spill to {device}"),
        (_, "divert") => {
            let bound = actions.divert_bps.map_or_else(|| "twice the drain rate".to_owned(), bits);
            format!("divert up to {bound}")
        }
        (_, action) => action.to_owned(),
    };
    format!("congested {}, full {}", word(actions.on_congested), word(actions.on_full))
}

/// What frames cost on the link, where that is not their size.
fn on_the_wire(port: &PortSnapshot) -> String {
    let config = &port.config;
    if config.overhead_bytes == 0 && config.mpu_bytes == 0 && config.framing == "none" {
        return String::new();
    }
    let framing = match config.framing {
        "none" => String::new(),
        framing => format!(", {framing}"),
    };
    format!(
        "{} on the wire: frames of {} to {} bytes cost {} to {} (overhead {}, mpu {}{framing})\n",
        port.device,
        MIN_FRAME,
        config.max_packet_bytes,
        config.min_packet_wire_bytes,
        config.max_packet_wire_bytes,
        config.overhead_bytes,
        config.mpu_bytes,
    )
}

/// `wan0 drops: aqm 3, limit 1`, or nothing where all are zero.
fn nonzero(device: &str, what: &str, counts: impl Iterator<Item = (&'static str, u64)>) -> String {
    let shown: Vec<String> =
        counts.filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}")).collect();
    if shown.is_empty() { String::new() } else { format!("{device} {what}: {}\n", shown.join(", ")) }
}

fn value(counters: &BTreeMap<&'static str, u64>, name: &str) -> u64 {
    counters.get(name).copied().unwrap_or(0)
}

fn time(ns: u64) -> String {
    show_time(Nanos::from_nanos(ns))
}

pub(super) fn bits(bits_per_second: u64) -> String {
    show_rate(Rate::from_bits_per_second(bits_per_second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::testing::snapshot;

    #[test]
    fn the_status_names_every_device_and_every_cause_that_is_not_zero() {
        let mut snapshot = snapshot();
        snapshot.ports[0].drops.insert("aqm", 3);
        snapshot.ports[0].rings[0].pressure = 0.25;
        snapshot.ports[0].counters.insert("stack_seen", 5);
        snapshot.ports[0].mode_reason = Some("because".to_owned());
        snapshot.ingress[0].counters.insert("pass_ttl", 4);
        let text = render(&snapshot);
        for part in [
            "lan0",
            "wan0",
            "wan0 drops: aqm 3\n",
            "lan0 to the stack: pass_ttl 4\n",
            "0 of 1000",
            "25 %",
            "250ms",
            "wan0 beside: stack_seen 5",
            "wan0 is in mode bottleneck: because\n",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains("limit 0"), "{text}");
    }

    #[test]
    fn the_actions_of_a_port_are_shown_with_where_they_lead_and_none_is_not() {
        let mut snapshot = snapshot();
        snapshot.ports[0].back_off = Some(RunningBackOff {
            on_congested: "divert",
            on_full: "spill",
            spill_to: Some("wan1".to_owned()),
            divert_bps: Some(8_000_000),
        });
        let line = "wan0 backs off: congested divert up to 8mbit, full spill to wan1\n";
        assert!(render(&snapshot).contains(line), "{}", render(&snapshot));
        snapshot.ports[0].back_off =
            Some(RunningBackOff { on_congested: "none", on_full: "none", spill_to: None, divert_bps: None });
        assert!(!render(&snapshot).contains("backs off"));
    }

    #[test]
    fn a_ring_that_was_never_seen_shows_no_numbers() {
        let mut snapshot = snapshot();
        snapshot.ports[0].rings[0].observed_ns = 0;
        assert!(render(&snapshot).contains("never"));
    }
}
