//! What a simulator's report shows: one row for each combination of swept values and contender; with several seeds, the
//! median over them.

use super::grid::{Grid, NOTHING, Row};
use super::measures::DelaySummary;
use super::result::{Report, Run, Simulated, SweptKey};

/// The runs that differ in nothing but the seed.
pub(super) struct Group<'a> {
    pub(super) runs: &'a [Run],
}

impl<'a> Group<'a> {
    /// All groups of a report, in its order.
    pub(super) fn all(report: &'a Report) -> impl Iterator<Item = Self> {
        let alike = |a: &Run, b: &Run| a.contender == b.contender && point(a) == point(b);
        report.runs.chunk_by(alike).map(|runs| Self { runs })
    }

    pub(super) fn contender(&self) -> &str {
        self.runs.first().map_or("", |run| &run.contender)
    }

    /// The value of a swept key.
    pub(super) fn setting(&self, key: &str) -> &'a str {
        self.runs.first().map_or("", |run| run.setting(key))
    }

    /// The median over the seeds; `None` where no run has the value.
    pub(super) fn median(&self, value: impl Fn(&Run) -> Option<f64>) -> Option<f64> {
        let mut values: Vec<f64> = self.runs.iter().filter_map(value).collect();
        values.sort_by(f64::total_cmp);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(f64::midpoint(lower, upper))
    }
}

fn point(run: &Run) -> Option<&std::collections::BTreeMap<String, String>> {
    run.simulated.as_ref().map(|simulated| &simulated.point)
}

/// One column: its head, its decimals, its value.
struct Column {
    head: &'static str,
    decimals: usize,
    value: fn(&Run) -> Option<f64>,
    /// Whether it is left out where no run has it.
    optional: bool,
}

const fn column(head: &'static str, decimals: usize, value: fn(&Run) -> Option<f64>) -> Column {
    Column { head, decimals, value, optional: false }
}

const fn optional(head: &'static str, decimals: usize, value: fn(&Run) -> Option<f64>) -> Column {
    Column { head, decimals, value, optional: true }
}

const COLUMNS: [Column; 21] = [
    column("goodput Mbit/s", 2, |run| Some(run.goodput_bps as f64 / 1e6)),
    column("link %", 1, |run| known(run, |s| Some(s.utilisation * 100.0))),
    optional("second %", 1, |run| known(run, |s| s.spill.map(|spill| spill.utilisation * 100.0))),
    optional("Jain", 3, |run| known(run, |s| s.jain)),
    optional("delay p50 ms", 2, |run| delay_ms(run, |d| d.p50)),
    optional("p95", 2, |run| delay_ms(run, |d| d.p95)),
    optional("p99", 2, |run| delay_ms(run, |d| d.p99)),
    optional("max", 2, |run| delay_ms(run, |d| d.max)),
    optional("done", 0, |run| known(run, |s| s.completion_ns.map(|c| c.count as f64))),
    optional("FCT p50 ms", 1, |run| completion_ms(run, |d| d.p50)),
    optional("FCT p99", 1, |run| completion_ms(run, |d| d.p99)),
    column("probes lost", 0, |run| Some(run.probes.lost() as f64)),
    column("offered", 0, |run| Some(run.offered_pkts as f64)),
    column("delivered", 0, |run| Some(run.delivered_pkts as f64)),
    column("drops", 0, |run| Some(run.dropped() as f64)),
    optional("diverted", 0, |run| known(run, |s| s.diverted_pkts.map(|n| n as f64))),
    optional("spilled", 0, |run| known(run, |s| s.spill.map(|spill| spill.spilled_pkts as f64))),
    column("marks", 0, |run| Some(run.marks as f64)),
    column("silent", 0, |run| Some(run.silent_drops as f64)),
    column("ring p50", 0, |run| run.ring.occupancy_p50.map(f64::from)),
    column("p99", 0, |run| run.ring.occupancy_p99.map(f64::from)),
];

fn known(run: &Run, value: fn(&Simulated) -> Option<f64>) -> Option<f64> {
    run.simulated.as_ref().and_then(value)
}

fn delay_ms(run: &Run, pick: fn(&DelaySummary) -> u64) -> Option<f64> {
    run.delay_ns.as_ref().map(|delay| pick(delay) as f64 / 1e6)
}

fn completion_ms(run: &Run, pick: fn(&DelaySummary) -> u64) -> Option<f64> {
    let completion = run.simulated.as_ref().and_then(|simulated| simulated.completion_ns)?;
    Some(pick(&completion.summary) as f64 / 1e6)
}

pub(super) fn grid(report: &Report) -> Grid {
    let sweep = report.sweep();
    let there =
        |column: &&Column| !column.optional || report.runs.iter().any(|run| (column.value)(run).is_some());
    let columns: Vec<&Column> = COLUMNS.iter().filter(there).collect();
    let keys = || sweep.iter().map(|axis| axis.key.clone());
    let heads = columns.iter().map(|column| column.head.to_owned());
    Grid {
        heads: keys().chain(["contender".to_owned()]).chain(heads).collect(),
        rows: Group::all(report).map(|group| row(&group, sweep, &columns)).collect(),
        text: sweep.len() + 1,
    }
}

fn row(group: &Group<'_>, sweep: &[SweptKey], columns: &[&Column]) -> Row {
    let settings = sweep.iter().map(|axis| group.setting(&axis.key).to_owned());
    let numbers = columns.iter().map(|column| {
        let median = group.median(column.value);
        median.map_or_else(|| NOTHING.to_owned(), |value| format!("{value:.*}", column.decimals))
    });
    Row {
        cells: settings.chain([group.contender().to_owned()]).chain(numbers).collect(),
        weir: group.contender() == "weir",
    }
}
