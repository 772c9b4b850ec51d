//! Nothing decides: a plain redirect.

use weir_egress::Decision;

use super::Controller;
use crate::Packet;

/// Hands everything to the driver.
#[derive(Clone, Copy, Debug, Default)]
pub struct DropTail;

impl Controller for DropTail {
    fn judge(&mut self, _packet: &Packet) -> Decision {
        Decision::Accept
    }
}
