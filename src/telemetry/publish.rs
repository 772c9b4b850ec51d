//! Snapshots as metrics, through the `metrics` facade: without a recorder every call is a no-op.
//!
//! | metric | kind | labels |
//! |---|---|---|
//! | `weir_ingress_packets_total` | counter | `device`, `outcome` ([`weir_shared_maps::IngressCounter`]) |
//! | `weir_port_packets_total` | counter | `device`, `outcome` ([`weir_shared_maps::PortCounter`]) |
//! | `weir_port_bytes_total` | counter | `device` |
//! | `weir_class_packets_total` | counter | `device`, `class`, `outcome` ([`weir_shared_maps::ClassCounter`]) |
//! | `weir_class_bytes_total` | counter | `device`, `class`; what egress accepted |
//! | `weir_ingress_unaccounted_packets`, `weir_port_unaccounted_packets` | gauge | `device` |
//! | `weir_ring_occupancy_packets`, `weir_ring_occupancy_max_packets`, `weir_ring_slots` | gauge | `device`, `ring` |
//! | `weir_ring_backlog_bytes` | gauge | `device`, `ring` |
//! | `weir_ring_head_sojourn_seconds`, `weir_ring_predicted_sojourn_seconds` | gauge | `device`, `ring` |
//! | `weir_ring_drain_bits_per_second` | gauge | `device`, `ring`; NaN while unknown |
//! | `weir_ring_signal_level` | gauge | `device`, `ring`; 0 clear, 1 congested, 2 full |
//! | `weir_ring_signal_raised_total` | counter | `device`, `ring` |
//! | `weir_ring_signal_pressure` | gauge | `device`, `ring`; 0 to 1 |
//! | `weir_ring_signal_held_seconds_total` | gauge | `device`, `ring`, `level`; grows only |
//! | `weir_ring_paused_seconds` | gauge | `device`, `ring`; what is left of the link partner's pause |
//! | `weir_events_total` | counter | `device`, `kind`: `level`, `ring_drops`, `flow`, `paused` |
//! | `weir_events_lost_total` | counter | `device` |
//! | `weir_skipped_runs_total` | counter | `program`: runs of an observer that the kernel skipped |
//! | `weir_pause_frames_total` | counter | `device` (the ingress device), `state`: `xoff`, `xon`, `failed` |

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use weir_shared_maps::{ClassCounter, CounterId as _, PortCounter};

use crate::datapath::{ClassSnapshot, HeldSnapshot, IngressSnapshot, PortSnapshot, RingSnapshot, Snapshot};

/// Tells the recorder what each metric means. Call once after a recorder is installed.
pub fn describe() {
    describe_counter!("weir_ingress_packets_total", Unit::Count, "Frames at an ingress device by outcome");
    describe_counter!("weir_port_packets_total", Unit::Count, "Frames at a port by outcome");
    describe_counter!("weir_port_bytes_total", Unit::Bytes, "Bytes the driver took, without overhead");
    describe_counter!("weir_class_packets_total", Unit::Count, "Frames of a class of a port by outcome");
    describe_counter!("weir_class_bytes_total", Unit::Bytes, "Bytes accepted of a class, without overhead");
    describe_gauge!("weir_ingress_unaccounted_packets", Unit::Count, "Received less the sum of outcomes");
    describe_gauge!("weir_port_unaccounted_packets", Unit::Count, "Seen less sent and dropped by any cause");
    describe_gauge!("weir_ring_slots", Unit::Count, "Slots of the TX ring");
    describe_gauge!("weir_ring_occupancy_packets", Unit::Count, "Frames in the TX ring");
    describe_gauge!("weir_ring_occupancy_max_packets", Unit::Count, "Most frames seen in the TX ring");
    describe_gauge!("weir_ring_backlog_bytes", Unit::Bytes, "Bytes in the TX ring");
    describe_gauge!("weir_ring_head_sojourn_seconds", Unit::Seconds, "Sojourn of the ring's oldest frame");
    describe_gauge!("weir_ring_predicted_sojourn_seconds", Unit::Seconds, "Sojourn of an arriving frame");
    describe_gauge!(
        "weir_ring_drain_bits_per_second",
        Unit::BitsPerSecond,
        "Measured drain rate, NaN while unknown"
    );
    describe_counter!("weir_events_total", Unit::Count, "Events that the programs told of, by kind");
    describe_counter!("weir_pause_frames_total", Unit::Count, "PAUSE and PFC frames to link partners");
    describe_counter!("weir_events_lost_total", Unit::Count, "Events lost because the ring buffer was full");
    describe_counter!("weir_skipped_runs_total", Unit::Count, "Runs of an observer that the kernel skipped");
    describe_gauge!("weir_ring_signal_level", Unit::Count, "Signal: 0 clear, 1 congested, 2 full");
    describe_gauge!(
        "weir_ring_signal_pressure",
        Unit::Count,
        "How far the ring is on its way to full, 0 to 1"
    );
    describe_gauge!(
        "weir_ring_signal_held_seconds_total",
        Unit::Seconds,
        "Time spent in each level of the signal"
    );
    describe_gauge!("weir_ring_paused_seconds", Unit::Seconds, "What is left of the link partner's pause");
    describe_counter!("weir_ring_signal_raised_total", Unit::Count, "How often the signal became full");
}

/// Sets every metric to what the snapshot says.
pub fn publish(snapshot: &Snapshot) {
    snapshot.ingress.iter().for_each(ingress);
    snapshot.ports.iter().for_each(port);
    for (program, runs) in &snapshot.skipped_runs {
        counter!("weir_skipped_runs_total", "program" => *program).absolute(*runs);
    }
}

fn ingress(ingress: &IngressSnapshot) {
    for (outcome, packets) in &ingress.counters {
        let labels = [("device", ingress.device.clone()), ("outcome", (*outcome).to_owned())];
        counter!("weir_ingress_packets_total", &labels).absolute(*packets);
    }
    let labels = [("device", ingress.device.clone())];
    gauge!("weir_ingress_unaccounted_packets", &labels).set(ingress.unaccounted as f64);
}

fn port(port: &PortSnapshot) {
    let device = [("device", port.device.clone())];
    for (outcome, count) in &port.counters {
        if *outcome == PortCounter::SentBytes.name() {
            counter!("weir_port_bytes_total", &device).absolute(*count);
        } else if *outcome == PortCounter::EventsLost.name() {
            counter!("weir_events_lost_total", &device).absolute(*count);
        } else {
            let labels = [("device", port.device.clone()), ("outcome", (*outcome).to_owned())];
            counter!("weir_port_packets_total", &labels).absolute(*count);
        }
    }
    gauge!("weir_port_unaccounted_packets", &device).set(port.unaccounted as f64);
    for of_port in &port.classes {
        class(&port.device, of_port);
    }
    for state in &port.rings {
        ring(&port.device, state);
    }
}

fn class(device: &str, class: &ClassSnapshot) {
    let own = [("device", device.to_owned()), ("class", class.name.clone())];
    for (outcome, count) in &class.counters {
        if *outcome == ClassCounter::AcceptedBytes.name() {
            counter!("weir_class_bytes_total", &own).absolute(*count);
        } else {
            let [device, class] = own.clone();
            let labels = [device, class, ("outcome", (*outcome).to_owned())];
            counter!("weir_class_packets_total", &labels).absolute(*count);
        }
    }
}

fn ring(device: &str, ring: &RingSnapshot) {
    let labels = [("device", device.to_owned()), ("ring", ring.index.to_string())];
    gauge!("weir_ring_slots", &labels).set(ring.slots);
    gauge!("weir_ring_occupancy_packets", &labels).set(ring.occupancy);
    gauge!("weir_ring_occupancy_max_packets", &labels).set(ring.occupancy_max);
    gauge!("weir_ring_backlog_bytes", &labels).set(ring.backlog_bytes as f64);
    gauge!("weir_ring_head_sojourn_seconds", &labels).set(seconds(ring.head_sojourn_ns));
    gauge!("weir_ring_predicted_sojourn_seconds", &labels).set(seconds(ring.predicted_ns));
    let drain = ring.drain_bps.map_or(f64::NAN, |bits| bits as f64);
    gauge!("weir_ring_drain_bits_per_second", &labels).set(drain);
    gauge!("weir_ring_signal_level", &labels).set(level(ring.signal));
    counter!("weir_ring_signal_raised_total", &labels).absolute(u64::from(ring.signal_raised));
    gauge!("weir_ring_signal_pressure", &labels).set(ring.pressure);
    gauge!("weir_ring_paused_seconds", &labels).set(seconds(ring.paused_ns));
    let HeldSnapshot { clear, congested, full } = ring.held_ns;
    let [device, index] = labels;
    for (level, held) in [("clear", clear), ("congested", congested), ("full", full)] {
        let labels = [device.clone(), index.clone(), ("level", level.to_owned())];
        // A counter of the facade counts whole numbers.
        gauge!("weir_ring_signal_held_seconds_total", &labels).set(seconds(held));
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn level(signal: &str) -> f64 {
    match signal {
        "clear" => 0.0,
        "congested" => 1.0,
        "full" => 2.0,
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;
    use weir_shared_maps::{BackOff, ClassConfig};
    use zerocopy::FromZeros as _;

    use super::*;
    use crate::config::back_off;
    use crate::config::decode::running_class;
    use crate::telemetry::testing::snapshot;

    #[test]
    fn every_counter_of_every_class_reaches_the_exporter_with_its_port_and_its_class() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let mut snapshot = snapshot();
        let class = |name: &str, first: u64| ClassSnapshot {
            name: name.to_owned(),
            default: false,
            config: running_class(&ClassConfig::new_zeroed()),
            back_off: back_off::running(&BackOff::new_zeroed(), |_| None),
            counters: ClassCounter::ALL.iter().map(|counter| counter.name()).zip(first..).collect(),
        };
        snapshot.ports[0].classes = vec![class("voice", 100), class("bulk", 200)];
        metrics::with_local_recorder(&recorder, || {
            describe();
            publish(&snapshot);
        });
        let text = handle.render();
        for (name, first) in [("voice", 100), ("bulk", 200)] {
            for (counter, count) in ClassCounter::ALL.iter().zip(first..) {
                let labels = format!("device=\"wan0\",class=\"{name}\"");
                let line = if *counter == ClassCounter::AcceptedBytes {
                    format!("weir_class_bytes_total{{{labels}}} {count}")
                } else {
                    let outcome = counter.name();
                    format!("weir_class_packets_total{{{labels},outcome=\"{outcome}\"}} {count}")
                };
                assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
            }
        }
        assert!(!text.contains("outcome=\"accepted_bytes\""), "bytes are no packets\n{text}");
    }

    #[test]
    fn every_counter_and_gauge_reaches_the_exporter_with_its_labels() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let mut snapshot = snapshot();
        snapshot.ports[0].counters.insert("aqm", 3);
        snapshot.ports[0].counters.insert("sent_bytes", 9_000);
        snapshot.ports[0].rings[0].signal = "full";
        snapshot.ports[0].rings[0].pressure = 0.75;
        snapshot.ports[0].counters.insert("events_lost", 3);
        snapshot.skipped_runs.insert("weir_observer", 4);
        snapshot.ports[0].rings[0].predicted_ns = 5_000_000;
        metrics::with_local_recorder(&recorder, || {
            describe();
            publish(&snapshot);
        });
        let text = handle.render();
        for line in [
            "weir_ingress_packets_total{device=\"lan0\",outcome=\"received\"} 10",
            "weir_port_packets_total{device=\"wan0\",outcome=\"aqm\"} 3",
            "weir_port_bytes_total{device=\"wan0\"} 9000",
            "weir_ring_signal_level{device=\"wan0\",ring=\"0\"} 2",
            "weir_ring_predicted_sojourn_seconds{device=\"wan0\",ring=\"0\"} 0.005",
            "weir_ring_signal_held_seconds_total{device=\"wan0\",ring=\"0\",level=\"congested\"} 0.25",
            "weir_ring_signal_pressure{device=\"wan0\",ring=\"0\"} 0.75",
            "weir_events_lost_total{device=\"wan0\"} 3",
            "weir_skipped_runs_total{program=\"weir_observer\"} 4",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("outcome=\"sent_bytes\""), "bytes are no packets\n{text}");
        assert!(!text.contains("outcome=\"events_lost\""), "events are no packets\n{text}");
        let typed = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        for name in typed.filter_map(|line| line.split(' ').next()) {
            assert!(text.contains(&format!("# HELP {name} ")), "{name} is not described");
        }
    }
}
