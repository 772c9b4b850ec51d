//! The port: what all classes share, and in which order its rate pays for it.

use crate::share::{ShareParams, ShareVars, Step};
use crate::units::{Bytes, Nanos, Pace, saturating_mul};

/// Priorities at the port, 0 the highest.
pub const PRIORITIES: usize = 8;
/// More than this much (2^39 bytes) is not owed.
const OWED_MAX: u64 = 1 << (39 + FRACTION);
/// Bits of fraction in [`PortVars::owed`] and in a share's backlog.
pub const FRACTION: u32 = 16;
/// Buckets and priorities that one packet's drain gets through at most; the rest waits for the next packet.
const STEPS_MAX: u32 = 12;

/// The port: what all classes share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortParams {
    /// The port's rate; at least the sum of the classes' guaranteed ones.
    pub pace: Pace,
    /// The wheels of its shares; their horizon holds the largest room of a class per unit of its weight.
    pub share: ShareParams,
    /// Priorities in use, at most [`PRIORITIES`]: those below this number.
    pub priorities: u32,
}

/// State of the port. The default is idle.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortVars {
    /// Bytes within guarantees that the port's rate has yet to pay for, with 16 bits of fraction.
    pub owed: u64,
    /// The classes' phantom queues, a share for each priority.
    pub shares: [ShareVars; PRIORITIES],
}

impl PortVars {
    /// Brings the phantom queues up to date: guaranteed bytes are paid first, then priority by priority.
    ///
    /// With the port's rate since the last call, or by what has left a real queue that still holds `real` bytes: in front of
    /// one the phantom queues hold the same bytes, so that no rate need be known.
    #[inline(always)]
    pub fn drain(&mut self, params: &PortParams, now: Nanos, real: Option<Bytes>) {
        let budget = match (real, self.shares.first_mut()) {
            (None, Some(share)) => share.budget(params.pace, now),
            (None, None) => 0,
            (Some(real), _) => self.beyond(real),
        };
        self.pay(params, budget);
    }

    /// What the phantom queues hold beyond `real` bytes, fixed point. What was left to hand out is part of it.
    #[inline(always)]
    fn beyond(&mut self, real: Bytes) -> u64 {
        let mut total = self.owed;
        for share in &mut self.shares {
            share.credit = 0;
            total = total.saturating_add(share.backlog);
        }
        total.saturating_sub(saturating_mul(real.get(), 1 << FRACTION))
    }

    /// Bytes that the port has let through and not yet paid for.
    #[inline(always)]
    pub fn backlog(&self) -> Bytes {
        let shares = self.shares.iter().fold(0u64, |sum, share| sum.saturating_add(share.backlog));
        Bytes::new(self.owed.saturating_add(shares) >> FRACTION)
    }

    /// Charges bytes that are paid before all others.
    #[inline(always)]
    pub fn owe(&mut self, length: Bytes) {
        let owed = self.owed.saturating_add(saturating_mul(length.get(), 1 << FRACTION));
        self.owed = if owed < OWED_MAX { owed } else { OWED_MAX };
    }

    /// The share of a priority.
    #[inline(always)]
    pub fn share(&self, priority: u32) -> Option<&ShareVars> {
        self.shares.get(priority as usize & (PRIORITIES - 1))
    }

    #[inline(always)]
    pub(super) fn share_mut(&mut self, priority: u32) -> Option<&mut ShareVars> {
        self.shares.get_mut(priority as usize & (PRIORITIES - 1))
    }

    #[cfg_attr(target_arch = "bpf", inline(never))]
    fn pay(&mut self, params: &PortParams, mut budget: u64) {
        let paid = if self.owed < budget { self.owed } else { budget };
        self.owed = self.owed.saturating_sub(paid);
        budget = budget.saturating_sub(paid);
        let mut priority = 0u32;
        for _ in 0..STEPS_MAX {
            if priority >= params.priorities {
                return;
            }
            let Some(share) = self.share_mut(priority) else { return };
            let (left, step) = share.step(&params.share, share.credit.saturating_add(budget));
            budget = left;
            share.credit = 0;
            match step {
                Step::Emptied => priority = priority.wrapping_add(1),
                Step::Retired => {}
                Step::Spent => break,
            }
        }
        if let Some(share) = self.share_mut(priority) {
            share.credit = budget;
        }
    }
}
