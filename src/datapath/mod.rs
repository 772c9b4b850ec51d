//! The datapath as user space sees it: load, prepare, attach, pin, read back, detach.
//!
//! | module | what |
//! |---|---|
//! | [`instance`] | one running configuration: everything is attached, or nothing is |
//! | [`reader`] | what runs, read from the pinned maps by any process |
//! | [`events`] | what the programs tell, read from their ring buffer by the daemon |
//! | [`netdev`], [`ethtool`], [`features`] | what is known of a device: rtnetlink, ioctl, netdev generic netlink |
//! | `follow` | what a port's device is like, and what changes of it while it runs |
//! | [`policy`], [`roster`], [`reload`] | classes, rules and subscribers in the maps; who has which index; a changed list |
//! | [`recipe`] | where a driver keeps its TX ring, resolved from BTF |
//! | [`pause`] | stops whoever feeds a congested port, by PAUSE and PFC frames |
//! | [`prepare`], [`stack`] | makes a device a redirect target, and undoes it; TC programs for what the stack sends |
//! | [`pins`] | the directory in the BPF file system, its lock, its clean-up |
//! | [`objects`] | the committed eBPF objects and how they are loaded |
//! | [`baseline`], [`meter`] | the plain redirect and the ring meter that the lab compares with |
//! | [`probe`] | what a device can do, for `weir probe` |

pub mod baseline;
mod batch;
mod error;
pub mod ethtool;
pub mod events;
pub mod features;
mod follow;
pub mod instance;
pub mod meter;
pub mod netdev;
pub mod objects;
pub mod pause;
mod pins;
pub mod policy;
mod prepare;
pub mod probe;
pub mod reader;
pub mod recipe;
pub mod reload;
pub mod roster;
mod skipped;
pub mod stack;
mod table;

pub use error::Error;
pub use instance::{Instance, StartOptions};
pub use reader::{
    ClassSnapshot, HeldSnapshot, IngressSnapshot, PortSnapshot, Reader, RingSnapshot, Snapshot,
};

/// Result of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;
