//! Rules, plans and subscribers of a whole file, against the ports and ingress devices they speak of.

use std::collections::HashSet;

use super::PolicyRule;
use super::model::{IMPLICIT_CLASS, Policy};
use super::rule::Named;
use crate::config::file::File;
use crate::config::validate::Check;

impl Check<'_> {
    pub(in crate::config) fn policy(&mut self, file: &File) -> Policy {
        let named = file.ports.iter().flat_map(|port| &port.classes).filter_map(|class| class.name.get());
        let mut classes: HashSet<&str> = named.map(|name| name.get_ref().as_str()).collect();
        if file.ports.iter().any(|port| port.classes.is_empty()) {
            classes.insert(IMPLICIT_CLASS);
        }
        let named = Named { classes, ingress: &file.ingress };
        let tables = &file.policy;
        let rules = self.rules(&tables.rules, &named);
        let plans = self.plans(&tables.plans, &named);
        let subscribers = self.subscribers(tables, &plans);
        let looked_for = file.ports.iter().any(|port| !port.subscribers.is_absent());
        if !subscribers.is_empty() && !looked_for {
            let first = tables.subscribers.first().map(|table| (table.place.clone(), table.span.clone()));
            let list = tables.subscribers_file.get().map(|file| ("[subscribers]".to_owned(), file.span()));
            if let Some((place, span)) = first.or(list) {
                self.broken_at(&place, "subscribers", span, PolicyRule::NoSubscriberPort);
            }
        }
        Policy { rules, plans: plans.plans, subscribers }
    }
}
