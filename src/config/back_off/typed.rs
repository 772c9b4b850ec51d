//! The three keys, as typed.

use toml::de::DeTable;

use crate::config::typed::{Field, Reader};

/// `on_congested`, `on_full` and `spill_to` of a port or a class.
#[derive(Debug, Default)]
pub struct BackOffTable {
    /// `on_congested`
    pub on_congested: Field<String>,
    /// `on_full`
    pub on_full: Field<String>,
    /// `spill_to`
    pub spill_to: Field<String>,
}

impl Reader<'_> {
    pub(in crate::config) fn back_off(&mut self, place: &str, table: &DeTable<'_>) -> BackOffTable {
        BackOffTable {
            on_congested: self.text(place, "on_congested", table, "on_congested = \"mark\""),
            on_full: self.text(place, "on_full", table, "on_full = \"divert\""),
            spill_to: self.text(place, "spill_to", table, "spill_to = \"wan1\""),
        }
    }
}
