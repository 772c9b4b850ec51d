//! One direction of the link: what drains a tap, and what delivers.

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ringbuf::traits::{Consumer, Producer};

use super::LinkSettings;
use super::frame::{Direction, Service, inspect, service};
use crate::experiment::Family;
use crate::experiment::units::{BitRate, nanos};
use crate::lab::clock::{now_ns, sleep_until};
use crate::lab::error::{Error, Result};

/// How late a wake-up may be and still be made up for. Beyond it the time is lost, as on a link that was stopped.
/// A virtual processor that its host takes away is away for tens of milliseconds.
const CATCH_UP_NS: u64 = 100_000_000;

/// The longest single sleep, so that a stop or a pause is noticed.
const SLICE_NS: u64 = 20_000_000;

/// Longer than any frame of the lab's devices (MTU 1,500, or 9,000 where somebody raises it).
const FRAME_BUFFER: usize = 16_384;

/// Where the reader hands frames of one extra delay over: due times that follow each other.
pub(super) struct Lane<P> {
    pub(super) extra_ns: u64,
    pub(super) ring: P,
    pub(super) writer: Thread,
}

/// A frame on its way, and when it arrives.
pub(super) struct InFlight {
    due_ns: u64,
    frame: Vec<u8>,
}

/// One direction: settings that may change while it runs, and counters.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) rate_bps: AtomicU64,
    pub(super) paused: AtomicBool,
    pub(super) stop: AtomicBool,
    pub(super) waker: UnixStream,
    woken: UnixStream,
    delay_ns: u64,
    overhead: u64,
    family: Family,
    direction: Direction,
    /// Which lane, from 1 on, a flow's frames take; the others take lane 0.
    lanes: HashMap<Service, usize>,
    pub(super) from_sender: AtomicU64,
    pub(super) foreign: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) last_in_ns: AtomicU64,
    pub(super) last_late_ns: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) ce_marked: AtomicU64,
    pub(super) idle: AtomicU64,
    pub(super) late_max_ns: AtomicU64,
    pub(super) lost_ns: AtomicU64,
    pub(super) ring_waits: AtomicU64,
    pub(super) errors: AtomicU64,
}

impl Pipe {
    pub(super) fn new(settings: &LinkSettings, direction: Direction, rate_bps: u64) -> Result<Self> {
        let (waker, woken) = UnixStream::pair().map_err(Error::os("make a socket pair"))?;
        for end in [&waker, &woken] {
            end.set_nonblocking(true).map_err(Error::os("set a socket pair non-blocking"))?;
        }
        Ok(Self {
            rate_bps: AtomicU64::new(rate_bps),
            paused: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            waker,
            woken,
            delay_ns: nanos(settings.delay),
            overhead: u64::from(settings.overhead),
            family: settings.family,
            direction,
            lanes: lanes(settings).flows,
            from_sender: AtomicU64::new(0),
            foreign: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            last_in_ns: AtomicU64::new(0),
            last_late_ns: AtomicU64::new(0),
            written: AtomicU64::new(0),
            ce_marked: AtomicU64::new(0),
            idle: AtomicU64::new(0),
            late_max_ns: AtomicU64::new(0),
            lost_ns: AtomicU64::new(0),
            ring_waits: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        })
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// The time `bytes` occupy the link; 0 where the direction has no rate.
    fn transmission_ns(&self, bytes: usize) -> u64 {
        match self.rate_bps.load(Ordering::Relaxed) {
            0 => 0,
            bps => {
                let bytes = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(self.overhead);
                BitRate::from_bps(bps).time_of(bytes)
            }
        }
    }

    fn count_in(&self, frame: &[u8]) {
        let seen = inspect(frame, self.family);
        add(if seen.from_sender { &self.from_sender } else { &self.foreign }, 1);
        add(&self.ce_marked, u64::from(seen.from_sender && seen.ce_marked));
        add(&self.bytes, u64::try_from(frame.len()).unwrap_or(0));
    }

    /// The index of the lane that the frame takes.
    fn lane_of(&self, frame: &[u8]) -> usize {
        if self.lanes.is_empty() {
            return 0;
        }
        let service = service(frame, self.family, self.direction);
        service.and_then(|service| self.lanes.get(&service)).copied().unwrap_or(0)
    }

    /// Waits for a frame on `tap` or a wake-up.
    fn wait_readable(&self, tap: &OwnedFd) {
        let mut fds =
            [PollFd::new(tap.as_fd(), PollFlags::POLLIN), PollFd::new(self.woken.as_fd(), PollFlags::POLLIN)];
        // An interrupted poll is a poll that found nothing: the caller looks again.
        let _ = poll(&mut fds, PollTimeout::NONE);
        let _ = (&self.woken).read(&mut [0; 64]);
    }
}

/// The extra delays that a link has, from lane 1 on, and the lane of each flow that has one.
pub(super) struct Lanes {
    pub(super) extra_ns: Vec<u64>,
    flows: HashMap<Service, usize>,
}

/// One lane for each extra delay, so that what is due first in a lane stands first.
pub(super) fn lanes(settings: &LinkSettings) -> Lanes {
    let mut lanes = Lanes { extra_ns: Vec::new(), flows: HashMap::new() };
    for extra in settings.extra.iter().filter(|extra| !extra.delay.is_zero()) {
        let extra_ns = nanos(extra.delay);
        let known = lanes.extra_ns.iter().position(|lane| *lane == extra_ns);
        let lane = known.unwrap_or_else(|| {
            lanes.extra_ns.push(extra_ns);
            lanes.extra_ns.len() - 1
        });
        lanes.flows.insert(extra.flow, lane + 1);
    }
    lanes
}

pub(super) fn read_loop<P: Producer<Item = InFlight>>(pipe: &Pipe, tap: &OwnedFd, mut lanes: Vec<Lane<P>>) {
    let mut buffer = vec![0_u8; FRAME_BUFFER];
    let mut free_at = now_ns();
    // Whether the ring was found empty since the last frame: then the next transmission starts when its frame
    // comes, and a wake-up that was late may not be charged to the time before.
    let mut idle = true;
    while !pipe.stopped() {
        if pipe.paused.load(Ordering::Acquire) {
            thread::park_timeout(Duration::from_nanos(SLICE_NS));
            idle = true;
            continue;
        }
        let now = now_ns();
        if now < free_at {
            sleep_until(free_at.min(now + SLICE_NS));
            continue;
        }
        let length = match nix::unistd::read(tap, &mut buffer) {
            Ok(length) => length,
            Err(Errno::EAGAIN) => {
                add(&pipe.idle, u64::from(!idle));
                idle = true;
                pipe.wait_readable(tap);
                continue;
            }
            Err(Errno::EINTR) => continue,
            Err(_) => {
                // The device went away or is down; it does not come back by asking in a loop.
                add(&pipe.errors, 1);
                thread::park_timeout(Duration::from_nanos(SLICE_NS));
                continue;
            }
        };
        let Some(frame) = buffer.get(..length) else { continue };
        let start = if idle { now.max(free_at) } else { free_at.max(now.saturating_sub(CATCH_UP_NS)) };
        let late = if idle { 0 } else { now - free_at };
        if !idle {
            pipe.late_max_ns.fetch_max(late, Ordering::Relaxed);
            add(&pipe.lost_ns, start - free_at);
        }
        pipe.last_in_ns.store(now, Ordering::Relaxed);
        pipe.last_late_ns.store(late, Ordering::Relaxed);
        idle = false;
        free_at = start + pipe.transmission_ns(length);
        pipe.count_in(frame);
        let Some(lane) = lanes.get_mut(pipe.lane_of(frame)) else { continue };
        let due_ns = free_at + pipe.delay_ns + lane.extra_ns;
        let mut parcel = InFlight { due_ns, frame: frame.to_vec() };
        while let Err(refused) = lane.ring.try_push(parcel) {
            add(&pipe.ring_waits, 1);
            if pipe.stopped() {
                return;
            }
            parcel = refused;
            sleep_until(now_ns() + 100_000);
        }
        lane.writer.unpark();
    }
}

pub(super) fn write_loop(pipe: &Pipe, tap: &OwnedFd, mut ring: impl Consumer<Item = InFlight>) {
    while !pipe.stopped() {
        let Some(parcel) = ring.try_pop() else {
            thread::park();
            continue;
        };
        loop {
            let now = now_ns();
            if now >= parcel.due_ns || pipe.stopped() {
                break;
            }
            sleep_until(parcel.due_ns.min(now + SLICE_NS));
        }
        match nix::unistd::write(tap, &parcel.frame) {
            Ok(_) => add(&pipe.written, 1),
            Err(_) => add(&pipe.errors, 1),
        }
    }
}

pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_of_one_extra_delay_share_a_lane_and_those_without_have_none() {
        let extra = |port, ms| super::super::ExtraDelay {
            flow: Service { protocol: 6, port },
            delay: Duration::from_millis(ms),
        };
        let settings = LinkSettings {
            rate: BitRate::from_bps(1),
            delay: Duration::ZERO,
            overhead: 0,
            reverse_rate: None,
            family: Family::Ipv4,
            extra: vec![extra(1, 5), extra(2, 0), extra(3, 9), extra(4, 5)],
        };
        let lanes = lanes(&settings);
        assert_eq!(lanes.extra_ns, [5_000_000, 9_000_000]);
        let lane = |port| lanes.flows.get(&Service { protocol: 6, port }).copied();
        assert_eq!([1, 2, 3, 4].map(lane), [Some(1), None, Some(2), Some(1)]);
    }
}
