//! CoDel in Linux's arithmetic, bit for bit: 1.024 us ticks in 32 bits and a running 16-bit inverse square root
//! (include/net/codel.h and codel_impl.h, v6.18). Here to measure the distance from it, its errors included; not
//! part of a datapath.

use super::dequeue::Queue;
use super::{CodelParams, RESUME_INTERVALS};
use crate::units::Nanos;

/// Linux's clock: nanoseconds / 1024 in 32 bits. It wraps every 4,398 s, and compares right within half of that.
#[inline]
pub const fn ticks(time: Nanos) -> u32 {
    (time.as_nanos() >> 10) as u32
}

/// One Newton step towards `2^16 / sqrt(count)`. From a value far above the answer it wraps, as Linux's does.
#[inline]
pub const fn newton_step(rec_inv_sqrt: u16, count: u32) -> u16 {
    let inverse = (rec_inv_sqrt as u64) << 16;
    let square = inverse.wrapping_mul(inverse) >> 32;
    let value = (3u64 << 32).wrapping_sub((count as u64).wrapping_mul(square)) >> 2;
    (value.wrapping_mul(inverse) >> 31 >> 16) as u16
}

/// `from + interval * rec_inv_sqrt / 2^16`, in ticks.
#[inline]
pub const fn control_law(from: u32, interval: u32, rec_inv_sqrt: u16) -> u32 {
    let inverse = (rec_inv_sqrt as u64) << 16;
    from.wrapping_add(((interval as u64).wrapping_mul(inverse) >> 32) as u32)
}

/// `a` is later than `b` on a wrapping clock.
#[inline]
pub const fn after(a: u32, b: u32) -> bool {
    let distance = a.wrapping_sub(b);
    distance != 0 && distance < 1 << 31
}

/// State of a Linux CoDel queue; times in [`ticks`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinuxVars {
    /// When the sojourn time will have stayed above target for an interval; zero while it is below.
    pub first_above: u32,
    /// When the next signal is due.
    pub drop_next: u32,
    /// Signals of this episode, on top of what it resumed from.
    pub count: u32,
    /// `count` at the start of this episode.
    pub last_count: u32,
    /// The running inverse square root of `count`, in 2^-16.
    pub rec_inv_sqrt: u16,
    /// Whether an episode of signalling is on.
    pub dropping: bool,
}

impl LinuxVars {
    /// The next packet to send, by `codel_dequeue`.
    pub fn on_dequeue<Q: Queue>(
        &mut self,
        params: &CodelParams,
        now: Nanos,
        queue: &mut Q,
    ) -> Option<Q::Packet> {
        let interval = ticks(params.interval);
        let clock = ticks(now);
        let (mut head, mut above) = self.pop(params, now, queue);
        if head.is_none() {
            self.dropping = false;
            return None;
        }
        if self.dropping {
            if !above {
                self.dropping = false;
            }
            while self.dropping && !after(self.drop_next, clock) {
                let mut taken = head?;
                self.count = self.count.wrapping_add(1);
                self.rec_inv_sqrt = newton_step(self.rec_inv_sqrt, self.count);
                if queue.mark(&mut taken) {
                    self.drop_next = control_law(self.drop_next, interval, self.rec_inv_sqrt);
                    return Some(taken);
                }
                queue.drop(taken);
                (head, above) = self.pop(params, now, queue);
                if above {
                    self.drop_next = control_law(self.drop_next, interval, self.rec_inv_sqrt);
                } else {
                    self.dropping = false;
                }
            }
        } else if above {
            let mut taken = head?;
            if queue.mark(&mut taken) {
                head = Some(taken);
            } else {
                queue.drop(taken);
                (head, _) = self.pop(params, now, queue);
            }
            self.dropping = true;
            let window = (RESUME_INTERVALS as u32).wrapping_mul(interval);
            let recent = after(window, clock.wrapping_sub(self.drop_next));
            let delta = self.count.wrapping_sub(self.last_count);
            if delta > 1 && recent {
                self.count = delta;
                self.rec_inv_sqrt = newton_step(self.rec_inv_sqrt, self.count);
            } else {
                self.count = 1;
                self.rec_inv_sqrt = u16::MAX;
            }
            self.last_count = self.count;
            self.drop_next = control_law(clock, interval, self.rec_inv_sqrt);
        }
        head
    }

    /// `codel_should_drop` on the head. Unlike the RFC, strictly after `first_above`.
    fn pop<Q: Queue>(
        &mut self,
        params: &CodelParams,
        now: Nanos,
        queue: &mut Q,
    ) -> (Option<Q::Packet>, bool) {
        let Some(head) = queue.pop(now) else {
            self.first_above = 0;
            return (None, false);
        };
        let clock = ticks(now);
        let mut above = false;
        if after(ticks(params.target), ticks(head.sojourn)) || head.backlog <= params.max_packet {
            self.first_above = 0;
        } else if self.first_above == 0 {
            self.first_above = clock.wrapping_add(ticks(params.interval));
        } else {
            above = after(clock, self.first_above);
        }
        (Some(head.packet), above)
    }
}
