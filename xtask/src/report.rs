//! What `weir lab` and `weir sim` report.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::tool::{cargo, root, run};

/// Builds the `weir` that [`measure`] runs.
///
/// # Errors
///
/// It does not build.
pub fn build() -> Result<()> {
    run(&mut cargo(&["build", "--quiet", "--release", "--package", "weir", "--bin", "weir"]))
}

/// Runs `weir COMMAND FILE` with these options, and gives its report.
///
/// # Errors
///
/// It fails, or writes no report.
pub fn measure(command: &str, file: &Path, options: &[String]) -> Result<Value> {
    let json = root().join(format!("target/report-{command}.json"));
    let mut weir = std::process::Command::new(root().join("target/release/weir"));
    weir.current_dir(root()).arg(command).arg(file).args(options).arg("--quiet").arg("--json").arg(&json);
    run(&mut weir)?;
    read(&json)
}

/// Reads a report.
///
/// # Errors
///
/// No such file, or not JSON.
pub fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))
}

/// All runs of a report.
pub fn runs(report: &Value) -> &[Value] {
    report.get("runs").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Who ran.
pub fn name(run: &Value) -> &str {
    run.get("contender").and_then(Value::as_str).unwrap_or_default()
}

/// The run of one contender.
///
/// # Errors
///
/// It is not there; the reason the report gives.
pub fn contender<'a>(report: &'a Value, wanted: &str) -> Result<&'a Value> {
    if let Some(run) = runs(report).iter().find(|run| name(run) == wanted) {
        return Ok(run);
    }
    let among = |key: &str| {
        let left_out = report.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        left_out.iter().find(|run| name(run) == wanted)
    };
    let reason = among("failed").or_else(|| among("skipped")).and_then(|run| run.get("reason"));
    bail!(
        "contender {wanted} did not run: {}",
        reason.map_or("not in the report".to_owned(), Value::to_string)
    );
}

/// A number of a run, by its path.
///
/// # Errors
///
/// It is missing or no number.
pub fn number(run: &Value, path: &str) -> Result<f64> {
    run.pointer(path).and_then(Value::as_f64).with_context(|| format!("the report has no number at {path}"))
}

/// The value in the middle, the upper one of two; `None` of nothing.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_contender_that_was_skipped_says_why() {
        let report = json!({"runs": [], "skipped": [{"contender": "kernel+cake", "reason": "no module"}]});
        let error = contender(&report, "kernel+cake").unwrap_err().to_string();
        assert!(error.contains("no module"), "{error}");
    }

    #[test]
    fn a_median_is_the_value_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median(std::iter::empty()), None);
    }
}
