//! The maps of the subscribers, which a reload changes while they are read.

use std::path::Path;

use aya::maps::{Array, MapData};
use ipnet::IpNet;
use weir_shared_maps::{ENTRY4_WORDS, ENTRY6_WORDS, PrefixMasks, SubscriberControl, names};
use zerocopy::FromZeros as _;

use crate::config::Config;
use crate::config::policy::encode::{SubscriberKey, prefix_masks, subscriber_key};
use crate::datapath::batch::BatchMap;
use crate::datapath::reader::array;
use crate::datapath::roster::Member;
use crate::datapath::table::{Meters, Table};
use crate::datapath::{Error, Result};

/// Entries of the two tables of subscribers.
#[derive(Default)]
pub(in crate::datapath) struct Entries {
    pub v4: Vec<([u64; ENTRY4_WORDS], u32)>,
    pub v6: Vec<([u64; ENTRY6_WORDS], u32)>,
}

impl Entries {
    pub fn of<'a>(members: impl Iterator<Item = (usize, &'a Member)>) -> Self {
        let mut entries = Self::default();
        for (index, member) in members {
            for net in &member.prefixes {
                entries.push(net, index as u32);
            }
        }
        entries
    }

    pub fn push(&mut self, net: &IpNet, subscriber: u32) {
        match subscriber_key(net) {
            SubscriberKey::V4(key) => self.v4.push((key, subscriber)),
            SubscriberKey::V6(key) => self.v6.push((key, subscriber)),
        }
    }
}

/// The maps of the subscribers.
pub(in crate::datapath) struct Subscribers {
    pub v4: Table<ENTRY4_WORDS>,
    pub v6: Table<ENTRY6_WORDS>,
    meters: [Meters; 2],
    control: BatchMap,
    masks: Array<MapData, PrefixMasks>,
}

impl Subscribers {
    pub fn open(directory: &Path) -> Result<Self> {
        Ok(Self {
            v4: Table::open(directory, names::MAP_SUBSCRIBERS4)?,
            v6: Table::open(directory, names::MAP_SUBSCRIBERS6)?,
            meters: [
                Meters::open(directory, names::MAP_SUBSCRIBER_DOWN)?,
                Meters::open(directory, names::MAP_SUBSCRIBER_UP)?,
            ],
            control: BatchMap::open::<u32, SubscriberControl>(directory, names::MAP_SUBSCRIBER_CONTROL)?,
            masks: array(directory, names::MAP_PREFIX_MASKS)?,
        })
    }

    /// The seed of the tables of a running instance.
    pub fn seed(&self) -> Result<u64> {
        self.masks.get(&0, 0).map(|masks| masks.seed).map_err(Error::map(names::MAP_PREFIX_MASKS))
    }

    /// Subscribers that fit.
    pub fn room(&self) -> u32 {
        self.control.entries().saturating_sub(1)
    }

    /// Gives subscribers that are new at their indices a fresh state and a plan.
    pub fn reset(&self, plans: &[(u32, u16)]) -> Result<()> {
        let control: Vec<_> =
            plans.iter().map(|(index, _)| (*index, SubscriberControl::new_zeroed())).collect();
        self.control.update(&control)?;
        self.meters.iter().try_for_each(|meters| meters.reset(plans))
    }

    /// Gives subscribers another plan.
    pub fn set_plans(&self, plans: &[(u32, u16)]) {
        for (subscriber, plan) in plans {
            self.meters.iter().for_each(|meters| meters.set_plan(*subscriber, *plan));
        }
    }

    pub fn write(&self, seed: u64, entries: &Entries) -> Result<()> {
        entries.v4.iter().try_for_each(|(key, subscriber)| self.v4.insert(seed, key, *subscriber))?;
        entries.v6.iter().try_for_each(|(key, subscriber)| self.v6.insert(seed, key, *subscriber))
    }

    pub fn remove(&self, seed: u64, entries: &Entries) {
        entries.v4.iter().for_each(|(key, _)| self.v4.remove(seed, key));
        entries.v6.iter().for_each(|(key, _)| self.v6.remove(seed, key));
    }

    /// Writes the prefix lengths in use, and how the tables are to be read.
    pub fn write_masks(&mut self, seed: u64, config: &Config) -> Result<()> {
        let nets = config.policy.subscribers.iter().flat_map(|subscriber| &subscriber.prefixes);
        let (pages4, pages6) = (self.v4.pages(), self.v6.pages());
        let masks = PrefixMasks { seed, pages4, pages6, ..prefix_masks(nets) };
        self.masks.set(0, masks, 0).map_err(Error::map(names::MAP_PREFIX_MASKS))
    }
}
