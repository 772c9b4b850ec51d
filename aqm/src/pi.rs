//! What the proportional-integral controllers share: PI2 and PIE.

use crate::units::Nanos;

/// Delays beyond 4.29 s are this long: with gains of 32 bits, no product exceeds 64.
const DELAY_MAX: u64 = u32::MAX as u64;

/// The step `alpha (delay - target) + beta (delay - last)`, what raises the probability and what lowers it apart.
#[inline(always)]
pub(crate) fn step(gains: (u32, u32), target: Nanos, delay: Nanos, last: Nanos) -> (u64, u64) {
    let (above, below) = difference(delay, target);
    let (rose, fell) = difference(delay, last);
    let (alpha, beta) = (u64::from(gains.0), u64::from(gains.1));
    let up = alpha.wrapping_mul(above).saturating_add(beta.wrapping_mul(rose));
    let down = alpha.wrapping_mul(below).saturating_add(beta.wrapping_mul(fell));
    (up, down)
}

/// `(a - b, 0)` or `(0, b - a)`, each at most 4.29 s.
#[inline(always)]
pub(crate) fn difference(a: Nanos, b: Nanos) -> (u64, u64) {
    let a = if a.as_nanos() < DELAY_MAX { a.as_nanos() } else { DELAY_MAX };
    let b = if b.as_nanos() < DELAY_MAX { b.as_nanos() } else { DELAY_MAX };
    (a.saturating_sub(b), b.saturating_sub(a))
}
