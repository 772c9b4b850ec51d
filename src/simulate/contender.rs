//! Names of contenders to the simulator's contenders.

use std::collections::BTreeMap;

use ipnet::IpNet;
use weir_aqm::{Nanos, Rate};
use weir_ingress::is_sticky;
use weir_shared_maps::{ACTION_DROP, ACTION_NONE, BackOff, DIM_INGRESS, PortConfig};
use weir_sim::Contender;
use weir_sim::queue::{PolicyConfig, PortSetup, Prefixes, RouterConfig, Rules, StackConfig, Subscribers};

use crate::config::back_off;
use crate::config::encode::{self, EncodeError, PortFacts};
use crate::config::policy::compile::compile;
use crate::config::policy::{self, MatchRule};
use crate::config::{Config, Port};
use crate::experiment::units::BitRate;
use crate::experiment::{Experiment, SPILL_DEVICE, ShaperQueues, contender};

/// MTU of Ethernet.
const MTU: u32 = 1_500;
/// How long a packet takes through the kernel's stack to the queueing discipline.
const STACK_DELAY: Nanos = Nanos::from_micros(20);
/// A full frame: MTU and an Ethernet header.
const FRAME_BYTES: u64 = 1_514;

/// The contender called `name`, one of [`crate::experiment::contender::all`].
///
/// # Errors
/// Why it cannot run: the settings of `[weir]` do not fit the experiment's ring, or the experiment cannot be configured
/// for a port.
pub(super) fn contender(name: &str, experiment: &Experiment) -> Result<Contender, String> {
    let rate = rate(experiment.shaper_rate);
    if let Some(discipline) = name.strip_prefix("kernel+").and_then(|kind| discipline(kind, experiment)) {
        return Ok(discipline);
    }
    Ok(match name {
        // The kernel's forwarding without a shaper loses what the ring does not take, like a redirect.
        "redirect" | "kernel" => Contender::Redirect,
        "cake" => Contender::Cake { rate },
        "codel" => Contender::Codel,
        "fq_codel" => Contender::FqCodel,
        "pie" => Contender::Pie,
        "dualpi2" => Contender::DualPi2,
        "policer" => Contender::Policer { rate, burst: burst(experiment.shaper_rate) },
        "bc-pqp" => Contender::BcPqp { rate },
        "csfq" => Contender::Csfq { rate },
        other => match contender::weir_config(other, &experiment.weir, experiment.shaper_rate) {
            Some(config) => {
                let kind = other.strip_prefix("weir+").unwrap_or_default();
                weir(experiment, &config, discipline(kind, experiment))?
            }
            None => return Err(format!("the simulator has no contender `{other}`")),
        },
    })
}

/// The queueing discipline that the lab calls so, with the same settings.
fn discipline(kind: &str, experiment: &Experiment) -> Option<Contender> {
    let rate = rate(experiment.shaper_rate);
    let ShaperQueues { limit: packets, priority_dscp } = experiment.shaper_queues;
    let shaped = |queue| Contender::Shaped { rate, queue: Box::new(queue) };
    let leaf = |queue| match priority_dscp {
        Some(dscp) => Contender::Priority { dscp, queue: Box::new(queue) },
        None => queue,
    };
    match kind {
        "htb" => Some(shaped(leaf(Contender::Fifo { packets }))),
        "tbf" => Some(shaped(Contender::Fifo { packets })),
        "fq_codel" => Some(shaped(leaf(Contender::FqCodel))),
        "cake" => Some(Contender::Cake { rate }),
        _ => None,
    }
}

/// weir with the settings of this configuration's ports, encoded as for devices. `discipline` is in front of the first one's ring for
/// what its classes divert; by default a queue that hands on what it is given, as a tap has.
fn weir(experiment: &Experiment, weir: &Config, discipline: Option<Contender>) -> Result<Contender, String> {
    let mut ports = weir.ports.iter();
    let port = ports.next().ok_or("the configuration has no port")?;
    let link = &experiment.link;
    let encode = |port: &Port, ifindex, ring_slots| {
        let rings = if link.simulated.ring_per_cpu { link.simulated.cpus } else { 1 };
        let facts = PortFacts {
            ifindex,
            ring_base: 0,
            rings,
            rings_max: rings,
            senders: 1,
            ring_slots,
            ring_readable: true,
            mtu: MTU,
            netns_inum: 0,
        };
        encode::port_config(port, &facts).map_err(|error: EncodeError| error.to_string())
    };
    let config = encode(port, 1, link.ring)?;
    let setup = |port: &Port, config| -> Result<PortSetup, String> {
        Ok(if port.classes.is_empty() {
            PortSetup::Plain(Box::new(config))
        } else {
            PortSetup::Classes(Box::new(with_classes(weir, port, config)?))
        })
    };
    let back_off = back_off::entries(port, &config, |device| (device.as_str() == SPILL_DEVICE).then_some(2));
    let setup_of_port = setup(port, config)?;
    let acts = |actions: &BackOff| (actions.on_congested, actions.on_full) != (ACTION_NONE, ACTION_NONE);
    match (setup_of_port, back_off.as_slice()) {
        (PortSetup::Classes(config), actions) if !actions.iter().any(acts) => {
            Ok(Contender::WeirPolicy(config))
        }
        (PortSetup::Plain(config), [BackOff { on_congested: ACTION_NONE, on_full: ACTION_DROP, .. }]) => {
            Ok(Contender::Weir(config))
        }
        (PortSetup::Plain(config), [actions]) if !is_sticky(actions) => {
            Ok(Contender::WeirBackOff(Box::new((*config, *actions))))
        }
        (port, _) => {
            let spill = match (ports.next(), link.simulated.spill) {
                (Some(second), Some(link)) => Some(setup(second, encode(second, 2, link.ring)?)?),
                (Some(_) | None, Some(_) | None) => None,
            };
            let qdisc = discipline.unwrap_or(Contender::Fifo { packets: link.ring });
            let stack = StackConfig { qdisc, limit: link.ring, delay: STACK_DELAY };
            Ok(Contender::WeirRouter(Box::new(RouterConfig { port, back_off, stack, spill })))
        }
    }
}

/// The port's classes and the file's rules, encoded as for the maps.
fn with_classes(weir: &Config, port: &Port, encoded: PortConfig) -> Result<PolicyConfig, String> {
    let classes: Vec<_> =
        port.classes.iter().map(|class| policy::encode::class_config(class, port, &encoded)).collect();
    let (places, _) = policy::place::places(weir, port, &encoded, &classes, 0);
    Ok(PolicyConfig {
        rules: rules(&weir.policy.rules, port)?,
        hashes: policy::encode::hashes(port),
        subscribers: subscribers(weir, port),
        port: encoded,
        classes,
        places,
    })
}

/// Plans and subscribers at the indices that a fresh start gives them. Simulated hosts have IPv4 addresses.
fn subscribers(weir: &Config, port: &Port) -> Subscribers {
    let plans = &weir.policy.plans;
    let mut prefixes = Vec::new();
    for (subscriber, member) in (1..).zip(&weir.policy.subscribers) {
        for net in &member.prefixes {
            if let IpNet::V4(net) = net {
                prefixes.push((net.network(), net.prefix_len(), subscriber));
            }
        }
    }
    Subscribers {
        plans: plans.iter().map(policy::encode::plan_config).collect(),
        plan_classes: plans.iter().map(|plan| policy::encode::plan_class(port, plan)).collect(),
        members: std::iter::once(0).chain(weir.policy.subscribers.iter().map(|of| of.plan as u16)).collect(),
        prefixes,
    }
}

/// The rules as they are compiled for ingress. All packets arrive at the one ingress device.
fn rules(rules: &[MatchRule], port: &Port) -> Result<Rules, String> {
    let compiled = compile(rules, 1);
    if compiled.dimensions & !(Rules::DIMENSIONS | DIM_INGRESS) != 0 {
        return Err(
            "the simulator's packets have no VLAN and no source port that a rule could name: rules on \
                    these cannot be asked"
                .to_owned(),
        );
    }
    Ok(Rules {
        start: compiled.ingress.first().copied().unwrap_or(0),
        dimensions: compiled.dimensions,
        source: ipv4(&compiled.source),
        destination: ipv4(&compiled.destination),
        protocol: compiled.protocol,
        destination_port: compiled.destination_port,
        dscp: compiled.dscp,
        size: compiled.size,
        classes: rules.iter().map(|rule| policy::encode::class_at(port, &rule.class) as u32).collect(),
    })
}

fn ipv4(prefixes: &BTreeMap<IpNet, u64>) -> Prefixes {
    let ipv4 = prefixes.iter().filter_map(|(net, word)| match net {
        IpNet::V4(net) => Some((net.network(), net.prefix_len(), *word)),
        IpNet::V6(_) => None,
    });
    ipv4.collect()
}

fn rate(rate: BitRate) -> Rate {
    Rate::from_bits_per_second(rate.bps())
}

/// Burst tolerance of the plain policer: 10 ms at the rate, and ten full frames at least.
fn burst(rate: BitRate) -> u64 {
    (rate.bps() / 8 / 100).max(10 * FRAME_BYTES)
}

#[cfg(test)]
mod tests {
    use weir_shared_maps::{
        ACTION_MARK, ACTION_SPILL, AQM_PI2, CLASS_NONE, HASH_FLOW, MODE_POLICER, SIDE_SOURCE,
    };

    use super::*;
    use crate::experiment::contender::all;

    const TEXT: &str = "name = \"t\"\nduration = \"1s\"\ncontenders = [\"weir\"]\n[link]\nrate = \"10mbit\"\n\
                        delay = \"1ms\"\nring = 100\n[[probe]]\ninterval = \"10ms\"\n";

    #[test]
    fn every_name_has_a_contender() {
        let experiment = Experiment::parse("t.toml", TEXT).unwrap();
        for name in all() {
            assert!(contender(name, &experiment).is_ok(), "{name}");
        }
        assert!(contender("kernel+pie", &experiment).is_err());
    }

    #[test]
    fn weir_runs_the_files_settings_as_the_datapath_would_get_them() {
        let text = format!("{TEXT}[weir.aqm]\ntarget = \"7ms\"\n");
        let experiment = Experiment::parse("t.toml", &text).unwrap();
        let config = |name| {
            let Contender::Weir(config) = contender(name, &experiment).unwrap() else { panic!("{name}") };
            config
        };
        assert_eq!((config("weir").target_ns, config("weir").reserve_slots), (7_000_000, 25));
        assert_eq!(config("weir+pi2").aqm, AQM_PI2);
        assert_eq!(config("weir+policer").mode, MODE_POLICER);
    }

    #[test]
    fn settings_that_do_not_fit_the_ring_say_so() {
        let experiment = Experiment::parse("t.toml", &format!("{TEXT}[weir]\nreserve = 90\n")).unwrap();
        let reason = contender("weir", &experiment).unwrap_err();
        assert!(reason.contains("reserve = 90"), "{reason}");
    }

    fn router(name: &str, text: &str) -> RouterConfig {
        let experiment = Experiment::parse("t.toml", &format!("{TEXT}{text}")).unwrap();
        let Contender::WeirRouter(router) = contender(name, &experiment).unwrap() else { panic!("{name}") };
        *router
    }

    #[test]
    fn a_hybrid_has_the_discipline_of_its_kernel_contender_with_the_same_settings() {
        let text = "[shaper]\nlimit = 50\npriority_dscp = 46\n";
        let experiment = Experiment::parse("t.toml", &format!("{TEXT}{text}")).unwrap();
        for kind in ["htb", "tbf", "fq_codel", "cake"] {
            let router = router(&format!("weir+{kind}"), text);
            assert_eq!(router.stack.qdisc, contender(&format!("kernel+{kind}"), &experiment).unwrap());
            assert!(router.back_off.iter().all(is_sticky) && router.spill.is_none());
        }
        let of_htb = router("weir+htb", text).stack.qdisc;
        let leaf = Contender::Priority { dscp: 46, queue: Box::new(Contender::Fifo { packets: 50 }) };
        let rate = Rate::from_bits_per_second(9_500_000);
        assert_eq!(of_htb, Contender::Shaped { rate, queue: Box::new(leaf) });
    }

    #[test]
    fn a_class_that_acts_is_in_front_of_the_ring_and_spills_to_the_second_link() {
        let text = "[weir]\nspill_to = \"slow1\"\n[[weir.class]]\nname = \"a\"\non_full = \"spill\"\n\
                    [[weir.class]]\nname = \"b\"\non_congested = \"mark\"\n[link.spill]\nrate = \"2mbit\"\n\
                    delay = \"3ms\"\nring = 50\n";
        let router = router("weir", text);
        let levels = router.back_off.iter().map(|actions| (actions.on_congested, actions.on_full));
        assert_eq!(levels.collect::<Vec<_>>(), [(ACTION_NONE, ACTION_SPILL), (ACTION_MARK, ACTION_NONE)]);
        assert_eq!(router.back_off[0].spill_ifindex, 2);
        assert!(matches!(router.port, PortSetup::Classes(_)));
        let Some(PortSetup::Plain(spill)) = router.spill else { panic!("{:?}", router.spill) };
        assert_eq!((spill.classes, spill.reserve_slots), (0, 16));
    }

    fn policy(text: &str) -> Result<PolicyConfig, String> {
        let experiment = Experiment::parse("t.toml", &format!("{TEXT}{text}")).unwrap();
        let Contender::WeirPolicy(config) = contender("weir", &experiment)? else { panic!("no classes") };
        Ok(*config)
    }

    #[test]
    fn classes_and_rules_are_encoded_as_for_the_maps() {
        let config = policy(
            "[[weir.class]]\nname = \"a\"\nfairness = \"flow\"\nweight = 9\n[[weir.class]]\nname = \"b\"\n\
             [[weir.rule]]\nclass = \"a\"\ndscp = [\"ef\"]\n[[weir.rule]]\nclass = \"b\"\nsize = [\"..99\"]\n\
             source = [\"10.78.0.7/32\"]\n",
        )
        .unwrap();
        assert_eq!((config.port.classes, config.classes[0].weight, config.hashes), (2, 9, HASH_FLOW));
        assert_eq!((config.places[0].flow_mask, config.places[1].flow_mask), (1_023, u32::MAX));
        let rules = config.rules;
        assert_eq!((rules.start, rules.classes), (3, vec![0, 1]));
        assert_eq!((rules.dscp[46], rules.dscp[0], rules.size[99], rules.size[100]), (3, 2, 3, 1));
        assert!(rules.source.contains(&(std::net::Ipv4Addr::new(10, 78, 0, 7), 32, 3)), "{:?}", rules.source);
    }

    #[test]
    fn plans_and_subscribers_are_encoded_as_for_the_maps() {
        let config = policy(
            "[weir]\nsubscribers = \"source\"\n[[weir.class]]\nname = \"a\"\n[[weir.class]]\nname = \"b\"\n\
             [[weir.plan]]\nname = \"p\"\nup = \"2mbit\"\n[[weir.plan]]\nname = \"q\"\nup = \"3mbit\"\nclass = \"a\"\n\
             [[weir.subscriber]]\nname = \"s\"\nprefixes = [\"10.0.0.1\", \"10.0.1.0/24\"]\nplan = \"q\"\n",
        )
        .unwrap();
        assert_eq!(config.port.side, u32::from(SIDE_SOURCE));
        let subscribers = config.subscribers;
        assert_eq!(subscribers.plan_classes, [CLASS_NONE, 0]);
        let up = subscribers.plans.iter().map(|plan| weir_egress::pace_of_word(plan.up.rate_pace).unwrap());
        assert_eq!(up.map(|pace| pace.bits_per_second()).collect::<Vec<_>>(), [2_000_000, 3_000_000]);
        let [one, net] = [[10, 0, 0, 1], [10, 0, 1, 0]].map(std::net::Ipv4Addr::from);
        assert_eq!(
            (subscribers.prefixes, subscribers.members),
            (vec![(one, 32, 1), (net, 24, 1)], vec![0, 1])
        );
    }

    #[test]
    fn a_rule_that_simulated_packets_cannot_answer_is_refused() {
        let text = "[[weir.class]]\nname = \"a\"\n[[weir.rule]]\nclass = \"a\"\nsource_port = [\"80\"]\n";
        assert!(policy(text).unwrap_err().contains("cannot be asked"));
    }

    #[test]
    fn plain_weir_is_the_same_port_without_its_classes() {
        let text = format!("{TEXT}[[weir.class]]\nname = \"a\"\n");
        let experiment = Experiment::parse("t.toml", &text).unwrap();
        let plain = contender("weir+plain", &experiment).unwrap();
        assert!(matches!(plain, Contender::Weir(config) if config.classes == 0));
    }
}
