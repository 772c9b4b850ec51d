//! Devices that change under a running instance: rings resized, queues that come and go, a link that is down.

use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::Duration;

use rtnetlink::LinkUnspec;
use weir::datapath::Instance;
use weir::lab;
use weir::lab::netlink;

use super::frame::{RECEIVER, seen, udp};
use super::live::run_on;
use super::router::{Namespace, Router, Running, WAN, privileged, take_from, wait_for};
use super::veth::{Pair, stamp};

const NO_AQM: &str = "[port.aqm]\nalgorithm = \"none\"";

fn assert_says(said: &[String], part: &str) {
    assert!(said.iter().any(|sentence| sentence.contains(part)), "`{part}` is not in {said:?}");
}

/// Slots, and most frames that may stand in them, as the port's ring 0 and its configuration say.
fn slots(running: &Running) -> (u32, u32, u32) {
    let port = running.snapshot().ports.remove(0);
    (port.rings[0].slots, port.config.ring_slots, port.config.reserve_slots)
}

fn clears(running: &Running) {
    wait_for("the signal is clear", Duration::from_secs(2), || {
        running.snapshot().ports[0].rings[0].signal == "clear"
    });
}

/// Offers twice a ring of 1,000 slots; how many frames are in the ring then.
fn stuff(router: &Router, running: &Running) -> u32 {
    for number in 0..2_000 {
        router.inject(&udp(RECEIVER.0).stamp(number).build());
    }
    running.snapshot().ports[0].rings[0].occupancy
}

#[test]
fn a_taps_ring_that_is_resized_loses_at_most_a_batch_and_is_filled_to_its_new_reserve() {
    let Some(_machine) = privileged("a_taps_ring_that_is_resized") else { return };
    let router = Router::new();
    let mut running = router.start("", NO_AQM);
    for number in 0..20 {
        router.inject(&udp(RECEIVER.0).stamp(number).build());
    }
    assert!(running.follow(&router).is_empty(), "nothing has changed yet");
    router.set_queue_len(64);
    // A batch is a frame here: the first one that is refused raises the signal, and has the ring looked up again.
    stuff(&router, &running);
    let refused = running.port("ring_drops");
    assert!(refused <= 1, "{refused} refused");
    clears(&running);
    router.inject(&udp(RECEIVER.0).build());
    assert_eq!(running.snapshot().ports[0].rings[0].slots, 64);
    assert_says(&running.follow(&router), "slots of a ring: 64, not 1000 any more");
    router.drain();
    let processors = aya::util::online_cpus().unwrap().len() as u32;
    let small = 16_u32.max(16 * processors).min(32);
    clears(&running);
    assert_eq!(stuff(&router, &running), 64 - small);
    assert_eq!((running.port("ring_drops"), slots(&running)), (refused, (64, 64, small)));
    router.drain();
    // And longer than it was.
    router.set_queue_len(1_500);
    assert_says(&running.follow(&router), "slots of a ring: 1500, not 64 any more");
    // Until the ring is looked up again, after 10 ms, it is taken for as short as it was.
    wait_for("the ring's new length", Duration::from_secs(2), || {
        router.inject(&udp(RECEIVER.0).build());
        router.drain();
        running.snapshot().ports[0].rings[0].slots == 1_500
    });
    clears(&running);
    assert_eq!(stuff(&router, &running), 1_500 - 64_u32.max(16 * processors));
    assert_eq!(running.port("ring_drops"), refused);
    assert_eq!(running.snapshot().unaccounted(), 0);
}

/// Sends `frames` from processor 0 and half as many from processor 1, and takes what is in the rings: our frames in each, of
/// which the observer must have seen as many, and what the router announces of itself.
fn spread(router: &Router, running: &Running, frames: u64, second: Option<&OwnedFd>) -> Vec<usize> {
    router.run(|| {
        for (cpu, frames) in [(0, frames), (1, frames / 2)] {
            run_on(cpu);
            for number in 0..frames {
                router.inject(&udp(RECEIVER.0).stamp(number).build());
            }
        }
    });
    let rings = running.snapshot().ports.remove(0).rings;
    let mut ours = vec![router.drain().len()];
    ours.extend(
        second.map(|queue| std::iter::from_fn(|| take_from(queue)).filter_map(|frame| seen(&frame)).count()),
    );
    assert_eq!(rings.len(), ours.len());
    for (ring, ours) in rings.iter().zip(&ours) {
        let others = ring.occupancy as usize - ours;
        assert!(others <= 4, "{others} frames of the router's own: {ring:?}");
    }
    ours
}

#[test]
fn a_taps_queues_that_come_and_go_are_followed_and_each_ring_has_its_own_numbers() {
    let Some(_machine) = privileged("a_taps_queues_that_come_and_go") else { return };
    if aya::util::online_cpus().unwrap().len() < 2 {
        eprintln!("skipped: a second processor is what uses a second ring");
        return;
    }
    let router = Router::with_queues();
    let mut running = router.start("", NO_AQM);
    assert_eq!(spread(&router, &running, 20, None), [30]);
    let second = router.attach_queue();
    assert_says(&running.follow(&router), "TX rings in use: 2, not 1 any more");
    for _ in 0..2 {
        assert_eq!(spread(&router, &running, 20, Some(&second)), [20, 10]);
    }
    drop(second);
    assert_says(&running.follow(&router), "TX rings in use: 1, not 2 any more");
    for _ in 0..2 {
        assert_eq!(spread(&router, &running, 20, None), [30]);
    }
    assert_eq!((running.port("ring_drops"), running.snapshot().unaccounted()), (0, 0));
}

fn set_queues(at: &Namespace, queues: u32) {
    at.run(|| {
        let queues = queues.to_string();
        let status =
            Command::new("ethtool").args(["-L", WAN, "tx", &queues, "rx", &queues]).status().unwrap();
        assert!(status.success(), "ethtool cannot give {WAN} {queues} queues");
        Ok(())
    });
}

fn look(pair: &Pair, instance: &mut Instance) -> Vec<String> {
    pair.router.run(|| Ok(instance.follow().unwrap()))
}

/// Packets of both processors that arrive.
fn arrive(pair: &Pair, packets: u64) {
    let socket = pair.socket(RECEIVER.0.into());
    pair.router.run(|| {
        for cpu in [0, 1] {
            run_on(cpu);
            for number in 0..packets / 2 {
                pair.inject(&udp(RECEIVER.0).stamp(number).build());
            }
        }
        Ok(())
    });
    let mut arrived = 0;
    wait_for("all packets", Duration::from_secs(2), || {
        arrived += std::iter::from_fn(|| stamp(&socket)).count() as u64;
        arrived == packets
    });
}

#[test]
fn a_veths_queues_that_are_changed_are_followed_and_no_packet_is_lost() {
    let Some(_machine) = privileged("a_veths_queues_that_are_changed") else { return };
    if aya::util::online_cpus().unwrap().len() < 2 {
        eprintln!("skipped: a second processor is what uses a second ring");
        return;
    }
    let pair = Pair::new();
    let mut instance = pair.start("");
    arrive(&pair, 100);
    for (queues, said) in
        [(2, "TX rings in use: 2, not 1 any more"), (1, "TX rings in use: 1, not 2 any more")]
    {
        set_queues(&pair.router, queues);
        set_queues(&pair.receiver, queues);
        assert_says(&look(&pair, &mut instance), said);
        arrive(&pair, 100);
        let port = instance.reader().snapshot().unwrap().ports.remove(0);
        assert_eq!((port.rings.len(), port.unaccounted), (queues as usize, 0));
        assert!(port.rings.iter().all(|ring| ring.occupancy == 0 || ring.occupancy < 16), "{port:#?}");
        assert_eq!(port.counters["ring_drops"], 0);
    }
}

fn set_far_end(pair: &Pair, up: bool) {
    pair.receiver.run(|| {
        netlink::with_handle(async |handle| {
            let link = LinkUnspec::new_with_name(WAN);
            let link = if up { link.up() } else { link.down() };
            handle.link().set(link.build()).execute().await.map_err(lab::Error::netlink("set the far end"))
        })
    });
}

#[test]
fn what_a_link_that_is_down_loses_is_counted_and_ingress_drops_it_until_the_link_is_up() {
    let Some(_machine) = privileged("what_a_link_that_is_down_loses") else { return };
    let pair = Pair::new();
    let mut instance = pair.start("");
    arrive(&pair, 100);
    set_far_end(&pair, false);
    assert_says(&look(&pair, &mut instance), "the link is down");
    for number in 0..200 {
        pair.inject(&udp(RECEIVER.0).stamp(number).build());
    }
    let snapshot = instance.reader().snapshot().unwrap();
    let drops = &snapshot.ports[0].drops;
    assert_eq!(drops["ring_drops"] + drops["backpressure"], 200, "{drops:?}");
    assert!(drops["backpressure"] > drops["ring_drops"], "ingress sends to a dead link: {drops:?}");
    assert_eq!((snapshot.unaccounted(), snapshot.ports[0].unaccounted), (0, 0));
    set_far_end(&pair, true);
    assert_says(&look(&pair, &mut instance), "the link is up");
    wait_for("the level ends", Duration::from_secs(2), || {
        instance.reader().snapshot().unwrap().ports[0].rings[0].signal == "clear"
    });
    arrive(&pair, 100);
    assert_eq!(instance.reader().snapshot().unwrap().unaccounted(), 0);
}
