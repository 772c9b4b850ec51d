//! The configuration: file → what was typed → what is meant → what the programs read.
//!
//! | step | module | from → to |
//! |---|---|---|
//! | read | [`mod@file`] | TOML text → [`file::File`]: every value as typed, with its place in the text |
//! | check | [`validate`] | [`file::File`] → [`Config`]: values with units, checked against each other |
//! | policy | [`policy`] | the same three steps for classes, rules, plans and subscribers |
//! | back-off | [`back_off`] | the same three steps for what ingress does while a signal stands |
//! | encode | [`encode`] | one [`Port`] and what is known of its device → [`weir_shared_maps::PortConfig`] |
//! | read back | [`decode`] | the map's entry → what runs, for people |
//!
//! A file is refused as a whole, and all that is wrong with it is shown at once ([`ConfigError`]).
//! docs/config.md lists every key with unit, range, default and source.

mod aqm;
pub mod back_off;
pub mod decode;
pub mod difference;
pub mod encode;
mod error;
pub mod file;
mod load;
mod model;
mod names;
mod nearest;
mod overhead;
pub mod policy;
mod port;
mod rule;
mod times;
mod typed;
pub mod units;
pub mod validate;

pub use error::{ConfigError, Problem};
pub use load::{ReadList, read_config};
pub use model::{
    Algorithm, Aqm, Config, ConfigSource, Ingress, Metrics, Mode, PauseKind, Port, Sojourn, Stack,
};
pub use names::{DEFAULT_INSTANCE, DeviceName, InstanceName, NameError, VlanId};
pub use rule::Rule;
