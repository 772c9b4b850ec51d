//! Who has which index: plans and subscribers of a running instance by name, kept beside its lock under /run.
//!
//! Maps know indices alone. A reload needs the names to tell what stayed, and `weir status` to answer for one of them.

use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Error, Result};
use crate::config::Config;

/// A subscriber that has an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub prefixes: Vec<IpNet>,
    /// Index of its plan in [`Roster::plans`].
    pub plan: usize,
}

/// The names behind the indices, and the configuration that they come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// Path of the configuration, as it was given.
    pub config_name: String,
    /// Its text.
    pub config_text: String,
    /// Plans by index.
    pub plans: Vec<Option<String>>,
    /// Subscribers by index; the first is nobody.
    pub subscribers: Vec<Option<Member>>,
}

impl Roster {
    /// The roster of `config` after `before`: who was there keeps its index, who left makes room.
    pub fn after(before: &Self, config: &Config) -> Self {
        let plans = &config.policy.plans;
        let names: Vec<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
        let plan_at = assign(before.plans.iter().map(|plan| plan.as_deref()), &names, 0);
        let subscribers = &config.policy.subscribers;
        let names: Vec<&str> = subscribers.iter().map(|subscriber| subscriber.name.as_str()).collect();
        let members = before.subscribers.iter().map(|member| member.as_ref().map(|m| m.name.as_str()));
        let subscriber_at = assign(members, &names, 1);
        let mut after = Self {
            config_name: config.source.name.clone(),
            config_text: config.source.text.clone(),
            plans: vec![None; plan_at.iter().max().map_or(0, |last| last + 1)],
            subscribers: vec![None; subscriber_at.iter().max().map_or(1, |last| last + 1)],
        };
        for (plan, index) in plans.iter().zip(&plan_at) {
            put(&mut after.plans, *index, plan.name.clone());
        }
        for (subscriber, index) in subscribers.iter().zip(&subscriber_at) {
            let member = Member {
                name: subscriber.name.clone(),
                prefixes: subscriber.prefixes.clone(),
                plan: plan_at.get(subscriber.plan).copied().unwrap_or_default(),
            };
            put(&mut after.subscribers, *index, member);
        }
        after
    }

    /// Subscribers with their indices.
    pub fn members(&self) -> impl Iterator<Item = (usize, &Member)> {
        self.subscribers.iter().enumerate().filter_map(|(index, member)| Some((index, member.as_ref()?)))
    }

    /// Index of a plan by name.
    pub fn plan(&self, name: &str) -> Option<usize> {
        self.plans.iter().position(|plan| plan.as_deref() == Some(name))
    }

    /// A subscriber by name, or by one of its addresses.
    pub fn find(&self, name_or_address: &str) -> Option<(usize, &Member)> {
        let named = self.members().find(|(_, member)| member.name == name_or_address);
        named.or_else(|| {
            let address: IpAddr = name_or_address.parse().ok()?;
            self.members().find(|(_, member)| member.prefixes.iter().any(|net| net.contains(&address)))
        })
    }

    /// Reads the roster of a running instance.
    ///
    /// # Errors
    ///
    /// [`Error::Os`], [`Error::Roster`].
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read(path).map_err(Error::os(format!("read {}", path.display())))?;
        serde_json::from_slice(&text).map_err(|source| Error::Roster { path: path.to_owned(), source })
    }

    /// Writes it so that a reader sees the old one or the new one.
    ///
    /// # Errors
    ///
    /// [`Error::Os`], [`Error::Roster`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let text =
            serde_json::to_vec(self).map_err(|source| Error::Roster { path: path.to_owned(), source })?;
        let new: PathBuf = path.with_extension("new");
        fs::write(&new, text).map_err(Error::os(format!("write {}", new.display())))?;
        fs::rename(&new, path).map_err(Error::os(format!("write {}", path.display())))
    }
}

/// Puts `value` at `index`, which the vector was made for.
fn put<T>(slots: &mut [Option<T>], index: usize, value: T) {
    if let Some(slot) = slots.get_mut(index) {
        *slot = Some(value);
    }
}

/// An index from `first` on for each name: the one that it had, else the lowest that nobody has any more.
fn assign<'a>(before: impl Iterator<Item = Option<&'a str>>, names: &[&str], first: usize) -> Vec<usize> {
    let had: HashMap<&str, usize> =
        before.enumerate().filter_map(|(index, name)| Some((name?, index))).collect();
    let kept: Vec<Option<usize>> = names.iter().map(|name| had.get(name).copied()).collect();
    let mut taken = vec![false; kept.iter().flatten().max().map_or(0, |last| last + 1)];
    for index in kept.iter().flatten() {
        if let Some(taken) = taken.get_mut(*index) {
            *taken = true;
        }
    }
    let mut free = (first..).filter(|index| !taken.get(*index).copied().unwrap_or(false));
    kept.into_iter().map(|index| index.or_else(|| free.next()).unwrap_or(first)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(subscribers: &[(&str, &str, &str)]) -> Config {
        let mut text = "[[ingress]]\ndevice = \"lan0\"\n[[port]]\ndevice = \"wan0\"\nsubscribers = \"source\"\n\
                        [[plan]]\nname = \"gold\"\nup = \"20mbit\"\n[[plan]]\nname = \"iron\"\nup = \"2mbit\"\n"
            .to_owned();
        for (name, prefix, plan) in subscribers {
            text.push_str(&format!(
                "[[subscriber]]\nname = \"{name}\"\nprefixes = \"{prefix}\"\nplan = \"{plan}\"\n"
            ));
        }
        Config::from_toml_str("t.toml", &text).unwrap()
    }

    fn names(roster: &Roster) -> Vec<(usize, &str)> {
        roster.members().map(|(index, member)| (index, member.name.as_str())).collect()
    }

    #[test]
    fn who_stays_keeps_its_index_and_who_comes_takes_a_free_one() {
        let before =
            config(&[("a", "192.0.2.1", "gold"), ("b", "192.0.2.2", "gold"), ("c", "192.0.2.3", "iron")]);
        let before = Roster::after(&Roster::default(), &before);
        assert_eq!(names(&before), [(1, "a"), (2, "b"), (3, "c")]);
        let after =
            config(&[("d", "192.0.2.4", "iron"), ("c", "192.0.2.3", "gold"), ("a", "192.0.2.9", "gold")]);
        let after = Roster::after(&before, &after);
        assert_eq!(names(&after), [(1, "a"), (2, "d"), (3, "c")]);
        assert_eq!(after.plans, before.plans);
    }

    #[test]
    fn a_subscriber_is_found_by_name_and_by_any_of_its_addresses() {
        let roster = Roster::after(&Roster::default(), &config(&[("a", "192.0.2.8/29", "gold")]));
        assert_eq!(roster.find("a").map(|(index, _)| index), Some(1));
        assert_eq!(roster.find("192.0.2.15").map(|(index, _)| index), Some(1));
        assert_eq!(roster.find("192.0.2.16"), None);
    }

    #[test]
    fn a_roster_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.json");
        let roster = Roster::after(&Roster::default(), &config(&[("a", "2001:db8::/56", "iron")]));
        roster.save(&path).unwrap();
        assert_eq!(Roster::load(&path).unwrap(), roster);
    }
}
