//! The golden numbers: their file, and what differs from them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

const HEAD: &str = "# What the verifier says each program costs: instructions it looked at, and bytes of machine code.\n\
                    # One table for each kernel. `cargo xtask verify` fails on a rise; `cargo xtask verify --bless` rewrites the\n\
                    # table of the running kernel, and the commit says why.\n";

/// What one load cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Instructions the verifier processed, on all paths (kernel 5.16; 0 before).
    pub instructions: u32,
    /// Size of the machine code; 0 without a JIT. It depends on the CPU's mitigations as well.
    pub jited_bytes: u32,
}

pub type Costs = BTreeMap<String, Cost>;
pub type Golden = BTreeMap<String, Costs>;

/// What changed against the golden numbers.
#[derive(Debug, Default)]
pub struct Differences {
    pub rose: Vec<String>,
    pub fell: Vec<String>,
}

/// Instructions are compared exactly. Machine code may grow by a tenth, which is what other mitigations cost.
pub fn compare(golden: &Costs, found: &Costs) -> Differences {
    let mut differences = Differences::default();
    for (name, cost) in found {
        let Some(old) = golden.get(name) else {
            differences.rose.push(format!("{name}: has no golden numbers"));
            continue;
        };
        let text = format!(
            "{name}: {} → {} instructions, {} → {} bytes",
            old.instructions, cost.instructions, old.jited_bytes, cost.jited_bytes
        );
        let jited_most = old.jited_bytes.saturating_add(old.jited_bytes / 10);
        if cost.instructions > old.instructions || cost.jited_bytes > jited_most {
            differences.rose.push(text);
        } else if cost != old {
            differences.fell.push(text);
        }
    }
    for name in golden.keys().filter(|name| !found.contains_key(*name)) {
        differences.fell.push(format!("{name}: is golden and was not loaded"));
    }
    differences
}

pub fn read(path: &Path) -> Result<Golden> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Golden::new()),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    parse(&text).with_context(|| path.display().to_string())
}

fn parse(text: &str) -> Result<Golden> {
    let mut golden = Golden::new();
    for (kernel, programs) in text.parse::<toml::Table>()? {
        let programs = programs.as_table().with_context(|| format!("{kernel} is no table"))?;
        let costs = golden.entry(kernel).or_default();
        for (name, cost) in programs {
            let number = |key: &str| {
                let value = cost.get(key).and_then(toml::Value::as_integer);
                value.and_then(|n| u32::try_from(n).ok()).with_context(|| format!("{name} has no {key}"))
            };
            let cost = Cost { instructions: number("instructions")?, jited_bytes: number("jited_bytes")? };
            costs.insert(name.clone(), cost);
        }
    }
    Ok(golden)
}

pub fn show(golden: &Golden) -> Result<String> {
    let mut text = HEAD.to_owned();
    for (kernel, costs) in golden {
        writeln!(text, "\n[\"{kernel}\"]")?;
        for (name, Cost { instructions, jited_bytes }) in costs {
            writeln!(text, "\"{name}\" = {{ instructions = {instructions}, jited_bytes = {jited_bytes} }}")?;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(instructions: u32, jited_bytes: u32) -> Costs {
        [("a".to_owned(), Cost { instructions, jited_bytes })].into()
    }

    #[test]
    fn golden_numbers_survive_the_file() {
        let golden: Golden = [("6.18".to_owned(), costs(12, 34)), ("7.3".to_owned(), costs(1, 2))].into();
        assert_eq!(parse(&show(&golden).unwrap()).unwrap(), golden);
    }

    #[test]
    fn a_rise_fails_and_a_fall_is_told() {
        assert_eq!(compare(&costs(10, 100), &costs(11, 100)).rose.len(), 1);
        assert_eq!(compare(&costs(10, 100), &costs(10, 111)).rose.len(), 1);
        let less = compare(&costs(10, 100), &costs(9, 110));
        assert_eq!((less.rose.len(), less.fell.len()), (0, 1));
        assert!(compare(&costs(10, 100), &costs(10, 100)).fell.is_empty());
    }

    #[test]
    fn a_program_without_golden_numbers_fails_and_one_that_went_away_is_told() {
        let differences = compare(&costs(10, 100), &Costs::new());
        assert_eq!((differences.rose.len(), differences.fell.len()), (0, 1));
        assert_eq!(compare(&Costs::new(), &costs(10, 100)).rose.len(), 1);
    }
}
