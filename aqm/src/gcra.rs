//! The generic cell rate algorithm: a token bucket whose whole state is one instant.
//!
//! The theoretical arrival time (TAT) is when the bucket will be full again. A packet conforms if charging it moves
//! the TAT at most `tolerance` ahead of the clock. That is the token bucket of rate `r` and depth `B` with
//! `tolerance = B / r` (ITU-T I.371 Annex A; RFC 2697 for the bucket's words), in one `u64`, so that several CPUs
//! share a meter with a compare-and-swap and no lock.

use core::cell::Cell;

use crate::units::{Bytes, Nanos, Pace};

/// Rate and burst of one meter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GcraParams {
    /// Time per byte of the committed rate.
    pub pace: Pace,
    /// Burst tolerance: the bucket's depth as time at the committed rate. At least the time of the largest packet,
    /// or that packet never conforms.
    pub tolerance: Nanos,
}

impl GcraParams {
    /// A meter of `pace` that lets a full bucket of `burst` bytes (at most 2^31) pass at once.
    pub const fn with_burst(pace: Pace, burst: Bytes) -> Self {
        // Rounded up like each packet's charge, so that one packet of exactly `burst` bytes conforms.
        Self { pace, tolerance: pace.time_for_rounded_up(burst) }
    }

    /// A meter of packets: `rate` of them in a second, `burst` at once. Each costs [`PACKET`], whatever its length.
    /// `None` for a rate of 0. The slowest rate is one packet in 4.29 s.
    pub const fn with_packets(rate: u64, burst: u64) -> Option<Self> {
        let Some(pace) = Pace::from_sample(Bytes::new(rate), Nanos::from_secs(1)) else {
            return None;
        };
        Some(Self::with_burst(pace, Bytes::new(burst)))
    }
}

/// The cost of one packet to a meter made with [`GcraParams::with_packets`].
pub const PACKET: Bytes = Bytes::new(1);

/// Whether a packet is within the rate.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conformance {
    /// Within the rate. The caller stores `tat`, with a compare-and-swap where CPUs share the meter.
    Conform {
        /// The new theoretical arrival time.
        tat: Nanos,
    },
    /// Above the rate. Nothing is charged.
    Exceed {
        /// How much later the same packet would have conformed; at least 1 ns.
        excess: Nanos,
    },
}

/// Tests a packet of `cost` bytes against the meter. Pure, so that the caller's compare-and-swap loop may repeat it.
///
/// A `tat` of zero is a full bucket. `now` may be earlier than at the call before: the bucket is then simply not
/// refilled. Each charge is rounded up to a nanosecond: over any time, accepted bytes stay within burst + rate x
/// time, and the accepted rate is low by at most 1 ns per packet.
#[inline(always)]
pub fn conform(params: &GcraParams, tat: Nanos, now: Nanos, cost: Bytes) -> Conformance {
    let start = if tat > now { tat } else { now };
    let tat = start.saturating_add(params.pace.time_for_rounded_up(cost));
    let ahead = tat.saturating_sub(now);
    if ahead > params.tolerance {
        return Conformance::Exceed { excess: ahead.saturating_sub(params.tolerance) };
    }
    Conformance::Conform { tat }
}

/// A theoretical arrival time that several CPUs share, in a word that one of them changes at a time.
pub trait SharedTat {
    /// The word as it stands now.
    fn load(&self) -> Nanos;

    /// Stores `new` if the word is still `old`; whether it was.
    fn swap(&self, old: Nanos, new: Nanos) -> bool;
}

/// A word that its owner shares with nobody.
impl SharedTat for Cell<Nanos> {
    #[inline(always)]
    fn load(&self) -> Nanos {
        self.get()
    }

    #[inline(always)]
    fn swap(&self, old: Nanos, new: Nanos) -> bool {
        let same = self.get() == old;
        if same {
            self.set(new);
        }
        same
    }
}

/// How often a charge is tried. Whoever loses one swap has lost it to a CPU that won, and a CPU that loses all of them is told
/// so: nobody waits.
pub const SWAP_ATTEMPTS: usize = 4;

/// What became of a charge to a shared meter.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charged {
    /// Within the rate, and charged.
    Conform,
    /// Above the rate; nothing is charged.
    Exceed,
    /// Other CPUs won [`SWAP_ATTEMPTS`] swaps; nothing is charged. To be taken for [`Charged::Exceed`].
    Lost,
}

/// Charges a shared meter. `ask` is the meter's word on a packet, given the TAT: the new one, or `None` above the rate.
///
/// The swap is the whole effect, so what conforms stays within burst + rate x time, whatever the interleaving.
#[inline(always)]
pub fn charge_shared<T: SharedTat>(word: &T, ask: impl Fn(Nanos) -> Option<Nanos>) -> Charged {
    for _ in 0..SWAP_ATTEMPTS {
        let tat = word.load();
        match ask(tat) {
            Some(new) if word.swap(tat, new) => return Charged::Conform,
            Some(_) => {}
            None => return Charged::Exceed,
        }
    }
    Charged::Lost
}

/// The delay that a real queue served at the meter's rate would have given: `tat - now`, zero when it is idle.
#[inline(always)]
pub fn virtual_sojourn(tat: Nanos, now: Nanos) -> Nanos {
    tat.saturating_sub(now)
}

/// The TAT with the charge of a packet taken back, for one that conformed but was not sent.
#[inline(always)]
pub fn refund(params: &GcraParams, tat: Nanos, cost: Bytes) -> Nanos {
    tat.saturating_sub(params.pace.time_for_rounded_up(cost))
}
