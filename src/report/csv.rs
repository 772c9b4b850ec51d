//! One line for each run, for a spreadsheet or a script.

use std::collections::BTreeSet;

use super::measures::DelaySummary;
use super::result::{Report, Run};

/// The runs as CSV (RFC 4180), with a line of heads. Swept keys have a column each, causes of drops as well; times are in
/// nanoseconds, rates in bits per second; an empty field is a value that there is not.
#[must_use]
pub fn csv(report: &Report) -> String {
    let keys: Vec<&str> = report.sweep().iter().map(|axis| axis.key.as_str()).collect();
    let causes: BTreeSet<&str> =
        report.runs.iter().flat_map(|run| run.drops.keys().map(String::as_str)).collect();
    let mut heads: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    heads.extend(FIELDS.iter().map(|(head, _)| (*head).to_owned()));
    heads.extend(causes.iter().map(|cause| format!("drops_{cause}")));
    let mut text = line(&heads);
    for run in &report.runs {
        let mut fields: Vec<String> = keys.iter().map(|key| run.setting(key).to_owned()).collect();
        fields.extend(FIELDS.iter().map(|(_, field)| field(run).unwrap_or_default()));
        fields.extend(causes.iter().map(|cause| run.drops.get(*cause).map_or(0, |n| *n).to_string()));
        text.push_str(&line(&fields));
    }
    text
}

type Field = fn(&Run) -> Option<String>;

const FIELDS: [(&str, Field); 27] = [
    ("contender", |run| Some(run.contender.clone())),
    ("seed", |run| Some(run.simulated.as_ref()?.seed.to_string())),
    ("goodput_bps", |run| Some(run.goodput_bps.to_string())),
    ("utilisation", |run| Some(run.simulated.as_ref()?.utilisation.to_string())),
    ("spill_utilisation", |run| Some(run.simulated.as_ref()?.spill?.utilisation.to_string())),
    ("jain", |run| Some(run.simulated.as_ref()?.jain?.to_string())),
    ("delay_min_ns", |run| delay(run, |d| d.min)),
    ("delay_p50_ns", |run| delay(run, |d| d.p50)),
    ("delay_p95_ns", |run| delay(run, |d| d.p95)),
    ("delay_p99_ns", |run| delay(run, |d| d.p99)),
    ("delay_max_ns", |run| delay(run, |d| d.max)),
    ("completed", |run| Some(run.simulated.as_ref()?.completion_ns?.count.to_string())),
    ("completion_p50_ns", |run| completion(run, |d| d.p50)),
    ("completion_p99_ns", |run| completion(run, |d| d.p99)),
    ("probes_sent", |run| Some(run.probes.sent.to_string())),
    ("probes_received", |run| Some(run.probes.received.to_string())),
    ("offered_pkts", |run| Some(run.offered_pkts.to_string())),
    ("delivered_pkts", |run| Some(run.delivered_pkts.to_string())),
    ("drops", |run| Some(run.dropped().to_string())),
    ("silent_drops", |run| Some(run.silent_drops.to_string())),
    ("ring_drops", |run| Some(run.ring_drops?.to_string())),
    ("unaccounted", |run| Some(run.unaccounted?.to_string())),
    ("diverted_pkts", |run| Some(run.simulated.as_ref()?.diverted_pkts?.to_string())),
    ("spilled_pkts", |run| Some(run.simulated.as_ref()?.spill?.spilled_pkts.to_string())),
    ("marks", |run| Some(run.marks.to_string())),
    ("ring_p50", |run| Some(run.ring.occupancy_p50?.to_string())),
    ("ring_p99", |run| Some(run.ring.occupancy_p99?.to_string())),
];

fn delay(run: &Run, pick: fn(&DelaySummary) -> u64) -> Option<String> {
    Some(pick(run.delay_ns.as_ref()?).to_string())
}

fn completion(run: &Run, pick: fn(&DelaySummary) -> u64) -> Option<String> {
    Some(pick(&run.simulated.as_ref()?.completion_ns?.summary).to_string())
}

fn line(fields: &[String]) -> String {
    let quoted: Vec<String> = fields.iter().map(|field| quote(field)).collect();
    quoted.join(",") + "\n"
}

fn quote(field: &str) -> String {
    if field.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4180_fields_with_commas_and_quotes_are_quoted() {
        assert_eq!(
            line(&["a,b".to_owned(), "say \"x\"".to_owned(), "plain".to_owned()]),
            "\"a,b\",\"say \"\"x\"\"\",plain\n"
        );
    }
}
