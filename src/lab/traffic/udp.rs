//! Datagrams at fixed intervals: UDP flows and delay probes. Each carries a sequence number and the monotonic clock of the
//! moment it was sent; both ends read the same clock, so a one-way delay is a subtraction.

use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, Protocol, Socket, Type};
use weir_aqm::Nanos;
use weir_sim::DelayRecorder;

use super::threads::{SLICE, is_timeout, stopped, wait_until};
use super::{Endpoints, FlowState, add, in_host, leave_as};
use crate::lab::clock::now_ns;
use crate::lab::error::Result;
use crate::lab::topology::{Host, Topology};
use crate::report::DelaySample;

/// How far a sender may fall behind its schedule and still catch up; more is forgotten, not burst.
const SEND_CATCH_UP_NS: u64 = 20_000_000;
/// Delay samples kept per probe stream: an hour at 4 ms.
const MAX_SAMPLES: usize = 1_000_000;
/// Sequence number and time of sending, both little-endian `u64`.
const HEADER: usize = 16;

/// The sender's socket and the receiver's. `tos` is the code point and the ECN field.
pub(super) fn pair(topology: &Topology, ends: Endpoints, tos: u8, flow: &str) -> Result<(Socket, Socket)> {
    let receiver = in_host(topology, Host::Receiver, flow, || {
        let socket = Socket::new(Domain::for_address(ends.to), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_recv_buffer_size(4 << 20)?;
        socket.bind(&ends.to.into())?;
        socket.set_read_timeout(Some(SLICE))?;
        Ok(socket)
    })?;
    let sender = in_host(topology, Host::Sender, flow, || {
        let socket = Socket::new(Domain::for_address(ends.to), Type::DGRAM, Some(Protocol::UDP))?;
        leave_as(&socket, ends, tos)?;
        socket.connect(&ends.to.into())?;
        socket.set_write_timeout(Some(SLICE))?;
        Ok(socket)
    })?;
    Ok((sender, receiver))
}

/// The bytes of a UDP payload's Ethernet frame, without the check sequence.
pub(super) fn frame_bytes(payload: u16, to: IpAddr) -> u64 {
    u64::from(payload) + 14 + if to.is_ipv4() { 20 + 8 } else { 40 + 8 }
}

/// When a flow sends what.
pub(super) struct Schedule {
    pub(super) from_ns: u64,
    pub(super) until_ns: u64,
    pub(super) interval_ns: u64,
    pub(super) size: u16,
}

pub(super) fn send(
    socket: &Socket,
    flow: &FlowState,
    schedule: &Schedule,
    stop: &AtomicBool,
) -> io::Result<()> {
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

/// The delays of what arrived.
#[derive(Default)]
pub(super) struct Delays {
    /// When the run started.
    start_ns: u64,
    /// What was sent before is not measured.
    measure_from_ns: u64,
    /// Measured.
    pub(super) recorder: DelayRecorder,
    /// One by one, measured or not.
    pub(super) samples: Option<Vec<DelaySample>>,
}

impl Delays {
    /// Of a run that started at `start_ns` and is measured from `measure_from_ns` on; samples are kept if `one_by_one`.
    pub(super) fn new(start_ns: u64, measure_from_ns: u64, one_by_one: bool) -> Self {
        let samples = one_by_one.then(Vec::new);
        Self { start_ns, measure_from_ns, recorder: DelayRecorder::new(), samples }
    }

    fn add(&mut self, sent_ns: u64, delay_ns: u64) {
        if sent_ns >= self.measure_from_ns {
            self.recorder.record(Nanos::from_nanos(delay_ns));
        }
        if let Some(samples) = self.samples.as_mut().filter(|samples| samples.len() < MAX_SAMPLES) {
            samples.push(DelaySample { at_ns: sent_ns.saturating_sub(self.start_ns), delay_ns });
        }
    }
}

pub(super) fn receive(
    socket: &Socket,
    flow: &FlowState,
    stop: &AtomicBool,
    delays: &mut Delays,
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
        delays.add(sent_ns, arrived.saturating_sub(sent_ns));
    }
    Ok(())
}

fn split_header(header: [u8; HEADER]) -> (u64, u64) {
    let both = u128::from_le_bytes(header);
    let low = u64::try_from(both & u128::from(u64::MAX)).unwrap_or(0);
    (low, u64::try_from(both >> 64).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::Family;

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

    #[test]
    fn delays_of_what_was_sent_before_the_measurement_are_kept_and_not_measured() {
        let mut delays = Delays::new(1_000, 2_000, true);
        delays.add(1_500, 7);
        delays.add(2_000, 9);
        assert_eq!(delays.samples.unwrap().len(), 2);
        assert_eq!(delays.recorder.summary().count, 1);
    }
}
