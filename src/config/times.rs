//! The AQM's times and gains with their defaults filled in, which depend on rate, largest frame and ring.

use weir_aqm::{Bytes, Nanos, Pi2Params, PieParams};

use super::aqm::{DEFAULT_INTERVAL, DEFAULT_TARGET, MAX_INTERVAL, MAX_LIMIT, PIE_TARGET};
use super::model::{Algorithm, Aqm, Mode, Port};

/// Default limit in targets. Three is where slow-start overshoot no longer owns the 99th percentile of a 30 s run, and the
/// goodput of a few CUBIC flows is still that of five (docs/aqm-comparison.md).
const LIMIT_TARGETS: u64 = 3;
/// Default limit in full frames, for slow links.
const LIMIT_FRAMES: u64 = 8;

/// The AQM's three times with their defaults filled in: `target <= interval / 2` (where it is ours to choose, and but for PIE) and
/// `target <= limit`.
pub(super) struct Times {
    pub target: Nanos,
    /// The burst allowance of PIE, which has no interval.
    pub interval: Nanos,
    pub limit: Nanos,
    /// The same for classes in front of a ring, where no algorithm lifts the limit: a ring that fills up to its reserve
    /// refuses everybody, and neither shares nor guarantees hold.
    pub ring_limit: Nanos,
}

impl Times {
    pub fn of(aqm: &Aqm, mode: Mode, frame_time: Nanos, burst_time: Nanos, ring_time: Option<Nanos>) -> Self {
        let pie = aqm.algorithm == Some(Algorithm::Pie);
        let usual = if pie { PIE_TARGET } else { DEFAULT_TARGET };
        let target = aqm.target.unwrap_or_else(|| default_target(usual, frame_time, ring_time));
        // On a link so slow that the target passes half of 100 ms, the interval follows the target.
        let interval = if pie {
            aqm.max_burst.unwrap_or(PieParams::rfc_8033(Bytes::ZERO).max_burst)
        } else {
            aqm.interval.unwrap_or(DEFAULT_INTERVAL.max(target.saturating_mul(2)).min(MAX_INTERVAL))
        };
        let target = match aqm.target {
            Some(target) => target,
            None => {
                let half = if pie { Nanos::MAX } else { Nanos::from_nanos(interval.as_nanos() / 2) };
                target.min(half).min(aqm.limit.unwrap_or(Nanos::MAX)).max(Nanos::from_nanos(1))
            }
        };
        let ring_limit = aqm.limit.unwrap_or_else(|| {
            let frames = frame_time.saturating_mul(LIMIT_FRAMES);
            target.saturating_mul(LIMIT_TARGETS).max(frames).max(burst_time).min(MAX_LIMIT)
        });
        let limit = match aqm.algorithm_in(mode) {
            Algorithm::None => MAX_LIMIT,
            Algorithm::Codel | Algorithm::Pi2 | Algorithm::Pie | Algorithm::L4s => ring_limit,
        };
        Self { target, interval, limit, ring_limit }
    }
}

/// What the classes' own targets make of a ring's limit that is not given: a ring is full for everybody at the port's limit, so
/// an AQM of a class whose target is not well below it would have nothing to do.
pub(super) fn limit_for_classes(port: &Port, frame_time: Nanos) -> Nanos {
    if port.mode != Mode::Bottleneck || port.aqm.limit.is_some() {
        return Nanos::ZERO;
    }
    let own = port.classes.iter().filter_map(|class| class.aqm);
    own.filter(|aqm| aqm.algorithm_in(port.mode) != Algorithm::None)
        .map(|aqm| {
            Times::of(&aqm, port.mode, frame_time, Nanos::ZERO, None).target.saturating_mul(LIMIT_TARGETS)
        })
        .fold(Nanos::ZERO, Nanos::max)
        .min(MAX_LIMIT)
}

/// What a controller that updates a probability needs beside its times.
pub(super) struct Gains {
    pub t_update: Nanos,
    pub alpha: u32,
    pub beta: u32,
}

impl Gains {
    /// PIE's are its RFC's; those of all others PI2's, which follow from the interval.
    pub fn of(aqm: &Aqm, times: &Times, frame: Bytes) -> Self {
        match aqm.algorithm {
            Some(Algorithm::Pie) => {
                let PieParams { t_update, alpha, beta, .. } = PieParams::rfc_8033(frame);
                Self { t_update: aqm.t_update.unwrap_or(t_update), alpha, beta }
            }
            None | Some(Algorithm::Codel | Algorithm::Pi2 | Algorithm::L4s | Algorithm::None) => {
                let Pi2Params { t_update, alpha, beta, .. } =
                    Pi2Params::for_rtt_max(times.target, times.interval, frame);
                Self { t_update, alpha, beta }
            }
        }
    }
}

/// The `usual` one, at most half of what the ring can hold (a target that the ring cannot reach is tail drop), at least 1.5
/// frames (RFC 8289 section 4.3: below one frame CoDel would signal on an empty queue).
fn default_target(usual: Nanos, frame_time: Nanos, ring_time: Option<Nanos>) -> Nanos {
    let half_ring = ring_time.map_or(Nanos::MAX, |time| Nanos::from_nanos(time.as_nanos() / 2));
    let frame_and_a_half = Nanos::from_nanos(frame_time.as_nanos().saturating_mul(3) / 2);
    usual.min(half_ring).max(frame_and_a_half)
}
