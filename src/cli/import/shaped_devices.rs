//! LibreQoS's ShapedDevices.csv: each row a device of a circuit, each circuit a subscriber, each set of rates a plan.
//!
//! Columns as LibreQoS's documentation lists them: Circuit ID, Circuit Name, Device ID, Device Name, Parent Node, MAC, IPv4,
//! IPv6, Download Min Mbps, Upload Min Mbps, Download Max Mbps, Upload Max Mbps, Comment. Rows that begin with `#` are
//! comments. "Min" is what is guaranteed, "Max" what may be borrowed.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use csv::{ReaderBuilder, StringRecord};

use super::text::quoted;
use super::{Imported, LineProblem};

const COLUMNS: [(&str, &str); 8] = [
    ("Circuit ID", ""),
    ("Circuit Name", ""),
    ("IPv4", ""),
    ("IPv6", ""),
    ("Download Min Mbps", "Download Min"),
    ("Upload Min Mbps", "Upload Min"),
    ("Download Max Mbps", "Download Max"),
    ("Upload Max Mbps", "Upload Max"),
];

/// Rates in kbit/s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rates {
    down: u64,
    up: u64,
    down_max: u64,
    up_max: u64,
}

/// A circuit, with all of its devices.
struct Circuit {
    id: String,
    name: String,
    prefixes: Vec<String>,
    rates: Rates,
}

pub(super) fn import(text: &str) -> Result<Imported, Vec<LineProblem>> {
    let mut problems = Vec::new();
    let circuits = circuits(text, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut plans: BTreeMap<Rates, String> = BTreeMap::new();
    for circuit in &circuits {
        plans.entry(circuit.rates).or_insert_with(|| plan_name(circuit.rates));
    }
    let mut config = "# Made by `weir import` from LibreQoS's ShapedDevices.csv.\n\
                      # Set the names of the two devices: wan0 towards the Internet, lan0 towards the subscribers.\n\
                      # Not carried over: parent nodes (weir shares a port, not a tree), MAC addresses, comments.\n\n\
                      [[ingress]]\ndevice = \"wan0\"\n\n[[ingress]]\ndevice = \"lan0\"\n\n\
                      [[port]]\ndevice = \"lan0\"\nsubscribers = \"destination\"\n\n\
                      [[port]]\ndevice = \"wan0\"\nsubscribers = \"source\"\n"
        .to_owned();
    for (rates, name) in &plans {
        // Writing to a string cannot fail.
        let _ = write!(
            config,
            "\n[[plan]]\nname = {}\ndown = \"{}kbit\"\nup = \"{}kbit\"\ndown_ceil = \"{}kbit\"\nup_ceil = \"{}kbit\"\n",
            quoted(name),
            rates.down,
            rates.up,
            rates.down_max,
            rates.up_max
        );
    }
    let mut uses: HashMap<&str, usize> = HashMap::new();
    for circuit in &circuits {
        *uses.entry(&circuit.name).or_default() += 1;
    }
    let subscriber = |circuit: &Circuit| {
        let unique = !circuit.name.is_empty() && uses.get(circuit.name.as_str()) == Some(&1);
        let name = if unique { circuit.name.clone() } else { format!("{} ({})", circuit.name, circuit.id) };
        let plan = plans.get(&circuit.rates).cloned().unwrap_or_default();
        [name.trim().to_owned(), circuit.prefixes.join(" "), plan]
    };
    let subscribers = circuits.iter().map(subscriber).collect();
    Ok(Imported { config, subscribers })
}

fn circuits(text: &str, problems: &mut Vec<LineProblem>) -> Vec<Circuit> {
    let mut reader = ReaderBuilder::new().flexible(true).comment(Some(b'#')).from_reader(text.as_bytes());
    let header = reader.headers().cloned().unwrap_or_default();
    let mut columns = [0; 8];
    for (place, (name, short)) in columns.iter_mut().zip(COLUMNS) {
        let named = |field: &str| field.trim() == name || (!short.is_empty() && field.trim() == short);
        match header.iter().position(named) {
            Some(index) => *place = index,
            None => {
                let line = header.position().map_or(1, csv::Position::line);
                problems.push(LineProblem { line, what: format!("the column `{name}` is missing") });
                return Vec::new();
            }
        }
    }
    let mut circuits: Vec<Circuit> = Vec::new();
    let mut by_id: HashMap<String, usize> = HashMap::new();
    let mut record = StringRecord::new();
    // Any number of fields is taken, and a string is UTF-8: reading cannot fail.
    while reader.read_record(&mut record).unwrap_or(false) {
        let line = record.position().map_or(0, csv::Position::line);
        let found = match row(&record, columns) {
            Ok(circuit) => circuit,
            Err(what) => {
                problems.push(LineProblem { line, what });
                continue;
            }
        };
        match by_id.get(&found.id).and_then(|index| circuits.get_mut(*index)) {
            None => {
                by_id.insert(found.id.clone(), circuits.len());
                circuits.push(found);
            }
            Some(circuit) if circuit.rates == found.rates => circuit.prefixes.extend(found.prefixes),
            Some(circuit) => {
                let what = format!(
                    "circuit {} has other rates than in its first row: {} there, {} here",
                    circuit.id,
                    plan_name(circuit.rates),
                    plan_name(found.rates)
                );
                problems.push(LineProblem { line, what });
            }
        }
    }
    circuits
}

fn row(record: &StringRecord, columns: [usize; 8]) -> Result<Circuit, String> {
    let [id, name, v4, v6, down, up, down_max, up_max] =
        columns.map(|index| record.get(index).unwrap_or_default().trim());
    if id.is_empty() {
        return Err("the Circuit ID is empty".to_owned());
    }
    let separators = |c: char| c == ',' || c.is_whitespace();
    let mut prefixes = Vec::new();
    for typed in v4.split(separators).chain(v6.split(separators)).filter(|typed| !typed.is_empty()) {
        let net = crate::config::policy::parse_prefix(typed).map_err(|rule| format!("{typed}: {rule}"))?;
        prefixes.push(net.to_string());
    }
    if prefixes.is_empty() {
        return Err(format!("circuit {id} has neither an IPv4 nor an IPv6 address"));
    }
    let kbit = |column: usize, typed: &str| {
        let name = COLUMNS.get(column).map_or("", |(name, _)| *name);
        mbps(typed).ok_or_else(|| format!("{name} = {typed:?}: must be a number of Mbps, at least 0.064"))
    };
    let rates = Rates {
        down: kbit(4, down)?,
        up: kbit(5, up)?,
        down_max: kbit(6, down_max)?,
        up_max: kbit(7, up_max)?,
    };
    if rates.down > rates.down_max || rates.up > rates.up_max {
        return Err(format!("circuit {id}: the minimum is above the maximum ({})", plan_name(rates)));
    }
    Ok(Circuit { id: id.to_owned(), name: name.to_owned(), prefixes, rates })
}

/// Megabits per second with at most three decimals, as kilobits.
fn mbps(typed: &str) -> Option<u64> {
    let rate = crate::config::units::parse_rate(&format!("{typed}mbit")).ok()?.bits_per_second();
    (rate % 1_000 == 0 && rate >= 64_000).then_some(rate / 1_000)
}

/// `50/10 max 100/20`, in Mbps.
fn plan_name(rates: Rates) -> String {
    let mbps = |kbit: u64| {
        let text = format!("{}.{:03}", kbit / 1_000, kbit % 1_000);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let Rates { down, up, down_max, up_max } = rates;
    let name = format!("{}/{}", mbps(down), mbps(up));
    if (down, up) == (down_max, up_max) {
        name
    } else {
        format!("{name} max {}/{}", mbps(down_max), mbps(up_max))
    }
}
