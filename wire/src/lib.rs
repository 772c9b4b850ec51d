//! Checked views of Ethernet, VLAN, IPv4, IPv6, TCP and UDP headers and of PAUSE frames, and in-place rewrites.
//!
//! The same code runs on a byte slice on the host and on the raw memory of an XDP program: it reaches the
//! packet only through [`Packet`], which checks its bounds at every access, as the kernel's verifier wants to
//! see it. Offsets have small, explicit limits, loops have constant bounds, and nothing can panic.
//!
//! A header is checked once, by `parse`; the accessors of a view cannot fail after that. [`parse`] reads the
//! EtherType, at most two VLAN tags and one fixed IP header. Extension headers and ports cost extra reads, so
//! they are separate calls ([`L3::upper`], [`Upper::flow`]) for programs that need them.
//!
//! ```
//! use weir_wire::{Hop, L3, Mark, parse};
//!
//! # fn main() -> Result<(), weir_wire::Malformed> {
//! let mut frame = *b"\x02\0\0\0\0\x01\x02\0\0\0\0\x02\x08\0\
//!     \x45\x02\0\x14\0\0\0\0\x40\xfd\x25\xeb\x0a\0\0\x01\x0a\0\0\x02";
//! let mut parsed = parse(&frame)?;
//! assert_eq!(parsed.l3.decrement_hops(&mut frame)?, Hop::Forward);
//! assert_eq!(parsed.l3.set_ecn_ce(&mut frame)?, Mark::Marked);
//! assert!(matches!(parse(&frame)?.l3, L3::V4(v4) if v4.ttl() == 63));
//! # Ok(())
//! # }
//! ```
#![no_std]

pub mod checksum;
pub mod ethernet;
pub mod ipv4;
pub mod ipv6;
pub mod l4;
pub mod mac_control;
mod malformed;
mod packet;
mod parsed;
mod raw;
mod traffic_class;

pub use ethernet::{Link, parse_link, set_macs};
pub use ipv4::Ipv4View;
pub use ipv6::Ipv6View;
pub use l4::{Flow, Fragment, TcpView, UdpView, Upper};
pub use mac_control::Pause;
pub use malformed::Malformed;
pub use packet::Packet;
pub use parsed::{Hop, L3, Parsed, parse};
pub use raw::{RawHeaders, RawPacket};
pub use traffic_class::{Dscp, Ecn, Mark};
