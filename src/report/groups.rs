//! Flows together that one table of an experiment names, and weir's classes: who got what.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::grid::{NOTHING, fixed};
use super::measures::{DelaySummary, jain};
use super::result::{FlowResult, Report, Run, bare};

/// The flows of one name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The name.
    pub group: String,
    /// How many flows.
    pub flows: usize,
    /// Payload of all of them over the measured time.
    pub goodput_bps: u64,
    /// Jain's index of fairness between them; `null` for less than two.
    pub jain: Option<f64>,
    /// One-way delay, where it is one flow that measures it; distributions cannot be added up.
    pub delay_ns: Option<DelaySummary>,
    /// Packets sent, where all of them count.
    pub sent: Option<u64>,
    /// Packets that arrived, where all of them count.
    pub received: Option<u64>,
}

impl Group {
    /// The groups of a run's flows, in the order of their first flow.
    #[must_use]
    pub fn all(flows: &[FlowResult]) -> Vec<Self> {
        let mut names: Vec<&str> = Vec::new();
        for name in flows.iter().filter_map(|flow| flow.group.as_deref()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let of = |name: &&str| {
            let named = flows.iter().filter(|flow| flow.group.as_deref() == Some(name));
            Self::of(name, &named.collect::<Vec<_>>())
        };
        names.iter().map(of).collect()
    }

    fn of(name: &str, flows: &[&FlowResult]) -> Self {
        let shares: Vec<f64> = flows.iter().map(|flow| flow.goodput_bps as f64).collect();
        let sum =
            |count: fn(&FlowResult) -> Option<u64>| flows.iter().map(|flow| count(flow)).sum::<Option<u64>>();
        Self {
            group: name.to_owned(),
            flows: flows.len(),
            goodput_bps: flows.iter().map(|flow| flow.goodput_bps).sum(),
            jain: jain(&shares).map(|index| (index * 1e6).round() / 1e6),
            delay_ns: if let [flow] = flows { flow.delay_ns } else { None },
            sent: sum(|flow| flow.sent),
            received: sum(|flow| flow.received),
        }
    }
}

/// What a class of weir's port let through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassResult {
    /// Its name.
    pub class: String,
    /// What it accepted over the measured time, in bytes as weir counts them (`overhead` included).
    pub accepted_bps: u64,
    /// Packets of the whole run, by what became of them: the class's counters.
    pub counters: BTreeMap<String, u64>,
}

/// How many columns of [`rows`] are text.
pub(super) const TEXT: usize = 2;

/// Heads and rows for each group and each class of every run; nothing where there are none.
pub(super) fn rows(report: &Report) -> Option<(Vec<&'static str>, Vec<Vec<String>>)> {
    let rows: Vec<Vec<String>> = report.runs.iter().flat_map(of_run).collect();
    let heads =
        ["contender", "flows or class", "flows", "Mbit/s", "Jain", "delay p50 ms", "p99", "max", "lost"];
    (!rows.is_empty()).then(|| (heads.to_vec(), rows))
}

/// Who ran, with what tells a simulator's runs of one contender apart.
fn contender(run: &Run) -> String {
    let Some(simulated) = &run.simulated else { return run.contender.clone() };
    let point = simulated.point.values().map(|value| format!(", {}", bare(value))).collect::<String>();
    format!("{} (seed {}{point})", run.contender, simulated.seed)
}

fn of_run(run: &Run) -> impl Iterator<Item = Vec<String>> {
    let contender = contender(run);
    let named = contender.clone();
    let groups = run.groups.iter().map(move |group| {
        let delay = |pick: fn(&DelaySummary) -> u64| {
            group.delay_ns.as_ref().map_or_else(|| NOTHING.to_owned(), |delay| fixed(pick(delay), 1_000_000))
        };
        let lost = group.sent.zip(group.received).map(|(sent, received)| sent.saturating_sub(received));
        vec![
            named.clone(),
            group.group.clone(),
            group.flows.to_string(),
            fixed(group.goodput_bps, 1_000_000),
            group.jain.map_or_else(|| NOTHING.to_owned(), |jain| format!("{jain:.3}")),
            delay(|d| d.p50),
            delay(|d| d.p99),
            delay(|d| d.max),
            lost.map_or_else(|| NOTHING.to_owned(), |lost| lost.to_string()),
        ]
    });
    // A class counts frames, not payload: its rate stands beside the groups', its drops as what was lost.
    let classes = run.classes.iter().filter(|_| !run.groups.is_empty()).map(move |class| {
        let count = |name: &str| class.counters.get(name).copied().unwrap_or(0);
        let mut cells = vec![NOTHING.to_owned(); 9];
        let lost = count("seen").saturating_sub(count("accepted"));
        let filled = [
            (0, contender.clone()),
            (1, format!("class {}", class.class)),
            (3, fixed(class.accepted_bps, 1_000_000)),
            (8, lost.to_string()),
        ];
        for (column, text) in filled {
            if let Some(cell) = cells.get_mut(column) {
                *cell = text;
            }
        }
        cells
    });
    groups.chain(classes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(group: Option<&str>, goodput_bps: u64, sent: Option<u64>) -> FlowResult {
        FlowResult {
            flow: String::new(),
            group: group.map(str::to_owned),
            bytes: 0,
            goodput_bps,
            delay_ns: Some(DelaySummary { min: 1, p50: 2, p95: 3, p99: 4, max: 5 }),
            sent,
            received: sent.map(|sent| sent - 1),
            reordered: None,
            simulated: None,
        }
    }

    #[test]
    fn flows_of_one_name_are_added_up_and_those_without_are_left_out() {
        let flows = [
            flow(Some("a"), 3, Some(7)),
            flow(None, 9, None),
            flow(Some("b"), 5, None),
            flow(Some("a"), 1, Some(4)),
        ];
        let groups = Group::all(&flows);
        let [a, b] = groups.as_slice() else { panic!("{groups:?}") };
        assert_eq!((a.group.as_str(), a.flows, a.goodput_bps, a.jain), ("a", 2, 4, Some(0.8)));
        assert_eq!((a.sent, a.received, a.delay_ns), (Some(11), Some(9), None));
        assert_eq!((b.flows, b.jain, b.sent, b.delay_ns.map(|delay| delay.p99)), (1, None, None, Some(4)));
    }
}
