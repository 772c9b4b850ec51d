//! Policer mode, and virtual mode: a virtual queue drained by `rate × time` is the queue.
//!
//! The meter is a GCRA on one theoretical arrival time (TAT), shared by all CPUs through compare and swap; `TAT - now`
//! is the delay a real queue of that rate would have given this packet, and drives the AQM. Charged on accept only.

use weir_aqm::{Bytes, Conformance, GcraParams, Nanos, gcra};
use weir_shared_maps::{FLAG_ECN, MODE_POLICER, PortConfig, PortCounter};

use crate::{
    AqmCell, Decision,
    controller::{Gains, Word, ask},
    limits, pace_from_map,
};

/// What the meter would charge for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// Within rate and burst: the TAT to swap in, if the packet is accepted.
    Conform {
        /// The new theoretical arrival time.
        tat: Nanos,
    },
    /// Beyond the tolerance: drop for this reason, charge nothing.
    Exceed(PortCounter),
    /// The port has no rate, which the config forbids: accept unmetered (fail open).
    NoRate,
}

/// Meters one frame of `cost` bytes on the wire against a TAT read from the map.
#[inline(always)]
pub fn charge(config: &PortConfig, tat: Nanos, now: Nanos, cost: Bytes) -> Charge {
    let Some(pace) = pace_from_map(config) else {
        return Charge::NoRate;
    };
    let (tolerance, cause) = tolerance(config);
    match gcra::conform(&GcraParams { pace, tolerance }, tat, now, cost) {
        Conformance::Conform { tat } => Charge::Conform { tat },
        Conformance::Exceed { excess: _ } => Charge::Exceed(cause),
    }
}

/// Meters a packet of several frames (GSO): the first frame, of `first` bytes, decides, and all of them, `rest` more, are charged.
#[inline(always)]
pub fn charge_frames(config: &PortConfig, tat: Nanos, now: Nanos, first: Bytes, rest: Bytes) -> Charge {
    match (charge(config, tat, now, first), pace_from_map(config)) {
        (Charge::Conform { tat }, Some(pace)) => {
            Charge::Conform { tat: tat.saturating_add(pace.time_for_rounded_up(rest)) }
        }
        (other, _) => other,
    }
}

/// The TAT after a frame of `cost` bytes left that nobody had been asked about: charged, but never further ahead of the
/// clock than twice what the meter tolerates. Frames that are asked about take it to once that at the most: each charge counts in full
/// until it has locked them out for a burst.
#[inline(always)]
pub fn charge_sent(config: &PortConfig, tat: Nanos, now: Nanos, cost: Bytes) -> Nanos {
    let Some(pace) = pace_from_map(config) else { return tat };
    let (most, _) = tolerance(config);
    let charged = tat.max(now).saturating_add(pace.time_for_rounded_up(cost));
    charged.min(now.saturating_add(most.saturating_mul(2))).max(tat)
}

/// Bytes that a port with classes owes at most for frames that left without being asked about: what its meter tolerates.
#[inline(always)]
pub fn owed_most(config: &PortConfig) -> Bytes {
    let (most, _) = tolerance(config);
    pace_from_map(config).map_or(Bytes::ZERO, |pace| pace.bytes_in(most))
}

/// How far the virtual queue may grow, and what beyond it is called: a policer's burst, or the delay limit where the
/// virtual queue stands for an unreadable ring.
#[inline(always)]
pub(crate) const fn tolerance(config: &PortConfig) -> (Nanos, PortCounter) {
    if config.mode == MODE_POLICER {
        (Nanos::from_nanos(config.burst_ns), PortCounter::DropPolicer)
    } else {
        (Nanos::from_nanos(config.limit_ns), PortCounter::DropLimit)
    }
}

/// Judges one conforming frame by the virtual queue in front of it.
#[inline(always)]
pub fn decide<C: AqmCell>(config: &PortConfig, aqm: u32, tat: Nanos, now: Nanos, cell: &mut C) -> Decision {
    let sojourn = gcra::virtual_sojourn(tat, now);
    if sojourn == Nanos::ZERO {
        return Decision::Accept;
    }
    let pace = pace_from_map(config);
    let backlog = pace.map_or(Bytes::ZERO, |pace| pace.bytes_in(sojourn));
    match ask(&Gains::of_port(config), aqm, &limits(config, pace, 0), cell, now, sojourn, backlog) {
        Word::Pass => Decision::Accept,
        Word::Busy => Decision::Undecided,
        Word::Signal { may_mark } => Decision::Signal { may_mark: may_mark && config.flags & FLAG_ECN != 0 },
    }
}

/// The TAT after the driver refused frames of `cost` bytes that had been charged.
#[inline(always)]
pub fn refund(config: &PortConfig, tat: Nanos, cost: Bytes) -> Nanos {
    match pace_from_map(config) {
        Some(pace) => gcra::refund(&GcraParams { pace, tolerance: Nanos::ZERO }, tat, cost),
        None => tat,
    }
}

/// The TAT of a virtual queue that stands for a ring, after a refusal proved that the ring is full: at its limit.
#[inline(always)]
pub fn anchor_full(config: &PortConfig, tat: Nanos, now: Nanos) -> Nanos {
    tat.max(now.saturating_add(Nanos::from_nanos(config.limit_ns)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bottleneck::tests::config as base;
    use weir_aqm::Pace;
    use weir_shared_maps::{AQM_CODEL, AQM_NONE, AqmState, MODE_VIRTUAL};
    use zerocopy::FromZeros;

    fn config() -> PortConfig {
        let mut c = base();
        let pace = Pace::from_bits_per_second(8_000_000).unwrap();
        (c.mode, c.pace_mult, c.pace_shift) = (MODE_POLICER, pace.mult(), pace.shift());
        c.burst_ns = 10_000_000;
        c
    }

    #[test]
    fn a_constant_overload_gets_exactly_rate_plus_burst() {
        let c = config();
        let (mut tat, mut sent) = (Nanos::ZERO, 0u64);
        // 1,000-byte frames every 0.5 ms are twice the rate of one per millisecond.
        for i in 0..20_000u64 {
            let now = Nanos::from_micros(1_000_000 + 500 * i);
            match charge(&c, tat, now, Bytes::new(1000)) {
                Charge::Conform { tat: new } => (tat, sent) = (new, sent + 1),
                Charge::Exceed(cause) => assert_eq!(cause, PortCounter::DropPolicer),
                Charge::NoRate => panic!("a rate is configured"),
            }
        }
        assert_eq!(sent, 10_000 - 1 + 10);
    }

    #[test]
    fn a_packet_larger_than_any_burst_passes_by_its_first_frame_and_is_paid_for_in_full() {
        let c = config();
        let (mut tat, mut sent) = (Nanos::ZERO, 0u64);
        // 64 frames of 1,000 bytes at once, 64 ms of the rate, against a burst of 10 ms.
        for ms in 1000..11_000 {
            let now = Nanos::from_millis(ms);
            if let Charge::Conform { tat: new } =
                charge_frames(&c, tat, now, Bytes::new(1000), Bytes::new(63_000))
            {
                (tat, sent) = (new, sent + 64_000);
            }
        }
        let rate = 10_000 * 1000;
        assert!((rate..rate + 10_000 + 64_000).contains(&sent), "{sent}");
    }

    #[test]
    fn what_left_unasked_is_owed_up_to_a_burst_more_and_an_owing_meter_recovers() {
        let c = config();
        let now = Nanos::from_millis(1000);
        let mut tat = Nanos::ZERO;
        for frame in 1..=30 {
            tat = charge_sent(&c, tat, now, Bytes::new(1000));
            assert_eq!(tat, now.saturating_add(Nanos::from_millis(20.min(frame))));
        }
        // A meter that is further ahead (a GSO packet) is not set back.
        let ahead = now.saturating_add(Nanos::from_millis(60));
        assert_eq!(charge_sent(&c, ahead, now, Bytes::new(1000)), ahead);
        assert!(matches!(charge(&c, tat, now, Bytes::new(1)), Charge::Exceed(_)));
        let later = now.saturating_add(Nanos::from_millis(11));
        assert!(matches!(charge(&c, tat, later, Bytes::new(1000)), Charge::Conform { .. }));
        assert_eq!(owed_most(&c), Bytes::new(10_000));
    }

    #[test]
    fn a_meter_that_others_keep_full_charges_what_left_unasked_all_the_same() {
        let c = config();
        let (mut tat, mut accepted, mut unasked) = (Nanos::ZERO, 0, 0);
        for us in (0..1_000_000_u64).step_by(10) {
            let now = Nanos::from_secs(5).saturating_add(Nanos::from_micros(us));
            // A quarter of the rate, 1 byte in 1 us, leaves unasked; more than fits asks.
            if us % 4_000 == 0 {
                tat = charge_sent(&c, tat, now, Bytes::new(1000));
                unasked += 1000;
            }
            if let Charge::Conform { tat: new } = charge(&c, tat, now, Bytes::new(1000)) {
                tat = new;
                accepted += 1000;
            }
        }
        assert_eq!(unasked, 250_000);
        // The burst of 10 ms, and a frame at each end.
        assert!((1_000_000..=1_012_000).contains(&(accepted + unasked)), "{accepted}");
    }

    #[test]
    fn a_refund_undoes_a_charge() {
        let c = config();
        let now = Nanos::from_millis(1000);
        let Charge::Conform { tat } = charge(&c, now, now, Bytes::new(1500)) else { panic!("conforms") };
        assert_eq!(refund(&c, tat, Bytes::new(1500)), now);
    }

    #[test]
    fn the_virtual_sojourn_drives_codel_and_a_refusal_fills_the_virtual_queue() {
        let mut c = config();
        c.mode = MODE_VIRTUAL;
        let mut state = AqmState::new_zeroed();
        let first = (1000..1400).find(|&ms| {
            let now = Nanos::from_millis(ms);
            let tat = now.saturating_add(Nanos::from_millis(9));
            decide(&c, AQM_CODEL, tat, now, &mut state) != Decision::Accept
        });
        assert_eq!(first, Some(1100));
        let now = Nanos::from_millis(5000);
        assert_eq!(anchor_full(&c, now, now), Nanos::from_millis(5025));
        assert_eq!(decide(&c, AQM_NONE, now, now, &mut state), Decision::Accept);
    }
}
