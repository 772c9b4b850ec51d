//! The datapath on the real kernel: the router of each test is a network namespace whose devices are taps, so that the
//! test itself is the wire on either side.
//!
//! A frame written to the tap `lan0` runs through native XDP inside `write`, is flushed there, and is in the ring of
//! `wan0` or counted when the call returns: nothing needs to be waited for. What is read from the tap `wan0` leaves its
//! ring at that moment: a reader that pauses is a link that stands still.
//!
//! These tests need root. Without it they are skipped with a word, except where `CI=true` or
//! `WEIR_REQUIRE_PRIVILEGED=1` says that a skip is a failure.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "functions that tests share are tests, too"
)]

mod frame;
mod live;
mod order;
mod router;

mod back_off;
mod changes;
mod daemon;
mod divert;
mod events;
mod forward;
mod framing;
mod kernel_forwards;
mod levels;
mod load;
mod own;
mod pause;
mod policy;
mod policy_rates;
mod queue;
mod rate_accuracy;
mod spill;
mod stack;
mod subscribers;
mod unseen;
mod veth;
