//! The log: what the programs told and what changed between two snapshots, at most once a second for each device and kind.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use weir_shared_maps::{CounterId as _, PortCounter};

use crate::datapath::{PortSnapshot, Snapshot};

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A ring's signal changed.
    Signal,
    /// A flow's way changed.
    Flow,
    /// The link partner paused a port, or let it go on.
    Paused,
    /// Whoever feeds a port was asked to stop, or to go on.
    Pausing,
    /// The driver refused frames: the ring was full in spite of the signal.
    RingDrops,
    /// Frames were lost in the redirect itself.
    RedirectErrors,
    /// Frames passed without a decision.
    FailOpen,
    /// Frames are missing from the sums.
    Unaccounted,
    /// The daemon did not keep up with the events.
    EventsLost,
    /// The maps could not be read.
    Unreadable,
}

/// Something that happened at a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The device.
    pub device: String,
    /// The kind.
    pub kind: EventKind,
    /// One sentence without the device.
    pub text: String,
}

impl Event {
    /// The instance's maps could not be read.
    pub fn unreadable(error: &dyn std::error::Error) -> Self {
        Self { device: "instance".to_owned(), kind: EventKind::Unreadable, text: error.to_string() }
    }
}

/// What happened between two snapshots of one instance.
pub fn changes(before: &Snapshot, after: &Snapshot) -> Vec<Event> {
    let earlier: HashMap<&str, &PortSnapshot> =
        before.ports.iter().map(|port| (port.device.as_str(), port)).collect();
    let mut events = Vec::new();
    for port in &after.ports {
        if let Some(earlier) = earlier.get(port.device.as_str()) {
            port_changes(earlier, port, &mut events);
        }
    }
    events
}

fn port_changes(before: &PortSnapshot, after: &PortSnapshot, events: &mut Vec<Event>) {
    let mut event = |kind, text| events.push(Event { device: after.device.clone(), kind, text });
    let watched = [
        (EventKind::RingDrops, PortCounter::RingDrops, "frames met a full ring"),
        (EventKind::RedirectErrors, PortCounter::RedirectErrors, "frames were lost in the redirect"),
        (EventKind::FailOpen, PortCounter::FailOpen, "frames passed without a decision"),
        (EventKind::EventsLost, PortCounter::EventsLost, "events were lost: the daemon did not keep up"),
    ];
    for (kind, counter, what) in watched {
        match grown(&before.counters, &after.counters, counter.name()) {
            0 => {}
            count => event(kind, format!("{count} {what}")),
        }
    }
    // Frames in flight between two maps are missing for a moment; what is still missing is told when it changes.
    if after.unaccounted != 0 && after.unaccounted == before.unaccounted {
        event(EventKind::Unaccounted, format!("{} frames are unaccounted for", after.unaccounted));
    }
}

fn grown(before: &BTreeMap<&'static str, u64>, after: &BTreeMap<&'static str, u64>, name: &str) -> u64 {
    let value = |counters: &BTreeMap<&'static str, u64>| counters.get(name).copied().unwrap_or(0);
    value(after).saturating_sub(value(before))
}

/// Who is limited: a device's events of one kind.
type Key = (String, EventKind);

/// Lets one event a second through for each device and kind, and counts the rest.
pub struct EventLog<C: Clock = DefaultClock> {
    limiter: RateLimiter<Key, HashMapStateStore<Key>, C, NoOpMiddleware<C::Instant>>,
    suppressed: HashMap<Key, u64>,
}

impl EventLog {
    /// A log on the system's clock.
    pub fn new() -> Self {
        Self::with_clock(DefaultClock::default())
    }
}

impl Default for EventLog {
    fn default() -> Self {
        Self::new()
    }
}

impl<C: Clock> EventLog<C> {
    /// A log on the given clock.
    pub fn with_clock(clock: C) -> Self {
        let limiter = RateLimiter::hashmap_with_clock(Quota::per_second(NonZeroU32::MIN), clock);
        Self { limiter, suppressed: HashMap::new() }
    }

    /// The line to log for `event`, with the number of those held back before it; `None` while it must wait.
    pub fn admit(&mut self, event: &Event) -> Option<String> {
        let key = (event.device.clone(), event.kind);
        if self.limiter.check_key(&key).is_err() {
            *self.suppressed.entry(key).or_default() += 1;
            return None;
        }
        let line = format!("{}: {}", event.device, event.text);
        match self.suppressed.remove(&key) {
            None => Some(line),
            Some(suppressed) => Some(format!("{line} ({suppressed} like it suppressed)")),
        }
    }

    /// Logs what may be logged.
    pub fn record(&mut self, events: &[Event]) {
        for event in events {
            let Some(line) = self.admit(event) else { continue };
            match event.kind {
                EventKind::Signal | EventKind::Flow | EventKind::Paused | EventKind::Pausing => {
                    tracing::info!("{line}");
                }
                EventKind::RingDrops
                | EventKind::RedirectErrors
                | EventKind::FailOpen
                | EventKind::Unaccounted
                | EventKind::EventsLost
                | EventKind::Unreadable => tracing::warn!("{line}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;

    use super::*;
    use crate::telemetry::testing::snapshot;

    fn signal(device: &str) -> Event {
        Event { device: device.to_owned(), kind: EventKind::Signal, text: "signal clear -> full".to_owned() }
    }

    #[test]
    fn a_flapping_signal_is_logged_once_a_second_with_the_number_held_back() {
        let clock = FakeRelativeClock::default();
        let mut log = EventLog::with_clock(clock.clone());
        let admitted: Vec<String> = (0..100).filter_map(|_| log.admit(&signal("wan0"))).collect();
        assert_eq!(admitted, ["wan0: signal clear -> full"]);
        clock.advance(Duration::from_millis(1_001));
        let next = log.admit(&signal("wan0"));
        assert_eq!(next.as_deref(), Some("wan0: signal clear -> full (99 like it suppressed)"));
        clock.advance(Duration::from_millis(1_001));
        assert_eq!(log.admit(&signal("wan0")).as_deref(), Some("wan0: signal clear -> full"));
    }

    #[test]
    fn one_noisy_port_does_not_silence_another_or_another_kind() {
        let mut log = EventLog::with_clock(FakeRelativeClock::default());
        assert!(log.admit(&signal("wan0")).is_some());
        assert!(log.admit(&signal("wan1")).is_some());
        assert!(log.admit(&Event { kind: EventKind::RingDrops, ..signal("wan0") }).is_some());
        assert!(log.admit(&signal("wan0")).is_none());
    }

    #[test]
    fn a_quiet_second_has_no_events() {
        assert_eq!(changes(&snapshot(), &snapshot()), []);
    }

    #[test]
    fn losses_are_told_with_their_number() {
        let mut after = snapshot();
        after.ports[0].counters.insert("ring_drops", 7);
        after.ports[0].counters.insert("redirect_errors", 2);
        let texts: Vec<String> = changes(&snapshot(), &after).into_iter().map(|event| event.text).collect();
        assert_eq!(texts, ["7 frames met a full ring", "2 frames were lost in the redirect"]);
    }

    #[test]
    fn events_that_nobody_read_are_told_of_as_lost() {
        let mut after = snapshot();
        after.ports[0].counters.insert("events_lost", 4);
        let events = changes(&snapshot(), &after);
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].kind, EventKind::EventsLost);
        assert!(events[0].text.starts_with("4 events were lost"), "{}", events[0].text);
    }

    #[test]
    fn frames_in_flight_are_not_reported_as_lost() {
        let mut before = snapshot();
        before.ports[0].unaccounted = 5;
        let mut after = snapshot();
        after.ports[0].unaccounted = 3;
        assert_eq!(changes(&before, &after), []);
        assert_eq!(changes(&after, &after).len(), 1);
    }
}
