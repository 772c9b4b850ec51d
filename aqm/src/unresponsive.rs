//! Flows that do not slow down: held to their share of a drain, whatever the others leave of it for a moment.
//!
//! Water-filling ([`crate::share`]) gives what an empty queue does not need to the others at once. The phantom queue of a TCP
//! flow is empty for many round-trip times after each loss, until the flow is back at its share. A flow that heeds nothing
//! takes that in the meantime, and stands in the queue to which the others then lose packets.
//!
//! * A flow has a *claim* while it has a queue of some packets, or sends at half of its share and was signalled to slow down in
//!   the last seconds, and until the end of the next [`WINDOW`]. One without a queue that nobody told to slow down sends what
//!   it wants to, and does not come back for what it leaves. A flow's share is the drain's rate times its weight over the weight of all claims ([`ClaimsVars`]).
//! * A flow is *unresponsive* once more of it has been refused than a sender that slows down goes on losing (Floyd and Fall,
//!   "Promoting the Use of End-to-End Congestion Control in the Internet", 1999, section 3). Then a meter holds it to its
//!   share ([`ResponseVars`]). All other flows share as before, and a flow without competitors is not held.
//!
//! What is counted of a flow is the time that its packets take at its share, so that no constant here depends on a rate.
//!
//! **Bounds.** While the claims stay the same a held flow gets at most its share and the meter's tolerance. A claim that is
//! given up counts for two windows at the most: so long an unresponsive flow, and no other, leaves rate unused that a flow
//! which has stopped does not need.

use crate::units::{Bytes, Nanos, Pace, saturating_mul};

/// Longer than the silence of a retransmission timeout, of 200 ms at the least on Linux (`TCP_RTO_MIN`), and than a
/// round-trip time in which TCP regains its share.
pub const WINDOW: Nanos = Nanos::from_millis(500);
/// A flow that has used this much of a window, half of its share, has a claim without a queue: one reduction leaves TCP at
/// seven tenths of what it sent, or half.
const USED: u32 = WINDOW.as_nanos() as u32 / 2;
/// For how many windows a signal is remembered: eight seconds. CUBIC takes as long to return to a window of 800 packets
/// (RFC 9438 section 4.2: the third root of `0.3 / 0.4 * 800`).
const TOLD: u16 = 16;
/// Refused this much beyond what [`LOSS_SHIFT`] allows, a flow is unresponsive. A round of slow start at twice the share, over a
/// round-trip time of 160 ms, loses a third of that.
const EXCESS: u32 = 500_000_000;
/// What one packet counts of that at the most: 32 lost packets are needed where a share is slow.
const PACKET_MAX: u32 = EXCESS / 32;
/// What a flow is remembered to have lost: a held flow that slows down is free after four seconds at its share, or a pause.
const EXCESS_MAX: u32 = 2 * EXCESS;
/// An eighth of what is accepted may be refused for long: one packet in nine, where Reno's window is down to four packets
/// (Mathis et al., "The Macroscopic Behavior of the TCP Congestion Avoidance Algorithm", 1997: 1.22 / sqrt(loss)).
const LOSS_SHIFT: u32 = 3;
/// A flow that has not been seen for more windows starts anew.
const FORGET_WINDOWS: u32 = 2;

/// The claims to one drain. The default is none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClaimsVars {
    /// When the running window began.
    pub since: Nanos,
    /// Weight of the flows that have a claim in the running window.
    pub now: u64,
    /// Weight of those of the window before.
    pub before: u64,
    /// Number of the running window, wrapping.
    pub window: u32,
    /// Zero.
    pub reserved: u32,
}

/// How one flow reacts to losses: 24 bytes. The default is a flow that has lost nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseVars {
    /// Theoretical arrival time of a meter at the flow's share ([`crate::gcra`]).
    pub tat: Nanos,
    /// The window that [`Self::used`] and [`Self::claimed`] are of.
    pub window: u32,
    /// Nanoseconds at its share that were accepted in the window.
    pub used: u32,
    /// Nanoseconds at its share that were refused beyond what responsive senders lose.
    pub excess: u32,
    /// 1 once its claim is counted in the window, else 0.
    pub claimed: u16,
    /// Windows for which it is remembered that it was signalled to slow down.
    pub told: u16,
}

impl ClaimsVars {
    /// Begins a new window where the running one is over. A clock that stands still or steps back leaves it running.
    #[inline(always)]
    pub fn renew(&mut self, now: Nanos) {
        let age = now.saturating_sub(self.since);
        if age < WINDOW {
            return;
        }
        let next = age < WINDOW.saturating_mul(2);
        self.before = if next { self.now } else { 0 };
        self.window = self.window.wrapping_add(if next { 1 } else { FORGET_WINDOWS + 1 });
        (self.now, self.since) = (0, now);
    }

    /// Weight of all claims: those of the last whole window, or already more.
    #[inline(always)]
    pub const fn weight(&self) -> u64 {
        if self.now > self.before { self.now } else { self.before }
    }

    /// The time that `cost` bytes take at the share of a flow of `weight`, on a drain of `pace`.
    #[inline(always)]
    pub fn time_at_share(&self, pace: Pace, weight: u32, cost: Bytes) -> Nanos {
        let weight = weight as u64;
        let all = if self.weight() > weight { self.weight() } else { weight };
        // Rounded up, as each charge of a meter.
        let scaled = saturating_mul(cost.get(), all).saturating_add(weight.saturating_sub(1));
        let ahead = scaled.checked_div(weight).unwrap_or(scaled);
        pace.time_for_rounded_up(Bytes::new(ahead))
    }
}

impl ResponseVars {
    /// Sees a packet of the flow arrive, `queued` if the flow has more than a few packets in its queue. The claims have been
    /// renewed.
    #[inline(always)]
    pub fn arrive(&mut self, claims: &mut ClaimsVars, weight: u32, queued: bool) {
        let missed = claims.window.wrapping_sub(self.window);
        if missed != 0 {
            if missed > FORGET_WINDOWS {
                self.excess = 0;
            }
            let windows = if missed < TOLD as u32 { missed as u16 } else { TOLD };
            self.told = self.told.saturating_sub(windows);
            (self.window, self.used, self.claimed) = (claims.window, 0, 0);
        }
        if self.claimed == 0 && (queued || (self.told != 0 && self.used >= USED)) {
            self.claimed = 1;
            claims.now = claims.now.saturating_add(weight as u64);
        }
    }

    /// Whether the flow is unresponsive, has competitors, and is `tolerance` or more ahead of its share.
    #[inline(always)]
    pub fn is_held(&self, claims: &ClaimsVars, weight: u32, now: Nanos, tolerance: Nanos) -> bool {
        self.excess >= EXCESS && claims.weight() > weight as u64 && self.tat.saturating_sub(now) >= tolerance
    }

    /// Remembers that the flow was signalled to slow down: by a loss, for whatever cause, or a mark.
    #[inline(always)]
    pub fn signalled(&mut self) {
        self.told = TOLD;
    }

    /// Counts a packet of `time` at the flow's share ([`ClaimsVars::time_at_share`]) that was refused for what the flow sends.
    #[inline(always)]
    pub fn refused(&mut self, time: Nanos) {
        let excess = self.excess.saturating_add(counted(time));
        self.excess = if excess < EXCESS_MAX { excess } else { EXCESS_MAX };
        self.signalled();
    }

    /// Counts a packet that was accepted.
    #[inline(always)]
    pub fn accepted(&mut self, now: Nanos, time: Nanos) {
        let start = if self.tat > now { self.tat } else { now };
        self.tat = start.saturating_add(time);
        self.used = self.used.saturating_add(clamped(time));
        self.excess = self.excess.saturating_sub(counted(time) >> LOSS_SHIFT);
    }

    /// Takes the charge of an accepted packet back that was not sent.
    #[inline(always)]
    pub fn refund(&mut self, time: Nanos) {
        self.tat = self.tat.saturating_sub(time);
        self.used = self.used.saturating_sub(clamped(time));
    }
}

/// What a packet counts for or against its flow.
#[inline(always)]
const fn counted(time: Nanos) -> u32 {
    let ns = clamped(time);
    if ns < PACKET_MAX { ns } else { PACKET_MAX }
}

#[inline(always)]
const fn clamped(time: Nanos) -> u32 {
    let ns = time.as_nanos();
    if ns < u32::MAX as u64 { ns as u32 } else { u32::MAX }
}
