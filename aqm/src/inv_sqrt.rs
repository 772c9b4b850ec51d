//! CoDel's control law without a square root: `interval / sqrt(count)` from a table.
//!
//! Linux keeps a running Newton iterate in 16 bits (include/net/codel_impl.h, v6.18): it is 29 % low at count 2 and
//! takes garbage values when `count` jumps. A table keeps no state, so `count` may move by any path.

use crate::units::Nanos;

/// Entries for 64..=256; the last one only ends the last interpolation.
const ENTRIES: usize = 193;

/// `2^31 * 8 / sqrt(64 + i)`, rounded: 64 maps to 2^31, 256 to 2^30.
static TABLE: [u32; ENTRIES] = table();

/// Runs in the compiler alone; its `u128` never reaches a program.
#[allow(clippy::indexing_slicing)] // a wrong index is a compile error here
const fn table() -> [u32; ENTRIES] {
    let mut entries = [0; ENTRIES];
    let mut i = 0;
    while i < ENTRIES {
        // (2^34 / sqrt(n)) = sqrt(2^68 / n); doubled for rounding.
        let twice = ((1u128 << 70) / (64 + i as u128)).isqrt() as u64;
        entries[i] = twice.div_ceil(2) as u32;
        i += 1;
    }
    entries
}

/// The longest interval that is told apart: 2^32 - 1 ns, 4.29 s.
pub const INTERVAL_MAX: Nanos = Nanos::from_nanos(u32::MAX as u64);

/// `interval / sqrt(count)`: RFC 8289 section 3.3. `interval` above 4.29 s counts as 4.29 s, a `count` of 0 as 1.
/// The relative error is below 3e-5 (and 1 ns), so the cadence is the RFC's for every count.
#[inline]
pub fn interval_over_sqrt(interval: Nanos, count: u32) -> Nanos {
    let interval = if interval < INTERVAL_MAX { interval.as_nanos() } else { INTERVAL_MAX.as_nanos() };
    let count = if count == 0 { 1 } else { count };
    // An even shift brings the count to [2^30, 2^32); its square root is undone by half of that shift.
    let up = count.leading_zeros() & !1;
    let x = count << (up & 31);
    let index = (x >> 24).wrapping_sub(64) as usize;
    let (Some(&high), Some(&low)) = (TABLE.get(index), TABLE.get(index.wrapping_add(1))) else {
        // Unreachable, x >> 24 is 64..=255; a whole interval is the slowest cadence, so the safe one.
        return Nanos::from_nanos(interval);
    };
    let fraction = (x >> 8) & 0xffff;
    let fall = (u64::from(high.wrapping_sub(low)).wrapping_mul(u64::from(fraction))) >> 16;
    let scale = u64::from(high).wrapping_sub(fall);
    Nanos::from_nanos(interval.wrapping_mul(scale) >> (46u32.wrapping_sub(up / 2) & 63))
}
