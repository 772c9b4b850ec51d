//! The keys that only the simulator heeds.

use std::time::Duration;

use super::*;

const GOOD: &str = r#"
name = "t"
duration = "10s"
warmup = "1s"
seed = 7
seeds = 3
contenders = ["weir+pi2", "fq_codel", "kernel"]
[link]
rate = "10mbit"
delay = "10ms"
jitter = "2ms"
loss = 0.01
ring = 1000
ring_per_cpu = true
reclaim = 8
reverse_loss = 0.001
fast_rate = "1gbit"
cpus = 4
poll = "50us"
[[tcp]]
congestion = "prague"
rtt = "50ms"
bytes = 100000
host = 3
dscp = 46
[[udp]]
rate = "1mbit"
ecn = "ect1"
extra_delay = "3ms"
[[udp]]
rate = "2mbit"
pattern = "on-off"
on = "1s"
off = "500ms"
[[udp]]
pattern = "voip"
count = 2
[[short]]
congestion = "bbr3"
per_second = 20
sizes = [[1000, 0.5], [100000, 1.0]]
jitter = "0"
[[probe]]
interval = "10ms"
dscp = 46
[[sweep]]
key = "link.rate"
values = ["10mbit", "50mbit"]
[[sweep]]
key = "udp.1.on"
values = ["1s", "2s", "3s"]
"#;

#[test]
fn a_good_file_is_read_whole() {
    let e = Experiment::parse("t.toml", GOOD).unwrap();
    assert_eq!((e.seeds, e.warmup), (Seeds { first: 7, count: 3 }, Duration::from_secs(1)));
    assert_eq!(e.seeds.iter().collect::<Vec<_>>(), [7, 8, 9]);
    let link = e.link.simulated;
    assert_eq!((link.loss_ppm, link.reverse_loss_ppm, link.cpus, link.reclaim), (10_000, 1_000, 4, 8));
    assert!(link.ring_per_cpu);
    assert_eq!(link.fast_rate.bps(), 1_000_000_000);
    let identity = &e.tcp[0].identity;
    assert_eq!((identity.extra_delay, identity.host, identity.dscp), (Duration::from_millis(15), 3, 46));
    assert_eq!(e.tcp[0].bytes, Some(100_000));
    assert_eq!(e.udp[0].pattern, Pattern::Constant { ecn: UdpEcn::Ect1 });
    let (on, off) = (Duration::from_secs(1), Duration::from_millis(500));
    assert_eq!(e.udp[1].pattern, Pattern::OnOff { on, off });
    assert_eq!(e.scripted.len(), 2);
    assert_eq!(e.short[0].interval, Duration::from_millis(50));
    assert_eq!(e.short[0].sizes, Sizes::Points([(1_000, 0.5), (100_000, 1.0)].as_slice().into()));
    assert_eq!((e.tcp[0].span.jitter, e.short[0].span.jitter), (Duration::from_millis(10), Duration::ZERO));
    e.check_for_simulator().unwrap();
}

#[test]
fn every_bad_value_of_a_simulator_key_is_refused_with_its_line_its_key_and_its_rule() {
    // What is replaced, by what, the line and the key that the error must name, and a word of the rule.
    let table = [
        ("warmup = \"1s\"", "warmup = \"10s\"", 4, "warmup", "shorter than the experiment"),
        ("seed = 7", "seed = -1", 5, "seed", "invalid value"),
        ("seeds = 3", "seeds = 0", 6, "seeds", "between 1 and 1000"),
        ("\"fq_codel\"", "\"fq-codel\"", 7, "contenders", "bc-pqp"),
        ("rate = \"10mbit\"\ndelay", "delay", 8, "link", "a `rate` or a `trace`"),
        ("rate = \"10mbit\"\ndelay", "trace = \"no.trace\"\ndelay", 9, "link.trace", "no.trace"),
        ("jitter = \"2ms\"", "jitter = \"2s\"", 11, "link.jitter", "at most 1s"),
        ("loss = 0.01", "loss = 0.6", 12, "link.loss", "between 0 and 0.5"),
        ("loss = 0.01", "loss = \"1%\"", 12, "link.loss", "invalid type"),
        ("ring_per_cpu = true", "ring_per_cpu = 1", 14, "link.ring_per_cpu", "invalid type"),
        ("reclaim = 8", "reclaim = 501", 15, "link.reclaim", "half of the ring"),
        ("reverse_loss = 0.001", "reverse_loss = -0.1", 16, "link.reverse_loss", "between 0 and 0.5"),
        ("fast_rate = \"1gbit\"", "fast_rate = \"1\"", 17, "link.fast_rate", "the rate"),
        ("cpus = 4", "cpus = 65", 18, "link.cpus", "1 to 64"),
        ("poll = \"50us\"", "poll = \"50ms\"", 19, "link.poll", "at most 10ms"),
        ("poll = \"50us\"", "spill.rate = \"1mbit\"", 19, "link.spill.rate", "missing field `delay`"),
        (
            "poll = \"50us\"",
            "spill = { rate = \"1mbit\", delay = \"3s\", ring = 99 }",
            19,
            "link.spill",
            "at most 2s",
        ),
        (
            "poll = \"50us\"",
            "spill = { rate = \"1mbit\", delay = \"0\", ring = 9 }",
            19,
            "link.spill",
            "16 to 65535",
        ),
        ("rtt = \"50ms\"", "rtt = \"19ms\"", 22, "tcp.rtt", "twice `link.delay`"),
        ("rtt = \"50ms\"", "rtt = \"50ms\"\nextra_delay = \"1ms\"", 23, "tcp.extra_delay", "not both"),
        ("bytes = 100000", "bytes = 0", 23, "tcp.bytes", "between 1 byte"),
        ("host = 3", "host = 65536", 24, "tcp.host", "invalid value"),
        ("dscp = 46\n[[udp]]", "dscp = 64\n[[udp]]", 25, "tcp.dscp", "between 0 and 63"),
        ("host = 3", "port = 0", 24, "tcp.port", "between 1 and 65535"),
        ("host = 3", "port = 65535\ncount = 2", 24, "tcp.port", "end at 65535"),
        ("host = 3", "name = \" \"", 24, "tcp.name", "may not be empty"),
        (
            "ecn = \"ect1\"",
            "port = 7\ncount = 2\n[[udp]]\nrate = \"1mbit\"\nport = 8",
            32,
            "udp.port",
            "another flow",
        ),
        ("rate = \"1mbit\"\n", "", 26, "udp", "a `rate`"),
        ("ecn = \"ect1\"", "ecn = \"ce\"", 28, "udp.ecn", "no ECN field"),
        (
            "ecn = \"ect1\"",
            "ecn = \"ect1\"\npattern = \"poisson\"",
            28,
            "udp.ecn",
            "only the pattern `constant`",
        ),
        ("extra_delay = \"3ms\"", "extra_delay = \"6s\"", 29, "udp.extra_delay", "at most 5s"),
        ("\"on-off\"", "\"onoff\"", 33, "udp.on", "only the pattern `on-off`"),
        ("off = \"500ms\"\n", "", 32, "udp.pattern", "has `on` and `off`"),
        ("off = \"500ms\"", "off = \"0\"", 34, "udp.off", "longer than 0"),
        ("\"voip\"", "\"video\"", 36, "udp.pattern", "no pattern"),
        ("\"voip\"", "\"voip\"\nrate = \"1mbit\"", 37, "udp.rate", "its own"),
        ("per_second = 20", "per_second = 0", 40, "short.per_second", "between 0.001"),
        ("per_second = 20\n", "", 39, "short.congestion", "an `interval`"),
        ("per_second = 20", "per_second = 20\ninterval = \"1s\"", 40, "short.per_second", "not both"),
        ("[[1000, 0.5], [100000, 1.0]]", "\"web\"", 41, "short.sizes", "no distribution"),
        ("[[1000, 0.5], [100000, 1.0]]", "true", 41, "short.sizes", "sizes are a number"),
        ("[100000, 1.0]", "[100000, 0.9]", 41, "short.sizes", "to a share of 1"),
        ("[100000, 1.0]", "[900, 1.0]", 41, "short.sizes", "rise in both columns"),
        ("[[1000, 0.5], [100000, 1.0]]", "\"no.csv\"", 41, "short.sizes", "no.csv"),
        ("key = \"link.rate\"", "key = \"link.rates\"", 47, "sweep.key", "no value at `link.rates`"),
        ("key = \"link.rate\"", "key = \"seeds\"", 47, "sweep.key", "cannot be swept"),
        ("key = \"udp.1.on\"", "key = \"link.rate\"", 50, "sweep.key", "swept twice"),
        ("[\"10mbit\", \"50mbit\"]", "[]", 48, "sweep.values", "at least one value"),
        ("values = [\"10mbit\", \"50mbit\"]", "", 46, "sweep", "missing field `values`"),
        ("[[sweep]]\nkey = \"link", "[[sweep]]\nvalue = 1\nkey = \"link", 47, "sweep.value", "unknown field"),
    ];
    for (from, to, want_line, want_key, word) in table {
        assert!(GOOD.contains(from), "{from}");
        let text = GOOD.replacen(from, to, 1);
        let error = *Experiment::parse("t.toml", &text).expect_err(to);
        let ExperimentError::Rule { line, key, rule, .. } = &error else { panic!("{error}") };
        assert_eq!((*line, key.as_str()), (want_line, want_key), "{to:?}: {error}");
        assert!(rule.contains(word), "{to:?}: {rule}");
    }
}

#[test]
fn a_sweep_makes_all_combinations_and_the_last_one_changes_fastest() {
    let points = Experiment::parse("t.toml", GOOD).unwrap().points().unwrap();
    let settings: Vec<Vec<&str>> =
        points.iter().map(|point| point.settings.iter().map(|(_, value)| value.as_str()).collect()).collect();
    assert_eq!(settings.len(), 6);
    assert_eq!(settings[1], ["\"10mbit\"", "\"2s\""]);
    assert_eq!(settings[3], ["\"50mbit\"", "\"1s\""]);
    let last = &points[5].experiment;
    assert_eq!((last.link.rate.bps(), last.shaper_rate.bps()), (50_000_000, 47_500_000));
    let on = Duration::from_secs(3);
    assert_eq!(last.udp[1].pattern, Pattern::OnOff { on, off: Duration::from_millis(500) });
}

#[test]
fn a_key_of_several_entries_is_swept_in_all_of_them() {
    let text = GOOD.replace("udp.1.on", "udp.rate").replace("[\"1s\", \"2s\", \"3s\"]", "[\"3mbit\"]");
    let points = Experiment::parse("t.toml", &text).unwrap().points().unwrap();
    assert!(points[0].experiment.udp.iter().all(|udp| udp.rate.bps() == 3_000_000));
}

#[test]
fn a_swept_value_that_breaks_a_rule_is_refused_where_it_stands() {
    let text = GOOD.replace("\"2s\", \"3s\"]", "\"2s\", \"0\"]");
    let error = *Experiment::parse("t.toml", &text).unwrap().points().unwrap_err();
    let ExperimentError::Rule { line, key, rule, .. } = &error else { panic!("{error}") };
    assert_eq!((*line, key.as_str()), (51, "sweep.values"));
    assert_eq!(rule, "with link.rate = \"10mbit\", udp.1.on = \"0\": udp.on: it is longer than 0");
}

#[test]
fn a_swept_congestion_control_that_the_simulator_does_not_have_is_refused() {
    let text = GOOD.replace(
        "key = \"link.rate\"\nvalues = [\"10mbit\", \"50mbit\"]",
        "key = \"tcp.congestion\"\nvalues = [\"cubic\", \"vegas\"]",
    );
    let error = Experiment::parse("t.toml", &text).unwrap().points().unwrap_err().to_string();
    assert!(
        error.contains("t.toml:48: sweep.values") && error.contains("no congestion control `vegas`"),
        "{error}"
    );
}

#[test]
fn the_lab_refuses_each_key_that_only_the_simulator_can_do() {
    const SHARED: &str = r#"
name = "t"
duration = "10s"
contenders = ["weir", "codel"]
[link]
rate = "10mbit"
delay = "10ms"
ring = 1000
[[tcp]]
congestion = "cubic"
[[udp]]
rate = "1mbit"
[[probe]]
interval = "10ms"
"#;
    let shared = Experiment::parse("t.toml", SHARED).unwrap();
    shared.check_for_lab().unwrap();
    shared.check_for_simulator().unwrap();
    for (from, to) in [
        ("[link]", "warmup = \"1s\"\n[link]"),
        ("[[udp]]", "rtt = \"30ms\"\nhost = 1\ndscp = 8\nport = 80\nname = \"bulk\"\n[[udp]]"),
        ("[[probe]]", "ecn = \"ect0\"\nextra_delay = \"3ms\"\ndscp = 46\n[[probe]]"),
        ("interval =", "host = 2\ndscp = 46\nport = 53\nname = \"dns\"\ninterval ="),
    ] {
        let both = Experiment::parse("t.toml", &SHARED.replacen(from, to, 1)).unwrap();
        both.check_for_lab().unwrap();
        both.check_for_simulator().unwrap();
    }
    let table = [
        ("[link]", "seed = 2\n[link]", "seed"),
        ("[link]", "seeds = 2\n[link]", "seeds"),
        ("ring =", "jitter = \"1ms\"\nring =", "link.jitter"),
        ("ring =", "loss = 0.1\nring =", "link.loss"),
        ("ring =", "cpus = 2\nring =", "link.cpus"),
        ("ring =", "ring_per_cpu = true\nring =", "link.ring_per_cpu"),
        ("ring =", "reclaim = 2\nring =", "link.reclaim"),
        ("ring =", "reverse_loss = 0.1\nring =", "link.reverse_loss"),
        ("ring =", "fast_rate = \"1gbit\"\nring =", "link.fast_rate"),
        ("ring =", "poll = \"1us\"\nring =", "link.poll"),
        ("ring =", "spill = { rate = \"1mbit\", delay = \"0\", ring = 99 }\nring =", "link.spill"),
        ("[[udp]]", "bytes = 10\n[[udp]]", "tcp.bytes"),
        ("[[udp]]", "jitter = \"1ms\"\n[[udp]]", "tcp.jitter"),
        ("[[probe]]", "pattern = \"poisson\"\n[[probe]]", "udp.pattern"),
        (
            "[[probe]]",
            "[[short]]\ncongestion = \"cubic\"\nper_second = 1\nsizes = 1\n[[probe]]",
            "short.congestion",
        ),
        ("[[probe]]", "[[sweep]]\nkey = \"link.ring\"\nvalues = [100]\n[[probe]]", "sweep.key"),
    ];
    for (from, to, want_key) in table {
        let experiment = Experiment::parse("t.toml", &SHARED.replacen(from, to, 1)).unwrap();
        experiment.check_for_simulator().unwrap();
        let error = *experiment.check_for_lab().expect_err(to);
        let ExperimentError::Rule { key, rule, .. } = &error else { panic!("{error}") };
        assert_eq!(key, want_key);
        assert!(rule.contains("only the simulator can"), "{rule}");
    }
}

#[test]
fn the_simulator_refuses_ipv6_and_congestion_controls_it_does_not_have() {
    for (from, to, want_key) in
        [("[link]", "family = \"ipv6\"\n[link]", "family"), ("\"prague\"", "\"vegas\"", "tcp.congestion")]
    {
        let experiment = Experiment::parse("t.toml", &GOOD.replacen(from, to, 1)).unwrap();
        let error = *experiment.check_for_simulator().expect_err(to);
        let ExperimentError::Rule { key, .. } = &error else { panic!("{error}") };
        assert_eq!(key, want_key);
    }
}

#[test]
fn a_trace_is_looked_for_beside_the_file_and_gives_the_link_its_mean_rate() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("up.trace"), "1\n2\n2\n4\n").unwrap();
    let text = GOOD.replace("rate = \"10mbit\"\ndelay", "trace = \"up.trace\"\ndelay").replace(
        "key = \"link.rate\"\nvalues = [\"10mbit\", \"50mbit\"]",
        "key = \"link.ring\"\nvalues = [100]",
    );
    let file = dir.path().join("t.toml");
    std::fs::write(&file, &text).unwrap();
    let e = Experiment::load(&file).unwrap();
    // Four opportunities of 1,504 bytes in 4 ms.
    assert_eq!(e.link.rate.bps(), 12_032_000);
    assert_eq!(e.link.trace.unwrap().opportunities().len(), 4);

    let text = format!("{text}[[event]]\nat = \"1s\"\ndo = \"rate\"\nvalue = \"1mbit\"\n");
    std::fs::write(&file, text).unwrap();
    let error = Experiment::load(&file).unwrap_err().to_string();
    assert!(error.contains("event.do: a link with a trace has no rate"), "{error}");

    std::fs::write(dir.path().join("up.trace"), "2\n1\n").unwrap();
    let error = Experiment::load(&file).unwrap_err().to_string();
    assert!(error.contains("link.trace") && error.contains("up.trace"), "{error}");
}
