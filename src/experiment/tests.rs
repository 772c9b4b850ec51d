use std::time::Duration;

use super::units::BitRate;
use super::*;

const GOOD: &str = r#"
name = "t"
duration = "3s"
contenders = ["kernel", "weir"]
[link]
rate = "10mbit"
delay = "10ms"
ring = 1000
[[tcp]]
count = 2
congestion = "cubic"
[[udp]]
rate = "30mbit"
start = "1s"
stop = "2s"
[[probe]]
interval = "10ms"
[[event]]
at = "1s"
do = "rate"
value = "1mbit"
[weir.aqm]
target = "5ms"
"#;

#[test]
fn a_good_file_is_read_with_its_defaults() {
    let e = Experiment::parse("t.toml", GOOD).unwrap();
    assert_eq!(e.tcp.len(), 2);
    assert_eq!(e.tcp[1].span.stop, Duration::from_secs(3));
    assert_eq!(e.udp[0].size, 1_200);
    assert_eq!(e.shaper_rate.bps(), 9_500_000);
    assert_eq!(e.events[0].action, Action::Rate(BitRate::from_bps(1_000_000)));
    assert_eq!(e.family, Family::Ipv4);
    assert_eq!(e.weir.ports[0].aqm.target.map(|t| t.as_nanos()), Some(5_000_000));
}

#[test]
fn every_bad_file_is_refused_with_its_line_its_key_and_its_rule() {
    // What is replaced, by what, the line and the key that the error must name, and a word of the rule.
    let table = [
        ("name = \"t\"", "name = \"\"", 2, "name", "empty"),
        ("name = \"t\"", "nam = \"t\"", 2, "nam", "unknown field"),
        ("\"3s\"", "\"3\"", 3, "duration", "the duration"),
        ("\"3s\"", "\"0s\"", 3, "duration", "longer than 0"),
        ("\"3s\"", "\"2h\"", 3, "duration", "unknown unit"),
        ("\"kernel\", \"weir\"", "\"kernal\"", 4, "contenders", "no contender"),
        ("\"kernel\", \"weir\"", "\"weir\", \"weir\"", 4, "contenders", "twice"),
        ("\"kernel\", \"weir\"", "", 4, "contenders", "at least one"),
        ("rate = \"10mbit\"", "rate = \"10\"", 6, "link.rate", "the rate"),
        ("rate = \"10mbit\"", "rate = 10", 6, "link.rate", "invalid type"),
        ("rate = \"10mbit\"", "rate = \"0mbit\"", 6, "link.rate", "out of range"),
        ("delay = \"10ms\"", "delay = \"3s\"", 7, "link.delay", "at most 2s"),
        ("ring = 1000", "ring = 1", 8, "link.ring", "16 to 65535"),
        ("ring = 1000", "ring = 1000\nslots = 1", 9, "link.slots", "unknown field"),
        ("ring = 1000", "", 5, "link", "missing field `ring`"),
        ("count = 2", "count = 0", 10, "tcp.count", "between 1 and 256"),
        ("count = 2", "count = -1", 10, "tcp.count", "invalid value"),
        ("congestion = \"cubic\"", "congestion = \"\"", 11, "tcp.congestion", "1 to 15"),
        ("congestion = \"cubic\"", "congestion = \"cubic\"\nstart = \"3s\"", 12, "tcp.start", "before"),
        ("rate = \"30mbit\"", "rate = \"30mbit\"\nsize = 1500", 14, "udp.size", "24 to 1452"),
        ("stop = \"2s\"", "stop = \"1s\"", 15, "udp.stop", "after it starts"),
        ("stop = \"2s\"", "stop = \"4s\"", 15, "udp.stop", "at the latest"),
        ("interval = \"10ms\"", "interval = \"1us\"", 17, "probe.interval", "between 100us"),
        ("at = \"1s\"", "at = \"3s\"", 19, "event.at", "before the experiment ends"),
        ("do = \"rate\"", "do = \"stop\"", 20, "event.do", "no event"),
        ("do = \"rate\"", "do = \"pause\"", 21, "event.value", "only the event"),
        ("value = \"1mbit\"", "value = \"1m\"", 21, "event.value", "the rate"),
        ("value = \"1mbit\"", "", 20, "event.do", "has a `value`"),
        ("target = \"5ms\"", "target = \"5 parsecs\"", 23, "weir.aqm.target", "unknown unit"),
        ("target = \"5ms\"", "goal = \"5ms\"", 23, "weir.aqm.goal", ""),
        ("[weir.aqm]", "[weir]\nmode = \"bottle\"\n[weir.aqm]", 23, "weir.mode", ""),
        ("[weir.aqm]", "[weir]\ndevice = \"eth0\"\n[weir.aqm]", 23, "weir.device", "slow device"),
        ("[weir.aqm]", "[weir]\non_congested = \"diver\"\n[weir.aqm]", 23, "weir.on_congested", "divert"),
        ("[weir.aqm]", "[weir]\ndivert_rate = \"9mbit\"\n[weir.aqm]", 23, "weir.divert_rate", "no effect"),
        ("[weir.aqm]", "[shaper]\nlimit = 0\n[weir.aqm]", 23, "shaper.limit", "1 to 65535"),
        ("[weir.aqm]", "[shaper]\npriority_dscp = 64\n[weir.aqm]", 23, "shaper.priority_dscp", "0 and 63"),
        ("[link]", "[link", 5, "link", ""),
        ("[link]", "family = \"ipx\"\n[link]", 5, "family", "unknown variant"),
    ];
    for (from, to, want_line, want_key, word) in table {
        assert!(GOOD.contains(from), "{from}");
        let text = GOOD.replacen(from, to, 1);
        let error = *Experiment::parse("t.toml", &text).expect_err(to);
        let ExperimentError::Rule { file, line, key, rule, .. } = &error else { panic!("{error}") };
        assert_eq!(file, "t.toml");
        assert_eq!((*line, key.as_str()), (want_line, want_key), "{to:?}: {error}");
        assert!(rule.contains(word), "{to:?}: {rule}");
    }
}

#[test]
fn a_file_without_traffic_is_refused() {
    let text = GOOD.split("[[tcp]]").next().unwrap();
    let error = Experiment::parse("t.toml", text).unwrap_err();
    assert!(error.to_string().contains("has traffic"), "{error}");
}

#[test]
fn a_shorter_duration_cuts_flows_and_events() {
    let mut e = Experiment::parse("t.toml", GOOD).unwrap();
    e.set_duration(Duration::from_secs(1));
    assert_eq!(e.tcp.len(), 2);
    assert_eq!(e.tcp[0].span.stop, Duration::from_secs(1));
    assert!(e.udp.is_empty());
    assert!(e.events.is_empty());
}
