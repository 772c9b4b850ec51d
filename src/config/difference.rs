//! What changed between two configurations besides plans and subscribers.

use super::model::{Config, Port};
use super::policy::Policy;

/// The tables and keys that differ; empty where only plans and subscribers do.
pub fn other_changes(running: &Config, new: &Config) -> Vec<String> {
    let Config {
        instance,
        metrics,
        ingress,
        ports,
        policy: Policy { rules, plans: _, subscribers: _ },
        source: _,
    } = running;
    let mut changes = Vec::new();
    if *instance != new.instance {
        changes.push("instance".to_owned());
    }
    if *metrics != new.metrics {
        changes.push("[metrics]".to_owned());
    }
    if *ingress != new.ingress {
        changes.push("[[ingress]]".to_owned());
    }
    let devices = |ports: &[Port]| ports.iter().map(|port| port.device.clone()).collect::<Vec<_>>();
    if devices(ports) == devices(&new.ports) {
        changes.extend(ports.iter().zip(&new.ports).filter_map(|(a, b)| port_changes(a, b)));
    } else {
        changes.push("[[port]] (devices or their order)".to_owned());
    }
    if *rules != new.policy.rules {
        changes.push("[[rule]]".to_owned());
    }
    changes
}

/// `[[port]] "wan0" (rate, class)`, or nothing.
fn port_changes(running: &Port, new: &Port) -> Option<String> {
    let Port {
        device,
        mode,
        rate,
        overhead,
        mpu,
        framing,
        burst,
        reserve,
        aqm,
        classes,
        default_class,
        subscribers,
        pause,
        stack,
        back_off,
        divert_rate,
    } = running;
    let keys: Vec<&str> = [
        ("mode", *mode != new.mode),
        ("rate", *rate != new.rate),
        ("overhead", (*overhead, *framing) != (new.overhead, new.framing)),
        ("mpu", *mpu != new.mpu),
        ("burst", *burst != new.burst),
        ("reserve", *reserve != new.reserve),
        ("aqm", *aqm != new.aqm),
        ("class", *classes != new.classes),
        ("default_class", *default_class != new.default_class),
        ("subscribers", *subscribers != new.subscribers),
        ("pause", *pause != new.pause),
        ("stack", *stack != new.stack),
        ("on_congested, on_full, spill_to", *back_off != new.back_off),
        ("divert_rate", *divert_rate != new.divert_rate),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect();
    if keys.is_empty() { None } else { Some(format!("[[port]] \"{device}\" ({})", keys.join(", "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[[ingress]]\ndevice = \"lan0\"\n[[port]]\ndevice = \"wan0\"\nrate = \"10mbit\"\n\
                        subscribers = \"source\"\n[[port.class]]\nname = \"a\"\n[[rule]]\nclass = \"a\"\ndscp = 46\n\
                        [[plan]]\nname = \"gold\"\nup = \"2mbit\"\n[[subscriber]]\nname = \"x\"\nplan = \"gold\"\n\
                        prefixes = \"192.0.2.1\"\n";

    fn changes(from: &str, to: &str) -> Vec<String> {
        assert!(TEXT.contains(from), "{from}");
        let config = |text: &str| Config::from_toml_str("t.toml", text).unwrap();
        other_changes(&config(TEXT), &config(&TEXT.replace(from, to)))
    }

    #[test]
    fn plans_and_subscribers_are_no_other_change() {
        assert!(changes("up = \"2mbit\"", "up = \"3mbit\"").is_empty());
        assert!(changes("192.0.2.1", "192.0.2.2").is_empty());
    }

    #[test]
    fn every_other_table_is_named_with_its_keys() {
        assert_eq!(changes("10mbit", "11mbit"), ["[[port]] \"wan0\" (rate)"]);
        assert_eq!(changes("name = \"a\"\n", "name = \"a\"\nweight = 2\n"), ["[[port]] \"wan0\" (class)"]);
        assert_eq!(changes("dscp = 46", "dscp = 45"), ["[[rule]]"]);
        assert_eq!(changes("lan0", "lan1"), ["[[ingress]]"]);
        assert_eq!(changes("wan0", "wan1"), ["[[port]] (devices or their order)"]);
        assert_eq!(changes("[[ingress]]", "instance = \"b\"\n[[ingress]]"), ["instance"]);
    }
}
