//! Routers that move flows.
#![allow(dead_code, reason = "each test has its own use for a part of it")]

use weir_aqm::{Nanos, Pace, Rate};
use weir_shared_maps::{
    ACTION_DIVERT, ACTION_DROP, ACTION_NONE, ACTION_SPILL, BackOff, PortConfig, STACK_CHARGE,
};
use weir_sim::queue::{PortSetup, RouterConfig, StackConfig};
use weir_sim::{Contender, port_config};

/// What becomes of a packet at both levels.
pub const DIVERT: BackOff = both(ACTION_DIVERT);
pub const SPILL: BackOff = both(ACTION_SPILL);
/// As a port without classes does.
pub const STRAIGHT: BackOff = actions(ACTION_NONE, ACTION_DROP);

const fn both(action: u32) -> BackOff {
    actions(action, action)
}

pub const fn actions(on_congested: u32, on_full: u32) -> BackOff {
    BackOff { on_congested, on_full, divert_burst_ns: 10_000_000, ..BackOff::NONE }
}

/// The same with a bound of its own for the stack.
pub fn bounded(back_off: BackOff, rate: Rate) -> BackOff {
    let pace = Pace::from_bits_per_second(rate.bits_per_second()).unwrap();
    BackOff { divert_pace_mult: pace.mult(), divert_pace_shift: pace.shift(), ..back_off }
}

pub fn mbit(mbit: u64) -> Rate {
    Rate::from_bits_per_second(mbit * 1_000_000)
}

/// A shaper with this queue behind it.
pub fn shaped(rate: Rate, queue: Contender) -> Contender {
    Contender::Shaped { rate, queue: Box::new(queue) }
}

pub const fn stack(qdisc: Contender) -> StackConfig {
    StackConfig { qdisc, limit: 1_000, delay: Nanos::from_micros(20) }
}

/// A port without classes, whose stack is charged as where the file says that it diverts.
pub fn port() -> PortConfig {
    PortConfig { stack: STACK_CHARGE, ..port_config() }
}

/// Such a port, and another one that flows spill to.
pub fn router(back_off: BackOff, qdisc: Contender) -> RouterConfig {
    RouterConfig {
        port: PortSetup::Plain(Box::new(port())),
        back_off: vec![back_off],
        stack: stack(qdisc),
        spill: Some(PortSetup::Plain(Box::new(port_config()))),
    }
}

pub fn weir(router: RouterConfig) -> Contender {
    Contender::WeirRouter(Box::new(router))
}
