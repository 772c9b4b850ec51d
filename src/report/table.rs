//! The table on the terminal.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::grid::Grid;
use super::groups;
use super::result::{Place, Report, Run};

/// The runs side by side, the skipped ones below with their reasons.
#[must_use]
pub fn table(report: &Report) -> String {
    let grid = Grid::of(report);
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(arrangement(report));
    table.set_header(grid.heads);
    for row in grid.rows {
        table.add_row(row.cells);
    }
    for column in table.column_iter_mut().skip(grid.text) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = format!("{} on {}\n{table}\n", report.experiment, report.place.name());
    if let Some((heads, rows)) = groups::rows(report) {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(arrangement(report));
        table.set_header(heads).add_rows(rows);
        for column in table.column_iter_mut().skip(groups::TEXT) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        text.push_str(&format!("{table}\n"));
    }
    for note in notes(report) {
        text.push_str(&note);
        text.push('\n');
    }
    text
}

/// A simulator's table is the same wherever it is printed; a lab's fits its terminal.
const fn arrangement(report: &Report) -> ContentArrangement {
    match report.place {
        Place::Lab { .. } => ContentArrangement::Dynamic,
        Place::Simulator { .. } => ContentArrangement::Disabled,
    }
}

/// What stands below the table.
fn notes(report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    if let Place::Simulator { seeds, .. } = &report.place
        && seeds.len() > 1
    {
        notes.push(format!("medians over {} seeds", seeds.len()));
    }
    for run in report.with_causes() {
        notes.push(format!("drops of {}: {}", run.contender, causes(run).join(", ")));
    }
    for skipped in &report.skipped {
        notes.push(format!("skipped {}: {}", skipped.contender, skipped.reason));
    }
    for failed in &report.failed {
        notes.push(format!("FAILED {}: {}", failed.contender, failed.reason));
    }
    notes
}

/// "aqm 12", for each cause of a drop that there was.
pub(super) fn causes(run: &Run) -> Vec<String> {
    run.drops.iter().filter(|(_, n)| **n > 0).map(|(cause, n)| format!("{cause} {n}")).collect()
}
