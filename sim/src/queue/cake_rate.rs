//! What CAKE derives from its rate (`cake_set_rate`, `net/sched/sch_cake.c`, v6.18).

use weir_aqm::{Nanos, Rate};

use super::cobalt::CobaltParams;

/// Slowest rate in bytes per second.
const RATE_MIN: u64 = 64;
/// Round-trip time and target that the parameters are meant for, where the rate allows.
const RTT: Nanos = Nanos::from_millis(100);
const TARGET: Nanos = Nanos::from_millis(5);

/// A rate as time per byte, and what goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CakeRate {
    /// Nanoseconds per byte, times two to the `shift`.
    pub rate_ns: u64,
    /// Fraction bits of `rate_ns`.
    pub shift: u32,
    /// Bytes of a flow's turn.
    pub quantum: u32,
    /// Bytes of room.
    pub memory: u64,
    /// Of COBALT.
    pub cobalt: CobaltParams,
}

impl CakeRate {
    /// The parameters at `rate` for packets of up to `mtu` bytes.
    pub fn new(rate: Rate, mtu: u32) -> Self {
        let bytes_per_second = rate.bits_per_second() / 8;
        let wide = (1_000_000_000u64 << 34) / bytes_per_second.max(RATE_MIN);
        let over = wide.checked_ilog2().unwrap_or(0).saturating_sub(33);
        let (rate_ns, shift) = (wide >> over, 34u32.saturating_sub(over));
        let time = |bytes: u64| Nanos::from_nanos(bytes.saturating_mul(rate_ns) >> shift);
        let mtu_time = time(u64::from(mtu));
        let target = TARGET.max(Nanos::from_nanos(mtu_time.as_nanos().saturating_mul(3) / 2));
        let interval = RTT.saturating_add(target).saturating_sub(TARGET).max(target.saturating_mul(2));
        let rtts = bytes_per_second.saturating_mul(4).saturating_mul(RTT.as_nanos() / 1_000_000) / 1_000;
        Self {
            rate_ns,
            shift,
            quantum: (bytes_per_second >> 12).clamp(300, 1514) as u32,
            memory: rtts.max(4 << 20),
            cobalt: CobaltParams::new(target, interval, mtu_time),
        }
    }

    /// The time that `bytes` take.
    pub const fn time_of(&self, bytes: u32) -> Nanos {
        Nanos::from_nanos((bytes as u64).saturating_mul(self.rate_ns) >> self.shift)
    }
}
