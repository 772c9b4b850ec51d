//! From classes, plans and subscribers to the bytes that the programs read.

use ipnet::IpNet;
use weir_aqm::{Bytes, GcraParams, Nanos, Pace, Rate};
use weir_egress::pace_word;
use weir_ingress::subscriber::{halves, key4, key6};
use weir_shared_maps::{
    CLASS_NONE, COLOUR_DROP, ClassConfig, DSCP_KEEP, ENTRY4_WORDS, ENTRY6_WORDS, FAIRNESS_DESTINATION,
    FAIRNESS_DESTINATION_FLOW, FAIRNESS_FLOW, FAIRNESS_NONE, FAIRNESS_SOURCE, FAIRNESS_SOURCE_FLOW,
    HASH_DESTINATION, HASH_FLOW, HASH_SOURCE, MAX_PREFIX_LENGTHS, POLICER_BYTES, POLICER_NONE,
    POLICER_PACKETS, PlanConfig, PlanRates, PortConfig, PrefixMask4, PrefixMask6, PrefixMasks,
    SIDE_DESTINATION, SIDE_NONE, SIDE_SOURCE,
};
use zerocopy::FromZeros as _;

use super::model::{
    Class, ColourAction, DscpAction, Fairness, IMPLICIT_CLASS, Metered, Plan, PlanRate, Policer, Side,
};
use crate::config::encode::{POLICER_BURST_TIME, algorithm, flags, patient};
use crate::config::model::{Aqm, Mode, Port};
use crate::config::times::{Gains, Times};

const BURST_TIME: Nanos = Nanos::from_millis(10);
/// Each flow of a class that flows share may hold a part of its burst alone, and TCP needs about half of its round-trip time to keep
/// its share (docs/deciding.md).
const FAIR_BURST_TIME: Nanos = Nanos::from_millis(25);
const BURST_FRAMES: u64 = 10;

/// The class's entry. `port_config` is its port's, whose AQM and largest frame it takes where it says nothing.
pub fn class_config(class: &Class, port: &Port, port_config: &PortConfig) -> ClassConfig {
    let frame = Bytes::new(u64::from(port_config.max_packet_bytes));
    let rate = class.rate.and_then(Rate::pace);
    let ceil = class.ceil.or(port.rate).and_then(Rate::pace);
    let least = match port.mode {
        Mode::Policer | Mode::Tc | Mode::Auto | Mode::Bottleneck if class.fairness != Fairness::None => {
            FAIR_BURST_TIME
        }
        Mode::Policer | Mode::Tc | Mode::Auto => POLICER_BURST_TIME,
        Mode::Bottleneck => BURST_TIME,
    };
    let burst = |pace: Option<Pace>| pace.map_or(0, |pace| burst_ns(pace, class.burst, least, frame));
    let aqm = Aqm { ecn: class.ecn.unwrap_or(port.aqm.ecn), ..class.aqm.unwrap_or(port.aqm) };
    let aqm = match (&class.aqm, class.ecn) {
        (Some(own), None) => Aqm { ecn: own.ecn, ..aqm },
        (Some(_), Some(_)) | (None, _) => aqm,
    };
    let aqm = patient(port, aqm);
    let slowest = rate.or(ceil).map_or(Nanos::ZERO, |pace| pace.time_for_rounded_up(frame));
    let times = Times::of(&aqm, port.mode, slowest, Nanos::from_nanos(burst(rate.or(ceil))), None);
    // A ring is full for everybody at the port's limit: a class that held as much would leave nothing to the others.
    let limit = match port.mode {
        Mode::Bottleneck => times.ring_limit.as_nanos().min(port_config.limit_ns),
        Mode::Policer | Mode::Tc | Mode::Auto => times.limit.as_nanos(),
    };
    let gains = Gains::of(&aqm, &times, frame);
    let (policer, committed, peak) = class.policer.as_ref().map_or((POLICER_NONE, None, None), |policer| {
        let unit = match policer.committed {
            Metered::Bytes { .. } => POLICER_BYTES,
            Metered::Packets { .. } => POLICER_PACKETS,
        };
        (unit, meter(&policer.committed, frame), policer.peak.as_ref().and_then(|peak| meter(peak, frame)))
    });
    let colours = class.policer.unwrap_or(NO_COLOURS);
    ClassConfig {
        rate_pace: pace_word(rate),
        ceil_pace: pace_word(ceil),
        rate_burst_ns: burst(rate),
        ceil_burst_ns: burst(ceil),
        target_ns: times.target.as_nanos(),
        interval_ns: times.interval.as_nanos(),
        limit_ns: limit,
        t_update_ns: gains.t_update.as_nanos(),
        cir_pace: pace_word(committed.map(|meter| meter.pace)),
        cbs_ns: committed.map_or(0, |meter| meter.tolerance.as_nanos()),
        pir_pace: pace_word(peak.map(|meter| meter.pace)),
        pbs_ns: peak.map_or(0, |meter| meter.tolerance.as_nanos()),
        priority: class.priority,
        weight: class.weight,
        flags: flags(&aqm),
        aqm: algorithm(&aqm, port.mode),
        alpha: gains.alpha,
        beta: gains.beta,
        fairness: fairness(class.fairness, port.subscribers),
        dscp: match class.dscp {
            DscpAction::Keep => DSCP_KEEP,
            DscpAction::Set(value) => u32::from(value),
        },
        policer,
        colour_aware: u32::from(colours.aware),
        yellow: colour(colours.yellow),
        red: colour(colours.red),
    }
}

const NO_COLOURS: Policer = Policer {
    committed: Metered::Packets { rate: 1, burst: None },
    peak: None,
    aware: false,
    yellow: ColourAction::Pass,
    red: ColourAction::Pass,
};

const fn colour(action: ColourAction) -> u32 {
    match action {
        ColourAction::Pass => DSCP_KEEP,
        ColourAction::Drop => COLOUR_DROP,
        ColourAction::Set(value) => value as u32,
    }
}

/// The larger of `least` and ten full frames where no burst is given.
fn burst_ns(pace: Pace, burst: Option<Bytes>, least: Nanos, frame: Bytes) -> u64 {
    let time = match burst {
        Some(burst) => pace.time_for_rounded_up(burst),
        None => pace.time_for_rounded_up(frame.saturating_mul(BURST_FRAMES)).max(least),
    };
    time.as_nanos()
}

fn meter(metered: &Metered, frame: Bytes) -> Option<GcraParams> {
    match metered {
        Metered::Bytes { rate, burst } => {
            let pace = rate.pace()?;
            Some(GcraParams { pace, tolerance: Nanos::from_nanos(burst_ns(pace, *burst, BURST_TIME, frame)) })
        }
        Metered::Packets { rate, burst } => {
            GcraParams::with_packets(*rate, burst.unwrap_or(BURST_FRAMES.max(*rate / 100)))
        }
    }
}

/// Hosts are those of the subscribers where the port has them, else those that send.
const fn fairness(fairness: Fairness, side: Option<Side>) -> u32 {
    match (fairness, side) {
        (Fairness::None, _) => FAIRNESS_NONE,
        (Fairness::Flow, _) => FAIRNESS_FLOW,
        (Fairness::SourceHost, _) => FAIRNESS_SOURCE,
        (Fairness::DestinationHost, _) => FAIRNESS_DESTINATION,
        (Fairness::HostFlow, Some(Side::Destination)) => FAIRNESS_DESTINATION_FLOW,
        (Fairness::HostFlow, Some(Side::Source) | None) => FAIRNESS_SOURCE_FLOW,
    }
}

/// `HASH_*` of what the classes of a port ask for.
pub fn hashes(port: &Port) -> u32 {
    let of = |class: &Class| match fairness(class.fairness, port.subscribers) {
        FAIRNESS_FLOW => HASH_FLOW,
        FAIRNESS_SOURCE => HASH_SOURCE,
        FAIRNESS_DESTINATION => HASH_DESTINATION,
        FAIRNESS_SOURCE_FLOW => HASH_SOURCE | HASH_FLOW,
        FAIRNESS_DESTINATION_FLOW => HASH_DESTINATION | HASH_FLOW,
        _ => 0,
    };
    port.classes.iter().fold(0, |all, class| all | of(class))
}

/// `SIDE_*`.
pub const fn side(side: Option<Side>) -> u8 {
    match side {
        None => SIDE_NONE,
        Some(Side::Source) => SIDE_SOURCE,
        Some(Side::Destination) => SIDE_DESTINATION,
    }
}

/// The index of a class by name at a port; a port without that class uses its default one.
pub fn class_at(port: &Port, name: &str) -> usize {
    port.classes.iter().position(|class| class.name == name).unwrap_or(port.default_class)
}

/// What a plan says of the classes of a port.
pub fn plan_class(port: &Port, plan: &Plan) -> u32 {
    plan.class.as_ref().map_or(CLASS_NONE, |name| class_at(port, name) as u32)
}

/// Name of a port's class by index.
pub fn class_name(port: &Port, index: usize) -> &str {
    port.classes.get(index).map_or(IMPLICIT_CLASS, |class| class.name.as_str())
}

/// Bytes of a full frame of Ethernet's usual MTU: a plan holds for all ports.
const FULL_FRAME: Bytes = Bytes::new(1_514);

/// The plan's entry.
pub fn plan_config(plan: &Plan) -> PlanConfig {
    let direction = |rate: Option<PlanRate>| {
        let (rate, ceil) = (rate.and_then(|r| r.rate.pace()), rate.and_then(|r| r.ceil.pace()));
        let burst =
            |pace: Option<Pace>| pace.map_or(0, |pace| burst_ns(pace, plan.burst, BURST_TIME, FULL_FRAME));
        PlanRates {
            rate_pace: pace_word(rate),
            ceil_pace: pace_word(ceil),
            rate_burst_ns: burst(rate),
            ceil_burst_ns: burst(ceil),
        }
    };
    PlanConfig { down: direction(plan.down), up: direction(plan.up) }
}

/// The key of a prefix in the tables of subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriberKey {
    /// IPv4.
    V4([u64; ENTRY4_WORDS]),
    /// IPv6.
    V6([u64; ENTRY6_WORDS]),
}

/// The key that stands for a prefix.
pub fn subscriber_key(net: &IpNet) -> SubscriberKey {
    let length = net.prefix_len();
    match net.trunc() {
        IpNet::V4(net) => {
            SubscriberKey::V4(key4(u32::from_ne_bytes(net.network().octets()), u32::from(length)))
        }
        IpNet::V6(net) => SubscriberKey::V6(key6(halves(net.network().octets()), u64::from(length))),
    }
}

/// The prefix lengths in use, those of most prefixes first. The tables' seed and sizes are not known here.
pub fn prefix_masks<'a>(prefixes: impl Iterator<Item = &'a IpNet>) -> PrefixMasks {
    let mut counts = [[0_u32; 129]; 2];
    for net in prefixes {
        let family = usize::from(matches!(net, IpNet::V6(_)));
        if let Some(count) = counts.get_mut(family).and_then(|c| c.get_mut(usize::from(net.prefix_len()))) {
            *count += 1;
        }
    }
    let [v4, v6] = counts.map(|counts| {
        let mut lengths: Vec<(u32, u32)> =
            (0..).zip(counts).filter(|(length, count)| *length > 0 && *count > 0).collect();
        lengths.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        lengths.truncate(MAX_PREFIX_LENGTHS);
        lengths
    });
    let mut masks = PrefixMasks::new_zeroed();
    for (entry, (length, _)) in masks.v4.iter_mut().zip(v4) {
        let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
        *entry = PrefixMask4 { mask: u32::from_ne_bytes(mask.to_be_bytes()), length };
    }
    for (entry, (length, _)) in masks.v6.iter_mut().zip(v6) {
        let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
        *entry = PrefixMask6 { mask: halves(mask.to_be_bytes()), length: length.into() };
    }
    masks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::encode::{PortFacts, port_config};
    use weir_shared_maps::{AQM_CODEL, AQM_L4S, AQM_NONE, AQM_PI2, FLAG_ECN};

    fn classes(keys: &str) -> Vec<ClassConfig> {
        let text = format!("[[ingress]]\ndevice = \"lan0\"\n[[port]]\ndevice = \"wan0\"\n{keys}\n");
        let config = Config::from_toml_str("t.toml", &text).unwrap();
        let port = &config.ports[0];
        let facts = PortFacts { ring_slots: 500, ..PortFacts::TAP };
        let encoded = port_config(port, &facts).unwrap();
        port.classes.iter().map(|class| class_config(class, port, &encoded)).collect()
    }

    fn bits(word: u64) -> Option<u64> {
        weir_egress::pace_of_word(word).map(Pace::bits_per_second)
    }

    const MS: u64 = 1_000_000;

    #[test]
    fn a_class_that_says_nothing_takes_its_ports_rate_and_aqm() {
        let keys = "rate = \"80mbit\"\n[port.aqm]\nalgorithm = \"pi2\"\ntarget = \"7ms\"\necn = false\n\
                    [[port.class]]\nname = \"a\"";
        let class = classes(keys)[0];
        assert_eq!((class.rate_pace, bits(class.ceil_pace)), (0, Some(80_000_000)));
        assert_eq!(
            (class.priority, class.weight, class.dscp, class.policer),
            (4, 1, DSCP_KEEP, POLICER_NONE)
        );
        assert_eq!((class.aqm, class.target_ns, class.flags & FLAG_ECN), (AQM_PI2, 7 * MS, 0));
        // The larger of 10 ms and ten frames of 1,514 bytes at 80 Mbit/s, 1.5 ms.
        assert_eq!(class.ceil_burst_ns, 10 * MS);
    }

    #[test]
    fn a_class_in_front_of_a_ring_has_the_default_limit_without_an_algorithm() {
        let none = "aqm = { algorithm = \"none\" }\n";
        let of_port = format!("{none}[[port.class]]\nname = \"a\"");
        let of_class = format!("[[port.class]]\nname = \"a\"\n{none}");
        for keys in [&of_port, &of_class] {
            let class = classes(keys)[0];
            assert_eq!((class.aqm, class.limit_ns), (AQM_NONE, 15 * MS));
        }
        let shorter = format!("aqm = {{ limit = \"10ms\" }}\n{of_class}");
        assert_eq!(classes(&shorter)[0].limit_ns, 10 * MS);
        // A policer's burst bounds it.
        let policed = format!("mode = \"policer\"\nrate = \"80mbit\"\n{of_port}");
        assert!(classes(&policed)[0].limit_ns > 1_000 * MS);
    }

    #[test]
    fn a_classes_own_values_stand_in_its_entry() {
        let keys = "rate = \"80mbit\"\nsubscribers = \"destination\"\n[[port.class]]\nname = \"a\"\npriority = 0\n\
                    weight = 9\nrate = \"8mbit\"\nceil = \"40mbit\"\nburst = \"15000b\"\nfairness = \"host+flow\"\n\
                    dscp = \"wash\"\necn = true\n[port.class.aqm]\nalgorithm = \"l4s\"\n\
                    [port.class.policer]\ncir = \"8mbit\"\ncbs = \"15000b\"\npir = \"16mbit\"\npbs = \"30000b\"\n\
                    aware = true\nyellow = \"af12\"\nred = \"drop\"";
        let class = classes(keys)[0];
        assert_eq!((bits(class.rate_pace), bits(class.ceil_pace)), (Some(8_000_000), Some(40_000_000)));
        assert_eq!((class.rate_burst_ns, class.ceil_burst_ns), (15 * MS, 3 * MS));
        assert_eq!((class.priority, class.weight, class.aqm, class.dscp), (0, 9, AQM_L4S, 0));
        assert_eq!(class.fairness, FAIRNESS_DESTINATION_FLOW);
        assert_eq!((bits(class.cir_pace), bits(class.pir_pace)), (Some(8_000_000), Some(16_000_000)));
        assert_eq!((class.cbs_ns, class.pbs_ns, class.policer), (15 * MS, 15 * MS, POLICER_BYTES));
        assert_eq!((class.colour_aware, class.yellow, class.red), (1, 12, COLOUR_DROP));
    }

    #[test]
    fn a_policer_of_packets_costs_one_byte_of_pace_for_each() {
        let keys = "[[port.class]]\nname = \"a\"\n[port.class.policer]\ncir = \"1000pps\"\ncbs = \"32p\"";
        let class = classes(keys)[0];
        assert_eq!((class.policer, class.cbs_ns, class.pir_pace), (POLICER_PACKETS, 32 * MS, 0));
        assert_eq!((class.aqm, class.red), (AQM_CODEL, COLOUR_DROP));
    }

    #[test]
    fn masks_list_the_lengths_of_most_prefixes_first_and_keys_match_them() {
        let nets: Vec<IpNet> = ["192.0.2.8/29", "198.51.100.1/32", "198.51.100.2/32", "2001:db8:7::/56"]
            .map(|net| net.parse().unwrap())
            .to_vec();
        let masks = prefix_masks(nets.iter());
        assert_eq!(masks.v4.map(|entry| entry.length), [32, 29, 0, 0, 0, 0, 0, 0]);
        assert_eq!(masks.v6[0].length, 56);
        for net in &nets {
            // Any address of the prefix, masked, is its key.
            match (net, subscriber_key(net)) {
                (IpNet::V4(net), SubscriberKey::V4(key)) => {
                    let mask =
                        masks.v4.iter().find(|mask| mask.length == u32::from(net.prefix_len())).unwrap();
                    let address = u32::from_ne_bytes(net.broadcast().octets());
                    assert_eq!(key4(address & mask.mask, mask.length), key);
                }
                (IpNet::V6(net), SubscriberKey::V6(key)) => {
                    let ([high, low], mask) = (halves(net.broadcast().octets()), masks.v6[0]);
                    assert_eq!(key6([high & mask.mask[0], low & mask.mask[1]], mask.length), key);
                }
                (net, key) => panic!("{net} is {key:?}"),
            }
        }
    }
}
