//! The table's cells, for the terminal and for the page.

use super::measures::DelaySummary;
use super::result::{Place, Report, Run};
use super::simulated;

/// Heads and rows; the first columns are text, the others are numbers.
pub(super) struct Grid {
    pub(super) heads: Vec<String>,
    pub(super) rows: Vec<Row>,
    /// How many columns are text.
    pub(super) text: usize,
}

pub(super) struct Row {
    pub(super) cells: Vec<String>,
    /// Whether it is weir's.
    pub(super) weir: bool,
}

impl Grid {
    pub(super) fn of(report: &Report) -> Self {
        match &report.place {
            Place::Lab { .. } => lab(report),
            Place::Simulator { .. } => simulated::grid(report),
        }
    }
}

const LAB_HEADS: [&str; 13] = [
    "contender",
    "goodput Mbit/s",
    "delay p50 ms",
    "p95",
    "p99",
    "max",
    "probes lost",
    "offered",
    "delivered",
    "drops",
    "marks",
    "silent",
    "ring p50/p99",
];

fn lab(report: &Report) -> Grid {
    Grid {
        heads: LAB_HEADS.map(str::to_owned).to_vec(),
        rows: report
            .runs
            .iter()
            .map(|run| Row { cells: cells(run), weir: run.contender == "weir" })
            .collect(),
        text: 1,
    }
}

/// One run's cells, in the order of [`LAB_HEADS`].
fn cells(run: &Run) -> Vec<String> {
    let delay = |pick: fn(&DelaySummary) -> u64| {
        run.delay_ns.as_ref().map_or_else(|| NOTHING.to_owned(), |d| fixed(pick(d), 1_000_000))
    };
    let frames = |n: Option<u32>| n.map_or_else(|| NOTHING.to_owned(), |n| n.to_string());
    vec![
        run.contender.clone(),
        fixed(run.goodput_bps, 1_000_000),
        delay(|d| d.p50),
        delay(|d| d.p95),
        delay(|d| d.p99),
        delay(|d| d.max),
        run.probes.lost().to_string(),
        run.offered_pkts.to_string(),
        run.delivered_pkts.to_string(),
        run.dropped().to_string(),
        run.marks.to_string(),
        run.silent_drops.to_string(),
        format!("{}/{}", frames(run.ring.occupancy_p50), frames(run.ring.occupancy_p99)),
    ]
}

/// What stands for a value that there is not.
pub(super) const NOTHING: &str = "–";

/// `value / unit` with two decimals, rounded to nearest.
pub(super) fn fixed(value: u64, unit: u64) -> String {
    let hundredths = (value.saturating_mul(100).saturating_add(unit / 2)) / unit.max(1);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_rounded_to_two_decimals() {
        assert_eq!(fixed(9_544_999, 1_000_000), "9.54");
        assert_eq!(fixed(9_545_000, 1_000_000), "9.55");
        assert_eq!(fixed(7, 1_000_000), "0.00");
    }
}
