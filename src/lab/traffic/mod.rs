//! The traffic of an experiment: TCP bulk flows, UDP flows of a constant rate, and delay probes.
//!
//! Every flow has a thread at each end. A thread enters its host's namespace, opens its socket there, and works in
//! slices of 50 ms, so that a stop is noticed.

mod tcp;
mod threads;
mod udp;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use socket2::Socket;

use self::threads::{join_all, spawn};
use self::udp::{Delays, Schedule, frame_bytes};
use super::clock::make_timely;
use super::error::{Error, Result};
use super::topology::{Host, Topology};
use crate::experiment::units::nanos;
use crate::experiment::{Experiment, Family, Identity, Pattern, Probe, TcpFlow, UdpEcn, UdpFlow};
use crate::report::{DelaySample, DelaySummary, FlowResult, ProbeCount};

/// Above ordinary threads, below the link emulator: a probe's timestamp must not wait for a bulk flow's turn.
const PROBE_PRIORITY: i32 = 10;

/// Everything the traffic knows when it is over.
#[derive(Debug, Clone, Default)]
pub struct TrafficReport {
    /// Per flow; without goodput, which is of a time that the caller has measured.
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
    flows: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    kind: FlowKind,
    state: Arc<FlowState>,
    /// Of datagrams.
    delays: Option<mpsc::Receiver<Delays>>,
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
    group: Option<Arc<str>>,
    bytes: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    reordered: AtomicU64,
}

/// Where a flow comes from, if not from the sender's own address, and where it goes.
#[derive(Debug, Clone, Copy)]
struct Endpoints {
    from: Option<IpAddr>,
    to: SocketAddr,
}

/// What every flow of a run is started with.
#[derive(Clone, Copy)]
struct Stage<'a> {
    topology: &'a Topology,
    family: Family,
    start_ns: u64,
    measure_from_ns: u64,
}

impl Stage<'_> {
    fn endpoints(&self, identity: &Identity) -> Endpoints {
        Endpoints {
            from: (identity.host != 0).then(|| self.family.host(identity.host)),
            to: SocketAddr::new(self.family.receiver(), identity.port),
        }
    }
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
        };
        let measure_from_ns = start_ns + nanos(experiment.warmup);
        let stage = Stage { topology, family: experiment.family, start_ns, measure_from_ns };
        for (index, flow) in experiment.tcp.iter().enumerate() {
            traffic.start_tcp(stage, index, flow)?;
        }
        for (index, flow) in experiment.udp.iter().enumerate() {
            traffic.start_udp(stage, index, flow)?;
        }
        for (index, probe) in experiment.probes.iter().enumerate() {
            traffic.start_probe(stage, index, probe, start_ns + nanos(experiment.duration))?;
        }
        Ok(traffic)
    }

    /// Payload bytes of each flow that have arrived by now, in the order of the report's flows.
    #[must_use]
    pub fn payload_of_each(&self) -> Vec<u64> {
        self.flows.iter().map(|flow| flow.state.bytes.load(Ordering::Relaxed)).collect()
    }

    /// What of `payload_of_each` is goodput: of the TCP flows, or of the UDP flows where there is no TCP.
    #[must_use]
    pub fn goodput_of(&self, payload: &[u64]) -> u64 {
        let sum = |kind| {
            let of_kind = self.flows.iter().zip(payload).filter(|(flow, _)| flow.kind == kind);
            of_kind.map(|(_, bytes)| *bytes).sum::<u64>()
        };
        if self.flows.iter().any(|flow| flow.kind == FlowKind::Tcp) {
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
        let mut report = TrafficReport::default();
        for flow in &self.flows {
            let delays = flow.delays.as_ref().and_then(|delays| delays.recv().ok()).unwrap_or_default();
            report.flows.push(flow.result(&delays));
            report.delays.extend(delays.samples.into_iter().flatten());
            if flow.kind == FlowKind::Probe {
                report.probes.sent += flow.state.sent.load(Ordering::Relaxed);
                report.probes.received += flow.state.received.load(Ordering::Relaxed);
            }
        }
        Ok(report)
    }

    fn start_tcp(&mut self, stage: Stage<'_>, index: usize, flow: &TcpFlow) -> Result<()> {
        tcp::check_congestion(&flow.congestion)?;
        let name = format!("tcp {index} ({})", flow.congestion);
        let state = FlowState::new(&name, &flow.identity);
        self.flows.push(Running { kind: FlowKind::Tcp, state: Arc::clone(&state), delays: None });
        let ends = stage.endpoints(&flow.identity);
        let (sender, listener) = tcp::pair(stage.topology, flow, ends, &name)?;
        let stop = Arc::clone(&self.stop_receiving);
        self.receivers.push(spawn(&name, move || tcp::receive(&listener, &state, &stop))?);
        let stop = Arc::clone(&self.stop_sending);
        let window = (stage.start_ns + nanos(flow.span.start), stage.start_ns + nanos(flow.span.stop));
        self.senders.push(spawn(&name, move || tcp::send(sender, ends.to, window, &stop))?);
        Ok(())
    }

    fn start_udp(&mut self, stage: Stage<'_>, index: usize, flow: &UdpFlow) -> Result<()> {
        let schedule = Schedule {
            from_ns: stage.start_ns + nanos(flow.span.start),
            until_ns: stage.start_ns + nanos(flow.span.stop),
            interval_ns: flow.rate.time_of(frame_bytes(flow.size, stage.family.receiver())).max(1),
            size: flow.size,
        };
        let name = format!("udp {index} ({})", flow.rate);
        let tos = flow.identity.dscp << 2 | ecn_bits(flow.pattern);
        self.start_datagrams(stage, FlowKind::Udp, &name, &flow.identity, tos, schedule)
    }

    fn start_probe(&mut self, stage: Stage<'_>, index: usize, probe: &Probe, until_ns: u64) -> Result<()> {
        let schedule = Schedule {
            from_ns: stage.start_ns,
            until_ns,
            interval_ns: nanos(probe.interval),
            size: probe.size,
        };
        let name = format!("probe {index}");
        let tos = probe.identity.dscp << 2;
        self.start_datagrams(stage, FlowKind::Probe, &name, &probe.identity, tos, schedule)
    }

    fn start_datagrams(
        &mut self,
        stage: Stage<'_>,
        kind: FlowKind,
        name: &str,
        identity: &Identity,
        tos: u8,
        schedule: Schedule,
    ) -> Result<()> {
        let is_probe = kind == FlowKind::Probe;
        let state = FlowState::new(name, identity);
        let (sender, receiver) = udp::pair(stage.topology, stage.endpoints(identity), tos, name)?;
        let (measured, delays) = mpsc::channel();
        self.flows.push(Running { kind, state: Arc::clone(&state), delays: Some(delays) });
        let stop = Arc::clone(&self.stop_receiving);
        let counted = Arc::clone(&state);
        self.receivers.push(spawn(name, move || {
            if is_probe {
                make_timely(PROBE_PRIORITY);
            }
            let mut delays = Delays::new(stage.start_ns, stage.measure_from_ns, is_probe);
            let result = udp::receive(&receiver, &counted, &stop, &mut delays);
            // The other end is only gone when nobody wants the delays.
            let _ = measured.send(delays);
            result
        })?);
        let stop = Arc::clone(&self.stop_sending);
        self.senders.push(spawn(name, move || {
            if is_probe {
                make_timely(PROBE_PRIORITY);
            }
            udp::send(&sender, &state, &schedule, &stop)
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

impl FlowState {
    fn new(name: &str, identity: &Identity) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), group: identity.name.clone(), ..Self::default() })
    }
}

impl Running {
    fn result(&self, delays: &Delays) -> FlowResult {
        let state = &self.state;
        let datagrams =
            |counter: &AtomicU64| (self.kind != FlowKind::Tcp).then(|| counter.load(Ordering::Relaxed));
        FlowResult {
            flow: state.name.clone(),
            group: state.group.as_deref().map(str::to_owned),
            bytes: state.bytes.load(Ordering::Relaxed),
            goodput_bps: 0,
            delay_ns: DelaySummary::of_delays(&delays.recorder.summary()),
            sent: datagrams(&state.sent),
            received: datagrams(&state.received),
            reordered: datagrams(&state.reordered),
            simulated: None,
        }
    }
}

/// The two bits of the ECN field (RFC 3168 section 5).
const fn ecn_bits(pattern: Pattern) -> u8 {
    match pattern {
        Pattern::Constant { ecn: UdpEcn::Ect1 } => 1,
        Pattern::Constant { ecn: UdpEcn::Ect0 } => 2,
        Pattern::Constant { ecn: UdpEcn::None } | Pattern::Poisson | Pattern::OnOff { .. } => 0,
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

/// Gives a sender's socket its source address and the byte of code point and ECN field.
fn leave_as(socket: &Socket, ends: Endpoints, tos: u8) -> io::Result<()> {
    if let Some(from) = ends.from {
        if from.is_ipv6() {
            // IPv6 binds to addresses of devices alone (`__inet6_bind`), IPv4 to every one that is routed here.
            socket.set_freebind_v6(true)?;
        }
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    if ends.to.is_ipv4() { socket.set_tos_v4(tos.into()) } else { socket.set_tclass_v6(tos.into()) }
}

fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(u64::try_from(n).unwrap_or(0), Ordering::Relaxed);
}
