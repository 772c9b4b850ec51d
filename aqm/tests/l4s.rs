//! The coupled pair: DualPI2's probabilities, the step, overload, and saturation.
#![allow(clippy::expect_used, clippy::indexing_slicing)] // the helpers of tests are tests too

use proptest::prelude::*;
use serde_json::Value;
use weir_aqm::l4s::{self, L4sParams, L4sVerdict, Service};
use weir_aqm::{Bytes, Nanos, Pi2Vars};

const PARAMS: L4sParams = L4sParams::linux(Bytes::new(1514));
const BACKLOG: Bytes = Bytes::new(100_000);
const NOW: Nanos = Nanos::from_secs(1);

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/dualpi2.json")).expect("a vector file is JSON")
}

/// A controller at `p` whose next update is not due.
fn at(p: u32) -> Pi2Vars {
    Pi2Vars { p, next_update: NOW.saturating_add(Nanos::from_millis(10)), last_delay: Nanos::ZERO }
}

/// Parts of 65,536 evenly spread rolls that are passed, signalled and dropped.
fn spread(p: u32, service: Service, sojourn: Nanos, backlog: Bytes) -> [f64; 3] {
    let mut counts = [0u32; 3];
    for roll in 0..=u32::from(u16::MAX) {
        let mut vars = at(p);
        let verdict = l4s::on_enqueue(
            &PARAMS,
            &mut vars,
            NOW,
            service,
            Nanos::ZERO,
            sojourn,
            backlog,
            roll << 16 | 0x8000,
        );
        counts[verdict as usize] += 1;
    }
    counts.map(|count| f64::from(count) / 65_536.0)
}

fn close(got: f64, want: f64) -> bool {
    (got - want).abs() < 3e-5
}

/// dualpi2.json, `derived`, on Linux's trajectory of `p`.
#[test]
fn rfc_9332_classic_gets_the_square_and_l4s_twice_the_probability() {
    let vectors = vectors();
    assert_eq!(PARAMS.coupling, vectors["linux_defaults"]["coupling"].as_u64().unwrap() as u32);
    assert_eq!(
        PARAMS.step,
        Nanos::from_millis(vectors["linux_defaults"]["step_thresh_ms"].as_u64().unwrap())
    );
    let mut seen = 0;
    for name in ["constant_20ms", "ramp"] {
        for row in vectors["trajectories"][name].as_array().unwrap() {
            let (p, part) = (row[1].as_u64().unwrap() as u32, row[2].as_f64().unwrap());
            let classic = spread(p, Service::Classic, Nanos::ZERO, BACKLOG);
            let scalable = spread(p, Service::L4s, Nanos::ZERO, BACKLOG);
            assert!(part < 0.5, "not overloaded");
            assert!(close(classic[1], part * part) && classic[2] == 0.0, "{row} {classic:?}");
            assert!(close(scalable[1], 2.0 * part) && scalable[2] == 0.0, "{row} {scalable:?}");
            seen += 1;
        }
    }
    assert!(seen >= 30);
}

#[test]
fn rfc_9332_overload_drops_both_with_the_square() {
    for part in [0.51, 0.7, 0.999] {
        let p = (part * 4_294_967_295.0) as u32;
        let classic = spread(p, Service::Classic, Nanos::ZERO, BACKLOG);
        let scalable = spread(p, Service::L4s, Nanos::ZERO, BACKLOG);
        assert!(classic[1] == 0.0 && close(classic[2], part * part), "{classic:?}");
        assert!(scalable[0] == 0.0 && close(scalable[2], part * part), "{scalable:?}");
    }
    // The edge: k p = 1, where p^2 is a quarter (p_Cmax).
    let edge = vectors()["derived"]["pCmax"].as_f64().unwrap();
    assert!(!l4s::overloaded(&at((1 << 31) - 1), 2) && l4s::overloaded(&at(1 << 31), 2));
    assert!(close(f64::from(at(1 << 31).probability_of_drop()) / 4_294_967_296.0, edge));
}

#[test]
fn rfc_9331_the_step_marks_at_once_and_only_l4s() {
    let (below, reached) = (Nanos::from_nanos(999_999), Nanos::from_millis(1));
    assert_eq!(spread(0, Service::L4s, below, BACKLOG)[1], 0.0);
    assert_eq!(spread(0, Service::L4s, reached, BACKLOG)[1], 1.0);
    assert_eq!(spread(0, Service::Classic, Nanos::from_secs(1), BACKLOG)[0], 1.0);
    // One packet in front, at a rate at which it takes longer than the step.
    assert_eq!(spread(0, Service::L4s, reached, Bytes::new(1514))[1], 0.0);
    assert_eq!(spread(0, Service::L4s, reached, Bytes::new(1515))[1], 1.0);
}

#[test]
fn rfc_9331_ect1_and_ce_are_classified_as_l4s() {
    let services = [0b00, 0b01, 0b10, 0b11].map(Service::of_ecn);
    assert_eq!(services, [Service::Classic, Service::L4s, Service::Classic, Service::L4s]);
}

#[test]
fn two_packets_never_signal_by_probability() {
    for service in [Service::Classic, Service::L4s] {
        assert_eq!(spread(u32::MAX, service, Nanos::ZERO, Bytes::new(3028))[0], 1.0);
    }
}

#[test]
fn the_controller_runs_on_the_classic_delay_whoever_arrives() {
    let vectors = vectors();
    let mut vars = Pi2Vars::default();
    let mut arrive = |ms: u64, delay: Nanos, service| {
        let _ = l4s::on_enqueue(
            &PARAMS,
            &mut vars,
            Nanos::from_millis(ms),
            service,
            delay,
            Nanos::ZERO,
            BACKLOG,
            0,
        );
        vars.p
    };
    arrive(1_000, Nanos::ZERO, Service::L4s);
    for (i, row) in vectors["trajectories"]["ramp"].as_array().unwrap().iter().enumerate() {
        let service = if i % 2 == 0 { Service::L4s } else { Service::Classic };
        let p = arrive(1_016 + 16 * i as u64, Nanos::from_micros(row[0].as_u64().unwrap()), service);
        assert_eq!(u64::from(p), row[1].as_u64().unwrap(), "{row}");
    }
}

proptest! {
    #[test]
    fn more_probability_never_signals_less(
        p in any::<u32>(), more in any::<u32>(), random in any::<u32>(), coupling in 0u32..=u32::MAX, l4s in any::<bool>(),
    ) {
        let params = L4sParams { coupling, ..PARAMS };
        let service = if l4s { Service::L4s } else { Service::Classic };
        let judge = |p| l4s::on_enqueue(&params, &mut at(p), NOW, service, Nanos::ZERO, Nanos::ZERO, BACKLOG, random);
        let (low, high) = (judge(p), judge(p.saturating_add(more)));
        prop_assert!(low as u32 <= high as u32, "{low:?} {high:?}");
        if high == L4sVerdict::Drop {
            prop_assert!(l4s::overloaded(&at(p.saturating_add(more)), coupling));
        }
    }
}
