//! Configuration files through the real binary: every file of `config/bad` breaks rules, and says which.
//!
//! A bad file begins with one line for each problem it must show: `# expect LINE | KEY | RULE`, or `# expect FILE:LINE | …`
//! for a list of subscribers that it names.

#![allow(clippy::expect_used, reason = "a test that cannot be set up has failed")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use weir::config::{Algorithm, Config, ConfigError, Mode};

fn check(path: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir")).args(["check", "-c"]).arg(path).output().expect("weir runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("errors are UTF-8")
}

fn files(folder: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(&root).expect("the folder exists");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    files
}

/// `(place, key, rule)` of each `# expect` line of the file `path`.
fn expected(path: &Path, text: &str) -> Vec<(String, String, String)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("# expect "));
    lines
        .map(|line| {
            let mut parts = line.splitn(3, " | ").map(str::to_owned);
            let place = parts.next().expect("a line");
            let place = match place.split_once(':') {
                Some((list, line)) => format!("{}:{line}:", path.with_file_name(list).display()),
                None => format!("{}:{place}:", path.display()),
            };
            (place, parts.next().expect("a key"), parts.next().expect("a rule"))
        })
        .collect()
}

#[test]
fn every_bad_file_is_refused_with_its_file_line_key_value_and_rule() {
    let files = files("tests/config/bad");
    assert!(files.len() >= 150, "only {} files found", files.len());
    let mut failures = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).expect("the file is readable");
        let expected = expected(&path, &text);
        assert!(!expected.is_empty(), "{} says nothing about what it expects", path.display());
        let output = check(&path);
        let shown = stderr(&output);
        if output.status.code() != Some(2) {
            failures.push(format!("{}: exit status {:?}\n{shown}", path.display(), output.status.code()));
        }
        for (place, key, rule) in &expected {
            let said = |shown: &&str| shown.contains(place) && shown.contains(key) && shown.contains(rule);
            if !shown.lines().any(|shown| said(&shown)) {
                failures.push(format!("{place} nothing about {key} / {rule} in:\n{shown}"));
            }
        }
        let count = match expected.len() {
            1 => "1 problem found".to_owned(),
            more => format!("{more} problems found"),
        };
        if !shown.contains(&count) {
            failures.push(format!("{}: not exactly {count}:\n{shown}", path.display()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_problem_offers_help_and_shows_the_line_it_stands_in() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/bad/target_not_below_interval.toml");
    let shown = stderr(&check(&path));
    assert!(shown.contains("RFC 8289 section 4.3"), "{shown}");
    assert!(shown.contains("target = \"50ms\"\n"), "{shown}");
    assert!(shown.contains("the interval"), "{shown}");
}

#[test]
fn a_missing_file_a_directory_and_bytes_that_are_no_text_are_told_apart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let missing = folder.path().join("missing.toml");
    let binary = folder.path().join("binary.toml");
    std::fs::write(&binary, b"instance = \"a\"\n\xff\xfe\n").expect("the file is written");
    let large = folder.path().join("large.toml");
    std::fs::write(&large, vec![b'#'; (1 << 20) + 1]).expect("the file is written");
    let cases = [
        (missing.as_path(), "cannot be read", "No such file"),
        (folder.path(), "is a directory", "name the TOML file itself"),
        (binary.as_path(), "binary.toml:2: byte 15 is not UTF-8", "UTF-8"),
        (large.as_path(), "larger than 1 MiB", "large.toml"),
    ];
    for (path, rule, more) in cases {
        let output = check(path);
        let shown = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{shown}");
        let named = path.display().to_string();
        assert!(shown.contains(&named) && shown.contains(rule) && shown.contains(more), "{shown}");
    }
}

#[test]
fn a_wrong_command_line_has_the_status_of_a_wrong_file() {
    for arguments in [&["check"][..], &["chekc"][..], &["check", "-c"][..], &[][..]] {
        let output = Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments).output().expect("weir runs");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
    }
    let help = Command::new(env!("CARGO_BIN_EXE_weir")).arg("--help").output().expect("weir runs");
    assert_eq!(help.status.code(), Some(0));
}

#[test]
fn every_example_is_valid() {
    let files = files("examples/config");
    let names: Vec<_> = files.iter().filter_map(|path| path.file_name()).collect();
    assert_eq!(
        names,
        [
            "classes.toml",
            "dual-wan.toml",
            "home-router.toml",
            "isp.toml",
            "minimal.toml",
            "slow-uplink-policer.toml"
        ]
    );
    for path in files {
        let output = check(&path);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(String::from_utf8_lossy(&output.stdout).contains(": valid"));
    }
}

#[test]
fn the_examples_mean_what_they_say() {
    let load =
        |name: &str| Config::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/config").join(name));
    let minimal = load("minimal.toml").expect("valid");
    assert_eq!((minimal.instance.as_str(), minimal.metrics, minimal.ports.len()), ("default", None, 1));
    assert_eq!((minimal.ports[0].mode, minimal.ports[0].rate), (Mode::Bottleneck, None));
    let home = load("home-router.toml").expect("valid");
    assert_eq!((home.ingress.len(), home.ports.len()), (2, 2));
    assert!(home.ports.iter().all(|port| port.mode == Mode::Bottleneck));
    let policer = load("slow-uplink-policer.toml").expect("valid");
    assert_eq!(
        (policer.ports[0].mode, policer.ports[0].aqm.algorithm),
        (Mode::Policer, Some(Algorithm::Codel))
    );
}

#[test]
fn the_examples_of_policy_are_said_back_with_classes_rules_plans_and_subscribers() {
    let check = |name: &str| {
        let output = check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/config").join(name));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let classes = check("classes.toml");
    for line in [
        // tc-cake(8): docsis is overhead 18 mpu 64, of which the frame has 14.
        "port wan0: policer, rate 40mbit, overhead 4 mpu 64, no AQM",
        "  class voice: priority 0 weight 1, rate 4mbit, fairness none, DSCP set to ef\n",
        "  class default (default): priority 4 weight 1, rate 20mbit, fairness host+flow\n",
        "policer cir 10mbit burst 256kb red is dropped\n",
        "rule 1: dscp ef|cs5 and protocol udp and size 0..400 -> voice\n",
        "rule 4: destination 198.51.100.20/32|2001:db8:20::/48 and protocol tcp and destination_port 22|8000-8100 -> bulk\n",
        "rules are looked up by DSCP, VLAN, size, destination, protocol, destination port\n",
    ] {
        assert!(classes.contains(line), "`{line}` is not in\n{classes}");
    }
    let isp = check("isp.toml");
    for line in [
        "overhead 24 mpu 84",
        "subscribers by destination",
        "plan home 50: down 25mbit up to 50mbit, up 5mbit up to 10mbit\n",
        "plan business 200: down 200mbit, up 100mbit, class business\n",
        "4 subscribers with 7 prefixes\n",
    ] {
        assert!(isp.contains(line), "`{line}` is not in\n{isp}");
    }
}

#[test]
fn the_example_of_two_ways_out_is_said_back_with_its_actions() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/config/dual-wan.toml");
    let shown = String::from_utf8_lossy(&check(&path).stdout).into_owned();
    for line in [
        "  class calls: priority 0 weight 1, fairness none\n",
        "  class bulk: priority 6 weight 1, fairness none, congested spill to wan1, full spill to wan1\n",
        "  class default (default): priority 4 weight 1, fairness none, congested mark, full spill to wan1\n",
        "congested none, full divert, divert_rate 20mbit\n",
    ] {
        assert!(shown.contains(line), "`{line}` is not in\n{shown}");
    }
}

#[test]
fn a_configuration_can_be_made_from_text_alone() {
    let error = Config::from_toml_str("experiment", "x = 1").expect_err("not a configuration");
    assert!(matches!(&error, ConfigError::Invalid { name, .. } if name == "experiment"));
    let lines: Vec<usize> = error.problems().iter().map(|problem| problem.line()).collect();
    assert_eq!(lines, [1, 1, 1]);
    let first = error.problems().first().expect("a problem").to_string();
    assert!(first.starts_with("experiment:1:1: x: unknown key"), "{first}");
}

mod properties {
    use proptest::prelude::*;
    use weir::config::Config;
    use weir::config::encode::{PortFacts, port_config};
    use weir::config::units::{parse_rate, parse_size, parse_time, show_rate};
    use weir_aqm::Rate;

    const ALL_KEYS: &str = "instance = \"a\"\n[metrics]\nlisten = \"127.0.0.1:9469\"\n[[ingress]]\ndevice = \"lan0\"\n\
        vlans = [10, 20]\n[[port]]\ndevice = \"wan0\"\nmode = \"policer\"\nrate = \"1.5gbit\"\noverhead = -4\nmpu = 84\n\
        burst = \"32kb\"\nreserve = 64\n[port.aqm]\nalgorithm = \"pi2\"\ntarget = \"5ms\"\ninterval = \"100ms\"\n\
        limit = \"25ms\"\nsojourn = \"head\"\necn = false\n";

    proptest! {
        #[test]
        fn no_quantity_can_abort_its_parser(text in ".{0,40}") {
            let _ = (parse_rate(&text), parse_time(&text), parse_size(&text));
        }

        #[test]
        fn a_number_with_a_unit_never_aborts_the_parser(text in "-?[0-9]{0,50}\\.?[0-9]{0,50} ?[kmgKMG]?(bit|b|s|ps)?(/s)?") {
            let _ = (parse_rate(&text), parse_time(&text), parse_size(&text));
        }

        #[test]
        fn a_rate_of_whole_kilobits_reads_back_as_shown(kbit in 1_u64..1_000_000) {
            let rate = Rate::from_bits_per_second(kbit * 1_000);
            prop_assert_eq!(parse_rate(&show_rate(rate)), Ok(rate));
        }

        #[test]
        fn no_text_aborts_and_every_refusal_says_why(at in 0_usize..600, len in 0_usize..40, with in "\\PC{0,12}|[\\[\\]=\"'\n.#{},0-9-]{0,12}") {
            let chars: Vec<char> = ALL_KEYS.chars().collect();
            let at = at.min(chars.len());
            let end = (at + len).min(chars.len());
            let text: String = chars[..at].iter().copied().chain(with.chars()).chain(chars[end..].iter().copied()).collect();
            if let Err(error) = Config::from_toml_str("t.toml", &text) {
                prop_assert!(!error.problems().is_empty());
                for problem in error.problems() {
                    prop_assert!(problem.line() <= text.matches('\n').count() + 1);
                    prop_assert!(problem.to_string().starts_with("t.toml:"));
                }
                let mut shown = String::new();
                let handler = miette::GraphicalReportHandler::new();
                prop_assert!(handler.render_report(&mut shown, &error).is_ok());
            }
        }

        #[test]
        fn every_encoded_port_keeps_the_order_of_its_times(
            kbit in 64_u64..400_000_000,
            policer: bool,
            with_rate: bool,
            interval_us in proptest::option::of(1_u64..4_294_967),
            limit_us in proptest::option::of(5_000_u64..3_600_000_000),
            mtu in 68_u32..65_535,
            ring_slots in 0_u32..4_096,
        ) {
            let mode = if policer { "policer" } else { "bottleneck" };
            let rate = if policer || with_rate { format!("rate = \"{kbit}kbit\"\n") } else { String::new() };
            let line = |key: &str, us: Option<u64>| us.map(|us| format!("{key} = \"{us}us\"\n")).unwrap_or_default();
            let text = format!(
                "[[ingress]]\ndevice = \"lan0\"\n[[port]]\ndevice = \"wan0\"\nmode = \"{mode}\"\n{rate}[port.aqm]\n{}{}",
                line("interval", interval_us),
                line("limit", limit_us),
            );
            let config = Config::from_toml_str("t.toml", &text).unwrap();
            let facts = PortFacts {
                ifindex: 1, ring_base: 0, rings: 1, rings_max: 1, senders: 2, ring_slots, ring_readable: true, mtu,
                netns_inum: 1,
            };
            let encoded = port_config(&config.ports[0], &facts).unwrap();
            prop_assert!(encoded.target_ns > 0);
            prop_assert!(encoded.target_ns < encoded.interval_ns);
            prop_assert!(encoded.interval_ns <= u64::from(u32::MAX));
            prop_assert!(encoded.target_ns <= encoded.limit_ns);
            prop_assert!(encoded.signal_low_ns <= encoded.limit_ns);
            prop_assert!((10_000_000..=100_000_000).contains(&encoded.signal_hold_ns));
            prop_assert!(ring_slots == 0 || encoded.reserve_slots <= ring_slots / 2);
            prop_assert_eq!(encoded.pace_mult > 0, policer || with_rate);
        }
    }
}
