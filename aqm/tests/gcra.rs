//! The meter, against published decisions, against `governor`, and against a clock that steps back.
#![allow(clippy::expect_used)] // the helpers of tests are tests too

use governor::clock::FakeRelativeClock;
use governor::{Quota, RateLimiter};
use proptest::prelude::*;
use serde_json::Value;
use std::num::NonZeroU32;
use std::time::Duration;
use weir_aqm::gcra::{self, Conformance, GcraParams};
use weir_aqm::{Bytes, Nanos, Pace};

/// One meter with its TAT, as a single-threaded caller keeps it.
struct Meter {
    params: GcraParams,
    tat: Nanos,
}

impl Meter {
    fn new(pace: Pace, burst: u64) -> Self {
        Self { params: GcraParams::with_burst(pace, Bytes::new(burst)), tat: Nanos::ZERO }
    }

    fn accepts(&mut self, now: u64, bytes: u64) -> bool {
        match gcra::conform(&self.params, self.tat, Nanos::from_nanos(now), Bytes::new(bytes)) {
            Conformance::Conform { tat } => {
                self.tat = tat;
                true
            }
            Conformance::Exceed { excess } => {
                assert!(excess > Nanos::ZERO);
                false
            }
        }
    }
}

fn pace(bits: u64) -> Pace {
    Pace::from_bits_per_second(bits).expect("a rate within range")
}

#[test]
fn every_decision_of_the_vectors_is_met() {
    let vectors: Value = serde_json::from_str(include_str!("vectors/meters.json")).unwrap();
    let mut decisions = 0;
    for case in vectors["gcra"].as_array().unwrap() {
        let rate = case["rate_Bps"].as_u64().unwrap();
        let mut meter = Meter::new(pace(rate * 8), case["burst_bytes"].as_u64().unwrap());
        for row in case["rows"].as_array().unwrap() {
            let field = |i: usize| row[i].as_u64().unwrap();
            assert_eq!(u64::from(meter.accepts(field(0), field(1))), field(2), "{row}");
            decisions += 1;
        }
    }
    assert!(decisions >= 120);
}

#[test]
fn a_full_bucket_takes_its_burst_and_not_a_byte_more() {
    for bits in [64_000, 999_983, 10_000_000, 3_333_333_333] {
        assert!(Meter::new(pace(bits), 8000).accepts(0, 8000));
        let mut meter = Meter::new(pace(bits), 8000);
        assert!(meter.accepts(0, 7999) && !meter.accepts(0, 10));
    }
}

#[test]
fn what_exceeds_conforms_once_its_excess_has_passed() {
    let params = GcraParams::with_burst(pace(10_000_000), Bytes::new(3000));
    let tat = Nanos::from_millis(2);
    let Conformance::Exceed { excess } = gcra::conform(&params, tat, Nanos::ZERO, Bytes::new(1500)) else {
        panic!("conforms");
    };
    let again = |at| gcra::conform(&params, tat, at, Bytes::new(1500));
    assert!(matches!(again(excess), Conformance::Conform { .. }));
    let before = excess.saturating_sub(Nanos::from_nanos(1));
    assert!(matches!(again(before), Conformance::Exceed { .. }));
}

#[test]
fn a_refund_undoes_a_charge() {
    let params = GcraParams::with_burst(pace(7_777_777), Bytes::new(9000));
    let (before, now) = (Nanos::from_millis(3), Nanos::from_millis(2));
    let Conformance::Conform { tat } = gcra::conform(&params, before, now, Bytes::new(1234)) else {
        panic!("exceeds");
    };
    assert_eq!(gcra::refund(&params, tat, Bytes::new(1234)), before);
    assert_eq!(gcra::virtual_sojourn(before, now), Nanos::from_millis(1));
    assert_eq!(gcra::virtual_sojourn(now, before), Nanos::ZERO);
}

#[test]
fn a_century_of_silence_refills_the_bucket_once() {
    let mut meter = Meter::new(pace(10_000_000), 3000);
    let century = 100 * 365 * 86_400 * 1_000_000_000;
    assert!(meter.accepts(century, 3000) && !meter.accepts(century, 64));
}

/// Bytes accepted in 10 s from a source that always has a full-sized frame waiting.
#[test]
fn a_greedy_source_gets_the_rate() {
    for bits in [64_000u64, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000] {
        let mut meter = Meter::new(pace(bits), 3028);
        let (mut now, mut accepted) = (0, 0u64);
        while now < 10_000_000_000 {
            match gcra::conform(&meter.params, meter.tat, Nanos::from_nanos(now), Bytes::new(1514)) {
                Conformance::Conform { tat } => {
                    meter.tat = tat;
                    accepted += 1514;
                }
                Conformance::Exceed { excess } => now += excess.as_nanos(),
            }
        }
        let due = bits / 8 * 10;
        assert!(accepted <= due + 3028 && accepted + 1514 + due / 1000 >= due, "{bits}: {accepted} of {due}");
    }
}

proptest! {
    #[test]
    fn governor_decides_the_same(
        ns_per_byte in 1u64..10_000,
        burst in 1500u32..20_000,
        arrivals in prop::collection::vec((0u64..30_000_000, 64u32..1515), 1..200),
    ) {
        let pace = Pace::from_sample(Bytes::new(1), Nanos::from_nanos(ns_per_byte)).unwrap();
        let mut ours = Meter::new(pace, u64::from(burst));
        let clock = FakeRelativeClock::default();
        let quota = Quota::with_period(Duration::from_nanos(ns_per_byte)).unwrap();
        let quota = quota.allow_burst(NonZeroU32::new(burst).unwrap());
        let theirs = RateLimiter::direct_with_clock(quota, clock.clone());
        let mut now = 0;
        for (gap, bytes) in arrivals {
            now += gap;
            clock.advance(Duration::from_nanos(gap));
            let accepted = matches!(theirs.check_n(NonZeroU32::new(bytes).unwrap()), Ok(Ok(())));
            prop_assert_eq!(ours.accepts(now, u64::from(bytes)), accepted);
        }
    }

    /// RFC 2697's bound, with steps of the clock back by up to 1 ms.
    #[test]
    fn a_clock_that_steps_back_never_gains_a_byte(
        bits in 64_000u64..10_000_000_000,
        burst in 1514u64..100_000,
        arrivals in prop::collection::vec((-1_000_000i64..5_000_000, 64u64..1515), 1..300),
    ) {
        let mut meter = Meter::new(pace(bits), burst);
        let (mut now, mut latest, mut accepted) = (1_000_000_000u64, 1_000_000_000u64, 0u64);
        for (gap, bytes) in arrivals {
            // Not before the instant that the bound counts from: a full bucket is full then, too.
            now = now.saturating_add_signed(gap).max(1_000_000_000);
            latest = latest.max(now);
            if meter.accepts(now, bytes) {
                accepted += bytes;
            }
            let due = u128::from(latest - 1_000_000_000) * u128::from(bits) / 8_000_000_000;
            prop_assert!(u128::from(accepted) <= u128::from(burst) + due + 1);
        }
    }
}
