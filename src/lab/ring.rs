//! The occupancy of the slow device's TX ring, read while a contender runs.

use super::error::Result;
use super::topology::{Host, Topology};
use crate::datapath::meter;
use crate::experiment::SLOW_DEVICE;

/// What the ring looked like at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingReading {
    /// Frames in the ring.
    pub occupancy: u32,
    /// Frames of a redirect that the full ring refused since the meter was attached.
    pub ring_drops: u64,
}

/// Something that can read the ring of any contender.
pub trait RingMeter {
    /// The ring as it is now; `None` when this reading failed.
    fn read(&mut self) -> Option<RingReading>;
}

/// Attaches a meter to the slow device. A kernel that does not describe the ring gets none, and the report says
/// nothing of the ring's occupancy.
///
/// # Errors
/// [`super::Error`] when the router's namespace cannot be entered.
pub fn attach(topology: &Topology) -> Result<Option<Box<dyn RingMeter>>> {
    topology
        .host(Host::Router)
        .run(|| match meter::RingMeter::attach(SLOW_DEVICE) {
            Ok(meter) => Ok(Some(meter)),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the ring of {SLOW_DEVICE} cannot be read"
                );
                Ok(None)
            }
        })
        .map(|meter| meter.map(|meter| Box::new(Meter(meter)) as Box<dyn RingMeter>))
}

struct Meter(meter::RingMeter);

impl RingMeter for Meter {
    fn read(&mut self) -> Option<RingReading> {
        let sample = self.0.sample().ok()?;
        Some(RingReading { occupancy: sample.occupancy, ring_drops: sample.ring_drops })
    }
}
