//! PIE (RFC 8033): drops at the tail with a probability that a PI controller of the delay renews.

use weir_aqm::Nanos;
use weir_shared_maps::PortCounter;

use super::{
    Queue, Tally,
    fifo::{FULL_FRAME, Fifo, mark},
};
use crate::{Packet, Random};

/// RFC 8033 section 5.1: no marks in place of drops above this probability.
const MARK_BELOW: f64 = 0.1;
/// RFC 8033 section 4.2: the gain is divided where the probability is below, so that small ones move little.
const DIVISORS: [(f64, f64); 6] =
    [(1e-6, 2048.0), (1e-5, 512.0), (1e-4, 128.0), (1e-3, 32.0), (1e-2, 8.0), (1e-1, 2.0)];

/// Configuration of PIE.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PieParams {
    /// Delay aimed at (`QDELAY_REF`).
    pub target: Nanos,
    /// Time between two updates; not zero.
    pub t_update: Nanos,
    /// Bursts shorter than this pass undisturbed.
    pub max_burst: Nanos,
    /// Per second of distance from the target.
    pub alpha: f64,
    /// Per second of change of the delay.
    pub beta: f64,
}

impl PieParams {
    /// RFC 8033 section 4.
    pub const fn rfc_8033() -> Self {
        let ms = Nanos::from_millis;
        Self { target: ms(15), t_update: ms(15), max_burst: ms(150), alpha: 0.125, beta: 1.25 }
    }
}

/// State of PIE.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PieVars {
    /// Drop probability, 0 to 1.
    pub probability: f64,
    /// Probability summed up since the last drop (derandomisation, RFC 8033 section 5.4).
    pub accumulated: f64,
    /// Delay at the last update.
    pub delay_old: Nanos,
    /// What is left of the burst allowance.
    pub burst: Nanos,
}

impl PieVars {
    /// RFC 8033 sections 4.2, 4.4 and 5.5, each `t_update`; `delay` is the latency now.
    pub fn update(&mut self, params: &PieParams, delay: Nanos) {
        let seconds = |time: Nanos| time.as_nanos() as f64 / 1e9;
        let (now, old) = (seconds(delay), seconds(self.delay_old));
        let mut step = params.alpha * (now - seconds(params.target)) + params.beta * (now - old);
        let divisor = DIVISORS.iter().find(|(below, _)| self.probability < *below);
        step /= divisor.map_or(1.0, |(_, divisor)| *divisor);
        if self.probability >= 0.1 && step > 0.02 {
            step = 0.02;
        }
        self.probability += step;
        if delay == Nanos::ZERO && self.delay_old == Nanos::ZERO {
            self.probability *= 1.0 - 1.0 / 64.0;
        }
        self.probability = self.probability.clamp(0.0, 1.0);
        self.burst = self.burst.saturating_sub(params.t_update);
        let calm = |delay: Nanos| delay.as_nanos() < params.target.as_nanos() / 2;
        if self.probability == 0.0 && calm(delay) && calm(self.delay_old) {
            self.burst = params.max_burst;
        }
        self.delay_old = delay;
    }

    /// Whether the arriving packet is to be signalled (RFC 8033 sections 4.1 and 5.4): `backlog` bytes wait before it,
    /// `roll` is uniform in (0, 1].
    pub fn signals(&mut self, params: &PieParams, backlog: u64, roll: f64) -> bool {
        let calm = self.delay_old.as_nanos() < params.target.as_nanos() / 2 && self.probability < 0.2;
        if self.burst > Nanos::ZERO || calm || backlog <= 2 * FULL_FRAME {
            return false;
        }
        if self.probability == 0.0 {
            self.accumulated = 0.0;
        }
        self.accumulated += self.probability;
        if self.accumulated < 0.85 || (self.accumulated < 8.5 && roll > self.probability) {
            return false;
        }
        self.accumulated = 0.0;
        true
    }
}

/// A queue with PIE at its tail. The latency is that of the packet that left last, by its timestamp, zero when the queue is
/// empty: the other way that RFC 8033 section 4.3 allows besides the departure rate, and Linux's default.
pub struct Pie {
    params: PieParams,
    vars: PieVars,
    random: Random,
    fifo: Fifo,
    slots: u32,
    latency: Nanos,
    next_update: Nanos,
}

impl Pie {
    /// An empty queue with `slots` of room.
    pub fn new(slots: u32, params: PieParams, random: Random) -> Self {
        Self {
            params,
            vars: PieVars { burst: params.max_burst, ..PieVars::default() },
            random,
            fifo: Fifo::default(),
            slots,
            latency: Nanos::ZERO,
            next_update: params.t_update,
        }
    }

    /// The controller's state.
    pub const fn vars(&self) -> &PieVars {
        &self.vars
    }

    /// The updates that were due until now. Between two calls nothing that they read changes.
    fn run_timer(&mut self, now: Nanos) {
        while self.next_update <= now {
            let before = self.vars;
            self.vars.update(&self.params, self.latency);
            self.next_update = self.next_update.saturating_add(self.params.t_update);
            if self.vars == before {
                // A fixed point: the updates in between change nothing either.
                let period = self.params.t_update.as_nanos().max(1);
                let late = now.saturating_sub(self.next_update).as_nanos() / period;
                let late = Nanos::from_nanos(late.saturating_mul(period));
                self.next_update = self.next_update.saturating_add(late);
            }
        }
    }
}

impl Queue for Pie {
    fn offer(&mut self, now: Nanos, _cpu: u32, batch: &mut Vec<Packet>, tally: &mut Tally) {
        self.run_timer(now);
        for mut packet in batch.drain(..) {
            if self.fifo.len() >= self.slots {
                tally.drop(PortCounter::RingDrops);
                continue;
            }
            if self.vars.signals(&self.params, self.fifo.bytes(), self.random.unit()) {
                let may_mark = self.vars.probability <= MARK_BELOW;
                if !(may_mark && mark(&mut packet, tally)) {
                    tally.drop(PortCounter::DropAqm);
                    continue;
                }
            }
            self.fifo.push(now, packet);
        }
    }

    fn take(&mut self, now: Nanos, _tally: &mut Tally) -> Option<Packet> {
        self.run_timer(now);
        let (packet, sojourn) = self.fifo.pop(now)?;
        self.latency = if self.fifo.is_empty() { Nanos::ZERO } else { sojourn };
        Some(packet)
    }

    fn occupancy(&self) -> u32 {
        self.fifo.len()
    }

    fn slots(&self) -> u32 {
        self.slots
    }
}
