//! CoDel (RFC 8289) for a queue that can only be judged at its tail.
//!
//! The transmit ring is a FIFO that weir may neither peek into nor drop from, so the decision falls when a packet
//! enters, on the sojourn time predicted for it. Three things differ from the RFC's dequeue form ([`dequeue`]):
//!
//! * one signal per arrival: the RFC's `while` loop would drop consecutive packets of one flow to catch up; here the
//!   schedule is resynchronised when it is late by more than an interval;
//! * no call tells that the queue ran empty: if more time passed since the last arrival than its packet had to wait,
//!   the queue must have emptied in between, and the episode is over;
//! * the inverse square root keeps no state ([`crate::inv_sqrt`]), and time is 64-bit nanoseconds.

pub mod dequeue;
pub mod linux;

use crate::inv_sqrt::interval_over_sqrt;
use crate::units::{Bytes, Nanos};
use crate::verdict::Verdict;

/// `count` stops here: at 100 ms this is a signal every 0.4 ms, more than any queue needs.
const COUNT_MAX: u32 = 65_535;
/// An episode that starts within this many intervals of the last one's end resumes its cadence (RFC 8289
/// section 5.3 leaves the number open; Linux has 16).
const RESUME_INTERVALS: u64 = 16;

/// Configuration of a CoDel queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodelParams {
    /// Acceptable standing sojourn time, 5 to 10 % of `interval` and at most half of what the queue can hold.
    pub target: Nanos,
    /// Time a queue may stay above `target` before the first signal: about the largest RTT. At most 4.29 s.
    pub interval: Nanos,
    /// A backlog of at most this much never signals: the link must not idle for want of one packet.
    pub max_packet: Bytes,
}

impl CodelParams {
    /// 5 ms and 100 ms (RFC 8289 section 4.2 and 4.3).
    pub const fn internet(max_packet: Bytes) -> Self {
        Self { target: Nanos::from_millis(5), interval: Nanos::from_millis(100), max_packet }
    }
}

/// State of a CoDel queue. The default is an idle queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodelVars {
    /// When the sojourn time will have stayed above target for an interval; zero while it is below.
    pub first_above: Nanos,
    /// When the next signal of this episode is due; kept after the episode to tell how long ago it was.
    pub drop_next: Nanos,
    /// When the last packet arrived.
    pub last_arrival: Nanos,
    /// The sojourn time predicted for that packet.
    pub last_sojourn: Nanos,
    /// Signals of this episode, on top of what it resumed from.
    pub count: u32,
    /// `count` at the start of this episode.
    pub last_count: u32,
    /// Whether an episode of signalling is on.
    pub dropping: bool,
}

impl CodelVars {
    /// True if nothing is remembered that an idle queue would have to reset: no episode, and not above target.
    #[inline(always)]
    pub const fn is_idle(&self) -> bool {
        !self.dropping && self.first_above.as_nanos() == 0
    }

    /// Judges one arriving packet: `sojourn` is the wait predicted for it, `backlog` the queue in front of it
    /// without it. At most one state change and one signal per call.
    ///
    /// The caller signals what this says and calls it for every packet that it did not drop for another reason.
    #[inline(always)]
    pub fn on_enqueue(
        &mut self,
        params: &CodelParams,
        now: Nanos,
        sojourn: Nanos,
        backlog: Bytes,
    ) -> Verdict {
        let emptied = now.saturating_sub(self.last_arrival) >= self.last_sojourn;
        self.last_arrival = now;
        self.last_sojourn = sojourn;
        if emptied {
            self.end_episode();
        }
        self.cap_to_clock(params, now);

        if sojourn < params.target || backlog <= params.max_packet {
            self.end_episode();
            return Verdict::Pass;
        }
        if self.first_above == Nanos::ZERO {
            self.first_above = now.saturating_add(params.interval).max(Nanos::from_nanos(1));
            return Verdict::Pass;
        }
        if now < self.first_above {
            return Verdict::Pass;
        }
        if !self.dropping {
            self.begin_episode(params, now);
            return Verdict::Signal;
        }
        if now < self.drop_next {
            return Verdict::Pass;
        }
        self.count = if self.count < COUNT_MAX { self.count.wrapping_add(1) } else { COUNT_MAX };
        let late = now.saturating_sub(self.drop_next) > params.interval;
        let base = if late { now } else { self.drop_next };
        self.drop_next = base.saturating_add(interval_over_sqrt(params.interval, self.count));
        Verdict::Signal
    }

    #[inline(always)]
    fn begin_episode(&mut self, params: &CodelParams, now: Nanos) {
        let since = now.saturating_sub(self.drop_next);
        let recent = since < params.interval.saturating_mul(RESUME_INTERVALS);
        let delta = self.count.saturating_sub(self.last_count);
        self.count = if recent && delta > 1 { delta } else { 1 };
        self.last_count = self.count;
        self.dropping = true;
        self.drop_next = now.saturating_add(interval_over_sqrt(params.interval, self.count));
    }

    #[inline(always)]
    fn end_episode(&mut self) {
        self.dropping = false;
        self.first_above = Nanos::ZERO;
    }

    /// Neither instant is ever set more than an interval ahead; one that is further away was set before the clock
    /// stepped back, and would silence the controller until the clock caught up.
    #[inline(always)]
    fn cap_to_clock(&mut self, params: &CodelParams, now: Nanos) {
        let horizon = now.saturating_add(params.interval);
        self.first_above = if self.first_above < horizon { self.first_above } else { horizon };
        self.drop_next = if self.drop_next < horizon { self.drop_next } else { horizon };
    }
}
