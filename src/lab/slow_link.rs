//! The slow link: an emulator that drains one tap at a given rate and feeds another after a given delay.
//!
//! Per direction there are two threads. The **reader** takes a frame from its tap only when the link is free, so
//! that the frames that wait do so where they would wait on a real link, in the device's TX ring. The frame then
//! occupies the link for `bytes * 8 / rate` and is handed to the **writer** through a single-producer
//! single-consumer ring; the writer delivers it `delay` after its last bit left. Both sleep until absolute times:
//! a late wake-up delays one frame and is made up for, and does not lower the rate.
//!
//! A frame's length on the link is that of the Ethernet frame without its check sequence (what the tap hands out),
//! plus a configurable overhead. Nothing is lost in here: if the ring between the threads is full the reader waits,
//! and that is counted.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ringbuf::HeapRb;
use ringbuf::traits::{Consumer, Producer, Split};

use super::clock::{make_timely, now_ns, sleep_until};
use super::error::{Error, Result};
use super::units::{BitRate, nanos};

/// How late a wake-up may be and still be made up for. Beyond it the time is lost, as on a link that was stopped.
/// A virtual processor that its host takes away is away for tens of milliseconds.
const CATCH_UP_NS: u64 = 100_000_000;

/// The longest single sleep, so that a stop or a pause is noticed.
const SLICE_NS: u64 = 20_000_000;

/// Frames between a reader and its writer: the frames in flight. 16,384 is 200 Mbit/s of 64-byte frames for 40 ms.
const IN_FLIGHT_FRAMES: usize = 16_384;

/// Longer than any frame of the lab's devices (MTU 1,500, or 9,000 where somebody raises it).
const FRAME_BUFFER: usize = 16_384;

/// Real-time priority of the emulator's threads, above the traffic's.
const PRIORITY: i32 = 20;

/// What a slow link is.
#[derive(Debug, Clone, Copy)]
pub struct LinkSettings {
    /// The rate towards the receiver.
    pub rate: BitRate,
    /// The one-way delay, the same in each direction.
    pub delay: Duration,
    /// Bytes added to each frame's length when its time on the link is worked out.
    pub overhead: u32,
    /// The rate of the way back; `None` is no limit.
    pub reverse_rate: Option<BitRate>,
    /// The sender's address: a frame from elsewhere is the router's own and counted apart.
    pub sender: IpAddr,
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
    pub fn start(router: Arc<OwnedFd>, receiver: Arc<OwnedFd>, settings: LinkSettings) -> Result<Self> {
        let reverse_rate = settings.reverse_rate.map_or(0, BitRate::bps);
        let forward = Arc::new(Pipe::new(settings, settings.rate.bps())?);
        let reverse = Arc::new(Pipe::new(settings, reverse_rate)?);
        let mut link = Self {
            forward: Arc::clone(&forward),
            reverse: Arc::clone(&reverse),
            threads: Vec::new(),
            wakers: Vec::new(),
            realtime: Arc::new(AtomicBool::new(true)),
        };
        link.spawn_pipe("fwd", forward, Arc::clone(&router), Arc::clone(&receiver))?;
        link.spawn_pipe("rev", reverse, receiver, router)?;
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
        pipe: Arc<Pipe>,
        from: Arc<OwnedFd>,
        to: Arc<OwnedFd>,
    ) -> Result<()> {
        let (producer, consumer) = HeapRb::<InFlight>::new(IN_FLIGHT_FRAMES).split();
        let writer_pipe = Arc::clone(&pipe);
        let writer =
            self.spawn(&format!("link-{name}-out"), move || write_loop(&writer_pipe, &to, consumer))?;
        self.spawn(&format!("link-{name}-in"), move || read_loop(&pipe, &from, producer, &writer))?;
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

/// A frame on its way, and when it arrives.
struct InFlight {
    due_ns: u64,
    frame: Vec<u8>,
}

/// One direction: settings that may change while it runs, and counters.
#[derive(Debug)]
struct Pipe {
    rate_bps: AtomicU64,
    paused: AtomicBool,
    stop: AtomicBool,
    waker: UnixStream,
    woken: UnixStream,
    delay_ns: u64,
    overhead: u64,
    sender: IpAddr,
    from_sender: AtomicU64,
    foreign: AtomicU64,
    bytes: AtomicU64,
    last_in_ns: AtomicU64,
    last_late_ns: AtomicU64,
    written: AtomicU64,
    ce_marked: AtomicU64,
    idle: AtomicU64,
    late_max_ns: AtomicU64,
    lost_ns: AtomicU64,
    ring_waits: AtomicU64,
    errors: AtomicU64,
}

impl Pipe {
    fn new(settings: LinkSettings, rate_bps: u64) -> Result<Self> {
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
            sender: settings.sender,
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
        let seen = inspect(frame, self.sender);
        add(if seen.from_sender { &self.from_sender } else { &self.foreign }, 1);
        add(&self.ce_marked, u64::from(seen.from_sender && seen.ce_marked));
        add(&self.bytes, u64::try_from(frame.len()).unwrap_or(0));
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

fn read_loop(pipe: &Pipe, tap: &OwnedFd, mut ring: impl Producer<Item = InFlight>, writer: &Thread) {
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
        let mut parcel = InFlight { due_ns: free_at + pipe.delay_ns, frame: frame.to_vec() };
        while let Err(refused) = ring.try_push(parcel) {
            add(&pipe.ring_waits, 1);
            if pipe.stopped() {
                return;
            }
            parcel = refused;
            sleep_until(now_ns() + 100_000);
        }
        writer.unpark();
    }
}

fn write_loop(pipe: &Pipe, tap: &OwnedFd, mut ring: impl Consumer<Item = InFlight>) {
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

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// What the emulator wants to know of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    from_sender: bool,
    ce_marked: bool,
}

/// Reads the source address and the ECN field (RFC 3168 section 5: the two low bits of the traffic class).
fn inspect(frame: &[u8], sender: IpAddr) -> Seen {
    const ETHERNET: usize = 14;
    let network = frame.get(ETHERNET..).unwrap_or(&[]);
    let (source, ecn) = match (frame.get(12..14), sender) {
        (Some([0x08, 0x00]), IpAddr::V4(_)) => {
            let source = network.get(12..16).and_then(|s| <[u8; 4]>::try_from(s).ok()).map(IpAddr::from);
            (source, network.get(1).map(|tos| tos & 3))
        }
        (Some([0x86, 0xdd]), IpAddr::V6(_)) => {
            let source = network.get(8..24).and_then(|s| <[u8; 16]>::try_from(s).ok()).map(IpAddr::from);
            (source, network.get(1).map(|low| (low >> 4) & 3))
        }
        _ => (None, None),
    };
    Seen { from_sender: source == Some(sender), ce_marked: ecn == Some(3) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn ipv4_frame(source: [u8; 4], tos: u8) -> Vec<u8> {
        let mut frame = vec![0_u8; 14 + 20];
        frame[12] = 0x08;
        frame[14] = 0x45;
        frame[15] = tos;
        frame[26..30].copy_from_slice(&source);
        frame
    }

    #[test]
    fn a_frame_of_the_sender_is_told_from_the_routers_own() {
        let sender = IpAddr::V4(Ipv4Addr::new(10, 77, 1, 1));
        assert!(inspect(&ipv4_frame([10, 77, 1, 1], 0), sender).from_sender);
        assert!(!inspect(&ipv4_frame([10, 77, 2, 254], 0), sender).from_sender);
    }

    #[test]
    fn only_both_ecn_bits_are_congestion_experienced() {
        let sender = IpAddr::V4(Ipv4Addr::new(10, 77, 1, 1));
        for (tos, marked) in [(0, false), (1, false), (2, false), (3, true), (0xb8 | 3, true)] {
            assert_eq!(inspect(&ipv4_frame([10, 77, 1, 1], tos), sender).ce_marked, marked, "tos {tos}");
        }
    }

    #[test]
    fn a_frame_of_any_length_can_be_inspected() {
        let sender = IpAddr::V4(Ipv4Addr::new(10, 77, 1, 1));
        let frame = ipv4_frame([10, 77, 1, 1], 3);
        for length in 0..frame.len() {
            let seen = inspect(&frame[..length], sender);
            assert!(!seen.from_sender || length >= 30);
        }
    }
}
