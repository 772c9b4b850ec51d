//! The two-rate three-colour marker (RFC 2698) as two theoretical arrival times.
//!
//! A packet above the peak rate is red; of the others, those above the committed rate are yellow. Each token bucket
//! is one meter ([`crate::gcra`]), and the peak bucket is asked first. A red packet is charged nowhere, a yellow one
//! to the peak bucket, a green one to both.
//!
//! # Sharing the two words between CPUs
//!
//! Two words cannot be swapped at once, and need not be: whether a packet is red depends on the peak bucket alone,
//! and a packet that is charged to the peak bucket alone is exactly a yellow one. So [`mark_shared`]
//!
//! 1. reads the peak TAT, asks [`peak`], and swaps the new TAT in; if the swap fails it starts again;
//! 2. then reads the committed TAT, asks [`committed`], and swaps; if the swap fails it repeats this step alone.
//!
//! Each swap is the whole effect of its step, so neither bucket ever passes more than burst + rate x time, whatever
//! the interleaving, and nothing is ever given back. Two packets may take the buckets in opposite orders; each of their
//! colours is then still one that RFC 2698 gives for some order of arrival at each bucket. A packet that loses all its swaps
//! is red in step 1 and yellow in step 2: a race costs at most one colour per step, never a byte above a rate.
//!
//! The order matters: with the committed bucket first, a packet that the peak bucket then refuses would have to give its charge
//! back, and another CPU's packet could have been coloured yellow for it meanwhile.

use crate::gcra::{self, Charged, Conformance, GcraParams, SharedTat};
use crate::units::{Bytes, Nanos};

/// The colour of a packet: how much of its profile it is within.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Colour {
    /// Within the committed rate.
    Green,
    /// Above the committed, within the peak rate.
    Yellow,
    /// Above the peak rate.
    Red,
}

/// The two meters. What their cost counts is the caller's: bytes, or packets with [`GcraParams::with_packets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrtcmParams {
    /// Peak information rate and peak burst size (PIR, PBS). PIR is at least CIR.
    pub peak: GcraParams,
    /// Committed information rate and committed burst size (CIR, CBS).
    pub committed: GcraParams,
}

/// State of one marker. The default is two full buckets.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrtcmVars {
    /// Theoretical arrival time of the peak bucket.
    pub peak_tat: Nanos,
    /// Theoretical arrival time of the committed bucket.
    pub committed_tat: Nanos,
}

/// Step 1: the peak bucket's word on a packet that arrives as `arrived`. `None` is red, and nothing is charged; else
/// the caller stores the peak TAT and goes on to [`committed`].
///
/// Colour-blind operation is `arrived = Green` for every packet.
#[inline(always)]
#[must_use]
pub fn peak(
    params: &TrtcmParams,
    peak_tat: Nanos,
    now: Nanos,
    cost: Bytes,
    arrived: Colour,
) -> Option<Nanos> {
    match arrived {
        Colour::Red => None,
        Colour::Green | Colour::Yellow => charged(&params.peak, peak_tat, now, cost),
    }
}

/// Step 2: the committed bucket's word on a packet that the peak bucket has passed. `None` is yellow, and nothing is
/// charged; else the packet is green once the caller has stored the committed TAT.
#[inline(always)]
#[must_use]
pub fn committed(
    params: &TrtcmParams,
    committed_tat: Nanos,
    now: Nanos,
    cost: Bytes,
    arrived: Colour,
) -> Option<Nanos> {
    match arrived {
        Colour::Yellow | Colour::Red => None,
        Colour::Green => charged(&params.committed, committed_tat, now, cost),
    }
}

/// Both steps at once, for a caller that has the state to itself: the packet's colour and the state after it.
#[inline(always)]
pub fn mark(
    params: &TrtcmParams,
    vars: TrtcmVars,
    now: Nanos,
    cost: Bytes,
    arrived: Colour,
) -> (Colour, TrtcmVars) {
    let Some(peak_tat) = peak(params, vars.peak_tat, now, cost, arrived) else {
        return (Colour::Red, vars);
    };
    match committed(params, vars.committed_tat, now, cost, arrived) {
        Some(committed_tat) => (Colour::Green, TrtcmVars { peak_tat, committed_tat }),
        None => (Colour::Yellow, TrtcmVars { peak_tat, ..vars }),
    }
}

/// A colour that was found while other CPUs may have charged the same buckets.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedColour {
    /// The packet's colour.
    pub colour: Colour,
    /// Whether it may be a shade too dark: other CPUs won every swap of a step.
    pub lost: bool,
}

impl SharedColour {
    #[inline(always)]
    const fn of(charged: Charged, within: Colour, above: Colour) -> Self {
        match charged {
            Charged::Conform => Self { colour: within, lost: false },
            Charged::Exceed => Self { colour: above, lost: false },
            Charged::Lost => Self { colour: above, lost: true },
        }
    }
}

/// Both steps on words that CPUs share. With nobody else at them, what [`mark`] says.
#[inline(always)]
pub fn mark_shared<T: SharedTat>(
    params: &TrtcmParams,
    peak_tat: &T,
    committed_tat: &T,
    now: Nanos,
    cost: Bytes,
    arrived: Colour,
) -> SharedColour {
    let at_peak = gcra::charge_shared(peak_tat, |tat| peak(params, tat, now, cost, arrived));
    let paid = SharedColour::of(at_peak, Colour::Yellow, Colour::Red);
    if paid.colour == Colour::Red {
        return paid;
    }
    let charged = gcra::charge_shared(committed_tat, |tat| committed(params, tat, now, cost, arrived));
    SharedColour::of(charged, Colour::Green, Colour::Yellow)
}

/// A policer of one rate: green within it, red above. A packet that arrives yellow is red, as there is no second bucket that it
/// could be within.
#[inline(always)]
pub fn mark_single_shared<T: SharedTat>(
    params: &GcraParams,
    tat: &T,
    now: Nanos,
    cost: Bytes,
    arrived: Colour,
) -> SharedColour {
    let charged = gcra::charge_shared(tat, |tat| match arrived {
        Colour::Green => charged(params, tat, now, cost),
        Colour::Yellow | Colour::Red => None,
    });
    SharedColour::of(charged, Colour::Green, Colour::Red)
}

#[inline(always)]
fn charged(params: &GcraParams, tat: Nanos, now: Nanos, cost: Bytes) -> Option<Nanos> {
    match gcra::conform(params, tat, now, cost) {
        Conformance::Conform { tat } => Some(tat),
        Conformance::Exceed { .. } => None,
    }
}
