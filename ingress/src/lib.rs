//! The ingress decision: what may be forwarded by XDP, and when to back off.
//!
//! Pure code. The program in `src/bin/ingress.rs` brings the packet, the routing helper's answer and the signal of
//! the target's ring; tests and the simulator bring their own. Whatever is not a clean forward goes to the kernel's
//! stack with a counter that says why.
#![no_std]
#![forbid(unsafe_code)]

mod back_off;
mod classify;
mod exit;
pub mod hash;
pub mod key;
mod pause;
mod route;
pub mod rules;
pub mod subscriber;
pub mod table;

pub use back_off::{Backing, Pressure, Ways, back_off, is_sticky, stack_meter, way_of};
pub use classify::{Classified, ETH_MAC_MASK, addressed_to, classify, vlan_listed};
pub use exit::{Exit, exit_of};
pub use pause::{Heeded, heed};
pub use route::{FibAnswer, fib_exit};
