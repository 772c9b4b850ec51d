//! Names of contenders to the simulator's contenders.

use std::collections::BTreeMap;

use ipnet::IpNet;
use weir_aqm::Rate;
use weir_shared_maps::{ACTION_DROP, ACTION_NONE, DIM_INGRESS, PortConfig};
use weir_sim::Contender;
use weir_sim::queue::{PolicyConfig, Prefixes, Rules, Subscribers};

use crate::config::back_off;
use crate::config::encode::{self, EncodeError, PortFacts};
use crate::config::policy::compile::compile;
use crate::config::policy::{self, MatchRule};
use crate::config::{Config, Port};
use crate::experiment::units::BitRate;
use crate::experiment::{Experiment, contender};

/// MTU of Ethernet.
const MTU: u32 = 1_500;
/// A full frame: MTU and an Ethernet header.
const FRAME_BYTES: u64 = 1_514;

/// The contender called `name`, one of [`crate::experiment::contender::all`].
///
/// # Errors
/// Why it cannot run: the settings of `[weir]` do not fit the experiment's ring, or the experiment cannot be configured
/// for a port.
pub(super) fn contender(name: &str, experiment: &Experiment) -> Result<Contender, String> {
    let rate = rate(experiment.shaper_rate);
    let shaped = |queue| Contender::Shaped { rate, queue: Box::new(queue) };
    Ok(match name {
        // The kernel's forwarding without a shaper loses what the ring does not take, like a redirect.
        "redirect" | "kernel" => Contender::Redirect,
        "kernel+htb" | "kernel+tbf" => shaped(Contender::Redirect),
        "kernel+fq_codel" => shaped(Contender::FqCodel),
        "cake" | "kernel+cake" => Contender::Cake { rate },
        "codel" => Contender::Codel,
        "fq_codel" => Contender::FqCodel,
        "pie" => Contender::Pie,
        "dualpi2" => Contender::DualPi2,
        "policer" => Contender::Policer { rate, burst: burst(experiment.shaper_rate) },
        "bc-pqp" => Contender::BcPqp { rate },
        "csfq" => Contender::Csfq { rate },
        other => match contender::weir_config(other, &experiment.weir, experiment.shaper_rate) {
            Some(config) => weir(experiment, &config)?,
            None => return Err(format!("the simulator has no contender `{other}`")),
        },
    })
}

/// weir with the settings of this configuration's port, encoded as for a device.
fn weir(experiment: &Experiment, weir: &Config) -> Result<Contender, String> {
    let port = weir.ports.first().ok_or("the configuration has no port")?;
    let link = &experiment.link;
    let facts = PortFacts {
        ifindex: 1,
        ring_base: 0,
        rings: if link.simulated.ring_per_cpu { link.simulated.cpus } else { 1 },
        rings_max: if link.simulated.ring_per_cpu { link.simulated.cpus } else { 1 },
        senders: 1,
        ring_slots: link.ring,
        ring_readable: true,
        mtu: MTU,
        netns_inum: 0,
    };
    let config = encode::port_config(port, &facts).map_err(|error: EncodeError| error.to_string())?;
    if !port.classes.is_empty() {
        return Ok(Contender::WeirPolicy(Box::new(with_classes(weir, port, config)?)));
    }
    // There is no other port to spill to.
    match back_off::entries(port, &config, |_| None).first() {
        Some(actions) if (actions.on_congested, actions.on_full) != (ACTION_NONE, ACTION_DROP) => {
            Ok(Contender::WeirBackOff(Box::new((config, *actions))))
        }
        Some(_) | None => Ok(Contender::Weir(Box::new(config))),
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
    use weir_shared_maps::{AQM_PI2, CLASS_NONE, HASH_FLOW, MODE_POLICER, SIDE_SOURCE};

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
