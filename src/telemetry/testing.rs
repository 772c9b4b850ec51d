//! A snapshot for tests: one ingress device, one port with one ring, ten frames sent, nothing lost.

use std::collections::BTreeMap;

use crate::config::Config;
use crate::config::decode::running_port;
use crate::config::encode::{PortFacts, port_config};
use crate::datapath::{HeldSnapshot, IngressSnapshot, PortSnapshot, RingSnapshot, Snapshot};

pub(crate) fn snapshot() -> Snapshot {
    let text = "[[ingress]]\ndevice = \"lan0\"\n[[port]]\ndevice = \"wan0\"\n";
    let port = Config::from_toml_str("t.toml", text).unwrap().ports.remove(0);
    let facts = PortFacts { ifindex: 2, ..PortFacts::TAP };
    let ingress = IngressSnapshot {
        device: "lan0".to_owned(),
        ifindex: 1,
        counters: BTreeMap::from([("received", 10), ("redirected", 10)]),
        received: 10,
        unaccounted: 0,
    };
    let ring = RingSnapshot {
        index: 0,
        slots: 1_000,
        occupancy: 0,
        occupancy_max: 4,
        backlog_bytes: 0,
        head_sojourn_ns: 0,
        predicted_ns: 0,
        drain_bps: None,
        signal: "clear",
        signal_raised: 0,
        pressure: 0.0,
        held_ns: HeldSnapshot { clear: 1_500_000_000, congested: 250_000_000, full: 0 },
        paused_ns: 0,
        observed_ns: 1_000_000_000,
    };
    let port = PortSnapshot {
        device: "wan0".to_owned(),
        ifindex: 2,
        mode: "bottleneck",
        mode_reason: None,
        observed: true,
        driver: "tun".to_owned(),
        config: running_port(&port_config(&port, &facts).unwrap()),
        counters: BTreeMap::from([("seen", 10), ("accepted", 10), ("sent", 10)]),
        drops: BTreeMap::new(),
        unaccounted: 0,
        back_off: None,
        classes: Vec::new(),
        rings: vec![ring],
    };
    Snapshot {
        taken_ns: 2_000_000_000,
        instance: "default".to_owned(),
        ingress: vec![ingress],
        ports: vec![port],
        skipped_runs: BTreeMap::from([("weir_observer", 0)]),
    }
}
