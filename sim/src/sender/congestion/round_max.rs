//! The largest of recent values.

/// Largest value of the last `N` rounds, the running one included.
#[derive(Clone, Debug)]
pub struct RoundMax<const N: usize> {
    rounds: [f64; N],
    round: u64,
}

impl<const N: usize> RoundMax<N> {
    /// Of nothing: zero.
    pub const fn new() -> Self {
        Self { rounds: [0.0; N], round: 0 }
    }

    /// A value of `round`; rounds never fall.
    pub fn update(&mut self, round: u64, value: f64) {
        let skipped = round.saturating_sub(self.round).min(N as u64);
        for back in 0..skipped {
            self.slot(round - back, |_| 0.0);
        }
        self.round = round;
        self.slot(round, |most| value.max(most));
    }

    /// The largest.
    pub fn get(&self) -> f64 {
        self.rounds.iter().fold(0.0, |most, value| value.max(most))
    }

    fn slot(&mut self, round: u64, change: impl Fn(f64) -> f64) {
        if let Some(slot) = self.rounds.get_mut((round % N as u64) as usize) {
            *slot = change(*slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_for_as_many_rounds_as_asked_for() {
        let mut max = RoundMax::<3>::new();
        for (round, value, most) in [
            (0, 5.0, 5.0),
            (1, 2.0, 5.0),
            (2, 3.0, 5.0),
            (3, 1.0, 3.0),
            (4, 1.0, 3.0),
            (5, 1.0, 1.0),
            (50, 0.5, 0.5),
        ] {
            max.update(round, value);
            assert_eq!(max.get(), most, "round {round}");
        }
    }
}
