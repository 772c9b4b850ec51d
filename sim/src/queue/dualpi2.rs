//! DualPI2 (RFC 9332) with the arithmetic and defaults of `net/sched/sch_dualpi2.c` (v6.18).

use weir_aqm::{Bytes, Nanos, Pi2Params, Pi2Vars};
use weir_shared_maps::PortCounter;

use super::{
    Queue, Tally,
    fifo::{FULL_FRAME, Fifo, mark},
};
use crate::{Ecn, Packet, Random};

/// The classic queue's share in per cent while both have packets (`c_protection`); the other queue has the rest.
const CLASSIC_SHARE: i64 = 10;
/// The L4S queue's share.
const L4S_SHARE: i64 = 100 - CLASSIC_SHARE;

/// Weighted round robin between the two queues, in one number: the classic queue is served while it is positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit(i64);

impl Default for Credit {
    fn default() -> Self {
        Self::START
    }
}

impl Credit {
    /// Of an idle port: L4S first, by most of a round.
    const START: Self = Self(FULL_FRAME.cast_signed() * (CLASSIC_SHARE - L4S_SHARE));

    /// The credit in bytes times per cent.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Whether the L4S queue is next, while both have packets.
    pub const fn serves_l4s(self) -> bool {
        self.0 <= 0
    }

    /// A packet of `bytes` was sent from the L4S queue or the classic one, while the other one had packets too.
    pub fn sent(&mut self, l4s: bool, bytes: u32) {
        let weight = if l4s { CLASSIC_SHARE } else { -L4S_SHARE };
        self.0 = self.0.saturating_add(weight.saturating_mul(i64::from(bytes)));
    }
}

/// Configuration of DualPI2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DualPi2Params {
    /// Of the base controller.
    pub pi2: Pi2Params,
    /// Each L4S packet that waited longer is marked.
    pub step: Nanos,
    /// How many times the base probability L4S packets are marked with.
    pub coupling: u32,
}

impl DualPi2Params {
    /// Linux's defaults: the gains are 7 % above RFC 9332's for a largest RTT of 100 ms.
    pub const fn linux() -> Self {
        let pi2 = Pi2Params::linux(Bytes::new(FULL_FRAME));
        Self { pi2, step: Nanos::from_millis(1), coupling: 2 }
    }
}

/// What happens to a packet at the head.
enum Verdict {
    Pass,
    Mark,
    Drop,
}

/// A queue for L4S traffic and one for classic traffic, coupled.
pub struct DualPi2 {
    params: DualPi2Params,
    vars: Pi2Vars,
    random: Random,
    l4s: Fifo,
    classic: Fifo,
    credit: Credit,
    slots: u32,
    next_update: Nanos,
}

impl DualPi2 {
    /// Empty queues that share `slots` of room.
    pub fn new(slots: u32, params: DualPi2Params, random: Random) -> Self {
        Self {
            params,
            vars: Pi2Vars::default(),
            random,
            l4s: Fifo::default(),
            classic: Fifo::default(),
            credit: Credit::START,
            slots,
            next_update: params.pi2.t_update,
        }
    }

    /// The base probability in 2^-32.
    pub const fn probability(&self) -> u32 {
        self.vars.p
    }

    /// Whose turn it is.
    pub const fn credit(&self) -> Credit {
        self.credit
    }

    /// The updates due until now. Each sees the age that the heads had at its own time; they have not changed since.
    fn run_timer(&mut self, now: Nanos) {
        let period = self.params.pi2.t_update.as_nanos().max(1);
        while self.next_update <= now {
            let before = (self.vars.p, self.vars.last_delay);
            let delay = self.l4s.head_age(self.next_update).max(self.classic.head_age(self.next_update));
            self.vars.update(&self.params.pi2, delay);
            let idle = delay == Nanos::ZERO && self.occupancy() == 0;
            if idle && before == (self.vars.p, self.vars.last_delay) {
                // Nothing to see until the next arrival.
                let late = now.saturating_sub(self.next_update).as_nanos() / period;
                let late = Nanos::from_nanos(late.saturating_mul(period));
                self.next_update = self.next_update.saturating_add(late);
            }
            self.next_update = self.next_update.saturating_add(Nanos::from_nanos(period));
        }
    }

    /// The head that is next, whether it is L4S, how long it waited, and whether the other queue has packets.
    fn pop(&mut self, now: Nanos) -> Option<(Packet, bool, Nanos, bool)> {
        let both = !self.l4s.is_empty() && !self.classic.is_empty();
        let l4s = !self.l4s.is_empty() && (!both || self.credit.serves_l4s());
        let fifo = if l4s { &mut self.l4s } else { &mut self.classic };
        let (packet, sojourn) = fifo.pop(now)?;
        Some((packet, l4s, sojourn, both))
    }

    fn roll(&mut self, probability: u32) -> bool {
        self.random.bits() as u32 <= probability
    }

    /// `must_drop`: the coupled probability. Classic packets meet its square.
    fn coupled(&mut self, packet: &Packet, l4s: bool) -> Verdict {
        if self.l4s.bytes().saturating_add(self.classic.bytes()) < 2 * FULL_FRAME {
            return Verdict::Pass;
        }
        let base = self.vars.p;
        let scaled = u64::from(base).saturating_mul(u64::from(self.params.coupling));
        let (scaled, overload) = match u32::try_from(scaled) {
            Ok(scaled) => (scaled, false),
            Err(_) => (u32::MAX, true),
        };
        if l4s && !overload {
            return if self.roll(scaled) { Verdict::Mark } else { Verdict::Pass };
        }
        let squared = self.roll(base) && self.roll(base);
        match (squared, l4s) {
            // Above the whole, marks tell nothing more: drops keep the delay (RFC 9332 section 4.2).
            (true, true) => Verdict::Drop,
            (false, true) => Verdict::Mark,
            (true, false) if overload || packet.ecn == Ecn::NotEct => Verdict::Drop,
            (true, false) => Verdict::Mark,
            (false, false) => Verdict::Pass,
        }
    }
}

impl Queue for DualPi2 {
    fn offer(&mut self, now: Nanos, _cpu: u32, batch: &mut Vec<Packet>, tally: &mut Tally) {
        self.run_timer(now);
        for packet in batch.drain(..) {
            if self.occupancy() >= self.slots {
                tally.drop(PortCounter::RingDrops);
                continue;
            }
            match packet.ecn {
                // RFC 9331 section 5.1: CE may have been ECT(1).
                Ecn::Ect1 | Ecn::Ce => self.l4s.push(now, packet),
                Ecn::NotEct | Ecn::Ect0 => self.classic.push(now, packet),
            }
        }
    }

    fn take(&mut self, now: Nanos, tally: &mut Tally) -> Option<Packet> {
        self.run_timer(now);
        loop {
            let Some((mut packet, l4s, sojourn, both)) = self.pop(now) else {
                self.credit = Credit::START;
                return None;
            };
            let marks = match self.coupled(&packet, l4s) {
                Verdict::Drop => {
                    tally.drop(PortCounter::DropAqm);
                    continue;
                }
                Verdict::Mark => true,
                Verdict::Pass => false,
            };
            if marks || (l4s && sojourn > self.params.step) {
                mark(&mut packet, tally);
            }
            if both {
                self.credit.sent(l4s, packet.bytes);
            }
            return Some(packet);
        }
    }

    fn occupancy(&self) -> u32 {
        self.l4s.len().saturating_add(self.classic.len())
    }

    fn slots(&self) -> u32 {
        self.slots
    }
}
