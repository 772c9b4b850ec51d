//! Burst-controlled phantom queues (Tahir et al., SIGCOMM 2024): a policer with a byte counter for each class of flows,
//! drained together at the rate, that lets no class run far ahead of its share.
//!
//! Two errors of the published artifact are not repeated: there, the drain before a fill with magic bytes depends on an
//! unbraced `if`, so that counters are filled from a stale level, and classes that ran empty are erased inside a loop over their
//! indices, which skips the next one. Here every arrival drains first, and the drain ([`WaterFilling`]) visits each class. Magic bytes
//! that have drained already are not taken out again.

use std::{cell::RefCell, rc::Rc};

use weir_aqm::{Nanos, Rate};
use weir_egress::Decision;
use weir_shared_maps::PortCounter;

use super::{Controller, View, flow_hash::FlowHash, water::WaterFilling};
use crate::{Packet, Random};

/// Bytes of a full segment, as the sizing rules count them.
const MSS: f64 = 1500.0;

/// Room that one flow of either congestion control needs to keep the rate, in bytes: the area of its
/// sawtooth above the bandwidth-delay product. CUBIC's is counted in segments; the artifact's script counts bytes, which gives
/// eleven times too much.
pub fn phantom_bytes(rate: Rate, rtt: Nanos) -> u64 {
    let rtt = rtt.as_nanos() as f64 / 1e9;
    let bdp = rate.bits_per_second() as f64 / 8.0 * rtt;
    let reno = bdp * bdp / 18.0 / MSS;
    let segments = bdp / MSS;
    let cubic = 0.072 / rtt * segments * libm::cbrt(segments) * MSS;
    libm::round(reno.max(cubic)) as u64
}

/// Configuration of BC-PQP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BcPqpParams {
    /// Of frames.
    pub rate: Rate,
    /// Classes that flows hash into, at least one.
    pub classes: u32,
    /// Bytes that a class's counter holds.
    pub limit: u64,
    /// Window of burst control; `None` is a plain PQP.
    pub window: Option<Nanos>,
}

impl BcPqpParams {
    /// At `rate`: ten times the room of a flow at an RTT of 100 ms, as the paper sizes BC-PQP, the artifact's window of
    /// 200 ms, and enough classes that flows rarely share one.
    pub fn at_rate(rate: Rate) -> Self {
        let limit = phantom_bytes(rate, Nanos::from_millis(100)).saturating_mul(10);
        Self { rate, classes: 1024, limit, window: Some(Nanos::from_millis(200)) }
    }
}

/// Burst control of one class.
#[derive(Clone, Copy, Debug, Default)]
struct Class {
    window_start: Nanos,
    accepted: u64,
    /// Magic bytes drain while the level passes from here ...
    magic_from: u64,
    /// ... to there.
    magic_to: u64,
}

#[derive(Debug)]
struct State {
    params: BcPqpParams,
    hash: FlowHash,
    water: WaterFilling,
    classes: Vec<Class>,
}

/// One policer. Clones share it: one for each ring of a port.
#[derive(Clone, Debug)]
pub struct BcPqp {
    state: Rc<RefCell<State>>,
    now: Nanos,
}

impl BcPqp {
    /// Empty counters; `random` gives the hash its key.
    pub fn new(params: BcPqpParams, mut random: Random) -> Self {
        let classes = params.classes.max(1);
        let state = State {
            params,
            hash: FlowHash::new(&mut random),
            water: WaterFilling::new(classes, params.rate),
            classes: vec![Class::default(); classes as usize],
        };
        Self { state: Rc::new(RefCell::new(state)), now: Nanos::ZERO }
    }

    /// Bytes, magic ones among them, that the class of the packet's flow held after the last arrival.
    pub fn held(&self, packet: &Packet) -> u64 {
        let state = self.state.borrow();
        state.water.bytes(state.class_of(packet))
    }
}

impl State {
    fn class_of(&self, packet: &Packet) -> u32 {
        self.hash.bucket(packet.flow, self.params.classes.max(1))
    }

    fn judge(&mut self, now: Nanos, packet: &Packet) -> Decision {
        self.water.advance(now);
        let index = self.class_of(packet);
        let Some(class) = self.classes.get_mut(index as usize) else {
            return Decision::Drop(PortCounter::DropPolicer);
        };
        let bytes = u64::from(packet.bytes);
        let limit = self.params.limit;
        if let Some(window) = self.params.window {
            let active = u64::from(self.water.active().max(1));
            close_window(now, window, share(self.params.rate, window, active), index, class, &mut self.water);
        }
        if self.water.bytes(index).saturating_add(bytes) > limit {
            return Decision::Drop(PortCounter::DropPolicer);
        }
        self.water.add(index, bytes);
        let Some(window) = self.params.window else { return Decision::Accept };
        class.accepted = class.accepted.saturating_add(bytes);
        let active = u64::from(self.water.active().max(1));
        if class.accepted.saturating_mul(2) > share(self.params.rate, window, active).saturating_mul(3) {
            fill(limit, index, class, &mut self.water);
            (class.window_start, class.accepted) = (now, 0);
        }
        Decision::Accept
    }
}

/// Bytes of a window that each of `active` classes may send.
fn share(rate: Rate, window: Nanos, active: u64) -> u64 {
    let bytes = u128::from(rate.bits_per_second()) * u128::from(window.as_nanos()) / 8_000_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX) / active.max(1)
}

/// At the end of a window in which a class had less than half of its share, its magic bytes are given back.
fn close_window(
    now: Nanos,
    window: Nanos,
    share: u64,
    index: u32,
    class: &mut Class,
    water: &mut WaterFilling,
) {
    if now.saturating_sub(class.window_start) < window {
        return;
    }
    if class.accepted.saturating_mul(2) < share {
        water.take_out(index, undrained(class, water));
        class.magic_to = 0;
    }
    (class.window_start, class.accepted) = (now, 0);
}

/// Fills a counter to its limit; what is added is magic.
fn fill(limit: u64, index: u32, class: &mut Class, water: &mut WaterFilling) {
    let before = undrained(class, water);
    let magic = water.fill(index, limit);
    class.magic_to = water.tag(index);
    class.magic_from = class.magic_to.saturating_sub(before.saturating_add(magic));
}

/// Magic that the level has not reached yet.
fn undrained(class: &Class, water: &WaterFilling) -> u64 {
    class.magic_to.saturating_sub(class.magic_from.max(water.level()))
}

impl Controller for BcPqp {
    fn begin_batch(&mut self, now: Nanos, _ring: View) {
        self.now = now;
    }

    fn judge(&mut self, packet: &Packet) -> Decision {
        self.state.borrow_mut().judge(self.now, packet)
    }
}
