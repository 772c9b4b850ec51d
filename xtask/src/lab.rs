//! Bounds on a lab experiment's results.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::report::{contender, number};

/// weir's p99 delay is at most this share of the plain redirect's median: it stands in the ring, weir keeps it short.
const DELAY_SHARE: f64 = 0.25;
/// weir's goodput is at least this share of the plain redirect's.
const GOODPUT_SHARE: f64 = 0.9;

/// Fails unless weir accounted for every packet, kept the delay far below the plain redirect's and its goodput.
///
/// # Errors
///
/// All bounds that do not hold.
pub fn check(report: &Value) -> Result<String> {
    let (weir, redirect) = (contender(report, "weir")?, contender(report, "redirect")?);
    let mut broken = Vec::new();
    for path in ["/silent_drops", "/ring_drops", "/unaccounted", "/link_errors"] {
        let found = number(weir, path)?;
        if found != 0.0 {
            broken.push(format!("weir's {} is {found}", path.trim_start_matches('/')));
        }
    }
    let (delay, standing) = (number(weir, "/delay_ns/p99")?, number(redirect, "/delay_ns/p50")?);
    if delay > DELAY_SHARE * standing {
        broken.push(format!(
            "weir's p99 delay is {:.1} ms, more than {DELAY_SHARE} of redirect's median {:.1} ms",
            delay / 1e6,
            standing / 1e6
        ));
    }
    let (goodput, most) = (number(weir, "/goodput_bps")?, number(redirect, "/goodput_bps")?);
    if goodput < GOODPUT_SHARE * most {
        broken.push(format!(
            "weir's goodput is {:.2} Mbit/s, less than {GOODPUT_SHARE} of redirect's {:.2}",
            goodput / 1e6,
            most / 1e6
        ));
    }
    ensure!(broken.is_empty(), "{}", broken.join("; "));
    Ok(format!(
        "weir p99 {:.1} ms against redirect p50 {:.1} ms; goodput {:.2} against {:.2} Mbit/s; nothing lost unnamed",
        delay / 1e6,
        standing / 1e6,
        goodput / 1e6,
        most / 1e6
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(p99_ms: u64, goodput: u64, unaccounted: i64) -> Value {
        json!({"runs": [
            {"contender": "redirect", "goodput_bps": 9_500_000, "delay_ns": {"p50": 600_000_000_u64}},
            {"contender": "weir", "goodput_bps": goodput, "delay_ns": {"p99": p99_ms * 1_000_000},
             "silent_drops": 0, "ring_drops": 0, "unaccounted": unaccounted, "link_errors": 0},
        ]})
    }

    #[test]
    fn a_run_within_all_bounds_passes() {
        assert!(check(&report(33, 9_400_000, 0)).unwrap().contains("33.0 ms"));
    }

    #[test]
    fn every_broken_bound_is_named_at_once() {
        let error = check(&report(200, 5_000_000, -1)).unwrap_err().to_string();
        for part in ["unaccounted is -1", "p99 delay is 200.0 ms", "goodput is 5.00"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
