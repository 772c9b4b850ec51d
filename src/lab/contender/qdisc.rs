//! `kernel+htb`, `kernel+tbf`, `kernel+fq_codel`, `kernel+cake`: the kernel forwards through a shaper, set up by `tc`.
//!
//! The shaper's rate is the experiment's `shaper.rate`, by default 95 % of the link's, so that the queue forms in
//! the queueing discipline and not in the ring behind it.

use std::collections::BTreeMap;
use std::io;
use std::process::Command;

use serde_json::Value;

use crate::experiment::{Experiment, Family, SLOW_DEVICE, ShaperQueues};
use crate::lab::error::{Error, Result};
use crate::lab::topology::{Host, Topology};

use super::kernel::KernelForwarding;
use super::{Contender, Counters, Prepared};

/// The longest frame of the slow device: MTU 1,500 and an Ethernet header.
const FRAME_BYTES: u64 = 1_514;

/// The kernel's shapers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shaped {
    Htb,
    Tbf,
    FqCodel,
    Cake,
}

impl Contender for Shaped {
    fn name(&self) -> &'static str {
        match self {
            Self::Htb => "kernel+htb",
            Self::Tbf => "kernel+tbf",
            Self::FqCodel => "kernel+fq_codel",
            Self::Cake => "kernel+cake",
        }
    }

    fn prepare(&self, topology: &Topology, experiment: &Experiment) -> Result<Prepared> {
        Ok(match self.install(topology, experiment)? {
            Ok(()) => Prepared::Ready(Box::new(KernelForwarding)),
            Err(reason) => Prepared::Skip(reason),
        })
    }
}

impl Shaped {
    /// Puts it on the slow device; what `tc` said where the kernel lacks it.
    pub(super) fn install(
        self,
        topology: &Topology,
        experiment: &Experiment,
    ) -> Result<std::result::Result<(), String>> {
        for line in self.commands(experiment) {
            if let Err(reason) = tc(topology, &line)? {
                return Ok(Err(reason));
            }
        }
        Ok(Ok(()))
    }

    /// The `tc` command lines, without the program's name.
    fn commands(self, experiment: &Experiment) -> Vec<String> {
        let rate = experiment.shaper_rate.bps();
        let ShaperQueues { limit, priority_dscp } = experiment.shaper_queues;
        let htb = |leaf: &str| match priority_dscp {
            None => htb(rate, leaf),
            Some(dscp) => htb_with_priority(rate, leaf, dscp, experiment.family),
        };
        match self {
            Self::Htb => htb(&format!("pfifo limit {limit}")),
            Self::FqCodel => htb("fq_codel"),
            Self::Tbf => {
                // Two milliseconds of tokens, and never less than two frames.
                let burst = (rate / 8 / 500).max(2 * FRAME_BYTES);
                let limit = u64::from(limit) * FRAME_BYTES;
                vec![format!(
                    "qdisc replace dev {SLOW_DEVICE} root handle 1: tbf rate {rate}bit burst {burst} limit {limit}"
                )]
            }
            Self::Cake => {
                vec![format!("qdisc replace dev {SLOW_DEVICE} root handle 1: cake bandwidth {rate}bit")]
            }
        }
    }
}

/// HTB with one class.
fn htb(rate: u64, leaf: &str) -> Vec<String> {
    vec![
        format!("qdisc replace dev {SLOW_DEVICE} root handle 1: htb default 10"),
        format!(
            "class add dev {SLOW_DEVICE} parent 1: classid 1:10 htb rate {rate}bit ceil {rate}bit quantum {FRAME_BYTES}"
        ),
        format!("qdisc add dev {SLOW_DEVICE} parent 1:10 handle 10: {leaf}"),
    ]
}

/// HTB with two classes that share the rate; packets of `dscp` are of the one that is served first.
fn htb_with_priority(rate: u64, leaf: &str, dscp: u8, family: Family) -> Vec<String> {
    let class = |parent: &str, id: u32, rate_of: u64, priority: &str| {
        format!(
            "class add dev {SLOW_DEVICE} parent {parent} classid 1:{id} htb rate {rate_of}bit ceil {rate}bit quantum \
             {FRAME_BYTES}{priority}"
        )
    };
    // The code point is the upper six bits of IPv4's TOS and IPv6's traffic class.
    let field = dscp << 2;
    let matches = match family {
        Family::Ipv4 => format!("protocol ip u32 match ip dsfield {field:#x} 0xfc"),
        Family::Ipv6 => format!("protocol ipv6 u32 match ip6 priority {field:#x} 0xfc"),
    };
    vec![
        format!("qdisc replace dev {SLOW_DEVICE} root handle 1: htb default 10"),
        class("1:", 1, rate, ""),
        class("1:1", 10, rate / 2, " prio 1"),
        class("1:1", 20, rate / 2, " prio 0"),
        format!("qdisc add dev {SLOW_DEVICE} parent 1:10 handle 10: {leaf}"),
        format!("qdisc add dev {SLOW_DEVICE} parent 1:20 handle 20: {leaf}"),
        format!("filter add dev {SLOW_DEVICE} parent 1: {matches} flowid 1:20"),
    ]
}

/// Runs `tc` on the router: its output, or what it said when it refused.
fn tc(topology: &Topology, line: &str) -> Result<std::result::Result<String, String>> {
    topology.host(Host::Router).run(|| match Command::new("tc").args(line.split(' ')).output() {
        Ok(output) if output.status.success() => Ok(Ok(String::from_utf8_lossy(&output.stdout).into_owned())),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("; ");
            Ok(Err(format!("tc {line}: {said}")))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Err("tc is not installed".to_owned())),
        Err(source) => Err(Error::Os { action: format!("run tc {line}"), source }),
    })
}

/// The drops and marks of every queueing discipline of the slow device; nothing where there is no `tc`.
pub(super) fn qdisc_counters(topology: &Topology) -> Result<Counters> {
    match tc(topology, &format!("-s -j qdisc show dev {SLOW_DEVICE}"))? {
        Ok(text) => Ok(parse_qdiscs(&text)),
        Err(_) => Ok(Counters::default()),
    }
}

/// Reads `tc -s -j qdisc show`. A parent counts the drops of its children as well (`qdisc_tree_reduce_backlog`), so
/// the root's number is the total, and what the leaves do not explain is the parent's own.
fn parse_qdiscs(text: &str) -> Counters {
    let Ok(Value::Array(qdiscs)) = serde_json::from_str(text) else { return Counters::default() };
    let number = |q: &Value, key: &str| q.get(key).and_then(Value::as_u64).unwrap_or(0);
    let kind = |q: &Value| q.get("kind").and_then(Value::as_str).unwrap_or("qdisc").to_owned();
    let is_root = |q: &&Value| q.get("root").and_then(Value::as_bool).unwrap_or(false);
    let mut drops = BTreeMap::new();
    let mut marks = 0;
    let mut in_leaves = 0;
    for qdisc in &qdiscs {
        marks += number(qdisc, "ecn_mark");
        let tins = qdisc.get("tins").and_then(Value::as_array).into_iter().flatten();
        marks += tins.map(|tin| number(tin, "ecn_mark")).sum::<u64>();
        if !is_root(&qdisc) {
            in_leaves += number(qdisc, "drops");
            *drops.entry(format!("qdisc_{}", kind(qdisc))).or_insert(0) += number(qdisc, "drops");
        }
    }
    if let Some(root) = qdiscs.iter().find(is_root) {
        *drops.entry(format!("qdisc_{}", kind(root))).or_insert(0) +=
            number(root, "drops").saturating_sub(in_leaves);
    }
    Counters { drops, marks, ring_drops: None, unaccounted: None, diverted: None, classes: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_of_a_leaf_are_not_counted_again_in_its_parent() {
        let text = r#"[{"kind":"htb","handle":"1:","root":true,"drops":12,"overlimits":9},
                       {"kind":"fq_codel","handle":"10:","parent":"1:10","drops":10,"ecn_mark":4}]"#;
        let counters = parse_qdiscs(text);
        assert_eq!(counters.drops["qdisc_fq_codel"], 10);
        assert_eq!(counters.drops["qdisc_htb"], 2);
        assert_eq!((counters.dropped(), counters.marks), (12, 4));
    }

    #[test]
    fn the_marks_of_every_tin_of_cake_are_added_up() {
        let text = r#"[{"kind":"cake","root":true,"drops":3,"tins":[{"ecn_mark":1},{"ecn_mark":2}]}]"#;
        let counters = parse_qdiscs(text);
        assert_eq!((counters.drops["qdisc_cake"], counters.marks), (3, 3));
    }
}
