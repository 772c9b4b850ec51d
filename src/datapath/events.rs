//! The ring buffer through which the programs tell what happened. It has one reader: the daemon.

use std::os::fd::{AsRawFd, RawFd};

use aya::maps::{Map, MapData, RingBuf};
use weir_shared_maps::{Event, names};
use zerocopy::FromBytes as _;

use super::{Error, Result, pins};

/// The events of one instance, oldest first. Readable, in the sense of `poll(2)`, while there are any.
pub struct Events(RingBuf<MapData>);

impl Events {
    /// Opens the ring buffer of a running instance. Minimum kernel 5.8.
    ///
    /// # Errors
    ///
    /// [`Error::Pin`], [`Error::Map`].
    pub fn open(instance: &str) -> Result<Self> {
        let path = pins::directory(instance).join(names::MAP_EVENTS);
        let data =
            MapData::from_pin(&path).map_err(|source| Error::Pin { path, source: Box::new(source) })?;
        RingBuf::try_from(Map::RingBuf(data)).map(Self).map_err(Error::map(names::MAP_EVENTS))
    }

    /// Takes the oldest event; never waits.
    #[expect(clippy::should_implement_trait, reason = "there may be more after a None")]
    pub fn next(&mut self) -> Option<Event> {
        // Another size than an event's is another build's, which the directory's version excludes: skipped.
        while let Some(bytes) = self.0.next() {
            if let Ok(event) = Event::read_from_bytes(&bytes) {
                return Some(event);
            }
        }
        None
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
