//! Flows that do not slow down are held to their share; all others are left alone.
#![allow(clippy::expect_used, clippy::indexing_slicing)] // the helpers of tests are tests too

use proptest::prelude::*;
use weir_aqm::unresponsive::WINDOW;
use weir_aqm::{Bytes, ClaimsVars, Nanos, Pace, ResponseVars};

const LENGTH: Bytes = Bytes::new(1_250);
const TOLERANCE: Nanos = Nanos::from_millis(10);

fn pace() -> Pace {
    Pace::from_bits_per_second(10_000_000).expect("a rate within range")
}

/// A flow that was signalled to slow down before the first packet.
fn told() -> ResponseVars {
    ResponseVars { told: 100, ..ResponseVars::default() }
}

/// A flow whose packets are refused by others (`refuse`) or because it is held; whether the packet was accepted.
fn offer(
    claims: &mut ClaimsVars,
    flow: &mut ResponseVars,
    now: Nanos,
    weight: u32,
    queued: bool,
    refuse: bool,
) -> bool {
    claims.renew(now);
    flow.arrive(claims, weight, queued);
    let time = claims.time_at_share(pace(), weight, LENGTH);
    if refuse || flow.is_held(claims, weight, now, TOLERANCE) {
        flow.refused(time);
        return false;
    }
    flow.accepted(now, time);
    true
}

/// Packets a second of 10 Mbit/s.
const PACKETS: u64 = 1_000;

#[test]
fn a_flood_that_its_queue_refuses_is_held_to_its_share_of_all_claims_even_while_the_others_have_no_queue() {
    let (mut claims, mut flows) = (ClaimsVars::default(), [told(); 4]);
    let mut accepted = [0u64; 4];
    for tick in 0..10 * PACKETS {
        let now = Nanos::from_secs(5).saturating_add(Nanos::from_millis(tick));
        // Three flows send eight tenths of their shares; a queue they have at the beginning alone.
        for flow in 1..4 {
            if tick % 5 == flow as u64 {
                accepted[flow] += u64::from(offer(&mut claims, &mut flows[flow], now, 1, tick < 10, false));
            }
        }
        // Three times the rate, and for a second the flood's own queue refuses more than it takes.
        for packet in 0..3 {
            let refuse = tick < PACKETS && packet > 0;
            let taken = offer(&mut claims, &mut flows[0], now, 1, true, refuse);
            accepted[0] += u64::from(taken && tick >= 2 * PACKETS);
        }
    }
    assert_eq!(accepted[1..], [2 * PACKETS; 3]);
    // A fourth of eight seconds.
    assert!(accepted[0].abs_diff(2 * PACKETS) <= 15, "{accepted:?}");
}

#[test]
fn a_flow_without_competitors_is_not_held() {
    let (mut claims, mut flow) = (ClaimsVars::default(), ResponseVars::default());
    for tick in 0..5 * PACKETS {
        let now = Nanos::from_secs(5).saturating_add(Nanos::from_millis(tick));
        assert!(offer(&mut claims, &mut flow, now, 1, true, false));
        assert!(!offer(&mut claims, &mut flow, now, 1, true, true));
    }
}

#[test]
fn weights_divide_the_share() {
    let mut claims = ClaimsVars::default();
    claims.renew(Nanos::from_secs(5));
    let mut flows = [told(); 3];
    for (flow, weight) in flows.iter_mut().zip([1, 2, 4]) {
        flow.arrive(&mut claims, weight, true);
        flow.arrive(&mut claims, weight, true);
    }
    assert_eq!(claims.weight(), 7);
    let alone = pace().time_for(LENGTH);
    assert_eq!(claims.time_at_share(pace(), 1, LENGTH), alone.saturating_mul(7));
    // 1,250 bytes times 7 / 4, rounded up.
    assert_eq!(claims.time_at_share(pace(), 4, LENGTH), pace().time_for(Bytes::new(2_188)));
}

#[test]
fn a_claim_outlives_its_queue_by_two_windows_at_the_most() {
    let (mut claims, mut flow) = (ClaimsVars::default(), told());
    let at = |windows: u64| Nanos::from_secs(5).saturating_add(WINDOW.saturating_mul(windows));
    claims.renew(at(0));
    flow.arrive(&mut claims, 1, true);
    for (window, weight) in [(0, 1), (1, 1), (2, 0), (3, 0)] {
        claims.renew(at(window));
        flow.arrive(&mut claims, 1, window == 0);
        assert_eq!(claims.weight(), weight, "window {window}");
    }
}

#[test]
fn a_flow_that_returns_after_a_pause_starts_clean() {
    let (mut claims, mut flow) = (ClaimsVars::default(), ResponseVars::default());
    let start = Nanos::from_secs(5);
    for _ in 0..3_000 {
        offer(&mut claims, &mut flow, start, 1, true, true);
    }
    assert!(flow.excess > 0);
    // Nobody sends meanwhile, then the flow alone.
    offer(&mut claims, &mut flow, start.saturating_add(WINDOW.saturating_mul(2)), 1, false, false);
    assert_eq!((flow.excess, flow.claimed), (0, 0));
}

#[test]
fn a_clock_that_steps_back_keeps_the_window_and_the_claims() {
    let (mut claims, mut flow) = (ClaimsVars::default(), told());
    offer(&mut claims, &mut flow, Nanos::from_secs(5), 3, true, false);
    let before = claims;
    claims.renew(Nanos::from_secs(4));
    assert_eq!(claims, before);
}

#[test]
fn without_a_queue_a_flow_that_nobody_told_to_slow_down_has_no_claim_and_one_that_was_told_long_ago_neither()
{
    let (mut claims, mut flow) = (ClaimsVars::default(), ResponseVars::default());
    let mut at = Nanos::from_secs(5);
    let mut claimed = |flow: &mut ResponseVars| {
        at = at.saturating_add(WINDOW);
        claims.renew(at);
        flow.arrive(&mut claims, 1, false);
        flow.accepted(at, WINDOW);
        flow.arrive(&mut claims, 1, false);
        flow.claimed == 1
    };
    assert!(!claimed(&mut flow));
    flow.signalled();
    let remembered = (0..40).map(|_| claimed(&mut flow)).collect::<Vec<_>>();
    assert_eq!(remembered, (0..40).map(|window| window < 15).collect::<Vec<_>>());
}

proptest! {
    #[test]
    fn a_flow_that_loses_less_than_an_eighth_of_what_it_gets_is_never_held(
        losses in prop::collection::vec(9u64..40, 1..200),
        others in 1u32..200,
    ) {
        let (mut claims, mut flow) = (ClaimsVars::default(), ResponseVars::default());
        let mut other = told();
        let mut packet = 0u64;
        for every in losses {
            for index in 0..every {
                // Ten times its share: only what is refused counts.
                let now = Nanos::from_secs(5).saturating_add(Nanos::from_micros(100 * packet));
                packet += 1;
                claims.renew(now);
                other.arrive(&mut claims, others, true);
                let lost = index == 0;
                prop_assert_eq!(offer(&mut claims, &mut flow, now, 1, true, lost), !lost);
            }
        }
    }

    #[test]
    fn once_held_no_arrivals_get_more_than_the_share_and_the_tolerance(
        gaps in prop::collection::vec(0u64..20_000, 100..1_000),
        others in 1u32..50,
    ) {
        let (mut claims, mut flow) = (ClaimsVars::default(), ResponseVars::default());
        let start = Nanos::from_secs(5);
        let mut now = start;
        let mut other = told();
        claims.renew(now);
        other.arrive(&mut claims, others, true);
        // Refused until it counts as unresponsive.
        for _ in 0..2_000 {
            offer(&mut claims, &mut flow, now, 1, true, true);
        }
        let mut accepted = 0u64;
        for gap in gaps {
            now = now.saturating_add(Nanos::from_micros(gap));
            claims.renew(now);
            other.arrive(&mut claims, others, true);
            // Four packets at once: it goes on losing.
            for _ in 0..4 {
                accepted += u64::from(offer(&mut claims, &mut flow, now, 1, true, false));
                if flow.excess < 500_000_000 {
                    return Ok(());
                }
            }
        }
        let share = claims.time_at_share(pace(), 1, LENGTH);
        let elapsed = now.saturating_sub(start).saturating_add(TOLERANCE).saturating_add(share);
        prop_assert!(share.saturating_mul(accepted) <= elapsed, "{accepted} in {elapsed}");
    }

    #[test]
    fn claims_of_a_window_are_the_weights_of_those_that_asked(
        arrivals in prop::collection::vec((0usize..8, any::<bool>()), 1..200),
    ) {
        let mut claims = ClaimsVars::default();
        claims.renew(Nanos::from_secs(5));
        let mut flows = [told(); 8];
        let mut asked = [false; 8];
        for (index, queued) in arrivals {
            flows[index].arrive(&mut claims, index as u32 + 1, queued);
            asked[index] |= queued;
        }
        let wanted: u64 = (1..).zip(asked).filter(|(_, asked)| *asked).map(|(weight, _)| weight).sum();
        prop_assert_eq!(claims.weight(), wanted);
    }
}
