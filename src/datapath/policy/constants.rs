//! What a policy makes of the ingress programs: which one, and its load-time constants.

use weir_shared_maps::{AQM_NONE, FLAG_ECN, HASH_FLOW, PortConfig, names};

use super::random;
use crate::config::Config;
use crate::config::back_off::{actions, moves_flows};
use crate::config::policy::compile::Compiled;
use crate::config::policy::encode::hashes;

/// Load-time constants of the ingress programs, the same for all devices but for the rules.
#[derive(Clone, Debug)]
pub struct IngressConstants {
    program: &'static str,
    meta: u32,
    dimensions: u32,
    subscribers: u32,
    plan_classes: u32,
    hashes: u32,
    seed: u32,
    actions: u32,
    rules: Vec<u64>,
    all_rules: u64,
}

impl IngressConstants {
    /// What a configuration makes of the ingress programs.
    pub fn of(config: &Config, compiled: &Compiled, ports: &[PortConfig]) -> Self {
        let classes = config.ports.iter().any(|port| !port.classes.is_empty());
        let subscribers = config.ports.iter().any(|port| port.subscribers.is_some());
        let marks = ports.iter().any(|port| port.flags & FLAG_ECN != 0 && port.aqm != AQM_NONE);
        let policy = classes || subscribers;
        let meta = if policy { 2 } else { u32::from(marks) };
        let moves = moves_flows(config);
        let flow = if moves { HASH_FLOW } else { 0 };
        Self {
            program: if policy || moves { names::PROG_INGRESS_POLICY } else { names::PROG_INGRESS },
            meta,
            // Without classes there is nothing that a rule could say.
            dimensions: if classes { compiled.dimensions } else { 0 },
            rules: if classes { compiled.ingress.clone() } else { Vec::new() },
            all_rules: if classes { every_rule(config) } else { 0 },
            subscribers: u32::from(subscribers),
            plan_classes: u32::from(
                subscribers && config.policy.plans.iter().any(|plan| plan.class.is_some()),
            ),
            hashes: config.ports.iter().fold(flow, |all, port| all | hashes(port)),
            actions: actions(config),
            seed: random() as u32,
        }
    }

    /// The program that does what the configuration asks for.
    pub fn program(&self) -> &'static str {
        self.program
    }

    /// The constants of the program of ingress device `index`.
    pub fn globals(&self, index: usize) -> [(&'static str, u32); 9] {
        self.with_rules(self.rules.get(index).copied().unwrap_or(0))
    }

    /// Those of the program that describes what the stack sends: any rule may match.
    pub fn of_stack(&self) -> [(&'static str, u32); 9] {
        self.with_rules(self.all_rules)
    }

    fn with_rules(&self, rules: u64) -> [(&'static str, u32); 9] {
        [
            (names::GLOBAL_META, self.meta),
            (names::GLOBAL_RULES_LOW, rules as u32),
            (names::GLOBAL_RULES_HIGH, (rules >> 32) as u32),
            (names::GLOBAL_DIMENSIONS, self.dimensions),
            (names::GLOBAL_SUBSCRIBERS, self.subscribers),
            (names::GLOBAL_PLAN_CLASSES, self.plan_classes),
            (names::GLOBAL_HASHES, self.hashes),
            (names::GLOBAL_HASH_SEED, self.seed),
            (names::GLOBAL_ACTIONS, self.actions),
        ]
    }
}

/// A bit for each rule.
fn every_rule(config: &Config) -> u64 {
    match config.policy.rules.len() {
        0 => 0,
        count => u64::MAX >> (64 - count.min(64)),
    }
}
