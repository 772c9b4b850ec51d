//! One page that needs nothing but itself.

use super::Report;
use super::error::Error;
use super::grid::{Grid, Row};
use super::groups;
use super::plot::{Picture, svg};
use super::table::causes;

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;color:#1b1f24;background:#fff;margin:2rem auto;max-width:1100px;padding:0 1rem}\
h1{font-size:1.5rem;margin-bottom:0}h2{font-size:1.1rem;margin-top:2rem}p.sub{color:#57606a;margin-top:.2rem}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{padding:.35rem .6rem;border-bottom:1px solid #e1e4e8;text-align:right;white-space:nowrap}\
th{font-weight:600;color:#57606a}th:first-child,td:first-child{text-align:left}tr.weir td{font-weight:600;background:#f3f8fd}\
figure{margin:1.2rem 0;border:1px solid #e1e4e8;border-radius:6px;overflow-x:auto}\
figure svg{display:block;width:100%;height:auto}\
pre{background:#f6f8fa;border-radius:6px;padding:1rem;overflow-x:auto;font-size:13px}.scroll{overflow-x:auto}";

/// The report as one self-contained page: the table, the pictures as inline SVG, the experiment and the kernel.
///
/// # Errors
/// [`Error`] when a picture cannot be drawn.
pub fn html(report: &Report) -> Result<String, Error> {
    let mut page = String::with_capacity(1 << 18);
    let title = escape(&report.experiment);
    let (command, place) = (report.place.command(), escape(report.place.name()));
    page.push_str("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width\">");
    page.push_str(&format!("<title>{command}: {title}</title><style>{STYLE}</style></head><body>\n"));
    page.push_str(&format!("<h1>{title}</h1><p class=\"sub\">{command} on {place}</p>\n"));

    page.push_str("<div class=\"scroll\"><table><thead><tr>");
    let grid = Grid::of(report);
    page.extend(grid.heads.iter().map(|head| format!("<th>{}</th>", escape(head))));
    page.push_str("</tr></thead><tbody>\n");
    page.extend(grid.rows.iter().map(table_row));
    page.push_str("</tbody></table></div>\n");
    if let Some((heads, rows)) = groups::rows(report) {
        page.push_str("<div class=\"scroll\"><table><thead><tr>");
        page.extend(heads.iter().map(|head| format!("<th>{}</th>", escape(head))));
        page.push_str("</tr></thead><tbody>\n");
        page.extend(rows.into_iter().map(|cells| table_row(&Row { cells, weir: false })));
        page.push_str("</tbody></table></div>\n");
    }
    for run in report.with_causes() {
        let (name, causes) = (escape(&run.contender), escape(&causes(run).join(", ")));
        page.push_str(&format!("<p class=\"sub\">drops of {name}: {causes}</p>\n"));
    }
    for skipped in &report.skipped {
        let (name, reason) = (escape(&skipped.contender), escape(&skipped.reason));
        page.push_str(&format!("<p class=\"sub\">skipped {name}: {reason}</p>\n"));
    }
    for failed in &report.failed {
        let (name, reason) = (escape(&failed.contender), escape(&failed.reason));
        page.push_str(&format!("<p><b>FAILED {name}</b></p><pre>{reason}</pre>\n"));
    }

    for picture in Picture::ALL.into_iter().filter(|picture| picture.has_data(report)) {
        page.push_str(&format!(
            "<figure>{}</figure>\n",
            svg(report, picture, 1_060, picture.height(report))?
        ));
    }
    page.push_str(&format!("<h2>Experiment</h2><pre>{}</pre>\n", escape(&report.setup.source)));
    page.push_str(&format!("<h2>Run on</h2><p>{place}</p>\n</body></html>\n"));
    Ok(page)
}

fn table_row(row: &Row) -> String {
    let class = if row.weir { " class=\"weir\"" } else { "" };
    let cells: String = row.cells.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
    format!("<tr{class}>{cells}</tr>\n")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_an_experiment_cannot_become_markup() {
        assert_eq!(escape("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }
}
