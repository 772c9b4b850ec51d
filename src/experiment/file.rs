//! The experiment file as it is typed: strict (an unknown key is an error), and with the place of every value that a rule
//! may refuse.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::model::Family;
use super::units::{self, BitRate};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawExperiment {
    pub(super) name: Spanned<String>,
    #[serde(deserialize_with = "spanned_duration")]
    pub(super) duration: Spanned<Duration>,
    pub(super) contenders: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    pub(super) family: Family,
    pub(super) link: RawLink,
    #[serde(default)]
    pub(super) tcp: Vec<RawTcp>,
    #[serde(default)]
    pub(super) udp: Vec<RawUdp>,
    #[serde(default)]
    pub(super) probe: Vec<RawProbe>,
    #[serde(default)]
    pub(super) event: Vec<RawEvent>,
    #[serde(default)]
    pub(super) shaper: RawShaper,
    /// Read by [`super::weir_settings`], with the rules of the configuration file.
    #[serde(default, rename = "weir")]
    _weir: toml::Table,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLink {
    pub(super) rate: BitRate,
    #[serde(deserialize_with = "spanned_duration")]
    pub(super) delay: Spanned<Duration>,
    pub(super) ring: Spanned<u32>,
    #[serde(default)]
    pub(super) overhead: Option<Spanned<u32>>,
    pub(super) reverse_rate: Option<BitRate>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTcp {
    pub(super) count: Option<Spanned<u32>>,
    pub(super) congestion: Spanned<String>,
    #[serde(default, deserialize_with = "optional_spanned_duration")]
    pub(super) start: Option<Spanned<Duration>>,
    #[serde(default, deserialize_with = "optional_spanned_duration")]
    pub(super) stop: Option<Spanned<Duration>>,
    pub(super) ecn: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUdp {
    pub(super) rate: BitRate,
    pub(super) size: Option<Spanned<u16>>,
    #[serde(default, deserialize_with = "optional_spanned_duration")]
    pub(super) start: Option<Spanned<Duration>>,
    #[serde(default, deserialize_with = "optional_spanned_duration")]
    pub(super) stop: Option<Spanned<Duration>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawProbe {
    #[serde(deserialize_with = "spanned_duration")]
    pub(super) interval: Spanned<Duration>,
    pub(super) size: Option<Spanned<u16>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEvent {
    #[serde(deserialize_with = "spanned_duration")]
    pub(super) at: Spanned<Duration>,
    #[serde(rename = "do")]
    pub(super) action: Spanned<String>,
    pub(super) value: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawShaper {
    pub(super) rate: Option<BitRate>,
}

fn spanned_duration<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Spanned<Duration>, D::Error> {
    let text = Spanned::<DurationText>::deserialize(d)?;
    let span = text.span();
    Ok(Spanned::new(span, text.into_inner().0))
}

fn optional_spanned_duration<'de, D: serde::Deserializer<'de>>(
    d: D,
) -> Result<Option<Spanned<Duration>>, D::Error> {
    spanned_duration(d).map(Some)
}

struct DurationText(Duration);

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        units::duration(d).map(Self)
    }
}
