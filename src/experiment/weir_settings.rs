//! `[weir]` of an experiment: the settings of the `weir` contender's port, in the words of the configuration file.
//!
//! `[[weir.rule]]`, `[[weir.plan]]` and `[[weir.subscriber]]` are the configuration's. The table is copied, value by value, into a configuration of the lab's two devices, and that is checked as any
//! configuration is. A broken rule is traced back to the value it came from.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::{Config, ConfigError};

/// The device of the lab's sender and the ingress device of its router.
pub const FAST_DEVICE: &str = "fast0";
/// The egress device of the lab's router (its TX ring is the bottleneck) and the device of its receiver.
pub const SLOW_DEVICE: &str = "slow0";
/// The egress device that flows spill to, where `[link.spill]` says what link it has.
pub const SPILL_DEVICE: &str = "slow1";

/// What is of the whole configuration, not of its port: what finds a packet's class, and whose it is.
const OF_THE_WHOLE: [&str; 3] = ["rule", "plan", "subscriber"];

/// A broken rule, and the bytes of the experiment file that broke it.
pub(super) type Broken = (Range<usize>, String);

/// The configuration for the experiment file `text`.
pub(super) fn config(text: &str) -> Result<Config, Broken> {
    let root = DeTable::parse(text).map_err(|e| (e.span().unwrap_or(0..0), e.message().to_owned()))?;
    let mut copy = Copy { source: text, text: String::new(), origins: Vec::new() };
    copy.line(
        0..0,
        &format!("[[ingress]]\ndevice = \"{FAST_DEVICE}\"\n[[port]]\ndevice = \"{SLOW_DEVICE}\""),
    );
    let settings = root.get_ref().iter().find(|(key, _)| key.get_ref() == "weir");
    if let Some(table) = settings.and_then(|(_, weir)| weir.get_ref().as_table()) {
        if let Some((key, _)) = table.iter().find(|(key, _)| key.get_ref() == "device") {
            return Err((key.span(), "the port of the lab is always its slow device".to_owned()));
        }
        let of_the_whole = |key: &str| OF_THE_WHOLE.contains(&key);
        copy.table("port", table.iter().filter(|(key, _)| !of_the_whole(key.get_ref())));
        for (key, tables) in table.iter().filter(|(key, _)| of_the_whole(key.get_ref())) {
            copy.tables(key.get_ref(), tables);
        }
    }
    if root.get_ref().iter().any(|(key, table)| key.get_ref() == "link" && has(table, "spill")) {
        copy.line(0..0, &format!("[[port]]\ndevice = \"{SPILL_DEVICE}\""));
    }
    Config::from_toml_str("[weir]", &copy.text).map_err(|error| copy.trace(&error))
}

fn has(value: &Spanned<DeValue<'_>>, key: &str) -> bool {
    value.get_ref().as_table().is_some_and(|table| table.iter().any(|(known, _)| known.get_ref() == key))
}

/// The elements of a non-empty array that holds tables only; else none.
fn tables_in<'t>(value: &'t Spanned<DeValue<'t>>) -> Vec<(Range<usize>, &'t DeTable<'t>)> {
    let array = value.get_ref().as_array();
    let tables = array.map(|array| array.iter().map(|item| Some((item.span(), item.get_ref().as_table()?))));
    tables.and_then(Iterator::collect::<Option<Vec<_>>>).unwrap_or_default()
}

/// A configuration being written, one key to a line, and where each line came from.
struct Copy<'a> {
    source: &'a str,
    text: String,
    origins: Vec<Range<usize>>,
}

impl Copy<'_> {
    fn line(&mut self, origin: Range<usize>, line: &str) {
        self.origins.extend(line.lines().map(|_| origin.clone()));
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// What may follow are tables of their own: they come after all other keys.
    fn table<'t>(
        &mut self,
        path: &str,
        table: impl IntoIterator<Item = (&'t Spanned<Cow<'t, str>>, &'t Spanned<DeValue<'t>>)>,
    ) {
        let (inner, values): (Vec<_>, Vec<_>) = table
            .into_iter()
            .partition(|(_, value)| value.get_ref().is_table() || !tables_in(value).is_empty());
        for (key, value) in values {
            // What was typed, on one line: a line break inside a value would move what follows.
            let typed = self.source.get(value.span()).unwrap_or_default().replace('\n', " ");
            let mut line = String::new();
            let _ = write!(line, "{:?} = {typed}", key.get_ref());
            self.line(value.span(), &line);
        }
        for (key, value) in inner {
            let path = format!("{path}.{:?}", key.get_ref());
            if let DeValue::Table(inner) = value.get_ref() {
                self.line(key.span(), &format!("[{path}]"));
                self.table(&path, inner);
            } else {
                self.tables(&path, value);
            }
        }
    }

    /// Each element of an array of tables.
    fn tables(&mut self, path: &str, array: &Spanned<DeValue<'_>>) {
        for (span, table) in tables_in(array) {
            self.line(span, &format!("[[{path}]]"));
            self.table(path, table);
        }
    }

    /// The first problem, in the place of the experiment file where it was typed.
    fn trace(&self, error: &ConfigError) -> Broken {
        match error.problems().first() {
            Some(problem) => {
                let origin = problem.line().checked_sub(1).and_then(|line| self.origins.get(line));
                // `[weir]:LINE:COLUMN: ` is of the copy, which nobody has seen.
                let said = problem.to_string();
                let rule = said.splitn(4, ':').nth(3).unwrap_or(&said).trim().to_owned();
                (origin.cloned().unwrap_or(0..0), rule)
            }
            None => (0..0, error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_experiment_without_weir_settings_runs_the_defaults_on_the_labs_devices() {
        let config = config("name = \"x\"\n").unwrap();
        assert_eq!(config.ingress[0].device.as_str(), FAST_DEVICE);
        assert_eq!(config.ports[0].device.as_str(), SLOW_DEVICE);
    }

    #[test]
    fn inline_and_dotted_settings_mean_what_tables_mean() {
        let table = config("[weir]\nreserve = 32\n[weir.aqm]\ntarget = \"7ms\"\n").unwrap();
        let inline = config("[weir]\nreserve = 32\naqm = { target = \"7ms\" }\n").unwrap();
        let dotted = config("weir.reserve = 32\nweir.aqm.target = \"7ms\"\n").unwrap();
        assert_eq!(table, inline);
        assert_eq!(table, dotted);
        assert_eq!(table.ports[0].reserve, Some(32));
    }

    #[test]
    fn classes_and_rules_are_tables_of_their_own_or_inline() {
        let tables = config(
            "[weir]\nmode = \"policer\"\nrate = \"10mbit\"\n[[weir.class]]\nname = \"a\"\nweight = 3\n\
             [weir.class.aqm]\ntarget = \"7ms\"\n[[weir.class]]\nname = \"b\"\n[[weir.rule]]\nclass = \"a\"\n\
             dscp = [46]\n",
        );
        let inline = config(
            "[weir]\nmode = \"policer\"\nrate = \"10mbit\"\nclass = [{ name = \"a\", weight = 3, aqm = { target = \
             \"7ms\" } }, { name = \"b\" }]\nrule = [{ class = \"a\", dscp = [46] }]\n",
        );
        let (tables, inline) = (tables.unwrap(), inline.unwrap());
        assert_eq!((&tables.ports, &tables.policy), (&inline.ports, &inline.policy));
        assert_eq!((tables.ports[0].classes.len(), tables.policy.rules.len()), (2, 1));
    }

    #[test]
    fn plans_and_subscribers_are_the_configurations() {
        let config = config(
            "[weir]\nmode = \"policer\"\nrate = \"10mbit\"\nsubscribers = \"source\"\n[[weir.plan]]\nname = \"p\"\n\
             up = \"2mbit\"\n[[weir.subscriber]]\nname = \"s\"\nprefixes = [\"10.0.0.1\"]\nplan = \"p\"\n",
        )
        .unwrap();
        assert_eq!((config.policy.plans.len(), config.policy.subscribers.len()), (1, 1));
        assert!(config.ports[0].subscribers.is_some());
    }

    #[test]
    fn a_second_link_has_a_port_that_flows_may_spill_to() {
        let spilling = "[weir]\non_full = \"spill\"\nspill_to = \"slow1\"\n";
        let (_, rule) = config(spilling).unwrap_err();
        assert!(rule.contains("no [[port]] has this device"), "{rule}");
        let link = "[link]\nspill = { rate = \"1mbit\", delay = \"1ms\", ring = 100 }\n";
        let config = config(&format!("{link}{spilling}")).unwrap();
        assert_eq!(config.ports.len(), 2);
        assert_eq!(config.ports[1].device.as_str(), SPILL_DEVICE);
        assert_eq!(config.ports[0].back_off.spill_to.as_ref(), Some(&config.ports[1].device));
    }

    #[test]
    fn a_broken_class_or_rule_is_traced_to_where_it_was_typed() {
        let text = "[weir]\n[[weir.class]]\nname = \"a\"\nweight = 0\n";
        let (span, rule) = config(text).unwrap_err();
        assert_eq!(&text[span], "0", "{rule}");
        let text = "[weir]\n[[weir.class]]\nname = \"a\"\n[[weir.rule]]\nclass = \"b\"\n";
        let (span, rule) = config(text).unwrap_err();
        assert_eq!(&text[span], "\"b\"", "{rule}");
    }
}
