//! Units: conversions are exact to their promise, and people can read them.
#![allow(clippy::expect_used)] // the helpers of tests are tests too

use proptest::prelude::*;
use weir_aqm::{Bytes, Nanos, Pace, Rate};

fn pace(bits: u64) -> Pace {
    Pace::from_bits_per_second(bits).expect("a rate within range")
}

#[test]
fn a_pace_outside_the_range_is_refused() {
    for bits in [0, 1, 63_999, 400_000_000_001, u64::MAX] {
        assert_eq!(Pace::from_bits_per_second(bits), None, "{bits}");
    }
    assert_eq!(pace(64_000).bits_per_second(), 64_000);
    assert!(pace(400_000_000_000).bits_per_second().abs_diff(400_000_000_000) < 200);
}

#[test]
fn a_pace_from_a_map_is_refused_unless_normalised() {
    assert_eq!(Pace::from_parts(0, 0), None);
    assert_eq!(Pace::from_parts((1 << 31) - 1, 20), None);
    assert_eq!(Pace::from_parts(u32::MAX, 63), None);
    assert!(Pace::from_parts(1 << 31, 62).is_some());
}

#[test]
fn well_known_rates_give_exact_times() {
    let mtu = Bytes::new(1514);
    assert_eq!(pace(10_000_000).time_for(mtu), Nanos::from_nanos(1_211_200));
    assert_eq!(pace(1_000_000_000).time_for(mtu), Nanos::from_nanos(12_112));
    assert_eq!(pace(100_000_000_000).time_for(Bytes::new(1538)), Nanos::from_nanos(123));
    assert_eq!(pace(100_000_000_000).time_for_rounded_up(Bytes::new(1538)), Nanos::from_nanos(124));
}

#[test]
fn extremes_saturate() {
    let fast = Pace::from_parts(1 << 31, 62).unwrap();
    let slow = Pace::from_parts(u32::MAX, 0).unwrap();
    assert_eq!(fast.bytes_in(Nanos::MAX), Bytes::MAX);
    assert_eq!(slow.bytes_in(Nanos::MAX), Bytes::new(u64::MAX / u64::from(u32::MAX)));
    assert_eq!(slow.time_for(Bytes::MAX), slow.time_for(Bytes::new(1 << 31)));
    assert_eq!(slow.time_for_rounded_up(Bytes::MAX), slow.time_for(Bytes::MAX));
    assert_eq!(fast.time_for_rounded_up(Bytes::MAX), Nanos::from_nanos(1));
    assert_eq!(Pace::from_sample(Bytes::ZERO, Nanos::MAX), None);
    assert_eq!(Pace::from_sample(Bytes::MAX, Nanos::ZERO), None);
    assert_eq!(Pace::from_sample(Bytes::new(1), Nanos::MAX), Some(slow));
    assert_eq!(fast.bytes_in_q16(Nanos::from_secs(5)), u64::MAX);
    assert_eq!(slow.bytes_in_q16(Nanos::from_secs(4)), 61_035);
    let widest = Pace::from_sample(Bytes::MAX, Nanos::from_nanos(1)).unwrap();
    assert_eq!(widest, fast);
}

#[test]
fn units_read_like_people_write_them() {
    let times = [
        (Nanos::from_millis(5), "5ms"),
        (Nanos::from_micros(1_500), "1.5ms"),
        (Nanos::ZERO, "0ns"),
        (Nanos::from_nanos(20_050), "20.05us"),
        (Nanos::from_secs(100), "100s"),
    ];
    for (time, text) in times {
        assert_eq!(time.to_string(), text);
    }
    assert_eq!(Rate::from_bits_per_second(10_000_000).to_string(), "10 Mbit/s");
    assert_eq!(Rate::from_bits_per_second(2_500_000_000).to_string(), "2.5 Gbit/s");
    assert_eq!(Rate::from_bits_per_second(64_000).to_string(), "64 kbit/s");
    assert_eq!(Rate::from(pace(50_000_000)).to_string(), "50 Mbit/s");
    assert_eq!(Bytes::new(1514).to_string(), "1514 B");
}

/// `|mult / 2^shift - ns / bytes| * 2^31 <= ns / bytes`, in exact integers.
fn within_two_to_the_minus_31(pace: Pace, ns: u64, bytes: u64) -> bool {
    let measured = u128::from(pace.mult()) * u128::from(bytes);
    // Both sides times bytes * 2^shift; the wide shift is split to stay in 128 bits.
    let exact = u128::from(ns) << pace.shift();
    measured.abs_diff(exact) <= exact >> 31
}

proptest! {
    #[test]
    fn drained_bytes_are_exact_to_their_fraction(bits in 64_000u64..=400_000_000_000, ns in 0u64..1 << 32) {
        let got = pace(bits).bytes_in_q16(Nanos::from_nanos(ns));
        let exact = ((u128::from(ns) * u128::from(bits)) << 16) / 8_000_000_000;
        let error = u128::from(got).abs_diff(exact);
        prop_assert!(error <= 1 + (exact >> 30), "{} for {}", got, exact);
    }

    #[test]
    fn a_rate_becomes_a_pace_within_two_to_the_minus_31(bits in 64_000u64..=400_000_000_000) {
        prop_assert!(within_two_to_the_minus_31(pace(bits), 8_000_000_000, bits));
        prop_assert!(pace(bits).bits_per_second().abs_diff(bits) <= 1 + (bits >> 31));
    }

    #[test]
    fn a_sample_becomes_a_pace_within_two_to_the_minus_31(
        bytes in 1u64..1 << 40,
        ns in 1u64..1 << 50,
    ) {
        prop_assume!(ns >> 30 < bytes && bytes >> 28 < ns);
        let pace = Pace::from_sample(Bytes::new(bytes), Nanos::from_nanos(ns)).unwrap();
        prop_assert!(within_two_to_the_minus_31(pace, ns, bytes));
        prop_assert_eq!(Pace::from_parts(pace.mult(), pace.shift()), Some(pace));
    }

    #[test]
    fn a_sample_of_anything_is_a_valid_pace(bytes in 1u64.., ns in 1u64..) {
        let pace = Pace::from_sample(Bytes::new(bytes), Nanos::from_nanos(ns)).unwrap();
        prop_assert_eq!(Pace::from_parts(pace.mult(), pace.shift()), Some(pace));
    }

    #[test]
    fn time_and_bytes_are_the_exact_quotients(
        mult in 1u32 << 31..,
        shift in 0u32..=62,
        bytes in 0u64..=1 << 31,
        ns in any::<u64>(),
    ) {
        let pace = Pace::from_parts(mult, shift).unwrap();
        let time = (u128::from(bytes) * u128::from(mult)) >> shift;
        prop_assert_eq!(u128::from(pace.time_for(Bytes::new(bytes)).as_nanos()), time);
        let passed = (u128::from(ns) << shift) / u128::from(mult);
        let passed = passed.min(u128::from(u64::MAX));
        prop_assert_eq!(u128::from(pace.bytes_in(Nanos::from_nanos(ns)).get()), passed);
    }

    #[test]
    fn products_saturate_like_the_standard_library(a in any::<u64>(), b in any::<u64>(), cut in 0u32..64) {
        for (a, b) in [(a, b), (a >> cut, b), (a >> cut, b >> (63 - cut)), (a >> (cut / 2 + 32), b >> 32)] {
            prop_assert_eq!(Nanos::from_nanos(a).saturating_mul(b).as_nanos(), a.saturating_mul(b));
        }
    }
}
