//! Subscribers, from the file itself and from the list it names: each has a name of its own, a plan, and addresses that
//! no other subscriber has.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;

use ipnet::IpNet;
use weir_shared_maps::{MAX_PREFIX_LENGTHS, MAX_SUBSCRIBERS};

use super::PolicyRule;
use super::file::{PolicyTables, SubscriberTable};
use super::model::Subscriber;
use super::overlap::{Owned, is_v6, overlaps};
use super::plan::{Plans, label};
use super::rule::prefix;
use super::subscribers_csv;
use crate::config::error::{Problem, Source};
use crate::config::rule::Rule;
use crate::config::typed::Field;
use crate::config::validate::{At, Check};

/// Overlaps that are shown.
const MOST_OVERLAPS: usize = 20;

/// A subscriber before it is compared with the others.
pub(super) struct Found {
    pub name: String,
    pub prefixes: Vec<IpNet>,
    pub plan: usize,
    pub written: Written,
}

/// Where a subscriber is written.
pub(super) enum Written {
    /// In the configuration: number of its table.
    Table(usize),
    /// In the list: the line.
    Listed(Range<usize>),
}

impl Check<'_> {
    pub(in crate::config) fn subscribers(&mut self, tables: &PolicyTables, plans: &Plans) -> Vec<Subscriber> {
        let mut found = Vec::new();
        for (number, table) in tables.subscribers.iter().enumerate() {
            found.extend(self.subscriber(number, table, plans));
        }
        let list = self.list_of_subscribers(tables);
        if let Some(list) = &list {
            let listed = subscribers_csv::read(list, &plans.by_name);
            self.list_problems.extend(listed.problems);
            found.extend(listed.found);
        }
        let places = Places { tables: &tables.subscribers, list: list.as_ref() };
        self.names_differ(&found, &places);
        self.addresses_differ(&found, &places);
        found
            .into_iter()
            .map(|Found { name, prefixes, plan, .. }| Subscriber { name, prefixes, plan })
            .collect()
    }

    fn subscriber(&mut self, number: usize, table: &SubscriberTable, plans: &Plans) -> Option<Found> {
        let place = &table.place;
        let at = |key| At { place, key };
        self.required(at("name"), &table.name, &table.span, "name = \"alice\"");
        self.required(at("plan"), &table.plan, &table.span, "plan = \"gold\"");
        let name =
            self.parsed(at("name"), &table.name, |name| label("subscriber", name).map_err(Rule::Policy));
        let plan = self.parsed(at("plan"), &table.plan, |name| match plans.by_name.get(name) {
            Some(index) => Ok(*index),
            None => {
                let known = known_plans(plans);
                Err(Rule::Policy(PolicyRule::Unknown { what: "plan", known }))
            }
        });
        if matches!(table.prefixes, crate::config::file::Items::Absent) {
            let rule = Rule::MissingKey { example: "prefixes = [\"192.0.2.7\"]" };
            self.problems.push(self.source.key_problem(place, "prefixes", table.span.clone(), rule));
        }
        let prefixes = self.list(at("prefixes"), &table.prefixes, prefix);
        Some(Found { name: name?, prefixes: prefixes?, plan: plan?, written: Written::Table(number) })
    }

    /// The text of the list, where the configuration names one that can be read.
    fn list_of_subscribers(&mut self, tables: &PolicyTables) -> Option<Source> {
        let file = tables.subscribers_file.get()?;
        let path = Path::new(self.source.name()).parent().unwrap_or(Path::new("")).join(file.get_ref());
        match (self.read)(&path) {
            Ok(text) => Some(Source::new(&path.display().to_string(), &text)),
            Err(error) => {
                let rule = PolicyRule::SubscribersFile {
                    path: path.display().to_string(),
                    error: error.to_string(),
                };
                self.broken(At { place: "[subscribers]", key: "file" }, file.span(), rule);
                None
            }
        }
    }

    fn names_differ(&mut self, found: &[Found], places: &Places<'_>) {
        let mut names: HashSet<&str> = HashSet::with_capacity(found.len());
        for subscriber in found {
            if !names.insert(&subscriber.name) {
                self.report(places, subscriber, "name", PolicyRule::Duplicate { what: "subscriber" });
            }
        }
        if let Some(beyond) = found.get(MAX_SUBSCRIBERS as usize) {
            let rule = PolicyRule::TooMany { what: "subscribers", most: MAX_SUBSCRIBERS as usize };
            self.report(places, beyond, "name", rule);
        }
    }

    fn addresses_differ(&mut self, found: &[Found], places: &Places<'_>) {
        let mut owned = Vec::with_capacity(found.len());
        for (owner, subscriber) in found.iter().enumerate() {
            owned.extend(subscriber.prefixes.iter().map(|net| Owned { net: *net, owner }));
            if subscriber.prefixes.iter().any(|net| net.prefix_len() == 0) {
                self.report(places, subscriber, "prefixes", PolicyRule::PrefixOfEverything);
            }
        }
        for (later, earlier) in overlaps(&owned, MOST_OVERLAPS) {
            let (Some(subscriber), Some(other)) = (found.get(later.owner), found.get(earlier.owner)) else {
                continue;
            };
            let rule = PolicyRule::Overlap {
                prefix: later.net.to_string(),
                other_prefix: earlier.net.to_string(),
                other: if later.owner == earlier.owner {
                    "the same subscriber".to_owned()
                } else {
                    format!("subscriber {:?}", other.name)
                },
            };
            self.report(places, subscriber, "prefixes", rule);
        }
        for (family, v6) in [("IPv4", false), ("IPv6", true)] {
            let mut lengths: HashMap<u8, usize> = HashMap::new();
            for one in owned.iter().filter(|one| is_v6(&one.net) == v6) {
                lengths.entry(one.net.prefix_len()).or_insert(one.owner);
            }
            if lengths.len() > MAX_PREFIX_LENGTHS {
                let last = lengths.values().max().and_then(|owner| found.get(*owner));
                let rule = PolicyRule::PrefixLengths { family, has: lengths.len(), most: MAX_PREFIX_LENGTHS };
                if let Some(last) = last {
                    self.report(places, last, "prefixes", rule);
                }
            }
        }
    }

    /// A problem with a subscriber, in the file where it is written.
    fn report(&mut self, places: &Places<'_>, subscriber: &Found, key: &'static str, rule: PolicyRule) {
        match (&subscriber.written, places.list) {
            (Written::Table(number), _) => {
                let Some(table) = places.tables.get(*number) else { return };
                let span = match (key, &table.name) {
                    ("name", Field::Is(name)) => name.span(),
                    _ => match &table.prefixes {
                        crate::config::file::Items::Are { span, .. } => span.clone(),
                        crate::config::file::Items::Absent | crate::config::file::Items::Wrong => {
                            table.span.clone()
                        }
                    },
                };
                self.broken(At { place: &table.place, key }, span, rule);
            }
            (Written::Listed(line), Some(list)) => {
                let subject = format!("subscriber {:?}: {key}", subscriber.name);
                let problem: Problem = list.problem(subject, line.clone(), Rule::Policy(rule));
                self.list_problems.push(problem);
            }
            (Written::Listed(_), None) => {}
        }
    }
}

/// What problems point into.
struct Places<'a> {
    tables: &'a [SubscriberTable],
    list: Option<&'a Source>,
}

fn known_plans(plans: &Plans) -> String {
    let mut names: Vec<&str> = plans.by_name.keys().map(String::as_str).collect();
    names.sort_unstable();
    names.truncate(20);
    if names.is_empty() { String::new() } else { format!("; known: {}", names.join(", ")) }
}
