//! The slow link: an emulator that drains one tap at a given rate and feeds another after a given delay.
//!
//! Per direction there are a reader and, for each extra delay that flows have, a writer. The **reader** takes a frame from its tap only when the link is free, so
//! that the frames that wait do so where they would wait on a real link, in the device's TX ring. The frame then
//! occupies the link for `bytes * 8 / rate` and is handed to the **writer** through a single-producer
//! single-consumer ring; the writer delivers it `delay` after its last bit left. Both sleep until absolute times:
//! a late wake-up delays one frame and is made up for, and does not lower the rate.
//!
//! A frame's length on the link is that of the Ethernet frame without its check sequence (what the tap hands out),
//! plus a configurable overhead. Nothing is lost in here: if the ring between the threads is full the reader waits,
//! and that is counted.

mod frame;
mod pipe;

use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use ringbuf::HeapRb;
use ringbuf::traits::Split;

use self::frame::Direction;
pub use self::frame::Service;
use self::pipe::{InFlight, Lane, Pipe, lanes, read_loop, write_loop};
use super::clock::make_timely;
use super::error::{Error, Result};
use crate::experiment::Family;
use crate::experiment::units::BitRate;

/// Frames between a reader and its writer: the frames in flight. 16,384 is 200 Mbit/s of 64-byte frames for 40 ms.
const IN_FLIGHT_FRAMES: usize = 16_384;

/// Real-time priority of the emulator's threads, above the traffic's.
const PRIORITY: i32 = 20;

/// What a slow link is.
#[derive(Debug, Clone)]
pub struct LinkSettings {
    /// The rate towards the receiver.
    pub rate: BitRate,
    /// The one-way delay, the same in each direction.
    pub delay: Duration,
    /// Bytes added to each frame's length when its time on the link is worked out.
    pub overhead: u32,
    /// The rate of the way back; `None` is no limit.
    pub reverse_rate: Option<BitRate>,
    /// The family of the traffic: a frame that comes from none of the sender's addresses is the router's own and counted
    /// apart.
    pub family: Family,
    /// What flows have of delay besides the link's, one way.
    pub extra: Vec<ExtraDelay>,
}

/// A flow that is farther away than the others.
#[derive(Debug, Clone, Copy)]
pub struct ExtraDelay {
    /// Which flow.
    pub flow: Service,
    /// Its delay besides the link's, the same in each direction.
    pub delay: Duration,
}

/// What a link has carried towards the receiver since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Frames read from the router's tap whose source is the sender.
    pub delivered: u64,
    /// Frames read from the router's tap that the router made itself.
    pub foreign: u64,
    /// Bytes of all frames read, without overhead.
    pub bytes_in: u64,
    /// When the newest of these frames was read, on the clock of [`now_ns`].
    pub last_in_ns: u64,
    /// How late that was: its wake-up after the moment at which the link was free.
    pub last_late_ns: u64,
    /// Frames handed to the receiver.
    pub written: u64,
    /// Frames with Congestion Experienced among those delivered.
    pub ce_marked: u64,
    /// Times the link fell idle: its reader came for a frame and the router's ring was empty.
    pub idle: u64,
    /// The latest wake-up of the reader while frames may have been waiting, in nanoseconds: how far the machine
    /// disturbed the measurement.
    pub late_max_ns: u64,
    /// Link time that was lost because a wake-up was later than could be made up for, in nanoseconds.
    pub lost_ns: u64,
    /// Times the reader waited because the ring to its writer was full.
    pub ring_waits: u64,
    /// Frames that a tap refused or cut short, in either direction.
    pub errors: u64,
    /// Frames read on the way back.
    pub reverse_in: u64,
    /// Frames written on the way back.
    pub reverse_written: u64,
}

impl LinkCounters {
    /// Frames that are inside the emulator, in both directions together.
    #[must_use]
    pub const fn in_flight(&self) -> u64 {
        let entered = self.delivered + self.foreign + self.reverse_in;
        entered.saturating_sub(self.written + self.reverse_written + self.errors)
    }
}

/// A running link emulator; dropping it stops its threads.
#[derive(Debug)]
pub struct SlowLink {
    forward: Arc<Pipe>,
    reverse: Arc<Pipe>,
    threads: Vec<JoinHandle<()>>,
    wakers: Vec<Thread>,
    realtime: Arc<AtomicBool>,
}

impl SlowLink {
    /// Starts the emulator between the router's tap and the receiver's.
    ///
    /// # Errors
    /// [`Error::Os`] when a thread or a socket pair cannot be made.
    pub fn start(router: &Arc<OwnedFd>, receiver: &Arc<OwnedFd>, settings: &LinkSettings) -> Result<Self> {
        let reverse_rate = settings.reverse_rate.map_or(0, BitRate::bps);
        let forward = Arc::new(Pipe::new(settings, Direction::ToReceiver, settings.rate.bps())?);
        let reverse = Arc::new(Pipe::new(settings, Direction::ToSender, reverse_rate)?);
        let mut link = Self {
            forward: Arc::clone(&forward),
            reverse: Arc::clone(&reverse),
            threads: Vec::new(),
            wakers: Vec::new(),
            realtime: Arc::new(AtomicBool::new(true)),
        };
        let extra_ns = lanes(settings).extra_ns;
        link.spawn_pipe("fwd", &extra_ns, forward, router, receiver)?;
        link.spawn_pipe("rev", &extra_ns, reverse, receiver, router)?;
        Ok(link)
    }

    /// Changes the forward rate; it holds from the next frame on.
    pub fn set_rate(&self, rate: BitRate) {
        self.forward.rate_bps.store(rate.bps(), Ordering::Relaxed);
    }

    /// Stops draining the router's ring, as a receiver that sends pause frames does. Frames in flight arrive.
    pub fn pause(&self) {
        self.forward.paused.store(true, Ordering::Release);
    }

    /// Drains again.
    pub fn resume(&self) {
        self.forward.paused.store(false, Ordering::Release);
        self.wake();
    }

    /// What was carried so far.
    #[must_use]
    pub fn counters(&self) -> LinkCounters {
        let get = |a: &AtomicU64| a.load(Ordering::Relaxed);
        let (forward, reverse) = (&self.forward, &self.reverse);
        LinkCounters {
            delivered: get(&forward.from_sender),
            foreign: get(&forward.foreign),
            bytes_in: get(&forward.bytes),
            last_in_ns: get(&forward.last_in_ns),
            last_late_ns: get(&forward.last_late_ns),
            written: get(&forward.written),
            ce_marked: get(&forward.ce_marked),
            idle: get(&forward.idle),
            late_max_ns: get(&forward.late_max_ns),
            lost_ns: get(&forward.lost_ns),
            ring_waits: get(&forward.ring_waits) + get(&reverse.ring_waits),
            errors: get(&forward.errors) + get(&reverse.errors),
            reverse_in: get(&reverse.from_sender) + get(&reverse.foreign),
            reverse_written: get(&reverse.written),
        }
    }

    /// Whether every thread of the emulator was given the real-time class.
    #[must_use]
    pub fn is_realtime(&self) -> bool {
        self.realtime.load(Ordering::Relaxed)
    }

    fn wake(&self) {
        for pipe in [&self.forward, &self.reverse] {
            // A pair that is full of wake-ups refuses one more; the reader wakes either way.
            let _ = (&pipe.waker).write(&[1]);
        }
        for thread in &self.wakers {
            thread.unpark();
        }
    }

    fn spawn_pipe(
        &mut self,
        name: &str,
        extra_ns: &[u64],
        pipe: Arc<Pipe>,
        from: &Arc<OwnedFd>,
        to: &Arc<OwnedFd>,
    ) -> Result<()> {
        let mut lanes = Vec::new();
        for extra_ns in [0].iter().chain(extra_ns) {
            let (ring, consumer) = HeapRb::<InFlight>::new(IN_FLIGHT_FRAMES).split();
            let (pipe, to) = (Arc::clone(&pipe), Arc::clone(to));
            let writer = self.spawn(&format!("link-{name}-out"), move || write_loop(&pipe, &to, consumer))?;
            lanes.push(Lane { extra_ns: *extra_ns, ring, writer });
        }
        let from = Arc::clone(from);
        self.spawn(&format!("link-{name}-in"), move || read_loop(&pipe, &from, lanes))?;
        Ok(())
    }

    fn spawn(&mut self, name: &str, f: impl FnOnce() + Send + 'static) -> Result<Thread> {
        let realtime = Arc::clone(&self.realtime);
        let handle = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                if !make_timely(PRIORITY) {
                    realtime.store(false, Ordering::Relaxed);
                }
                f();
            })
            .map_err(Error::os(format!("start the thread {name}")))?;
        let thread = handle.thread().clone();
        self.wakers.push(thread.clone());
        self.threads.push(handle);
        Ok(thread)
    }
}

impl Drop for SlowLink {
    fn drop(&mut self) {
        self.forward.stop.store(true, Ordering::Release);
        self.reverse.stop.store(true, Ordering::Release);
        self.wake();
        for thread in self.threads.drain(..) {
            // A thread that panicked has already said so on standard error; there is nothing left to stop.
            let _ = thread.join();
        }
    }
}
