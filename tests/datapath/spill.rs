//! Spilling into another port: in the order of each flow, where there is a route, and to some use.
//!
//! `other0` is the spill port. Behind it, as behind `wan0`, lies a network that both have a route to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::frame::{RECEIVER, udp};
use super::order::Flows;
use super::router::{Router, Running, UNMANAGED, privileged, wait_for};

/// Reached by `wan0`, and less directly by `other0`.
const FAR: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 88, 0, 1)), IpAddr::V6(Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, 1))];
const FLOWS: usize = 2_048;
const LIMIT: Duration = Duration::from_secs(30);
const NO_AQM: &str = "[port.aqm]\nalgorithm = \"none\"";

/// IPv6 routes by metric first and by device then (`find_match`, `net/ipv6/route.c` at v6.18): a rule names the spill port's routes.
fn router() -> Router {
    let router = Router::new();
    for line in [
        "ip -4 route add 10.88.0.0/16 via 10.77.2.1 dev wan0 metric 1",
        "ip -4 route add 10.88.0.0/16 via 10.77.3.1 dev other0 metric 2",
        "ip -6 route add fd88::/64 via fd77:2::1 dev wan0 metric 1",
        "ip -6 neigh replace fd77:3::1 lladdr 02:77:00:00:02:01 dev other0 nud permanent",
        "ip -6 rule add oif other0 lookup 100",
        "ip -6 route add fd88::/64 via fd77:3::1 dev other0 table 100",
    ] {
        router.command(line);
    }
    router
}

/// Both ports; `wan0` spills into `other0`.
fn start(router: &Router, wan: &str, other: &str) -> Running {
    let keys = format!("on_congested = \"spill\"\non_full = \"spill\"\nspill_to = \"other0\"\n{wan}");
    router.start_text(&(router.config_text("", &keys) + &format!("[[port]]\ndevice = \"other0\"\n{other}\n")))
}

fn other(running: &Running, counter: &str) -> u64 {
    running.snapshot().ports[1].counters[counter]
}

/// Sends for `rounds` packets. `wan0` is read once in `slow` packets, or until it is empty for 0; `other0` is read until it is empty, first:
/// whatever could overtake does.
fn send(router: &Router, flows: &mut Flows, rounds: usize, slow: usize) {
    for round in 0..rounds {
        flows.send(router);
        while let Some(frame) = router.take_other() {
            flows.receive(&frame);
        }
        if slow == 0 {
            while let Some(frame) = router.take() {
                flows.receive(&frame);
            }
        } else if round % slow == 0
            && let Some(frame) = router.take()
        {
            flows.receive(&frame);
        }
    }
}

fn until(what: &str, mut round: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !round() {
        assert!(Instant::now() < deadline, "{what}: not within {LIMIT:?}");
    }
}

/// Runs `count` cycles of congestion: the link of `wan0` slows down to a third until flows have spilled, then is fast until none does.
fn no_flow_overtakes_itself(count: u64) {
    for to in FAR {
        let router = router();
        let running = start(&router, NO_AQM, NO_AQM);
        let mut flows = Flows::new(FLOWS, to, 300);
        for cycle in 0..count {
            let spilled = running.port("spilled");
            until(&format!("{to}, cycle {cycle}: flows spill"), || {
                send(&router, &mut flows, 64, 3);
                running.port("spilled") >= spilled + 256
            });
            until(&format!("{to}, cycle {cycle}: flows return"), || {
                let before = running.port("spilled");
                send(&router, &mut flows, FLOWS, 0);
                running.port("spilled") == before
            });
        }
        while let Some(frame) = router.take() {
            flows.receive(&frame);
        }
        let spilled = running.port("spilled");
        assert!(spilled >= count * 256 && running.port("sent") > 0, "{to}: {spilled} spilled");
        assert_eq!((other(&running, "sent"), other(&running, "spilled")), (spilled, 0), "{to}");
        let arrived = running.port("sent") + other(&running, "sent");
        assert_eq!(flows.received, arrived, "{to}");
        assert_eq!(running.snapshot().unaccounted(), 0, "{to}");
    }
}

#[test]
fn no_flow_overtakes_itself_on_its_way_to_the_spill_port_and_back() {
    let Some(_machine) = privileged("no_flow_overtakes_itself_on_its_way_to_the_spill_port") else { return };
    no_flow_overtakes_itself(4);
}

#[test]
#[ignore = "a hundred cycles of congestion for each family take half a minute"]
fn no_flow_overtakes_itself_in_a_hundred_cycles_of_spilling() {
    let Some(_machine) = privileged("no_flow_overtakes_itself_in_a_hundred_cycles_of_spilling") else {
        return;
    };
    no_flow_overtakes_itself(100);
}

/// Frames that two links carry in `rounds` packets, of which each has room for one in three.
fn carried(router: &Router, flows: &mut Flows, rounds: usize) -> (u64, u64) {
    let (mut wan, mut other) = (0, 0);
    for round in 0..rounds {
        flows.send(router);
        if round % 3 == 0 {
            if let Some(frame) = router.take() {
                flows.receive(&frame);
                wan += 1;
            }
            if let Some(frame) = router.take_other() {
                flows.receive(&frame);
                other += 1;
            }
        }
    }
    (wan, other)
}

#[test]
fn two_equal_ports_carry_nearly_twice_what_one_does() {
    let Some(_machine) = privileged("two_equal_ports_carry") else { return };
    let router = router();
    let running = start(&router, "", "");
    let mut flows = Flows::new(FLOWS, FAR[0], 300);
    // Until the drain rates are known and the flows are spread.
    carried(&router, &mut flows, 20_000);
    let rounds = 60_000;
    let (wan, other) = carried(&router, &mut flows, rounds);
    // One port carries a packet in three, whatever is offered.
    let one = rounds as u64 / 3;
    let share = (wan + other) as f64 / one as f64;
    assert!(share >= 1.9, "{wan} and {other} of {one} each: {share:.3}");
    assert!(running.port("spilled") > 0);
    assert_eq!(running.snapshot().unaccounted(), 0);
}

#[test]
fn a_packet_without_a_route_by_the_spill_port_goes_straight() {
    let Some(_machine) = privileged("a_packet_without_a_route_by_the_spill_port") else { return };
    let router = router();
    let running = start(&router, NO_AQM, NO_AQM);
    // The receiver's own network is behind `wan0` alone.
    let mut near = Flows::new(256, RECEIVER.0, 100);
    wait_for("the ring is congested", LIMIT, || {
        near.send(&router);
        running.snapshot().ports[0].rings[0].signal == "congested"
    });
    for _ in 0..256 {
        near.send(&router);
    }
    assert_eq!((running.port("spilled"), other(&running, "seen")), (0, 0));
    // At the same time a flow that has the choice takes it.
    let mut far = Flows::new(64, FAR[0], 100);
    for _ in 0..64 {
        near.send(&router);
        far.send(&router);
    }
    assert!(running.port("spilled") > 0);
    assert_eq!(running.snapshot().unaccounted(), 0);
}

#[test]
fn nothing_spills_into_a_port_that_has_enough_itself() {
    let Some(_machine) = privileged("nothing_spills_into_a_port_that_has_enough") else { return };
    let router = router();
    let running = start(&router, NO_AQM, NO_AQM);
    let fill = udp(UNMANAGED).build();
    // Nobody reads either of them: both signals stand while frames come.
    wait_for("both rings are congested", LIMIT, || {
        router.inject(&fill);
        router.inject(&udp(RECEIVER.0).build());
        let ports = running.snapshot().ports;
        ports.iter().all(|port| port.rings[0].signal != "clear")
    });
    let mut far = Flows::new(64, FAR[0], 100);
    for _ in 0..64 {
        router.inject(&fill);
        far.send(&router);
    }
    assert_eq!(running.port("spilled"), 0);
    while router.take_other().is_some() {}
    wait_for("the spill port is clear", LIMIT, || {
        router.inject(&udp(RECEIVER.0).build());
        running.snapshot().ports[1].rings[0].signal == "clear"
    });
    let mut later = Flows::new(64, FAR[1], 100);
    for _ in 0..64 {
        router.inject(&udp(RECEIVER.0).build());
        later.send(&router);
    }
    assert!(running.port("spilled") > 0);
    assert_eq!(running.snapshot().unaccounted(), 0);
}

#[test]
fn a_spilled_packet_is_of_the_class_that_the_spill_ports_rules_say() {
    let Some(_machine) = privileged("a_spilled_packet_is_of_the_class") else { return };
    let router = router();
    let classes = "[[port.class]]\nname = \"voice\"\n[[port.class]]\nname = \"rest\"\n\
                   [[rule]]\nclass = \"voice\"\ndscp = 46\n";
    let running = start(&router, NO_AQM, &format!("{NO_AQM}\n{classes}"));
    wait_for("the ring is congested", LIMIT, || {
        router.inject(&udp(RECEIVER.0).build());
        running.snapshot().ports[0].rings[0].signal == "congested"
    });
    let voice = |port| udp(FAR[0]).ports(port, 9).dscp(46).build();
    let rest = |port| udp(FAR[0]).ports(port, 9).build();
    for port in 0..20 {
        router.inject(&udp(RECEIVER.0).build());
        router.inject(&voice(1_000 + port));
        router.inject(&rest(2_000 + port));
    }
    let ports = running.snapshot().ports;
    let seen = |index: usize| ports[1].classes[index].counters["seen"];
    assert_eq!((seen(0), seen(1)), (20, 20), "{:?}", ports[0].counters);
    assert_eq!(ports[0].counters["spilled"], 40);
}
