//! What ingress does while the signal of a port's ring stands.
//!
//! `typed`: the keys; `check`: what they mean with their defaults; `encode`: the bytes that the programs read, and back.

mod check;
mod encode;
mod typed;

use super::model::Port;
use super::names::DeviceName;

pub(super) use check::BackOffKeys;
pub use check::BackOffRule;
pub use encode::{RunningBackOff, actions, entries, moves_flows, running};
pub use typed::BackOffTable;

/// One of the things ingress can do with a packet for a ring that has enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send it; egress decides.
    None,
    /// Mark it CE, if it is ECN-capable.
    Mark,
    /// Drop it.
    Drop,
    /// Give it to the kernel's stack.
    Divert,
    /// Send it out of another port.
    Spill,
}

impl Action {
    /// As written in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Mark => "mark",
            Self::Drop => "drop",
            Self::Divert => "divert",
            Self::Spill => "spill",
        }
    }
}

/// What ingress does at each level of the signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackOff {
    /// At `congested`.
    pub on_congested: Action,
    /// At `full`.
    pub on_full: Action,
    /// The port that packets spill to.
    pub spill_to: Option<DeviceName>,
}

impl BackOff {
    /// Whether either level asks for `action`.
    pub fn does(&self, action: Action) -> bool {
        self.on_congested == action || self.on_full == action
    }

    /// Whether egress alone decides.
    pub fn does_nothing(&self) -> bool {
        (self.on_congested, self.on_full) == (Action::None, Action::None)
    }

    /// In words: `congested mark, full spill to wan1`.
    pub fn words(&self) -> String {
        let target = |action: Action| match (&self.spill_to, action) {
            (Some(device), Action::Spill) => format!("spill to {device}"),
            (Some(_) | None, action) => action.name().to_owned(),
        };
        format!("congested {}, full {}", target(self.on_congested), target(self.on_full))
    }
}

/// What holds for a port's packets: its classes', or its own where it has none.
fn effective(port: &Port) -> Vec<&BackOff> {
    if port.classes.is_empty() {
        return vec![&port.back_off];
    }
    port.classes.iter().map(|class| &class.back_off).collect()
}
