//! The contenders, driven through their trait in virtual time: against published vectors, closed forms and invariants.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_wrap,
    reason = "a test may panic"
)]

mod bcpqp;
mod cake;
mod conservation;
mod dualpi2;
mod fq_codel;
mod pie;
mod shaping;

use serde_json::Value;
use weir_aqm::{Nanos, Rate};
use weir_sim::{
    Ecn, FlowId, Packet,
    queue::{Queue, Tally},
};

/// A full Ethernet frame.
const FULL: u32 = 1514;

fn ms(ms: u64) -> Nanos {
    Nanos::from_millis(ms)
}

fn us(us: u64) -> Nanos {
    Nanos::from_micros(us)
}

fn mbit(mbit: u64) -> Rate {
    Rate::from_bits_per_second(mbit * 1_000_000)
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn packet(flow: u32, bytes: u32) -> Packet {
    Packet {
        flow: FlowId(flow),
        bytes,
        number: 0,
        segment: 0,
        sent: Nanos::ZERO,
        host: 0,
        dscp: 0,
        service: weir_sim::Service::default(),
        ecn: Ecn::NotEct,
    }
}

/// One frame to CPU 0.
fn offer(queue: &mut dyn Queue, now: Nanos, packet: Packet, tally: &mut Tally) {
    queue.offer(now, 0, &mut vec![packet], tally);
}

/// Constant arrivals and constant departures of full frames of one kind, until `end`; what left: when, and how long it
/// waited.
fn constant_load(
    queue: &mut dyn Queue,
    packet: Packet,
    [arrivals, departures]: [Nanos; 2],
    end: Nanos,
    tally: &mut Tally,
) -> Vec<(Nanos, Packet)> {
    let (mut arrives, mut leaves) = (Nanos::ZERO, Nanos::ZERO);
    let mut out = Vec::new();
    while arrives.min(leaves) < end {
        if arrives <= leaves {
            offer(queue, arrives, Packet { sent: arrives, ..packet }, tally);
            arrives = arrives.saturating_add(arrivals);
        } else {
            out.extend(queue.take(leaves, tally).map(|packet| (leaves, packet)));
            leaves = leaves.saturating_add(departures);
        }
    }
    out
}
