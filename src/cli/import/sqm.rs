//! The UCI file of sqm-scripts (/etc/config/sqm): each enabled queue becomes a policed uplink, and a policed port towards
//! the LAN for its download rate.
//!
//! sqm-scripts shapes arriving traffic on an IFB device of the uplink; weir has no such queue and holds the download rate where
//! the packets leave. `overhead` counts from the IP packet for CAKE, and from the frame for the others, which set it by
//! `tc stab` (sqm-scripts' README, "Link layer adaptation").

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::text::quoted;
use super::{Imported, LineProblem};

/// Ethernet's header, which frames have and CAKE does not count.
const ETHERNET: i64 = 14;

/// One `config queue` section.
#[derive(Default)]
struct Queue {
    line: u64,
    options: BTreeMap<String, (u64, String)>,
}

/// Options that are carried over or have nothing to say to weir.
const KNOWN: [&str; 22] = [
    "enabled",
    "interface",
    "download",
    "upload",
    "qdisc",
    "script",
    "linklayer",
    "overhead",
    "qdisc_advanced",
    "qdisc_really_really_advanced",
    "linklayer_advanced",
    "linklayer_adaptation_mechanism",
    "debug_logging",
    "verbosity",
    "ingress_ecn",
    "egress_ecn",
    "squash_dscp",
    "squash_ingress",
    "tcMPU",
    "itarget",
    "etarget",
    "use_mq",
];

pub(super) fn import(text: &str) -> Result<Imported, Vec<LineProblem>> {
    let mut problems = Vec::new();
    let queues = sections(text, &mut problems);
    let mut config = "# Made by `weir import` from a UCI file of sqm-scripts.\n".to_owned();
    let mut uplinks = 0;
    for queue in &queues {
        if queue.text("enabled").is_some_and(|enabled| enabled != "1") {
            let _ = writeln!(config, "# The queue of line {} is disabled and left out.", queue.line);
            continue;
        }
        match tables(queue, uplinks) {
            Ok(tables) => config.push_str(&tables),
            Err(problem) => problems.push(problem),
        }
        uplinks += 1;
    }
    if uplinks == 0 && problems.is_empty() {
        problems.push(LineProblem { line: 1, what: "there is no enabled queue to import".to_owned() });
    }
    if problems.is_empty() { Ok(Imported { config, subscribers: Vec::new() }) } else { Err(problems) }
}

impl Queue {
    fn text(&self, option: &str) -> Option<&str> {
        self.options.get(option).map(|(_, value)| value.as_str())
    }

    fn number(&self, option: &str) -> Result<i64, LineProblem> {
        match self.options.get(option) {
            None => Ok(0),
            Some((line, value)) => value.parse().map_err(|_| LineProblem {
                line: *line,
                what: format!("option {option} = {value:?} is not a number"),
            }),
        }
    }

    fn is_set(&self, option: &str) -> bool {
        self.text(option) == Some("1")
    }
}

/// The tables of one queue.
fn tables(queue: &Queue, number: usize) -> Result<String, LineProblem> {
    let device = queue.text("interface").ok_or_else(|| LineProblem {
        line: queue.line,
        what: "the queue has no option interface".to_owned(),
    })?;
    let (download, upload) = (queue.number("download")?, queue.number("upload")?);
    let lan = format!("lan{number}");
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "# Set the name of the device towards the LAN, which the UCI file does not say: {lan}.\n\n\
         [[ingress]]\ndevice = {}\n\n[[ingress]]\ndevice = {}\n",
        quoted(device),
        quoted(&lan)
    );
    let link = link(queue)?;
    for (device, rate, ecn, direction) in
        [(device, upload, "egress_ecn", "upload"), (lan.as_str(), download, "ingress_ecn", "download")]
    {
        let _ = write!(text, "\n[[port]]\ndevice = {}\n", quoted(device));
        if rate <= 0 {
            let _ = writeln!(text, "# sqm-scripts does not shape the {direction}: the ring is the queue.");
        } else {
            let _ = writeln!(text, "mode = \"policer\"\nrate = \"{rate}kbit\"");
        }
        text.push_str(&link);
        class(queue, ecn, direction, &mut text);
    }
    for (option, (line, value)) in queue.options.iter().filter(|(name, _)| !KNOWN.contains(&name.as_str())) {
        let _ = writeln!(text, "# Not carried over (line {line}): option {option} {}", quoted(value));
    }
    if let Some(script @ ("simple.qos" | "layer_cake.qos")) = queue.text("script") {
        let _ = writeln!(text, "# {script} sorts by DSCP as well: docs/policy.md shows classes and rules.");
    }
    Ok(text)
}

/// The one class of a port: flows share it as they do in fq_codel; hosts and their flows as in CAKE.
fn class(queue: &Queue, ecn: &str, direction: &str, text: &mut String) {
    let fairness = if is_cake(queue) { "host+flow" } else { "flow" };
    let _ = write!(text, "\n[[port.class]]\nname = \"default\"\nfairness = \"{fairness}\"\n");
    if queue.text(ecn) == Some("NOECN") {
        text.push_str("ecn = false\n");
    }
    if direction == "download" && (queue.is_set("squash_dscp") || queue.is_set("squash_ingress")) {
        text.push_str("dscp = \"wash\"\n");
    }
    let target = queue.text(if direction == "upload" { "etarget" } else { "itarget" });
    if let Some(target) = target.filter(|target| crate::config::units::parse_time(target).is_ok()) {
        let _ = write!(text, "\n[port.class.aqm]\ntarget = {}\n", quoted(target));
    }
}

fn is_cake(queue: &Queue) -> bool {
    queue.text("qdisc") == Some("cake") || queue.text("script").is_some_and(|script| script.contains("cake"))
}

fn link(queue: &Queue) -> Result<String, LineProblem> {
    let overhead = queue.number("overhead")? - if is_cake(queue) { ETHERNET } else { 0 };
    let mpu = queue.number("tcMPU")?;
    let mut text = match queue.text("linklayer") {
        None | Some("none") => return Ok(String::new()),
        Some("ethernet") => format!("overhead = {overhead}\n"),
        Some("atm") => format!("overhead = [{overhead}, \"atm\"]\n"),
        Some(other) => {
            let line = queue.options.get("linklayer").map_or(queue.line, |(line, _)| *line);
            return Err(LineProblem {
                line,
                what: format!("linklayer {other:?} is none of none, ethernet, atm"),
            });
        }
    };
    if mpu > 0 {
        let _ = writeln!(text, "mpu = {mpu}");
    }
    Ok(text)
}

/// Reads UCI: `config TYPE ['NAME']`, `option KEY 'VALUE'`, comments.
fn sections(text: &str, problems: &mut Vec<LineProblem>) -> Vec<Queue> {
    let mut queues: Vec<Queue> = Vec::new();
    for (number, line) in (1_u64..).zip(text.lines()) {
        let words = match words(line) {
            Some(words) => words,
            None => {
                problems.push(LineProblem { line: number, what: "a quote is not closed".to_owned() });
                continue;
            }
        };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            [] => {}
            ["config", "queue", ..] => queues.push(Queue { line: number, ..Queue::default() }),
            ["config", kind, ..] => {
                let what = format!("a section of type {kind:?}, sqm-scripts has `queue` only");
                problems.push(LineProblem { line: number, what });
            }
            ["option", key, value] => match queues.last_mut() {
                Some(queue) => {
                    queue.options.insert((*key).to_owned(), (number, (*value).to_owned()));
                }
                None => problems.push(LineProblem {
                    line: number,
                    what: "an option before the first `config queue`".to_owned(),
                }),
            },
            _ => problems.push(LineProblem {
                line: number,
                what: "neither `config TYPE` nor `option KEY VALUE`".to_owned(),
            }),
        }
    }
    queues
}

/// The words of a line, quotes taken off; `None` where one is not closed. A comment is no word.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '#' => break,
            '\'' | '"' => rest.get(1..)?.split_once(first)?,
            _ => rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len())),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    Some(words)
}
