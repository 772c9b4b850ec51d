//! Classes, rules and plans in words, for `weir check`.

use weir_shared_maps::{
    DIM_DESTINATION, DIM_DESTINATION_PORT, DIM_DSCP, DIM_MARK, DIM_PROTOCOL, DIM_SIZE, DIM_SOURCE,
    DIM_SOURCE_PORT, DIM_VLAN,
};

use crate::config::policy::compile::compile;
use crate::config::policy::{
    Class, ColourAction, DscpAction, MatchRule, Metered, Plan, PlanRate, Policer, words,
};
use crate::config::units::{show_rate, show_size};
use crate::config::{Config, Mode, Port};

use super::check::aqm;

/// One line for each class of a port.
pub(super) fn class_lines(port: &Port) -> Vec<String> {
    let line = |(index, class): (usize, &Class)| {
        let default = if index == port.default_class { " (default)" } else { "" };
        format!("class {}{default}: {}", class.name, class_words(class, port.mode))
    };
    port.classes.iter().enumerate().map(line).collect()
}

fn class_words(class: &Class, mode: Mode) -> String {
    let mut parts = vec![format!("priority {} weight {}", class.priority, class.weight)];
    parts.extend(class.rate.map(|rate| format!("rate {}", show_rate(rate))));
    parts.extend(class.ceil.map(|ceil| format!("ceil {}", show_rate(ceil))));
    parts.extend(class.burst.map(|burst| format!("burst {}", show_size(burst))));
    parts.push(format!("fairness {}", class.fairness.name()));
    if let DscpAction::Set(value) = class.dscp {
        parts.push(format!("DSCP set to {}", words::show_code_point(value)));
    }
    parts.extend(class.ecn.map(|ecn| if ecn { "ECN" } else { "no ECN" }.to_owned()));
    parts.extend(class.aqm.as_ref().map(|own| aqm(own, mode)));
    parts.extend(class.policer.as_ref().map(policer_words));
    if !class.back_off.does_nothing() {
        parts.push(class.back_off.words());
    }
    parts.join(", ")
}

fn policer_words(policer: &Policer) -> String {
    let metered = |metered: &Metered| match metered {
        Metered::Bytes { rate, burst } => {
            format!(
                "{}{}",
                show_rate(*rate),
                burst.map(|b| format!(" burst {}", show_size(b))).unwrap_or_default()
            )
        }
        Metered::Packets { rate, burst } => {
            format!("{rate}pps{}", burst.map(|b| format!(" burst {b}p")).unwrap_or_default())
        }
    };
    let colour = |action| match action {
        ColourAction::Pass => "passes".to_owned(),
        ColourAction::Drop => "is dropped".to_owned(),
        ColourAction::Set(value) => format!("becomes {}", words::show_code_point(value)),
    };
    let mut parts = vec![format!("policer cir {}", metered(&policer.committed))];
    if let Some(peak) = &policer.peak {
        parts.push(format!("pir {}", metered(peak)));
        parts.push(format!("yellow {}", colour(policer.yellow)));
    }
    parts.push(format!("red {}", colour(policer.red)));
    if policer.aware {
        parts.push("colour-aware".to_owned());
    }
    parts.join(" ")
}

/// Rules in their order, plans, and how many subscribers there are.
pub(super) fn lines(config: &Config) -> Vec<String> {
    let policy = &config.policy;
    let rules = policy.rules.iter().enumerate();
    let mut lines: Vec<String> =
        rules.map(|(index, rule)| format!("rule {}: {}", index + 1, rule_words(rule, config))).collect();
    if !policy.rules.is_empty() {
        lines.push(format!("rules are looked up by {}", dimensions(config)));
    }
    lines.extend(policy.plans.iter().map(|plan| format!("plan {}: {}", plan.name, plan_words(plan))));
    if !policy.subscribers.is_empty() {
        let prefixes: usize = policy.subscribers.iter().map(|subscriber| subscriber.prefixes.len()).sum();
        lines.push(format!("{} subscribers with {prefixes} prefixes", policy.subscribers.len()));
    }
    lines
}

/// What the compiled rules look at, in the order of the lookups.
fn dimensions(config: &Config) -> String {
    let looked_at = compile(&config.policy.rules, config.ingress.len()).dimensions;
    let names = [
        (DIM_DSCP, "DSCP"),
        (DIM_VLAN, "VLAN"),
        (DIM_SIZE, "size"),
        (DIM_SOURCE, "source"),
        (DIM_DESTINATION, "destination"),
        (DIM_PROTOCOL, "protocol"),
        (DIM_SOURCE_PORT, "source port"),
        (DIM_DESTINATION_PORT, "destination port"),
        (DIM_MARK, "mark of the stack's packets"),
    ];
    let names: Vec<&str> =
        names.into_iter().filter(|(bit, _)| looked_at & bit != 0).map(|(_, name)| name).collect();
    if names.is_empty() { "nothing: the first one always matches".to_owned() } else { names.join(", ") }
}

fn rule_words(rule: &MatchRule, config: &Config) -> String {
    let MatchRule {
        class,
        dscp,
        vlan,
        source,
        destination,
        protocol,
        source_port,
        destination_port,
        ingress,
        size,
        mark,
    } = rule;
    let device = |index: &usize| config.ingress.get(*index).map(|ingress| ingress.device.to_string());
    let conditions = [
        one_of("dscp", dscp, |value| words::show_code_point(*value)),
        one_of("vlan", vlan, |value| value.get().to_string()),
        one_of("source", source, ToString::to_string),
        one_of("destination", destination, ToString::to_string),
        one_of("protocol", protocol, |value| words::show_protocol(*value)),
        one_of("source_port", source_port, |range| range_words(range.start(), range.end(), "-")),
        one_of("destination_port", destination_port, |range| range_words(range.start(), range.end(), "-")),
        one_of("ingress", ingress, |index| device(index).unwrap_or_default()),
        one_of("size", size, |range| range_words(range.start(), range.end(), "..")),
        one_of("mark", mark, ToString::to_string),
    ];
    let conditions: Vec<String> = conditions.into_iter().flatten().collect();
    let conditions = if conditions.is_empty() { "everything".to_owned() } else { conditions.join(" and ") };
    let whereabouts: Vec<String> = config
        .ports
        .iter()
        .filter(|port| !port.classes.iter().any(|known| known.name == *class))
        .map(|port| {
            format!(
                "{} at {}",
                crate::config::policy::encode::class_name(port, port.default_class),
                port.device
            )
        })
        .collect();
    let elsewhere =
        if whereabouts.is_empty() { String::new() } else { format!(" ({})", whereabouts.join(", ")) };
    format!("{conditions} -> {class}{elsewhere}")
}

/// `dscp ef|46`, or nothing where there is no condition.
fn one_of<T>(key: &str, values: &Option<Vec<T>>, show: impl Fn(&T) -> String) -> Option<String> {
    let shown: Vec<String> = values.as_ref()?.iter().map(show).collect();
    Some(format!("{key} {}", shown.join("|")))
}

fn range_words<T: PartialEq + ToString>(low: &T, high: &T, between: &str) -> String {
    if low == high { low.to_string() } else { format!("{}{between}{}", low.to_string(), high.to_string()) }
}

fn plan_words(plan: &Plan) -> String {
    let direction = |name: &str, rate: Option<PlanRate>| match rate {
        Some(PlanRate { rate, ceil }) if rate == ceil => format!("{name} {}", show_rate(rate)),
        Some(PlanRate { rate, ceil }) => format!("{name} {} up to {}", show_rate(rate), show_rate(ceil)),
        None => format!("{name} not limited"),
    };
    let mut parts = vec![direction("down", plan.down), direction("up", plan.up)];
    parts.extend(plan.burst.map(|burst| format!("burst {}", show_size(burst))));
    parts.extend(plan.class.as_ref().map(|class| format!("class {class}")));
    parts.join(", ")
}
