//! Flows that are moved: into the kernel's stack, to a second port, and back.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

#[path = "../classes/mod.rs"]
mod classes;
mod links;
mod order;
mod setups;
