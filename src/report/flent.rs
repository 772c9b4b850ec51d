//! flent's data format, version 4 (`flent/resultset.py` of flent 2.1), as flent's test `tcp_nup` would have written it.
//!
//! flent plots by the name of the test: `tcp_nup` has a series for each upload and one for ping.

use serde_json::{Map, Value, json};

use super::measures::{FlowSeries, jain};
use super::result::{Report, Run};

/// Between two points. flent's own default is 0.2 s.
const STEP_S: f64 = 0.1;
/// flent wants a time; that of a simulation is always the same.
const TIME: &str = "1970-01-01T00:00:00.000000Z";
const PING: &str = "Ping (ms) ICMP";

/// The run as one data file; `None` where it kept no samples.
///
/// Uploads are the flows of TCP; of UDP where there is no TCP. Goodput is in Mbit/s. A ping is the probe's one-way delay and the link's delay back: the way back is not the queue
/// under test.
#[must_use]
pub fn flent(report: &Report, run: &Run) -> Option<Value> {
    let samples = &run.samples;
    let steps = samples.goodput.len();
    if steps == 0 {
        return None;
    }
    let x_values: Vec<f64> = samples.goodput.iter().map(|point| seconds(point.at_ns)).collect();
    let flows = uploads_of(&samples.flows);
    let uploads: Vec<Vec<f64>> =
        flows.iter().map(|flow| flow.points.iter().map(|point| point.bps as f64 / 1e6).collect()).collect();
    let sums: Vec<f64> = (0..steps).map(|at| column(&uploads, at).sum()).collect();
    let count = uploads.len().max(1) as f64;
    let shares = |at| column(&uploads, at).collect::<Vec<f64>>();
    let fairness: Vec<Option<f64>> = (0..steps).map(|at| jain(&shares(at))).collect();

    let mut results = Map::new();
    for (number, upload) in (1..).zip(&uploads) {
        results.insert(format!("TCP upload::{number}"), json!(upload));
    }
    results.insert("TCP upload avg".to_owned(), sums.iter().map(|sum| sum / count).collect());
    results.insert("TCP upload sum".to_owned(), json!(sums));
    results.insert("TCP upload fairness".to_owned(), json!(fairness));
    results.insert(PING.to_owned(), json!(pings(report, run)));

    let back_ms = report.setup.link_delay_ns as f64 / 1e6;
    let raw_pings: Vec<Value> = samples
        .delay
        .iter()
        .map(|sample| json!({"t": seconds(sample.at_ns), "val": sample.delay_ns as f64 / 1e6 + back_ms}))
        .collect();
    let mut raw = Map::new();
    for (number, flow) in (1..).zip(&flows) {
        let points = flow.points.iter();
        let values = points.map(|point| json!({"t": seconds(point.at_ns), "val": point.bps as f64 / 1e6}));
        raw.insert(format!("TCP upload::{number}"), values.collect());
    }
    raw.insert(PING.to_owned(), json!(raw_pings));

    let length = (report.setup.duration_ns as f64 / 1e9).round();
    let series: Map<String, Value> = results.keys().map(|name| (name.clone(), json!({}))).collect();
    Some(json!({
        "version": 4,
        "metadata": {
            "NAME": "tcp_nup",
            "TITLE": format!("{}, {}", report.experiment, run.contender),
            "NOTE": report.place.name(),
            "TIME": TIME,
            "T0": TIME,
            "LENGTH": length,
            "TOTAL_LENGTH": length,
            "STEP_SIZE": STEP_S,
            "HOST": "receiver",
            "HOSTS": ["receiver"],
            "LOCAL_HOST": "sender",
            "IP_VERSION": 4,
            "FLENT_VERSION": report.place.name(),
            "TEST_PARAMETERS": {"upload_streams": uploads.len().to_string()},
            "SERIES_META": series,
        },
        "x_values": x_values,
        "results": results,
        "raw_values": raw,
    }))
}

/// The flows of TCP; where there are none, all.
fn uploads_of(flows: &[FlowSeries]) -> Vec<&FlowSeries> {
    let is_tcp = |flow: &&FlowSeries| flow.flow.starts_with("tcp ") || flow.flow.starts_with("short ");
    let tcp: Vec<&FlowSeries> = flows.iter().filter(is_tcp).collect();
    if tcp.is_empty() { flows.iter().collect() } else { tcp }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn column(series: &[Vec<f64>], at: usize) -> impl Iterator<Item = f64> {
    series.iter().filter_map(move |values| values.get(at).copied())
}

/// The mean ping of each step; nothing where no probe arrived.
fn pings(report: &Report, run: &Run) -> Vec<Option<f64>> {
    let back_ms = report.setup.link_delay_ns as f64 / 1e6;
    let mut delays = run.samples.delay.iter().peekable();
    let mut pings = Vec::with_capacity(run.samples.goodput.len());
    for point in &run.samples.goodput {
        let (mut sum_ms, mut count) = (0.0, 0_u32);
        while let Some(sample) = delays.next_if(|sample| sample.at_ns <= point.at_ns) {
            sum_ms += sample.delay_ns as f64 / 1e6 + back_ms;
            count += 1;
        }
        pings.push((count > 0).then(|| sum_ms / f64::from(count)));
    }
    pings
}
