//! Units: time, sizes, and a rate in the two forms it is used in ([`Pace`] to compute, [`Rate`] to read).

mod bytes;
mod nanos;
mod pace;
mod rate;

pub use bytes::Bytes;
pub use nanos::Nanos;
pub use pace::Pace;
pub use rate::Rate;

use core::fmt;

/// `a * b`, at most `u64::MAX`. The standard library's computes in 128 bits, which the BPF target does not have.
#[inline(always)]
pub(crate) const fn saturating_mul(a: u64, b: u64) -> u64 {
    let (a_high, a_low) = (a >> 32, a & 0xffff_ffff);
    let (b_high, b_low) = (b >> 32, b & 0xffff_ffff);
    if a_high != 0 && b_high != 0 {
        return u64::MAX;
    }
    // One of the two products is zero.
    let middle = a_high.wrapping_mul(b_low).wrapping_add(a_low.wrapping_mul(b_high));
    if middle >> 32 != 0 {
        return u64::MAX;
    }
    (middle << 32).saturating_add(a_low.wrapping_mul(b_low))
}

/// Writes `value / unit` exactly, without trailing zeros: 1500/1000 is `1.5`. `unit` is a power of ten.
fn write_decimal(f: &mut fmt::Formatter<'_>, value: u64, unit: u64) -> fmt::Result {
    let unit = unit.max(1);
    write!(f, "{}", value / unit)?;
    let mut rest = value % unit;
    if rest == 0 {
        return Ok(());
    }
    f.write_str(".")?;
    let mut place = unit / 10;
    while rest != 0 && place != 0 {
        write!(f, "{}", rest / place)?;
        rest %= place;
        place /= 10;
    }
    Ok(())
}
