//! What the programs tell through the ring buffer, with the names that people know: each event is counted, and becomes a
//! sentence for the log.

use metrics::counter;
use weir_aqm::{Level, Nanos};
use weir_shared_maps as maps;

use super::{Event, EventKind};
use crate::config::units::show_time;
use crate::datapath::pause::Sent;

/// The value of the label `kind`, and the sentence for the log where there is one to log.
type Told = (&'static str, Option<(EventKind, String)>);

/// Counts an event (`weir_events_total`), and gives what may be logged of it. `ports` are the devices by port index; an event
/// of a port that has no name there is nobody's.
pub fn told(event: &maps::Event, ports: &[String]) -> Option<Event> {
    let device = ports.get(event.port as usize)?;
    let (label, said) = describe(event)?;
    counter!("weir_events_total", "device" => device.clone(), "kind" => label).increment(1);
    said.map(|(kind, text)| Event { device: device.clone(), kind, text })
}

/// Counts a frame that asks a link partner to stop or to go on (`weir_pause_frames_total`), and says it.
pub fn asked(sent: &Sent) -> Event {
    let (state, text) = match &sent.error {
        Some(error) => ("failed", format!("a PAUSE frame could not be sent: {error}")),
        None if sent.longest == Nanos::ZERO => ("xon", "lets its link partner go on".to_owned()),
        None => ("xoff", format!("asks its link partner to stop for {}", show_time(sent.longest))),
    };
    counter!("weir_pause_frames_total", "device" => sent.device.clone(), "state" => state).increment(1);
    Event { device: sent.device.clone(), kind: EventKind::Pausing, text }
}

fn describe(event: &maps::Event) -> Option<Told> {
    match event.kind {
        maps::EVENT_LEVEL => {
            let (before, after) = (level_name(event.before), level_name(event.after));
            let text = format!(
                "ring {}: signal {before} -> {after}, pressure {} %",
                event.ring,
                percent(event.value)
            );
            Some(("level", Some((EventKind::Signal, text))))
        }
        // How many there were is told from the port's counter.
        maps::EVENT_RING_DROPS => Some(("ring_drops", None)),
        maps::EVENT_FLOW => {
            let (before, after) = (way_name(event.before), way_name(event.after));
            Some(("flow", Some((EventKind::Flow, format!("flow {:08x}: {before} -> {after}", event.value)))))
        }
        maps::EVENT_PAUSED => Some(("paused", Some((EventKind::Paused, paused(event))))),
        _ => None,
    }
}

fn paused(event: &maps::Event) -> String {
    let whom = match event.before {
        0xff => "all priorities".to_owned(),
        priorities => {
            let named: Vec<String> =
                (0..8).filter(|i| priorities >> i & 1 == 1).map(|i| i.to_string()).collect();
            format!("priority {}", named.join(", "))
        }
    };
    match event.value {
        0 => format!("the link partner lets {whom} go on"),
        ns => format!("the link partner pauses {whom} for {}", show_time(Nanos::from_nanos(u64::from(ns)))),
    }
}

/// A level as `weir status` and the log name it.
pub(crate) fn level_name(level: u32) -> &'static str {
    match Level::from_u32(level) {
        Level::Clear => "clear",
        Level::Congested => "congested",
        Level::Full => "full",
    }
}

fn way_name(way: u32) -> &'static str {
    match u64::from(way) {
        maps::STICKY_STRAIGHT => "straight",
        maps::STICKY_DIVERTED => "diverted",
        maps::STICKY_SPILLED => "spilled",
        _ => "unknown",
    }
}

/// A Q0.32 fraction, rounded down.
fn percent(q32: u32) -> u64 {
    (u64::from(q32) * 100) >> 32
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    fn ports() -> Vec<String> {
        vec!["wan0".to_owned(), "wan1".to_owned()]
    }

    fn event(kind: u32) -> maps::Event {
        maps::Event { at_ns: 1, kind, port: 1, ring: 2, before: 0, after: 1, value: 1 << 31 }
    }

    #[test]
    fn a_level_is_told_with_port_ring_and_pressure() {
        let told = told(&event(maps::EVENT_LEVEL), &ports()).unwrap();
        assert_eq!((told.device.as_str(), told.kind), ("wan1", EventKind::Signal));
        assert_eq!(told.text, "ring 2: signal clear -> congested, pressure 50 %");
    }

    #[test]
    fn a_pause_is_told_with_its_priorities_and_its_length() {
        let paused = |before, value| {
            let event = maps::Event { before, value, ring: u32::MAX, ..event(maps::EVENT_PAUSED) };
            told(&event, &ports()).unwrap().text
        };
        assert_eq!(paused(0xff, 3_000_000), "the link partner pauses all priorities for 3ms");
        assert_eq!(paused(0b1_1000, 1_000), "the link partner pauses priority 3, 4 for 1us");
        assert_eq!(paused(0xff, 0), "the link partner lets all priorities go on");
    }

    #[test]
    fn every_event_is_counted_by_kind_whether_or_not_it_is_logged() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            for kind in [maps::EVENT_LEVEL, maps::EVENT_RING_DROPS, maps::EVENT_RING_DROPS, maps::EVENT_FLOW]
            {
                told(&event(kind), &ports());
            }
            let nobodys = maps::Event { port: 2, ..event(maps::EVENT_LEVEL) };
            assert_eq!(told(&nobodys, &ports()), None);
        });
        let text = handle.render();
        for (kind, count) in [("level", 1), ("ring_drops", 2), ("flow", 1)] {
            let line = format!("weir_events_total{{device=\"wan1\",kind=\"{kind}\"}} {count}");
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
    }
}
