//! Whose packet it is, on the real programs; how long a hundred thousand subscribers take to load, to change, and to keep.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use weir::config::Config;
use weir::datapath::Error;
use weir::datapath::reload::{Reloaded, reload};

use super::frame::{RECEIVER, SENDER, udp};
use super::router::{Router, Running, privileged};

const PLANS: &str = "[[plan]]\nname = \"gold\"\ndown = \"100mbit\"\nup = \"20mbit\"\nclass = \"gold\"\n\
                     [[plan]]\nname = \"iron\"\ndown = \"10mbit\"\nup = \"2mbit\"\n";

fn subscriber(name: &str, prefixes: &str, plan: &str) -> String {
    format!("[[subscriber]]\nname = \"{name}\"\nprefixes = [{prefixes}]\nplan = \"{plan}\"\n")
}

/// The router with classes, where `side` of a packet names the subscriber.
fn text(router: &Router, side: &str, subscribers: &str) -> String {
    let keys = format!(
        "mode = \"policer\"\nrate = \"10gbit\"\nsubscribers = \"{side}\"\n\
         [[port.class]]\nname = \"gold\"\n[[port.class]]\nname = \"rule\"\n[[port.class]]\nname = \"default\"\n\
         [[rule]]\nclass = \"rule\"\ndscp = \"ef\"\n"
    );
    router.config_text("", &keys) + PLANS + subscribers
}

/// Frames that the classes gold, rule and default have seen.
fn seen(running: &Running) -> [u64; 3] {
    let classes = running.snapshot().ports.remove(0).classes;
    ["gold", "rule", "default"]
        .map(|name| classes.iter().find(|class| class.name == name).map_or(0, |class| class.counters["seen"]))
}

fn send(router: &Router, frame: &[u8]) {
    router.inject(frame);
    while router.take().is_some() {}
}

#[test]
fn a_plan_says_the_class_by_destination_or_source_and_a_rule_comes_before_it() {
    let Some(_machine) = privileged("a_plan_says_the_class") else { return };
    for (side, (v4, v6)) in [("destination", RECEIVER), ("source", SENDER)] {
        let router = Router::new();
        let gold = subscriber("alice", &format!("\"{v4}\", \"{v6}\""), "gold");
        let iron = subscriber("bob", "\"192.0.2.0/24\"", "iron");
        let running = router.start_text(&text(&router, side, &(gold + &iron)));
        send(&router, &udp(RECEIVER.0).build());
        send(&router, &udp(RECEIVER.1).build());
        assert_eq!(seen(&running), [2, 0, 0], "{side}");
        send(&router, &udp(RECEIVER.0).dscp(46).build());
        assert_eq!(seen(&running), [2, 1, 0], "{side}: the rule comes first");
        if side == "source" {
            // A plan without a class, and nobody's packet: the default class.
            send(&router, &udp(RECEIVER.0).from(Ipv4Addr::new(192, 0, 2, 9)).build());
            send(&router, &udp(RECEIVER.0).from(Ipv4Addr::new(198, 51, 100, 9)).build());
            assert_eq!(seen(&running), [2, 1, 2]);
        }
        let roster = running.reader().roster().unwrap();
        assert_eq!(roster.find("alice").map(|(index, _)| index), Some(1));
        assert_eq!(roster.find(&v6.to_string()).map(|(_, member)| member.name.as_str()), Some("alice"));
        assert_eq!(running.snapshot().unaccounted(), 0);
    }
}

#[test]
fn a_reload_changes_subscribers_and_plans_and_refuses_everything_else_by_name() {
    let Some(_machine) = privileged("a_reload_changes_subscribers") else { return };
    let router = Router::new();
    let (v4, v6) = RECEIVER;
    let config = |subscribers: &str| {
        Config::from_toml_str("test.toml", &text(&router, "destination", subscribers)).unwrap()
    };
    let before =
        subscriber("alice", &format!("\"{v4}\""), "iron") + &subscriber("bob", "\"192.0.2.7\"", "gold");
    let running = router.start_config(&config(&before));
    send(&router, &udp(v4).build());
    assert_eq!(seen(&running), [0, 0, 1]);

    // Alice changes her plan, Bob leaves, Carol comes with prefixes of lengths that nobody had.
    let after = subscriber("carol", &format!("\"{v6}\", \"192.0.2.0/25\""), "gold")
        + &subscriber("alice", &format!("\"{v4}\""), "gold");
    let done = reload(&config(&after)).unwrap();
    assert_eq!(done, Reloaded { added: 1, removed: 1, changed: 1, unchanged: 0 });
    send(&router, &udp(v4).build());
    send(&router, &udp(v6).build());
    assert_eq!(seen(&running), [2, 0, 1]);
    let roster = running.reader().roster().unwrap();
    assert_eq!(roster.find("alice").map(|(index, _)| index), Some(1), "who stays keeps the index");
    assert_eq!(roster.find("192.0.2.7").map(|(_, member)| member.name.as_str()), Some("carol"));
    assert!(roster.find("bob").is_none());

    let others = text(&router, "destination", &after).replace("10gbit", "9gbit").replace("\"ef\"", "\"va\"");
    let others = Config::from_toml_str("test.toml", &others).unwrap();
    let Err(error) = reload(&others) else { panic!("a changed rate and rule were applied") };
    assert!(matches!(error, Error::ReloadRefused { .. }));
    let said = error.to_string();
    assert!(said.contains("[[port]] \"wan0\" (rate), [[rule]]"), "{said}");
    drop(running);
    assert!(matches!(reload(&config(&after)), Err(Error::NoInstance { .. })), "nothing runs any more");
}

#[test]
fn the_command_line_reloads_and_shows_one_subscriber() {
    let Some(_machine) = privileged("the_command_line_reloads") else { return };
    let router = Router::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weir.toml");
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    let weir = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let file = path.to_str().unwrap();
    let config = text(&router, "source", &subscriber("alice", "\"192.0.2.7\"", "gold"));
    write(&config);
    let _running = router.start_config(&Config::load(&path).unwrap());
    let show = |asked: &str| weir(&["status", "--instance", router.instance(), "--subscriber", asked]);
    let (code, said) = show("192.0.2.7");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("plan gold: down 100mbit, up to 100mbit; up 20mbit"), "{said}");

    write(&config.replace("plan = \"gold\"", "plan = \"iron\""));
    let (code, said) = weir(&["reload", "-c", file]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("0 added, 0 removed, 1 changed, 0 unchanged"), "{said}");
    assert!(show("alice").1.contains("plan iron: down 10mbit"));
    let (_, said) = weir(&["status", "--instance", router.instance()]);
    assert!(said.contains("1 subscribers of 2 plans") && said.contains("wan0/gold"), "{said}");

    write(&config.replace("10gbit", "9gbit"));
    let (code, said) = weir(&["reload", "-c", file]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("(rate)") && said.contains("nothing was touched"), "{said}");
    assert_eq!(show("bob").0, Some(1));
}

/// Address and network of one of many subscribers. Some have `moved`.
fn prefixes(number: u32, moved: bool) -> (Ipv4Addr, Ipv6Addr) {
    let number = number + if moved { 0x0010_0000 } else { 0 };
    let [high, middle, low] = [number >> 16, number >> 8 & 0xff, number & 0xff].map(|part| part as u16);
    (
        Ipv4Addr::from_bits(0x0a80_0000 + number),
        Ipv6Addr::new(0x2001, 0xdb8, high, middle << 8 | low, 0, 0, 0, 0),
    )
}

/// `count` subscribers with an IPv4 address and an IPv6 network each, the first `moved` with others than before.
fn many(count: u32, moved: u32) -> String {
    let mut list = "name,prefixes,plan\n".to_owned();
    for i in 0..count {
        let (v4, v6) = prefixes(i, i < moved);
        let plan = if i % 2 == 0 { "gold" } else { "iron" };
        writeln!(list, "subscriber {i},{v4} {v6}/64,{plan}").unwrap();
    }
    list
}

#[test]
fn a_hundred_thousand_dual_stack_subscribers_load_change_and_fit_within_their_budgets() {
    const COUNT: u32 = 100_000;
    const MOVED: u32 = COUNT / 100;
    let Some(_machine) = privileged("a_hundred_thousand_subscribers") else { return };
    let router = Router::new();
    let text = text(&router, "source", "") + "[subscribers]\nfile = \"list.csv\"\n";
    let config =
        |list: String| Config::from_toml_str_with("test.toml", &text, &|_| Ok(list.clone())).unwrap();
    let first = config(many(COUNT, 0));
    let begun = Instant::now();
    let running = router.start_config(&first);
    let loaded = begun.elapsed();
    let memory = memory_of_subscribers(router.instance()).map(|bytes| bytes as f64 / f64::from(COUNT));
    let [v4, v6, state @ ..] = memory;
    let state: f64 = state.iter().sum();
    let each = v4 + v6 + state;
    let begun = Instant::now();
    let second = config(many(COUNT, MOVED));
    let parsed = begun.elapsed();
    let begun = Instant::now();
    let done = reload(&second).unwrap();
    let reloaded = begun.elapsed();
    println!(
        "{COUNT} subscribers: started in {loaded:.2?}, {each:.0} bytes of kernel memory each (state {state:.0}, IPv4 \
         {v4:.0}, IPv6 {v6:.0}); list parsed in {parsed:.2?}, 1 % changed in {reloaded:.2?}"
    );
    let unchanged = (COUNT - MOVED) as usize;
    assert_eq!(done, Reloaded { added: 0, removed: 0, changed: MOVED as usize, unchanged });
    assert!(each <= 256.0, "{each} bytes each");
    // Reading the list is the yardstick: a system call for each entry would take many times as long.
    assert!(loaded < parsed * 10 && reloaded < parsed * 10, "{loaded:?} {reloaded:?} {parsed:?}");

    // Those with even numbers are gold's; who has moved is not found where it was.
    let mut expected = [0_u64; 3];
    for number in (0..COUNT).step_by(1_237) {
        for moved in [false, true] {
            let (v4, v6) = prefixes(number, moved);
            send(&router, &udp(RECEIVER.0).from(v4).build());
            send(&router, &udp(RECEIVER.1).from(v6).build());
            let gold = moved == (number < MOVED) && number % 2 == 0;
            expected[if gold { 0 } else { 2 }] += 2;
        }
    }
    assert_eq!(seen(&running), expected);
}

/// Bytes that the kernel accounts to the maps of subscribers (`memlock` of /proc/self/fdinfo).
fn memory_of_subscribers(instance: &str) -> [u64; 5] {
    use std::os::fd::{AsFd as _, AsRawFd as _};
    use weir_shared_maps::{ABI_VERSION, names};
    let directory = format!("/sys/fs/bpf/weir/{instance}/v{ABI_VERSION}");
    let maps = [
        names::MAP_SUBSCRIBERS4,
        names::MAP_SUBSCRIBERS6,
        names::MAP_SUBSCRIBER_DOWN,
        names::MAP_SUBSCRIBER_UP,
        names::MAP_SUBSCRIBER_CONTROL,
    ];
    maps.map(|name| {
        let map = aya::maps::MapData::from_pin(format!("{directory}/{name}")).unwrap();
        let path = format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd());
        let info = std::fs::read_to_string(path).unwrap();
        let memlock = info.lines().find_map(|line| line.strip_prefix("memlock:")).unwrap();
        memlock.trim().parse::<u64>().unwrap()
    })
}
