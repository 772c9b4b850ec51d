//! A file's keys as the programs read them.

use super::*;
use crate::config::Config;
use weir_aqm::{Pi2Params, PieParams};

const FACTS: PortFacts =
    PortFacts { ring_base: 3, rings: 2, rings_max: 2, netns_inum: 4_026_531_840, ..PortFacts::TAP };

fn port(keys: &str) -> Port {
    let text = format!("[[ingress]]\ndevice = \"lan0\"\n[[port]]\ndevice = \"wan0\"\n{keys}\n");
    Config::from_toml_str("t.toml", &text).unwrap().ports.remove(0)
}

fn encode(keys: &str) -> PortConfig {
    port_config(&port(keys), &FACTS).unwrap()
}

const MS: u64 = 1_000_000;

#[test]
fn a_port_whose_senders_are_asked_to_wait_drops_nothing_for_its_age_unless_told_to() {
    let waiting = encode("pause = \"802.3x\"");
    assert_eq!(
        (waiting.pause, waiting.limit_ns, waiting.target_ns),
        (PAUSE_LINK, MAX_LIMIT.as_nanos(), 5 * MS)
    );
    assert_eq!(encode("pause = \"802.3x\"\n[port.aqm]\nlimit = \"25ms\"").limit_ns, 25 * MS);
    let off = encode("pause = \"off\"");
    assert_eq!((off.pause, off.limit_ns), (PAUSE_OFF, 15 * MS));
    let classes = encode("pause = \"pfc\"\n[[port.class]]\nname = \"a\"");
    assert_eq!((classes.pause, classes.limit_ns), (PAUSE_PRIORITY, MAX_LIMIT.as_nanos()));
}

#[test]
fn a_bottleneck_without_rate_gets_the_defaults_of_rfc_8289() {
    let config = encode("");
    assert_eq!((config.mode, config.aqm, config.flags), (MODE_BOTTLENECK, AQM_CODEL, FLAG_ECN));
    assert_eq!((config.target_ns, config.interval_ns, config.limit_ns), (5 * MS, 100 * MS, 15 * MS));
    assert_eq!((config.signal_low_ns, config.signal_hold_ns), (11_250_000, 15 * MS));
    assert_eq!((config.pace_mult, config.pace_shift, config.burst_ns), (0, 0, 0));
    assert_eq!((config.reserve_slots, config.max_packet_bytes), (64, 1_514));
}

#[test]
fn the_facts_of_the_device_arrive_unchanged() {
    let config = encode("overhead = -4\nmpu = 84");
    assert_eq!((config.ifindex, config.ring_base, config.rings, config.ring_slots), (7, 3, 2, 1_000));
    assert_eq!((config.overhead_bytes, config.mpu_bytes, config.netns_inum), (-4, 84, 4_026_531_840));
    let route = PortRoute { port: 5, ring_base: 3, rings: 2, default_class: 0, side: 0, flags: 0 };
    assert_eq!(port_route(5, &port(""), &FACTS), route);
}

#[test]
fn what_is_given_is_taken_as_given() {
    let config = encode(
        "reserve = 10\n[port.aqm]\nalgorithm = \"pi2\"\ntarget = \"2ms\"\ninterval = \"50ms\"\nlimit = \"9ms\"\n\
         sojourn = \"head\"\necn = false",
    );
    assert_eq!((config.aqm, config.flags, config.reserve_slots), (AQM_PI2, FLAG_HEAD_SOJOURN, 10));
    assert_eq!((config.target_ns, config.interval_ns, config.limit_ns), (2 * MS, 50 * MS, 9 * MS));
    assert_eq!(config.signal_hold_ns, 10 * MS);
}

#[test]
fn a_ring_leaves_room_for_the_targets_of_its_classes() {
    let ms = |ms: u64| ms * 1_000_000;
    let class = "[[port.class]]\nname = \"bulk\"\n[port.class.aqm]\nalgorithm = \"pie\"";
    assert_eq!(encode(class).limit_ns, ms(45));
    assert_eq!(encode(&format!("[port.aqm]\nlimit = \"20ms\"\n{class}")).limit_ns, ms(20));
    let policed = format!("mode = \"policer\"\nrate = \"1gbit\"\n[port.aqm]\nalgorithm = \"codel\"\n{class}");
    assert_eq!(encode(&policed).limit_ns, ms(50));
}

#[test]
fn rfc_8033_pie_has_its_published_times_unless_told_otherwise() {
    let ms = |ms: u64| ms * 1_000_000;
    let config = encode("[port.aqm]\nalgorithm = \"pie\"");
    assert_eq!((config.aqm, config.target_ns, config.limit_ns), (AQM_PIE, ms(15), ms(45)));
    assert_eq!((config.t_update_ns, config.interval_ns), (ms(15), ms(150)));
    let published = PieParams::rfc_8033(Bytes::ZERO);
    assert_eq!((config.alpha, config.beta), (published.alpha, published.beta));
    let own =
        "[port.aqm]\nalgorithm = \"pie\"\ntarget = \"120ms\"\nt_update = \"20ms\"\nmax_burst = \"50ms\"";
    let config = encode(own);
    assert_eq!((config.target_ns, config.t_update_ns, config.interval_ns), (ms(120), ms(20), ms(50)));
}

#[test]
fn pi2_gains_and_their_update_time_come_from_one_calculation() {
    let config = encode("[port.aqm]\nalgorithm = \"pi2\"\ntarget = \"15ms\"");
    let params = Pi2Params::for_rtt_max(Nanos::from_millis(15), Nanos::from_millis(100), Bytes::new(1_514));
    assert_eq!((config.alpha, config.beta), (params.alpha, params.beta));
    assert_eq!(config.t_update_ns, params.t_update.as_nanos());
}

#[test]
fn on_a_slow_link_the_target_is_one_and_a_half_frames() {
    // 1,514 bytes at 2 Mbit/s take 6.056 ms.
    let config = encode("rate = \"2mbit\"");
    assert!((9_084_000..9_084_010).contains(&config.target_ns), "{}", config.target_ns);
    assert!((48_448_000..48_448_010).contains(&config.limit_ns), "{}", config.limit_ns);
    assert_eq!(config.interval_ns, 100 * MS);
}

#[test]
fn on_the_slowest_link_the_interval_follows_the_target() {
    let config = encode("rate = \"64kbit\"");
    assert_eq!(config.interval_ns, 2 * config.target_ns);
    assert!(config.interval_ns <= u64::from(u32::MAX));
}

#[test]
fn a_target_of_our_choosing_stays_below_a_given_interval_and_limit() {
    assert_eq!(encode("[port.aqm]\ninterval = \"4ms\"").target_ns, 2 * MS);
    assert_eq!(encode("rate = \"2mbit\"\n[port.aqm]\nlimit = \"6ms\"").target_ns, 6 * MS);
}

#[test]
fn a_target_of_our_choosing_stays_within_half_of_a_short_ring() {
    let facts = PortFacts { ring_slots: 256, ..FACTS };
    // 256 frames of 1,514 bytes at 1 Gbit/s: 3.1 ms.
    let config = port_config(&port("rate = \"1gbit\""), &facts).unwrap();
    assert!((1_550_000..1_551_000).contains(&config.target_ns), "{}", config.target_ns);
}

#[test]
fn the_configured_rate_is_encoded_as_time_per_byte_with_its_overhead() {
    let config = encode("rate = \"100mbit\"\noverhead = 24");
    let pace = Pace::from_parts(config.pace_mult, config.pace_shift).unwrap();
    assert_eq!(pace.time_for_rounded_up(Bytes::new(1_000_000)).as_nanos(), 80 * MS);
}

#[test]
fn a_policer_tolerates_fifty_milliseconds_or_ten_frames_by_default() {
    let fast = encode("mode = \"policer\"\nrate = \"1gbit\"");
    assert_eq!((fast.mode, fast.burst_ns), (MODE_POLICER, 50 * MS));
    let slow = encode("mode = \"policer\"\nrate = \"1mbit\"");
    assert!((121_120_000..121_120_100).contains(&slow.burst_ns), "{}", slow.burst_ns);
    assert!(slow.limit_ns >= slow.burst_ns);
}

#[test]
fn a_policer_has_a_controller_only_where_one_or_a_time_of_one_is_given() {
    let aqm = |keys: &str| encode(&format!("mode = \"policer\"\nrate = \"1gbit\"\n[port.aqm]\n{keys}")).aqm;
    assert_eq!((aqm(""), aqm("ecn = false"), aqm("algorithm = \"pi2\"")), (AQM_NONE, AQM_NONE, AQM_PI2));
    assert_eq!((aqm("target = \"5ms\""), aqm("limit = \"25ms\"")), (AQM_CODEL, AQM_CODEL));
    assert_eq!(encode("rate = \"1gbit\"").aqm, AQM_CODEL);
}

#[test]
fn mode_tc_is_a_policer_that_nothing_is_redirected_to() {
    let (tc, policer) =
        (encode("mode = \"tc\"\nrate = \"20mbit\""), encode("mode = \"policer\"\nrate = \"20mbit\""));
    assert_eq!(PortConfig { flags: policer.flags, ..tc }, policer);
    assert_eq!((tc.flags & FLAG_TC, policer.flags & FLAG_TC), (FLAG_TC, 0));
}

#[test]
fn what_the_stack_sends_is_decided_on_unless_the_file_says_otherwise() {
    assert_eq!(encode("").stack, STACK_DECIDE);
    assert_eq!(encode("stack = \"charge\"").stack, STACK_CHARGE);
    assert_eq!(encode("stack = \"ignore\"").stack, STACK_IGNORE);
}

#[test]
fn what_the_stack_sends_is_only_charged_where_packets_are_diverted_into_it() {
    assert_eq!(encode("on_full = \"divert\"").stack, STACK_CHARGE);
    let of_class = "[[port.class]]\nname = \"bulk\"\non_congested = \"divert\"";
    assert_eq!(encode(of_class).stack, STACK_CHARGE);
    assert_eq!(encode(&format!("stack = \"decide\"\n{of_class}")).stack, STACK_DECIDE);
    assert_eq!(encode("on_full = \"drop\"").stack, STACK_DECIDE);
    assert_eq!(encode("mode = \"auto\"\nrate = \"1gbit\"\non_full = \"divert\"").stack, STACK_DECIDE);
}

#[test]
fn a_policers_burst_is_its_time_at_the_rate() {
    let config = encode("mode = \"policer\"\nrate = \"8mbit\"\nburst = \"32kb\"");
    assert!((32_768_000..32_768_010).contains(&config.burst_ns), "{}", config.burst_ns);
}

#[test]
fn a_burst_below_one_frame_of_the_real_mtu_is_refused() {
    let port = port("mode = \"policer\"\nrate = \"8mbit\"\nburst = \"4kb\"");
    let facts = PortFacts { mtu: 9_000, ..FACTS };
    let error = port_config(&port, &facts).unwrap_err();
    assert!(error.to_string().contains("port wan0: burst = 4096 bytes"), "{error}");
}

#[test]
fn an_unreadable_ring_is_replaced_by_a_virtual_queue_or_refused() {
    let facts = PortFacts { ring_readable: false, ring_slots: 0, ..FACTS };
    assert_eq!(port_config(&port("rate = \"10mbit\""), &facts).map(|config| config.mode), Ok(MODE_VIRTUAL));
    let error = port_config(&port(""), &facts).unwrap_err();
    assert_eq!(error, EncodeError::RateNeeded { device: "wan0".to_owned() });
}

#[test]
fn the_reserve_shrinks_with_the_ring_and_never_takes_more_than_half() {
    let with = |slots, keys: &str| port_config(&port(keys), &PortFacts { ring_slots: slots, ..FACTS });
    for (slots, reserve) in [(0, 64), (1_000, 64), (256, 64), (128, 32), (64, 16)] {
        assert_eq!(with(slots, "").map(|config| config.reserve_slots), Ok(reserve));
    }
    // However small: each CPU's batch of sixteen fits, up to half of the ring.
    let from = |senders, slots| port_config(&port(""), &PortFacts { senders, ring_slots: slots, ..FACTS });
    for (senders, slots, reserve) in
        [(2, 64, 32), (2, 256, 64), (8, 1_000, 128), (8, 256, 128), (64, 256, 128), (8, 0, 128)]
    {
        let found = from(senders, slots).map(|config| config.reserve_slots);
        assert_eq!(found, Ok(reserve), "{senders} senders, {slots} slots");
    }
    assert!(with(100, "reserve = 51").is_err());
    assert_eq!(with(100, "reserve = 50").map(|config| config.reserve_slots), Ok(50));
}

#[test]
fn without_an_aqm_only_admission_and_the_policer_bound_the_queue() {
    let config = encode("[port.aqm]\nalgorithm = \"none\"");
    assert_eq!((config.aqm, config.limit_ns), (AQM_NONE, MAX_LIMIT.as_nanos()));
}

#[test]
fn each_listed_vlan_is_one_bit_of_the_bitmap() {
    let text = "[[ingress]]\ndevice = \"lan0\"\nvlans = [1, 64, 4094]\n[[port]]\ndevice = \"wan0\"\n";
    let ingress = Config::from_toml_str("t.toml", text).unwrap().ingress.remove(0);
    let config = ingress_config(&ingress, 9, [0x02, 0, 0, 0, 0, 0xaa]);
    assert_eq!((config.ifindex, config.mac), (9, 0xaa00_0000_0002));
    assert_eq!((config.vlans[0], config.vlans[1], config.vlans[63]), (2, 1, 1 << 62));
    assert_eq!(config.vlans.iter().map(|word| word.count_ones()).sum::<u32>(), 3);
}
