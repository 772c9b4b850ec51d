//! The datapath as user space sees it: load, prepare, attach, pin, read back, detach.
//!
//! | module | what |
//! |---|---|
//! | [`instance`] | one running configuration: everything is attached, or nothing is |
//! | `requirements`, `planned` | what must be so first; what each port's device is and how frames get to it |
//! | `ports`, `programs` | the ports in the maps; the XDP programs, one copy for each device |
//! | [`reader`], `snapshot`, `manifest` | what runs, read from the pinned maps by any process; what maps do not hold |
//! | [`events`] | what the programs tell, read from their ring buffer by the daemon |
//! | [`netdev`], [`ethtool`], [`features`] | what is known of a device: rtnetlink, ioctl, netdev generic netlink |
//! | `follow` | what a port's device is like, and what changes of it while it runs |
//! | [`policy`], [`roster`], [`reload`] | classes, rules and subscribers in the maps; who has which index; a changed list |
//! | [`recipe`] | where a driver keeps its TX ring, resolved from BTF |
//! | [`pause`] | stops whoever feeds a congested port, by PAUSE and PFC frames |
//! | [`prepare`], [`stack`] | makes a device a redirect target, and undoes it; TC programs for what the stack sends |
//! | [`pins`] | the directory in the BPF file system, its lock, its clean-up |
//! | [`objects`] | the committed eBPF objects and how they are loaded |
//! | [`baseline`], [`meter`], [`rival`] | the plain redirect, the ring meter and the rival that the lab compares with |
//! | [`probe`] | what a device can do, for `weir probe` |

pub mod baseline;
mod batch;
mod error;
pub mod ethtool;
pub mod events;
pub mod features;
mod follow;
pub mod instance;
mod manifest;
pub mod meter;
pub mod netdev;
pub mod objects;
pub mod pause;
mod pins;
mod planned;
pub mod policy;
mod ports;
mod prepare;
pub mod probe;
mod programs;
pub mod reader;
pub mod recipe;
pub mod reload;
mod requirements;
pub mod rival;
pub mod roster;
mod skipped;
mod snapshot;
pub mod stack;
mod table;

pub use error::Error;
pub use instance::{Instance, StartOptions};
pub use reader::Reader;
pub use snapshot::{ClassSnapshot, HeldSnapshot, IngressSnapshot, PortSnapshot, RingSnapshot, Snapshot};

/// Result of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;
