//! Packet-delivery traces in mahimahi's format.

use weir_aqm::Nanos;

/// Times at which a link can deliver 1,504 bytes each, repeated for ever with the last time as the period (`mm-link(1)`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    opportunities: Vec<Nanos>,
}

impl Trace {
    /// The times, from zero.
    pub fn opportunities(&self) -> &[Nanos] {
        &self.opportunities
    }
}
