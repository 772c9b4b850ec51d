//! What classes, rules, plans and subscribers mean, after every check.

use std::ops::RangeInclusive;

use ipnet::IpNet;
use weir_aqm::{Bytes, Rate};

use crate::config::back_off::BackOff;
use crate::config::model::Aqm;
use crate::config::names::VlanId;

/// Name of the class of a port that lists none.
pub const IMPLICIT_CLASS: &str = "default";

/// One class of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// Unique at its port.
    pub name: String,
    /// 0 is served first, 7 last.
    pub priority: u32,
    /// Guaranteed rate.
    pub rate: Option<Rate>,
    /// Rate that borrowing may reach; the port's where absent.
    pub ceil: Option<Rate>,
    /// Share of spare rate within the priority, 1 to 255.
    pub weight: u32,
    /// Burst tolerance. Absent: the larger of 10 ms at the rate and ten full frames.
    pub burst: Option<Bytes>,
    /// What shares the class evenly.
    pub fairness: Fairness,
    /// What becomes of the code point.
    pub dscp: DscpAction,
    /// The AQM; the port's where absent.
    pub aqm: Option<Aqm>,
    /// Mark ECN-capable packets; as the AQM says where absent.
    pub ecn: Option<bool>,
    /// The policer.
    pub policer: Option<Policer>,
    /// The priority whose pause stops the class (IEEE 802.1Q clause 36), 0 to 7. Absent: 7 less the class's own priority,
    /// since 7 comes first there (IEEE 802.1Q annex I).
    pub pfc_priority: Option<u8>,
    /// What ingress does while the port's signal stands.
    pub back_off: BackOff,
}

impl Class {
    /// The priority whose pause stops the class.
    pub fn pfc_priority(&self) -> u8 {
        self.pfc_priority.unwrap_or_else(|| 7_u32.saturating_sub(self.priority) as u8)
    }

    /// The class of a port that lists none and has subscribers all the same.
    pub fn implicit(back_off: BackOff) -> Self {
        Self {
            name: IMPLICIT_CLASS.to_owned(),
            priority: 4,
            rate: None,
            ceil: None,
            weight: 1,
            burst: None,
            fairness: Fairness::None,
            dscp: DscpAction::Keep,
            aqm: None,
            ecn: None,
            policer: None,
            pfc_priority: None,
            back_off,
        }
    }
}

/// What shares a class evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fairness {
    /// Nothing: packets are treated alike.
    None,
    /// Flows.
    Flow,
    /// Source addresses.
    SourceHost,
    /// Destination addresses.
    DestinationHost,
    /// Hosts, and the flows of each: the destination's hosts where it names the port's subscribers, else the source's.
    HostFlow,
}

/// What becomes of a code point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DscpAction {
    /// It stays.
    Keep,
    /// It becomes this one, 0 to 63; washing is 0.
    Set(u8),
}

/// A colour's fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColourAction {
    /// The packet goes on as it is.
    Pass,
    /// It goes on with this code point, 0 to 63.
    Set(u8),
    /// It is dropped.
    Drop,
}

/// A quantity of traffic in one of two units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metered {
    /// A rate in bits per second, a burst in bytes.
    Bytes {
        /// The rate.
        rate: Rate,
        /// The burst. Absent: the larger of 10 ms at the rate and ten full frames.
        burst: Option<Bytes>,
    },
    /// A rate in packets per second, a burst in packets.
    Packets {
        /// Packets per second, at least 1.
        rate: u64,
        /// Packets, at least 1. Absent: the larger of 10 ms at the rate and ten.
        burst: Option<u64>,
    },
}

/// A colour marker: RFC 2698 with a peak rate, green and red without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policer {
    /// CIR and CBS.
    pub committed: Metered,
    /// PIR and PBS, in the same unit; PIR is at least CIR.
    pub peak: Option<Metered>,
    /// Colour-aware: the arriving drop precedence is where a packet's colour begins (RFC 2597 section 6).
    pub aware: bool,
    /// Between CIR and PIR.
    pub yellow: ColourAction,
    /// Above the highest rate.
    pub red: ColourAction,
}

/// One rule: all conditions that are given must hold; a list holds if one of its elements does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MatchRule {
    /// The class, by name.
    pub class: String,
    /// Code points, 0 to 63.
    pub dscp: Option<Vec<u8>>,
    /// VLANs that the packet arrived with.
    pub vlan: Option<Vec<VlanId>>,
    /// Source prefixes.
    pub source: Option<Vec<IpNet>>,
    /// Destination prefixes.
    pub destination: Option<Vec<IpNet>>,
    /// IANA protocol numbers.
    pub protocol: Option<Vec<u8>>,
    /// Source ports.
    pub source_port: Option<Vec<RangeInclusive<u16>>>,
    /// Destination ports.
    pub destination_port: Option<Vec<RangeInclusive<u16>>>,
    /// Devices it arrived at, by index of `[[ingress]]`.
    pub ingress: Option<Vec<usize>>,
    /// Bytes of the IP packet, below [`weir_shared_maps::SIZE_ENTRIES`].
    pub size: Option<Vec<RangeInclusive<u32>>>,
    /// Marks of the stack's packets, from 1 on.
    pub mark: Option<Vec<u32>>,
}

/// Rates of a plan in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanRate {
    /// Guaranteed.
    pub rate: Rate,
    /// What borrowing may reach, at least the rate.
    pub ceil: Rate,
}

/// What a group of subscribers has bought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Unique.
    pub name: String,
    /// Towards the subscriber; not limited where absent.
    pub down: Option<PlanRate>,
    /// From the subscriber; not limited where absent.
    pub up: Option<PlanRate>,
    /// Burst tolerance. Absent: the larger of 10 ms at the rate and ten full frames.
    pub burst: Option<Bytes>,
    /// Class of the subscriber's packets that no rule matches.
    pub class: Option<String>,
}

/// One subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// Unique.
    pub name: String,
    /// Its addresses; no other subscriber's prefix overlaps them.
    pub prefixes: Vec<IpNet>,
    /// Index of its plan.
    pub plan: usize,
}

/// Which address names a packet's subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The source: an uplink, where "up" rates hold.
    Source,
    /// The destination: a port towards the subscribers, where "down" rates hold.
    Destination,
}

/// What stands beside ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// In order; the first that matches wins. At most [`weir_shared_maps::MAX_RULES`].
    pub rules: Vec<MatchRule>,
    /// At most [`weir_shared_maps::MAX_PLANS`].
    pub plans: Vec<Plan>,
    /// At most [`weir_shared_maps::MAX_SUBSCRIBERS`].
    pub subscribers: Vec<Subscriber>,
}

impl Side {
    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
        }
    }
}

impl Fairness {
    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Flow => "flow",
            Self::SourceHost => "src-host",
            Self::DestinationHost => "dst-host",
            Self::HostFlow => "host+flow",
        }
    }
}
