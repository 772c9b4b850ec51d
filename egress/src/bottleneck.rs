//! Bottleneck mode: the port's own TX ring is the queue.
//!
//! Order of the verdicts, the strongest first: ring admission (a full ring would lose the batch's tail, any class),
//! the sojourn limit, the AQM. Exactly one of them speaks, and only the AQM has state to advance.

use weir_aqm::Bytes;
use weir_shared_maps::{FLAG_ECN, FLAG_HEAD_SOJOURN, PortConfig, PortCounter};

use crate::{
    AqmCell, Decision, Queue,
    controller::{Gains, Word, ask},
    limits, slots_admitted, stands,
};

/// Judges one arriving frame. `aqm` is one of the `AQM_*` values, a constant in the program.
///
/// Above the limit even ECN-capable packets are dropped: whoever filled the queue that far heeds no marks
/// (RFC 8311 section 4.1, RFC 9332 section 4.1.3).
#[inline(always)]
pub fn decide<C: AqmCell>(config: &PortConfig, aqm: u32, queue: &Queue, cell: &mut C) -> Decision {
    if queue.slots > 0 && queue.occupancy >= slots_admitted(queue.slots, config.reserve_slots) {
        return Decision::Drop(PortCounter::DropAdmission);
    }
    if queue.occupancy == 0 {
        // The common case of a port that keeps up: nothing waits, nothing to compute. An episode of the AQM that is
        // still open ends with the first packet that finds a queue (its gap says that the queue was empty).
        return Decision::Accept;
    }
    let limits = limits(config, queue.pace, queue.slots);
    let sojourn = queue.sojourn(config.flags & FLAG_HEAD_SOJOURN != 0);
    if sojourn >= limits.limit && stands(config, queue.backlog) {
        return Decision::Drop(PortCounter::DropLimit);
    }
    match ask(&Gains::of_port(config), aqm, &limits, cell, queue.now, sojourn, queue.backlog) {
        Word::Pass => Decision::Accept,
        Word::Signal { may_mark } => Decision::Signal { may_mark: may_mark && config.flags & FLAG_ECN != 0 },
        Word::Busy => Decision::Undecided,
    }
}

/// Whether a whole batch may pass undecided: even `frames` full frames on top of what stands leave ring and sojourn
/// below every threshold, and the controller has nothing to reset. Each of them alone would be accepted then.
#[inline(always)]
pub fn batch_passes<C: AqmCell>(config: &PortConfig, aqm: u32, queue: &Queue, frames: u32, cell: &C) -> bool {
    if !cell.is_idle(aqm) {
        return false;
    }
    let mut worst = *queue;
    worst.occupancy = queue.occupancy.saturating_add(frames);
    let bytes = u64::from(frames).wrapping_mul(u64::from(config.max_packet_bytes));
    worst.backlog = queue.backlog.saturating_add(Bytes::new(bytes));
    if queue.slots > 0 && worst.occupancy > slots_admitted(queue.slots, config.reserve_slots) {
        return false;
    }
    let limits = limits(config, worst.pace, worst.slots);
    let sojourn = worst.sojourn(config.flags & FLAG_HEAD_SOJOURN != 0);
    sojourn < limits.target && sojourn < limits.limit
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use weir_aqm::{Nanos, Pace, PieParams};
    use weir_shared_maps::{AQM_CODEL, AQM_NONE, AQM_PI2, AQM_PIE, AqmState, MODE_BOTTLENECK};
    use zerocopy::FromZeros;

    pub(crate) fn config() -> PortConfig {
        PortConfig {
            target_ns: 5_000_000,
            interval_ns: 100_000_000,
            limit_ns: 25_000_000,
            burst_ns: 0,
            signal_low_ns: 18_750_000,
            signal_hold_ns: 25_000_000,
            t_update_ns: 16_000_000,
            ifindex: 1,
            mode: MODE_BOTTLENECK,
            aqm: AQM_CODEL,
            flags: FLAG_ECN,
            ring_base: 0,
            rings: 1,
            ring_slots: 1000,
            reserve_slots: 64,
            pace_mult: 0,
            pace_shift: 0,
            overhead_bytes: 0,
            mpu_bytes: 0,
            max_packet_bytes: 1514,
            alpha: 44,
            beta: 879,
            netns_inum: 0,
            framing: 0,
            classes: 0,
            default_class: 0,
            side: 0,
            stack: 0,
            pause: 0,
        }
    }

    fn queue(now_ms: u64, frames: u32) -> Queue {
        let pace = Pace::from_bits_per_second(10_000_000);
        let backlog = Bytes::new(u64::from(frames) * 1514);
        Queue {
            now: Nanos::from_millis(now_ms),
            backlog,
            occupancy: frames,
            slots: 1000,
            head_sojourn: pace.map_or(Nanos::ZERO, |p| p.time_for(backlog)),
            pace,
            ..Queue::NONE
        }
    }

    #[test]
    fn an_empty_ring_accepts_whatever_the_state_was() {
        let mut state = AqmState::new_zeroed();
        for aqm in [AQM_NONE, AQM_CODEL, AQM_PI2, AQM_PIE] {
            assert_eq!(decide(&config(), aqm, &queue(1, 0), &mut state), Decision::Accept);
        }
    }

    #[test]
    fn a_standing_queue_is_signalled_after_an_interval_and_not_before() {
        let mut state = AqmState::new_zeroed();
        // 10 frames are 12 ms at 10 Mbit/s; arrivals every millisecond keep the gap rule quiet.
        let first =
            (1..400).find(|&ms| decide(&config(), AQM_CODEL, &queue(ms, 10), &mut state) != Decision::Accept);
        assert_eq!(first, Some(101));
        assert_eq!(state.codel.dropping, 1);
    }

    #[test]
    fn the_limit_drops_even_what_could_be_marked_and_leaves_the_controller_alone() {
        let mut state = AqmState::new_zeroed();
        let before = state;
        let d = decide(&config(), AQM_CODEL, &queue(5, 30), &mut state);
        assert_eq!(d, Decision::Drop(PortCounter::DropLimit));
        assert_eq!(state, before);
    }

    #[test]
    fn a_small_frame_that_was_left_alone_in_the_ring_does_not_stop_those_after_it() {
        // A report of the router's own, on a link that stood still for 109 ms; no drain rate is known.
        let mut q = queue(200, 1);
        (q.backlog, q.head_sojourn, q.pace) = (Bytes::new(110), Nanos::from_millis(109), None);
        for aqm in [AQM_NONE, AQM_CODEL, AQM_PI2, AQM_PIE] {
            assert_eq!(decide(&config(), aqm, &q, &mut AqmState::new_zeroed()), Decision::Accept);
        }
        (q.backlog, q.occupancy) = (Bytes::new(1515), 11);
        let d = decide(&config(), AQM_NONE, &q, &mut AqmState::new_zeroed());
        assert_eq!(d, Decision::Drop(PortCounter::DropLimit));
    }

    #[test]
    fn the_reserve_of_the_ring_is_never_given_away() {
        let mut state = AqmState::new_zeroed();
        let mut q = queue(5, 936);
        // Tiny frames: far below every time limit.
        q.backlog = Bytes::new(1);
        q.pace = Pace::from_bits_per_second(10_000_000_000);
        assert_eq!(decide(&config(), AQM_NONE, &q, &mut state), Decision::Drop(PortCounter::DropAdmission));
        q.occupancy = 935;
        assert_eq!(decide(&config(), AQM_NONE, &q, &mut state), Decision::Accept);
    }

    #[test]
    fn a_batch_that_passes_undecided_would_have_been_accepted_frame_by_frame() {
        let state = AqmState::new_zeroed();
        let mut free = 0;
        for rate in [1_000_000, 10_000_000, 100_000_000, 1_000_000_000] {
            for frames in (0..1000).step_by(7) {
                let mut q = queue(1, frames);
                q.pace = Pace::from_bits_per_second(rate);
                q.head_sojourn = q.pace.map_or(Nanos::ZERO, |p| p.time_for(q.backlog));
                if !batch_passes(&config(), AQM_CODEL, &q, 16, &state) {
                    continue;
                }
                free += 1;
                for _ in 0..16 {
                    let mut after = state;
                    assert_eq!(decide(&config(), AQM_CODEL, &q, &mut after), Decision::Accept);
                    assert_eq!(after, state, "an undecided batch must leave no trace");
                    q.occupancy += 1;
                    q.backlog = q.backlog.saturating_add(Bytes::new(1514));
                }
            }
        }
        assert!(free > 50, "{free}");
    }

    #[test]
    fn rfc_8033_a_burst_within_the_allowance_passes_and_a_queue_that_stands_does_not() {
        let mut c = config();
        let pie = PieParams::rfc_8033(Bytes::new(1514));
        (c.target_ns, c.t_update_ns, c.interval_ns) = (10_000_000, 15_000_000, 150_000_000);
        (c.alpha, c.beta, c.limit_ns) = (pie.alpha, pie.beta, 60_000_000);
        let mut state = AqmState::new_zeroed();
        let mut signals = |from: u64, to: u64, frames| {
            (from..to)
                .filter(|&ms| decide(&c, AQM_PIE, &queue(ms, frames), &mut state) != Decision::Accept)
                .count()
        };
        // A frame in the ring now and then, which earns the allowance; then 30 ms of queue.
        assert_eq!(signals(1_000, 1_100, 3), 0);
        assert_eq!(signals(1_100, 1_240, 25), 0);
        assert!(signals(1_240, 3_000, 25) > 20);
    }

    #[test]
    fn ecn_off_signals_by_drop() {
        let mut c = config();
        c.flags = 0;
        let mut state = AqmState::new_zeroed();
        let signal = (1..400)
            .map(|ms| decide(&c, AQM_CODEL, &queue(ms, 10), &mut state))
            .find(|d| *d != Decision::Accept);
        assert_eq!(signal, Some(Decision::Signal { may_mark: false }));
    }

    #[test]
    fn pi2_bounds_a_constant_overload_by_a_growing_drop_share() {
        let mut state = AqmState::new_zeroed();
        let mut hits = |from: u64| {
            (from..from + 1000)
                .filter(|&ms| decide(&config(), AQM_PI2, &queue(ms, 15), &mut state) != Decision::Accept)
                .count()
        };
        let early = hits(1);
        hits(1001);
        hits(2001);
        let late = hits(3001);
        assert!(early < late && late > 50, "{early} then {late}");
    }
}
