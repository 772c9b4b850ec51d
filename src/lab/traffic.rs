//! The traffic of an experiment: TCP bulk flows, UDP flows of a constant rate, and delay probes.
//!
//! Every flow has a thread at each end. A thread enters its host's namespace, opens its socket there, and works in
//! slices of 50 ms, so that a stop is noticed. Probes and UDP packets carry a sequence number and the monotonic
//! clock of the moment they were sent; both ends read the same clock, so a one-way delay is a subtraction.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Socket, Type};

use super::clock::{make_timely, now_ns, sleep_until};
use super::error::{Error, Result};
use super::topology::{Host, Topology};
use crate::experiment::units::nanos;
use crate::experiment::{Experiment, Family, Probe, TcpFlow, UdpFlow};
use crate::report::{DelaySample, FlowResult, ProbeCount};

const SLICE: Duration = Duration::from_millis(50);
const TCP_PORT: u16 = 5_200;
const UDP_PORT: u16 = 6_200;
const PROBE_PORT: u16 = 7_200;
/// How far a UDP sender may fall behind its schedule and still catch up; more is forgotten, not burst.
const SEND_CATCH_UP_NS: u64 = 20_000_000;
/// Delay samples kept per probe stream: an hour at 4 ms.
const MAX_SAMPLES: usize = 1_000_000;
/// Above ordinary threads, below the link emulator: a probe's timestamp must not wait for a bulk flow's turn.
const PROBE_PRIORITY: i32 = 10;
/// Sequence number and time of sending, both little-endian `u64`.
const HEADER: usize = 16;

/// Everything the traffic knows when it is over.
#[derive(Debug, Clone, Default)]
pub struct TrafficReport {
    /// Per flow.
    pub flows: Vec<FlowResult>,
    /// All probes that arrived, by stream and then by time.
    pub delays: Vec<DelaySample>,
    /// How many probes were sent and how many arrived.
    pub probes: ProbeCount,
}

/// Running traffic; dropping it stops every thread.
#[derive(Debug)]
pub struct Traffic {
    stop_sending: Arc<AtomicBool>,
    stop_receiving: Arc<AtomicBool>,
    senders: Vec<JoinHandle<Result<()>>>,
    receivers: Vec<JoinHandle<Result<()>>>,
    flows: Vec<(FlowKind, Arc<FlowState>)>,
    samples: Vec<mpsc::Receiver<Vec<DelaySample>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FlowKind {
    Tcp,
    Udp,
    Probe,
}

#[derive(Debug, Default)]
struct FlowState {
    name: String,
    bytes: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    reordered: AtomicU64,
}

impl Traffic {
    /// Opens every receiver, and starts senders that begin at `start_ns` of the monotonic clock (or later, by their
    /// own `start`).
    ///
    /// # Errors
    /// [`Error::Flow`] naming the flow whose socket could not be opened (a congestion control the kernel lacks), or
    /// [`Error::Os`].
    pub fn start(topology: &Topology, experiment: &Experiment, start_ns: u64) -> Result<Self> {
        let mut traffic = Self {
            stop_sending: Arc::default(),
            stop_receiving: Arc::default(),
            senders: Vec::new(),
            receivers: Vec::new(),
            flows: Vec::new(),
            samples: Vec::new(),
        };
        for (port, flow) in (TCP_PORT..).zip(&experiment.tcp) {
            traffic.start_tcp(topology, experiment.family, port, flow, start_ns)?;
        }
        for (port, flow) in (UDP_PORT..).zip(&experiment.udp) {
            traffic.start_udp(topology, experiment.family, port, flow, start_ns)?;
        }
        for (port, probe) in (PROBE_PORT..).zip(&experiment.probes) {
            let until = start_ns + nanos(experiment.duration);
            traffic.start_probe(topology, experiment.family, port, probe, start_ns, until)?;
        }
        Ok(traffic)
    }

    /// Payload bytes that have arrived by now: of the TCP flows, or of the UDP flows where there is no TCP.
    #[must_use]
    pub fn payload_bytes(&self) -> u64 {
        let sum = |kind| {
            let of_kind = self.flows.iter().filter(|(k, _)| *k == kind);
            of_kind.map(|(_, flow)| flow.bytes.load(Ordering::Relaxed)).sum::<u64>()
        };
        if self.flows.iter().any(|(kind, _)| *kind == FlowKind::Tcp) {
            sum(FlowKind::Tcp)
        } else {
            sum(FlowKind::Udp)
        }
    }

    /// Stops the senders and waits for them. TCP connections are reset: nothing they still had to say is sent.
    ///
    /// # Errors
    /// The first error that a sender met.
    pub fn stop_senders(&mut self) -> Result<()> {
        self.stop_sending.store(true, Ordering::Release);
        join_all(&mut self.senders)
    }

    /// Stops the receivers and hands over what they saw. The senders are stopped first if they were not.
    ///
    /// # Errors
    /// The first error that a flow met.
    pub fn finish(mut self) -> Result<TrafficReport> {
        self.stop_senders()?;
        self.stop_receiving.store(true, Ordering::Release);
        join_all(&mut self.receivers)?;
        let delays = self.samples.iter().filter_map(|stream| stream.recv().ok()).flatten().collect();
        let flows = self.flows.iter().map(|(kind, state)| flow_bytes(*kind, state)).collect();
        let mut probes = ProbeCount::default();
        for (_, state) in self.flows.iter().filter(|(kind, _)| *kind == FlowKind::Probe) {
            probes.sent += state.sent.load(Ordering::Relaxed);
            probes.received += state.received.load(Ordering::Relaxed);
        }
        Ok(TrafficReport { flows, delays, probes })
    }

    fn add_flow(&mut self, kind: FlowKind, name: String) -> Arc<FlowState> {
        let state = Arc::new(FlowState { name, ..FlowState::default() });
        self.flows.push((kind, Arc::clone(&state)));
        state
    }

    fn start_tcp(
        &mut self,
        topology: &Topology,
        family: Family,
        port: u16,
        flow: &TcpFlow,
        start_ns: u64,
    ) -> Result<()> {
        check_congestion(&flow.congestion)?;
        let name = format!("tcp {} ({})", port - TCP_PORT, flow.congestion);
        let state = self.add_flow(FlowKind::Tcp, name.clone());
        let to = SocketAddr::new(family.receiver(), port);

        let listener = in_host(topology, Host::Receiver, &name, || {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
            socket.bind(&to.into())?;
            socket.listen(1)?;
            socket.set_read_timeout(Some(SLICE))?;
            Ok(socket)
        })?;
        let stop = Arc::clone(&self.stop_receiving);
        let counted = Arc::clone(&state);
        self.receivers.push(spawn(&name, move || receive_tcp(&listener, &counted, &stop))?);

        let congestion = flow.congestion.clone();
        let socket = in_host(topology, Host::Sender, &name, || {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_tcp_congestion(congestion.as_bytes())?;
            // Closing resets: what is still queued when the run is over must not keep the link busy.
            socket.set_linger(Some(Duration::ZERO))?;
            Ok(socket)
        })?;
        let stop = Arc::clone(&self.stop_sending);
        let window = (start_ns + nanos(flow.span.start), start_ns + nanos(flow.span.stop));
        self.senders.push(spawn(&name, move || send_tcp(socket, to, window, &stop))?);
        Ok(())
    }

    fn start_udp(
        &mut self,
        topology: &Topology,
        family: Family,
        port: u16,
        flow: &UdpFlow,
        start_ns: u64,
    ) -> Result<()> {
        let name = format!("udp {} ({})", port - UDP_PORT, flow.rate);
        let state = self.add_flow(FlowKind::Udp, name.clone());
        let (sender, receiver) = udp_pair(topology, family, port, &name)?;
        let stop = Arc::clone(&self.stop_receiving);
        let counted = Arc::clone(&state);
        self.receivers.push(spawn(&name, move || receive_udp(&receiver, &counted, &stop, None))?);
        let stop = Arc::clone(&self.stop_sending);
        let schedule = Schedule {
            from_ns: start_ns + nanos(flow.span.start),
            until_ns: start_ns + nanos(flow.span.stop),
            interval_ns: flow.rate.time_of(frame_bytes(flow.size, family.receiver())).max(1),
            size: flow.size,
        };
        self.senders.push(spawn(&name, move || send_udp(&sender, &state, &schedule, &stop))?);
        Ok(())
    }

    fn start_probe(
        &mut self,
        topology: &Topology,
        family: Family,
        port: u16,
        probe: &Probe,
        start_ns: u64,
        until_ns: u64,
    ) -> Result<()> {
        let name = format!("probe {}", port - PROBE_PORT);
        let state = self.add_flow(FlowKind::Probe, name.clone());
        let (sender, receiver) = udp_pair(topology, family, port, &name)?;
        let (samples, collected) = mpsc::channel();
        self.samples.push(collected);
        let stop = Arc::clone(&self.stop_receiving);
        let counted = Arc::clone(&state);
        self.receivers.push(spawn(&name, move || {
            make_timely(PROBE_PRIORITY);
            let mut kept = Vec::new();
            let result = receive_udp(&receiver, &counted, &stop, Some((start_ns, &mut kept)));
            // The other end is only gone when nobody wants the samples.
            let _ = samples.send(kept);
            result
        })?);
        let stop = Arc::clone(&self.stop_sending);
        let schedule =
            Schedule { from_ns: start_ns, until_ns, interval_ns: nanos(probe.interval), size: probe.size };
        self.senders.push(spawn(&name, move || {
            make_timely(PROBE_PRIORITY);
            send_udp(&sender, &state, &schedule, &stop)
        })?);
        Ok(())
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop_sending.store(true, Ordering::Release);
        self.stop_receiving.store(true, Ordering::Release);
        // Errors of flows were reported by `finish`; here the run is being given up.
        let _ = join_all(&mut self.senders);
        let _ = join_all(&mut self.receivers);
    }
}

/// Whether this kernel has the congestion control, or can load it as a module (which setting it once does).
fn check_congestion(name: &str) -> Result<()> {
    let attempt = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))
        .and_then(|socket| socket.set_tcp_congestion(name.as_bytes()));
    match attempt {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let path = "/proc/sys/net/ipv4/tcp_available_congestion_control";
            let available = std::fs::read_to_string(path).map_err(Error::os(format!("read {path}")))?;
            Err(Error::Congestion { name: name.to_owned(), available: available.trim().replace(' ', ", ") })
        }
        Err(source) => Err(Error::Flow { flow: format!("tcp ({name})"), source }),
    }
}

/// The bytes of a UDP payload's Ethernet frame, without the check sequence.
fn frame_bytes(payload: u16, to: IpAddr) -> u64 {
    u64::from(payload) + 14 + if to.is_ipv4() { 20 + 8 } else { 40 + 8 }
}

fn flow_bytes(kind: FlowKind, state: &FlowState) -> FlowResult {
    let datagrams = |counter: &AtomicU64| (kind != FlowKind::Tcp).then(|| counter.load(Ordering::Relaxed));
    FlowResult {
        flow: state.name.clone(),
        bytes: state.bytes.load(Ordering::Relaxed),
        sent: datagrams(&state.sent),
        received: datagrams(&state.received),
        reordered: datagrams(&state.reordered),
        simulated: None,
    }
}

/// Opens a socket inside a host. The thread that uses it later need not be there: a socket stays where it was made.
fn in_host(
    topology: &Topology,
    host: Host,
    flow: &str,
    open: impl FnOnce() -> io::Result<Socket> + Send,
) -> Result<Socket> {
    topology.host(host).run(|| open().map_err(|source| Error::Flow { flow: flow.to_owned(), source }))
}

fn udp_pair(topology: &Topology, family: Family, port: u16, flow: &str) -> Result<(Socket, Socket)> {
    let to = SocketAddr::new(family.receiver(), port);
    let receiver = in_host(topology, Host::Receiver, flow, || {
        let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_recv_buffer_size(4 << 20)?;
        socket.bind(&to.into())?;
        socket.set_read_timeout(Some(SLICE))?;
        Ok(socket)
    })?;
    let sender = in_host(topology, Host::Sender, flow, || {
        let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
        socket.connect(&to.into())?;
        socket.set_write_timeout(Some(SLICE))?;
        Ok(socket)
    })?;
    Ok((sender, receiver))
}

fn spawn(flow: &str, f: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<JoinHandle<Result<()>>> {
    let name = flow.to_owned();
    thread::Builder::new()
        .name(flow.split(" (").next().unwrap_or(flow).to_owned())
        .spawn(move || f().map_err(|source| Error::Flow { flow: name, source }))
        .map_err(Error::os(format!("start a thread for {flow}")))
}

fn join_all(threads: &mut Vec<JoinHandle<Result<()>>>) -> Result<()> {
    let mut first = Ok(());
    for thread in threads.drain(..) {
        let name = thread.thread().name().unwrap_or("a flow").to_owned();
        let panicked = |_| Err(Error::Flow { flow: name, source: io::Error::other("its thread panicked") });
        let result = thread.join().unwrap_or_else(panicked);
        if first.is_ok() {
            first = result;
        }
    }
    first
}

/// Whether a socket call ended only because its slice was over.
fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

fn stopped(stop: &AtomicBool) -> bool {
    stop.load(Ordering::Acquire)
}

/// Sleeps until `deadline_ns`; false when a stop came first.
fn wait_until(deadline_ns: u64, stop: &AtomicBool) -> bool {
    loop {
        if stopped(stop) {
            return false;
        }
        let now = now_ns();
        if now >= deadline_ns {
            return true;
        }
        sleep_until(deadline_ns.min(now + nanos(SLICE)));
    }
}

fn send_tcp(socket: Socket, to: SocketAddr, window: (u64, u64), stop: &AtomicBool) -> io::Result<()> {
    let (from_ns, until_ns) = window;
    if !wait_until(from_ns, stop) || !connect(&socket, to, until_ns, stop)? {
        return Ok(());
    }
    socket.set_write_timeout(Some(SLICE))?;
    let chunk = vec![0x5a_u8; 64 * 1024];
    let mut socket = socket;
    while !stopped(stop) && now_ns() < until_ns {
        match socket.write(&chunk) {
            Ok(_) => {}
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Connects, as long as that takes the kernel; false when a stop or the flow's end came first.
fn connect(socket: &Socket, to: SocketAddr, until_ns: u64, stop: &AtomicBool) -> io::Result<bool> {
    socket.set_nonblocking(true)?;
    match socket.connect(&to.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => loop {
            if stopped(stop) || now_ns() >= until_ns {
                return Ok(false);
            }
            let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
            if poll(&mut fds, PollTimeout::from(50_u8)).unwrap_or(0) > 0 {
                if let Some(error) = socket.take_error()? {
                    return Err(error);
                }
                break;
            }
        },
        Err(error) => return Err(error),
    }
    socket.set_nonblocking(false)?;
    Ok(true)
}

fn receive_tcp(listener: &Socket, flow: &FlowState, stop: &AtomicBool) -> io::Result<()> {
    let mut stream = loop {
        if stopped(stop) {
            return Ok(());
        }
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
        }
    };
    stream.set_read_timeout(Some(SLICE))?;
    let mut buffer = vec![0_u8; 256 * 1024];
    while !stopped(stop) {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => add(&flow.bytes, n),
            Err(error) if is_timeout(&error) => {}
            // The sender's way to end: see `start_tcp`.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// When a UDP flow sends what.
struct Schedule {
    from_ns: u64,
    until_ns: u64,
    interval_ns: u64,
    size: u16,
}

fn send_udp(socket: &Socket, flow: &FlowState, schedule: &Schedule, stop: &AtomicBool) -> io::Result<()> {
    let mut payload = vec![0_u8; usize::from(schedule.size).max(HEADER)];
    let mut due = schedule.from_ns;
    let mut sequence = 0_u64;
    while due < schedule.until_ns && wait_until(due, stop) {
        let now = now_ns();
        if now.saturating_sub(due) > SEND_CATCH_UP_NS {
            due = now;
        }
        let header = sequence.to_le_bytes().into_iter().chain(now.to_le_bytes());
        for (to, from) in payload.iter_mut().zip(header) {
            *to = from;
        }
        match socket.send(&payload) {
            Ok(_) => {
                sequence += 1;
                flow.sent.store(sequence, Ordering::Relaxed);
            }
            // A packet that the host itself had no room for was not sent; its number is used again.
            Err(error) if is_timeout(&error) || error.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(error) => return Err(error),
        }
        due += schedule.interval_ns;
    }
    Ok(())
}

fn receive_udp(
    socket: &Socket,
    flow: &FlowState,
    stop: &AtomicBool,
    mut samples: Option<(u64, &mut Vec<DelaySample>)>,
) -> io::Result<()> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 2_048];
    let mut header = [0_u8; HEADER];
    let mut highest = None;
    while !stopped(stop) {
        let length = match socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if is_timeout(&error) => continue,
            Err(error) => return Err(error),
        };
        let arrived = now_ns();
        for (to, from) in header.iter_mut().zip(buffer.get(..length).unwrap_or(&[])) {
            // SAFETY: `recv` returned `length`, so the first `length` bytes of the buffer are initialised.
            *to = unsafe { from.assume_init() };
        }
        let (sequence, sent_ns) = split_header(header);
        add(&flow.bytes, length);
        flow.received.fetch_add(1, Ordering::Relaxed);
        if highest.is_some_and(|h| sequence < h) {
            flow.reordered.fetch_add(1, Ordering::Relaxed);
        }
        highest = highest.max(Some(sequence));
        if let Some((start_ns, kept)) = &mut samples
            && kept.len() < MAX_SAMPLES
        {
            kept.push(DelaySample {
                at_ns: sent_ns.saturating_sub(*start_ns),
                delay_ns: arrived.saturating_sub(sent_ns),
            });
        }
    }
    Ok(())
}

fn split_header(header: [u8; HEADER]) -> (u64, u64) {
    let both = u128::from_le_bytes(header);
    let low = u64::try_from(both & u128::from(u64::MAX)).unwrap_or(0);
    (low, u64::try_from(both >> 64).unwrap_or(0))
}

fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(u64::try_from(n).unwrap_or(0), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_gives_back_its_sequence_number_and_its_time() {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(&7_u64.to_le_bytes());
        header[8..].copy_from_slice(&9_000_000_000_u64.to_le_bytes());
        assert_eq!(split_header(header), (7, 9_000_000_000));
    }

    #[test]
    fn a_udp_flows_rate_counts_its_ethernet_and_ip_headers() {
        assert_eq!(frame_bytes(1_200, Family::Ipv4.receiver()), 1_242);
        assert_eq!(frame_bytes(1_200, Family::Ipv6.receiver()), 1_262);
    }
}
