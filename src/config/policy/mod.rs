//! Policy: classes of ports, rules that assign packets to them, plans and their subscribers.
//!
//! The three layers are those of the rest of the configuration: [`mod@file`] what was typed, [`model`] what it means,
//! [`encode`] and [`compile`] what the programs read; between the first two one module for each kind of table.
//! Classes name no parents, so that no cycle can be written down.

mod check;
mod class;
pub mod compile;
pub mod encode;
mod error;
pub mod file;
mod model;
mod overlap;
pub mod place;
mod plan;
mod policer;
mod rule;
mod subscriber;
mod subscribers_csv;
pub mod words;

pub use error::PolicyRule;
pub use model::{
    Class, ColourAction, DscpAction, Fairness, IMPLICIT_CLASS, MatchRule, Metered, Plan, PlanRate, Policer,
    Policy, Side, Subscriber,
};
pub use rule::parse_prefix;
