//! Who a flow is: rules find it, and its frames take its own delay.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use weir::experiment::units::BitRate;
use weir::experiment::{Experiment, Family};
use weir::lab::{ExtraDelay, Host, LinkSettings, Service, SlowLink, Stop, run};
use weir::report::{FlowResult, Run};

use super::{namespaces_of_this_process, privileged, topology};

/// Flows that differ in one thing each, and a class for each of them.
const IDENTITIES: &str = r#"
name = "identities"
duration = "2s"
warmup = "500ms"
contenders = ["weir"]
[link]
rate = "50mbit"
delay = "2ms"
ring = 500
[[tcp]]
name = "tcp"
congestion = "reno"
[[udp]]
name = "port"
rate = "1mbit"
port = 8080
count = 2
[[udp]]
name = "host"
rate = "1mbit"
host = 259
[[udp]]
name = "code point"
rate = "1mbit"
dscp = 46
ecn = "ect0"
[[udp]]
name = "nothing"
rate = "1mbit"
[[probe]]
name = "probe"
interval = "10ms"
port = 53
[weir]
mode = "policer"
rate = "40mbit"
default_class = "rest"
class = [{ name = "tcp" }, { name = "port" }, { name = "host" }, { name = "dscp" }, { name = "dns" }, { name = "rest" }]
[[weir.rule]]
class = "tcp"
protocol = "tcp"
[[weir.rule]]
class = "port"
destination_port = "8080-8081"
[[weir.rule]]
class = "host"
source = ["10.78.1.3/32", "fd78::103/128"]
[[weir.rule]]
class = "dscp"
dscp = "ef"
[[weir.rule]]
class = "dns"
protocol = "udp"
destination_port = 53
destination = ["10.77.2.0/24", "fd77:0:0:2::/64"]
"#;

fn flows<'r>(run: &'r Run, group: &str) -> impl Iterator<Item = &'r FlowResult> {
    run.flows.iter().filter(move |flow| flow.group.as_deref() == Some(group))
}

#[test]
fn rules_find_flows_by_protocol_port_host_and_code_point_in_both_families() {
    let Some(_machine) = privileged("rules_find_flows_by_protocol_port_host_and_code_point") else { return };
    for family in ["ipv4", "ipv6"] {
        let text = IDENTITIES.replace("[link]", &format!("family = \"{family}\"\n[link]"));
        let experiment = Experiment::parse("identities.toml", &text).unwrap();
        let report = run(&experiment, &Stop::default(), &mut ()).unwrap();
        assert!(report.failed.is_empty(), "{family}: {:?}", report.failed);
        let run = &report.runs[0];
        let seen = |class: &str| {
            let class = run.classes.iter().find(|result| result.class == class);
            class.unwrap_or_else(|| panic!("{family}: {:?}", run.classes)).counters["seen"]
        };
        for (class, group) in [
            ("port", "port"),
            ("host", "host"),
            ("dscp", "code point"),
            ("dns", "probe"),
            ("rest", "nothing"),
        ] {
            let sent: u64 = flows(run, group).filter_map(|flow| flow.sent).sum();
            assert!(sent > 0 && seen(class) == sent, "{family}, {class}: {} of {sent}", seen(class));
        }
        let all: u64 = run.classes.iter().map(|class| class.counters["seen"]).sum();
        assert_eq!(all, run.offered_pkts, "{family}");
        let tcp = flows(run, "tcp").next().unwrap();
        assert!(seen("tcp") > 100 && tcp.goodput_bps > 0, "{family}: {tcp:?}");
        assert_eq!(flows(run, "port").count(), 2);
        let ports = run.groups.iter().find(|group| group.group == "port").unwrap();
        assert_eq!(ports.goodput_bps, flows(run, "port").map(|flow| flow.goodput_bps).sum::<u64>());
        assert_eq!((run.unaccounted, run.lab.unwrap().link_errors), (Some(0), 0), "{family}");
        assert_eq!(namespaces_of_this_process(), Vec::<String>::new());
    }
}

#[test]
fn a_flow_that_is_farther_away_waits_longer_and_the_others_do_not() {
    let Some(_machine) = privileged("a_flow_that_is_farther_away_waits_longer") else { return };
    let text = IDENTITIES
        .replace("host = 259", "host = 259\nextra_delay = \"40ms\"")
        .replace("dscp = 46\necn", "dscp = 46\nrtt = \"24ms\"\necn");
    let experiment = Experiment::parse("identities.toml", &text).unwrap();
    let report = run(&experiment, &Stop::default(), &mut ()).unwrap();
    let least = |group: &str| flows(&report.runs[0], group).next().unwrap().delay_ns.unwrap().min;
    assert!(least("host") >= 42_000_000, "{}", least("host"));
    assert!((12_000_000..42_000_000).contains(&least("code point")), "{}", least("code point"));
    assert!((2_000_000..12_000_000).contains(&least("nothing")), "{}", least("nothing"));
}

#[test]
fn a_connection_that_is_farther_away_takes_longer_both_ways() {
    let Some(_machine) = privileged("a_connection_that_is_farther_away") else { return };
    let topology = topology(100);
    let (near, far) = (5_201, 5_202);
    let settings = LinkSettings {
        rate: BitRate::from_bps(100_000_000),
        delay: Duration::from_millis(1),
        overhead: 0,
        reverse_rate: None,
        family: Family::Ipv4,
        extra: vec![ExtraDelay {
            flow: Service { protocol: 6, port: far },
            delay: Duration::from_millis(60),
        }],
    };
    let link = SlowLink::start(&topology.slow_tap(), &topology.receiver_tap(), &settings).unwrap();
    let handshake = |port| {
        let to = SocketAddr::new(Family::Ipv4.receiver(), port);
        let listener = topology.host(Host::Receiver).run(|| Ok(TcpListener::bind(to).unwrap())).unwrap();
        let time = topology.host(Host::Sender).run(|| {
            let start = Instant::now();
            TcpStream::connect(to).unwrap();
            Ok(start.elapsed())
        });
        drop(listener);
        time.unwrap()
    };
    let (near, far) = (handshake(near), handshake(far));
    assert!(near >= Duration::from_millis(2) && far >= Duration::from_millis(122), "{near:?}, {far:?}");
    assert!(far > near + Duration::from_millis(61), "one direction alone was longer: {near:?}, {far:?}");
    assert_eq!(link.counters().errors, 0);
}
