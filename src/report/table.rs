//! The table on the terminal.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::{Report, Run};

/// The column heads; the first is text, the others are numbers.
pub(super) const HEADS: [&str; 13] = [
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

/// The runs side by side, the skipped ones below with their reasons.
#[must_use]
pub fn table(report: &Report) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(HEADS);
    for run in &report.runs {
        table.add_row(row(run));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = format!("{} on {}\n{table}\n", report.experiment, report.place.name());
    for run in report.runs.iter().filter(|run| run.drops.values().any(|n| *n > 0)) {
        let causes: Vec<String> =
            run.drops.iter().filter(|(_, n)| **n > 0).map(|(cause, n)| format!("{cause} {n}")).collect();
        text.push_str(&format!("drops of {}: {}\n", run.contender, causes.join(", ")));
    }
    for skipped in &report.skipped {
        text.push_str(&format!("skipped {}: {}\n", skipped.contender, skipped.reason));
    }
    for failed in &report.failed {
        text.push_str(&format!("FAILED {}: {}\n", failed.contender, failed.reason));
    }
    text
}

/// One run's cells, in the order of [`HEADS`].
pub(super) fn row(run: &Run) -> Vec<String> {
    let delay = |pick: fn(&super::DelaySummary) -> u64| {
        run.delay_ns.as_ref().map_or_else(|| "–".to_owned(), |d| fixed(pick(d), 1_000_000))
    };
    let frames = |n: Option<u32>| n.map_or_else(|| "–".to_owned(), |n| n.to_string());
    vec![
        run.contender.clone(),
        fixed(run.goodput_bps, 1_000_000),
        delay(|d| d.p50),
        delay(|d| d.p95),
        delay(|d| d.p99),
        delay(|d| d.max),
        run.probes.sent.saturating_sub(run.probes.received).to_string(),
        run.offered_pkts.to_string(),
        run.delivered_pkts.to_string(),
        run.drops.values().sum::<u64>().to_string(),
        run.marks.to_string(),
        run.silent_drops.to_string(),
        format!("{}/{}", frames(run.ring.occupancy_p50), frames(run.ring.occupancy_p99)),
    ]
}

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
