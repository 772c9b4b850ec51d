//! The event loop: senders, fast links, router, queue, slow link, receivers.

use crate::{Outcome, Scenario};

pub(crate) fn run(scenario: &Scenario) -> Outcome {
    todo!("{scenario:?}")
}
