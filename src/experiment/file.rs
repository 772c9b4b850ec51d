//! The experiment file as it is typed: strict (an unknown key is an error), and with the place of every value that a rule
//! may refuse.

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::model::Family;
use super::units::{self, BitRate};

/// A key that may be left out.
pub(super) type Key<T> = Option<Spanned<T>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawExperiment {
    pub(super) name: Spanned<String>,
    pub(super) duration: Spanned<Time>,
    pub(super) warmup: Key<Time>,
    pub(super) seed: Key<u64>,
    pub(super) seeds: Key<u32>,
    pub(super) contenders: Spanned<Vec<Spanned<String>>>,
    pub(super) family: Key<Family>,
    pub(super) link: Spanned<RawLink>,
    #[serde(default)]
    pub(super) tcp: Vec<RawTcp>,
    #[serde(default)]
    pub(super) udp: Vec<Spanned<RawUdp>>,
    #[serde(default)]
    pub(super) short: Vec<RawShort>,
    #[serde(default)]
    pub(super) probe: Vec<RawProbe>,
    #[serde(default)]
    pub(super) event: Vec<RawEvent>,
    #[serde(default)]
    pub(super) sweep: Vec<RawSweep>,
    #[serde(default)]
    pub(super) shaper: RawShaper,
    /// Read by [`super::weir_settings`], with the rules of the configuration file.
    #[serde(default, rename = "weir")]
    _weir: toml::Table,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLink {
    pub(super) rate: Key<BitRate>,
    pub(super) trace: Key<String>,
    pub(super) delay: Spanned<Time>,
    pub(super) jitter: Key<Time>,
    pub(super) loss: Key<f64>,
    pub(super) ring: Spanned<u32>,
    pub(super) ring_per_cpu: Key<bool>,
    pub(super) reclaim: Key<u32>,
    pub(super) overhead: Key<u32>,
    pub(super) reverse_rate: Option<BitRate>,
    pub(super) reverse_loss: Key<f64>,
    pub(super) fast_rate: Key<BitRate>,
    pub(super) cpus: Key<u32>,
    pub(super) poll: Key<Time>,
    pub(super) spill: Key<RawSpillLink>,
}

/// A second slow link.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSpillLink {
    pub(super) rate: Spanned<BitRate>,
    pub(super) delay: Spanned<Time>,
    pub(super) ring: Spanned<u32>,
}

/// A table of flows: its own keys, and those that all have.
macro_rules! flow_table {
    ($name:ident { $($field:ident: $type:ty,)* }) => {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name {
            $(pub(super) $field: $type,)*
            name: Key<String>,
            count: Key<u32>,
            start: Key<Time>,
            stop: Key<Time>,
            jitter: Key<Time>,
            rtt: Key<Time>,
            extra_delay: Key<Time>,
            host: Key<u16>,
            dscp: Key<u8>,
            port: Key<u16>,
        }

        impl $name {
            /// The keys that all tables of flows have.
            pub(super) fn common(&self) -> Common<'_> {
                let Self { name, count, start, stop, jitter, rtt, extra_delay, host, dscp, port, .. } = self;
                Common { name, count, start, stop, jitter, rtt, extra_delay, host, dscp, port }
            }
        }
    };
}

/// The keys that all tables of flows have.
pub(super) struct Common<'a> {
    pub(super) name: &'a Key<String>,
    pub(super) count: &'a Key<u32>,
    pub(super) start: &'a Key<Time>,
    pub(super) stop: &'a Key<Time>,
    pub(super) jitter: &'a Key<Time>,
    pub(super) rtt: &'a Key<Time>,
    pub(super) extra_delay: &'a Key<Time>,
    pub(super) host: &'a Key<u16>,
    pub(super) dscp: &'a Key<u8>,
    pub(super) port: &'a Key<u16>,
}

flow_table!(RawTcp {
    congestion: Spanned<String>,
    ecn: Option<bool>,
    bytes: Key<u64>,
});

flow_table!(RawUdp {
    rate: Key<BitRate>,
    size: Key<u16>,
    pattern: Key<String>,
    on: Key<Time>,
    off: Key<Time>,
    ecn: Key<String>,
});

flow_table!(RawShort {
    congestion: Spanned<String>,
    ecn: Option<bool>,
    interval: Key<Time>,
    per_second: Key<f64>,
    sizes: Spanned<RawSizes>,
});

/// How large short flows are.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "sizes are a number of bytes, the name of a distribution or of a CSV file, or a list of [bytes, share]"
)]
pub(super) enum RawSizes {
    Bytes(u64),
    Name(String),
    Points(Vec<(u64, f64)>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawProbe {
    pub(super) name: Key<String>,
    pub(super) interval: Spanned<Time>,
    pub(super) size: Key<u16>,
    pub(super) host: Key<u16>,
    pub(super) dscp: Key<u8>,
    pub(super) port: Key<u16>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEvent {
    pub(super) at: Spanned<Time>,
    #[serde(rename = "do")]
    pub(super) action: Spanned<String>,
    pub(super) value: Key<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSweep {
    pub(super) key: Spanned<String>,
    pub(super) values: Spanned<Vec<Spanned<toml::Value>>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawShaper {
    pub(super) rate: Option<BitRate>,
    pub(super) limit: Key<u32>,
    pub(super) priority_dscp: Key<u8>,
}

/// A duration with its unit.
#[derive(Clone, Copy)]
pub(super) struct Time(pub(super) Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        units::duration(d).map(Self)
    }
}
