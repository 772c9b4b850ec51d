//! The lab: routers, slow links and traffic in network namespaces of this machine.
//!
//! A [`crate::experiment::Experiment`] says what runs. For each contender a [`Topology`] of three hosts is built, a [`SlowLink`]
//! drains the router's slow device, traffic crosses it, and a [`crate::report::Report`] shows what became of every
//! packet. Everything is real: the kernel's TCP, its queues, the devices' rings; only the slow link is emulated.

mod addresses;
pub mod clock;
mod contender;
pub mod device;
mod error;
mod hold;
mod measure;
pub mod netlink;
mod netns;
mod ring;
mod run;
mod slow_link;
mod stop;
mod topology;
mod traffic;

pub use contender::{Attached, ClassCounters, Contender, Counters, Prepared, by_name};
pub use error::{Error, Result};
pub use hold::{HeldLab, bring_up, exec, hold, take_down};
pub use netns::{Netns, remove_leftovers};
pub use ring::{RingMeter, RingReading};
pub use run::{Observer, Progress, run};
pub use slow_link::{ExtraDelay, LinkCounters, LinkSettings, Service, SlowLink};
pub use stop::Stop;
pub use topology::{Host, Topology, TopologySettings};
pub use traffic::{Traffic, TrafficReport};
