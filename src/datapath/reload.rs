//! A changed list of subscribers, applied to a running instance: who stays keeps its state, and nobody's packet is lost.

use std::collections::HashMap;

use ipnet::IpNet;

use super::pins::{ReloadLock, directory, roster};
use super::policy::{Entries, Subscribers, write_plans};
use super::roster::{Member, Roster};
use super::{Error, Result};
use crate::config::Config;
use crate::config::difference::other_changes;

/// What a reload did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Subscribers that came.
    pub added: usize,
    /// Subscribers that left.
    pub removed: usize,
    /// Subscribers with other addresses or another plan.
    pub changed: usize,
    /// Subscribers that stayed as they were.
    pub unchanged: usize,
}

/// Applies the subscribers and plans of `config` to its running instance.
///
/// # Errors
///
/// [`Error::NoInstance`]; [`Error::ReloadRefused`] where anything else changed, and [`Error::NoRoom`]: nothing was
/// touched. [`Error::Entries`] where a map could not be written half-way; the same reload may be tried again.
pub fn reload(config: &Config) -> Result<Reloaded> {
    let instance = config.instance.as_str();
    let maps = directory(instance);
    if !maps.exists() {
        return Err(Error::NoInstance { instance: instance.to_owned(), path: maps });
    }
    let _one_at_a_time = ReloadLock::take(instance)?;
    let path = roster(instance);
    let before = Roster::load(&path)?;
    refuse_other_changes(&before, config)?;
    let after = Roster::after(&before, config);
    let mut subscribers = Subscribers::open(&maps)?;
    room(&after, &subscribers)?;

    let difference = Difference::between(&before, &after);
    write_plans(&maps, config, &after)?;
    let seed = subscribers.seed()?;
    subscribers.remove(seed, &difference.gone);
    subscribers.reset(&difference.fresh)?;
    subscribers.set_plans(&difference.plans);
    subscribers.write(seed, &difference.come)?;
    subscribers.write_masks(seed, config)?;
    after.save(&path)?;
    Ok(difference.counts)
}

fn refuse_other_changes(before: &Roster, config: &Config) -> Result<()> {
    // The list of subscribers as it was stands in the roster; the file may have changed since.
    let without_list = |_: &std::path::Path| Ok("name,prefixes,plan\n".to_owned());
    let running = Config::from_toml_str_with(&before.config_name, &before.config_text, &without_list)
        .map_err(|source| Error::RunningConfig { source: Box::new(source) })?;
    let changes = other_changes(&running, config);
    if changes.is_empty() { Ok(()) } else { Err(Error::ReloadRefused { changes: changes.join(", ") }) }
}

/// Maps do not grow.
fn room(after: &Roster, subscribers: &Subscribers) -> Result<()> {
    let entries = Entries::of(after.members());
    for (what, has, most) in [
        ("subscribers", after.subscribers.len().saturating_sub(1), subscribers.room()),
        ("IPv4 prefixes of subscribers", entries.v4.len(), subscribers.v4.room()),
        ("IPv6 prefixes of subscribers", entries.v6.len(), subscribers.v6.room()),
    ] {
        if has > most as usize {
            return Err(Error::NoRoom { what, has, most });
        }
    }
    Ok(())
}

/// What must be written and removed.
#[derive(Default)]
struct Difference {
    gone: Entries,
    come: Entries,
    /// Indices that had another subscriber, or none, and their plans.
    fresh: Vec<(u32, u16)>,
    /// Other plans of subscribers that stay.
    plans: Vec<(u32, u16)>,
    counts: Reloaded,
}

impl Difference {
    fn between(before: &Roster, after: &Roster) -> Self {
        let mut difference = Self::default();
        let entries = |roster: &Roster| -> HashMap<IpNet, u32> {
            let of = |(index, member): (usize, &Member)| {
                member.prefixes.iter().map(move |net| (*net, index as u32)).collect::<Vec<_>>()
            };
            roster.members().flat_map(of).collect()
        };
        let (old, new) = (entries(before), entries(after));
        for (net, entry) in &old {
            if !new.contains_key(net) {
                difference.gone.push(net, *entry);
            }
        }
        for (net, entry) in &new {
            if old.get(net) != Some(entry) {
                difference.come.push(net, *entry);
            }
        }
        let counts = &mut difference.counts;
        for (index, member) in after.members() {
            let plan = (index as u32, member.plan as u16);
            match before.subscribers.get(index).and_then(Option::as_ref) {
                Some(was) if was == member => counts.unchanged += 1,
                Some(was) if was.name == member.name => {
                    counts.changed += 1;
                    if was.plan != member.plan {
                        difference.plans.push(plan);
                    }
                }
                Some(_) | None => {
                    counts.added += 1;
                    difference.fresh.push(plan);
                }
            }
        }
        counts.removed = before.members().count() - counts.unchanged - counts.changed;
        difference
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roster(members: &[Option<(&str, &str, usize)>]) -> Roster {
        let member = |(name, net, plan): &(&str, &str, usize)| Member {
            name: (*name).to_owned(),
            prefixes: vec![net.parse().unwrap()],
            plan: *plan,
        };
        let subscribers = members.iter().map(|m| m.as_ref().map(member)).collect();
        Roster { subscribers, ..Roster::default() }
    }

    #[test]
    fn only_what_differs_is_written() {
        let before = roster(&[
            None,
            Some(("stays", "192.0.2.1/32", 0)),
            Some(("moves", "192.0.2.2/32", 0)),
            Some(("leaves", "192.0.2.3/32", 0)),
            Some(("upgrades", "192.0.2.4/32", 0)),
        ]);
        let after = roster(&[
            None,
            Some(("stays", "192.0.2.1/32", 0)),
            Some(("moves", "192.0.2.9/32", 0)),
            Some(("comes", "192.0.2.2/32", 0)),
            Some(("upgrades", "192.0.2.4/32", 1)),
        ]);
        let difference = Difference::between(&before, &after);
        let counts = Reloaded { added: 1, removed: 1, changed: 2, unchanged: 1 };
        assert_eq!(difference.counts, counts);
        // 192.0.2.2 changes hands: it is overwritten, never missing.
        let gone: Vec<u32> = difference.gone.v4.iter().map(|(_, subscriber)| *subscriber).collect();
        let mut come: Vec<u32> = difference.come.v4.iter().map(|(_, subscriber)| *subscriber).collect();
        come.sort_unstable();
        assert_eq!((gone, come), (vec![3], vec![2, 3]));
        assert_eq!((difference.fresh, difference.plans), (vec![(3, 0)], vec![(4, 1)]));
    }
}
