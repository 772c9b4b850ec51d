//! The lab: routers, slow links and traffic in network namespaces of this machine.
//!
//! An [`Experiment`] says what runs. For each contender a [`Topology`] of three hosts is built, a [`SlowLink`]
//! drains the router's slow device, traffic crosses it, and a [`crate::report::Report`] shows what became of every
//! packet. Everything is real: the kernel's TCP, its queues, the devices' rings; only the slow link is emulated.

pub mod clock;
mod contender;
pub mod device;
mod error;
mod experiment;
mod hold;
pub mod netlink;
mod netns;
mod ring;
mod run;
mod slow_link;
mod stop;
mod topology;
mod traffic;
pub mod units;
mod weir_settings;

pub use contender::{Attached, Contender, Counters, NAMES, Prepared, by_name};
pub use error::{Error, Result};
pub use experiment::{Action, Event, Experiment, ExperimentError, Link, Probe, TcpFlow, UdpFlow};
pub use hold::{HeldLab, bring_up, exec, hold, take_down};
pub use netns::{Netns, remove_leftovers};
pub use ring::{RingMeter, RingReading};
pub use run::{Observer, Progress, run};
pub use slow_link::{LinkCounters, LinkSettings, SlowLink};
pub use stop::Stop;
pub use topology::{FAST_DEVICE, Family, Host, SLOW_DEVICE, Topology, TopologySettings};
pub use traffic::{DelaySample, FlowBytes, Traffic, TrafficReport};
