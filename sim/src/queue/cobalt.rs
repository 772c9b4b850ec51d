//! COBALT, CAKE's controller: CoDel that counts down again, and BLUE for traffic that heeds nothing
//! (`net/sched/sch_cake.c`, v6.18; Høiland-Jørgensen, Täht, Morton: "Piece of CAKE", LANMAN 2018).

use weir_aqm::Nanos;

/// `2^32 / sqrt(count)` for small counts, where Newton steps from the count before are far off (`inv_sqrt_cache`).
const INVERSE_ROOTS: [u32; 16] = [
    u32::MAX,
    u32::MAX,
    3_037_000_500,
    2_479_700_525,
    2_147_483_647,
    1_920_767_767,
    1_753_413_056,
    1_623_345_051,
    1_518_500_250,
    1_431_655_765,
    1_358_187_914,
    1_294_981_364,
    1_239_850_263,
    1_191_209_601,
    1_147_878_294,
    1_108_955_788,
];

/// One Newton step towards `2^32 / sqrt(count)`.
const fn newton_step(inverse: u32, count: u32) -> u32 {
    let square = (inverse as u64 * inverse as u64) >> 32;
    let value = (3u64 << 32).wrapping_sub((count as u64).wrapping_mul(square)) >> 2;
    (value.wrapping_mul(inverse as u64) >> 31) as u32
}

/// Configuration of COBALT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CobaltParams {
    /// Acceptable standing sojourn time.
    pub target: Nanos,
    /// Time above target before the first signal.
    pub interval: Nanos,
    /// Time of a full packet at the shaper's rate: four of them are always acceptable.
    pub mtu_time: Nanos,
    /// BLUE's step up, in 2^-32.
    pub increment: u32,
    /// BLUE's step down, in 2^-32.
    pub decrement: u32,
}

impl CobaltParams {
    /// CAKE's steps of BLUE: 1/256 up, 1/4096 down.
    pub const fn new(target: Nanos, interval: Nanos, mtu_time: Nanos) -> Self {
        Self { target, interval, mtu_time, increment: 1 << 24, decrement: 1 << 20 }
    }
}

/// What happens to a packet at the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum CobaltVerdict {
    /// Nothing.
    Pass,
    /// CoDel marks it.
    Mark,
    /// CoDel drops it.
    Drop,
    /// BLUE drops it, ECN-capable or not.
    Flood,
}

/// State of COBALT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CobaltVars {
    /// Signals of this episode, less what has decayed.
    pub count: u32,
    /// `2^32 / sqrt(count)`.
    pub inverse_root: u32,
    /// BLUE's probability in 2^-32.
    pub probability: u32,
    /// When BLUE's probability last changed.
    pub blue_changed: Nanos,
    /// When the next signal, or the next decay of `count`, is due.
    pub drop_next: Nanos,
    /// Whether an episode of signalling is on.
    pub dropping: bool,
}

impl Default for CobaltVars {
    /// An idle queue. Linux starts with an inverse root of zero, by which the second packet above target is signalled;
    /// with one, the first episode gets its interval like all others.
    fn default() -> Self {
        Self {
            count: 0,
            inverse_root: u32::MAX,
            probability: 0,
            blue_changed: Nanos::ZERO,
            drop_next: Nanos::ZERO,
            dropping: false,
        }
    }
}

impl CobaltVars {
    /// A packet is lost for want of room: BLUE up, at most once a target, and CoDel begins.
    pub fn on_full(&mut self, params: &CobaltParams, now: Nanos) {
        if now.saturating_sub(self.blue_changed) > params.target {
            self.probability = self.probability.saturating_add(params.increment);
            self.blue_changed = now;
        }
        self.dropping = true;
        self.drop_next = now;
        self.count = self.count.max(1);
    }

    /// The queue was found empty: BLUE down, at most once a target, and CoDel counts down.
    pub fn on_empty(&mut self, params: &CobaltParams, now: Nanos) {
        if self.probability > 0 && now.saturating_sub(self.blue_changed) > params.target {
            self.probability = self.probability.saturating_sub(params.decrement);
            self.blue_changed = now;
        }
        self.dropping = false;
        if self.count > 0 && now >= self.drop_next {
            self.set_count(self.count.saturating_sub(1));
            self.drop_next = self.law(params, self.drop_next);
        }
    }

    /// Whether nothing is left to decay.
    pub fn is_at_rest(&self, now: Nanos) -> bool {
        self.probability == 0 && self.count == 0 && now >= self.drop_next
    }

    /// Judges the packet at the head, which waited for `sojourn`; `capable` of marks, `roll` uniform.
    pub fn on_dequeue(
        &mut self,
        params: &CobaltParams,
        now: Nanos,
        sojourn: Nanos,
        capable: bool,
        roll: u32,
    ) -> CobaltVerdict {
        let above = sojourn > params.target && sojourn > params.mtu_time.saturating_mul(4);
        let mut due = self.count > 0 && now >= self.drop_next;
        let mut late = now > self.drop_next;
        if above {
            if !self.dropping {
                self.dropping = true;
                self.drop_next = self.law(params, now);
            }
            self.count = self.count.max(1);
        } else {
            self.dropping = false;
        }
        let mut verdict = CobaltVerdict::Pass;
        if due && self.dropping {
            verdict = if capable { CobaltVerdict::Mark } else { CobaltVerdict::Drop };
            self.set_count(self.count.saturating_add(1));
            self.drop_next = self.law(params, self.drop_next);
            late = now > self.drop_next;
        }
        // At most `count` rounds: each takes one off.
        while due && !self.dropping {
            self.set_count(self.count.saturating_sub(1));
            self.drop_next = self.law(params, self.drop_next);
            late = now > self.drop_next;
            due = self.count > 0 && now >= self.drop_next;
        }
        if self.probability > 0 && verdict != CobaltVerdict::Drop && roll < self.probability {
            verdict = CobaltVerdict::Flood;
        }
        let lost = matches!(verdict, CobaltVerdict::Drop | CobaltVerdict::Flood);
        if self.count == 0 {
            // Nothing to schedule: until then the flow counts as active.
            self.drop_next = now.saturating_add(params.interval);
        } else if late && !lost {
            self.drop_next = now;
        }
        verdict
    }

    fn set_count(&mut self, count: u32) {
        self.count = count;
        self.inverse_root = match INVERSE_ROOTS.get(count as usize) {
            Some(root) => *root,
            None => newton_step(self.inverse_root, count),
        };
    }

    /// `from + interval / sqrt(count)`.
    fn law(&self, params: &CobaltParams, from: Nanos) -> Nanos {
        let wide = u128::from(params.interval.as_nanos()) * u128::from(self.inverse_root);
        from.saturating_add(Nanos::from_nanos((wide >> 32) as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reciprocal_table_is_linuxs() {
        let text = include_str!("../../tests/vectors/cobalt_cake.json");
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        let rows = vectors["inv_sqrt_cache_u32"].as_array().unwrap();
        let expected: Vec<u32> = rows.iter().map(|row| row.as_u64().unwrap() as u32).collect();
        assert_eq!(INVERSE_ROOTS.as_slice(), expected);
        for (count, root) in (1u32..).zip(&INVERSE_ROOTS[1..]) {
            let exact = (1u64 << 32) as f64 / f64::from(count).sqrt();
            assert!((f64::from(*root) - exact).abs() <= 1.0, "{count}: {root}");
        }
    }
}
