//! The only source of chance.

use weir_aqm::Nanos;

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014): small, seeded by
/// any number, passes the tests that matter for arrival processes. Not for secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator; every seed is good.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub const fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Uniform in (0, 1].
    pub fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Exponentially distributed with this mean. The logarithm is `libm`'s, the same on every machine.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * libm::log(self.unit())
    }

    /// Uniform below `end`; zero for a zero `end`.
    pub const fn below(&mut self, end: Nanos) -> Nanos {
        let wide = self.bits() as u128 * end.as_nanos() as u128;
        Nanos::from_nanos((wide >> 64) as u64)
    }

    /// True in `ppm` of a million cases.
    pub fn happens(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.below(Nanos::from_nanos(1_000_000)) < Nanos::from_nanos(u64::from(ppm))
    }

    /// Another generator, whose numbers have nothing to do with this one's.
    #[must_use]
    pub const fn split(&mut self) -> Self {
        Self::new(self.bits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix64_gives_its_published_first_numbers() {
        // Seed 1234567, from the reference implementation's test vector.
        let mut random = Random::new(1_234_567);
        assert_eq!(random.bits(), 6_457_827_717_110_365_317);
        assert_eq!(random.bits(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn exponential_numbers_are_the_same_to_the_bit_on_every_machine() {
        let mut random = Random::new(1_234_567);
        // Logarithms of the first three numbers above, as any correctly rounded `log` gives them.
        let bits = [0; 3].map(|_: u8| random.exponential(1.0).to_bits());
        assert_eq!(bits, [4_607_405_774_316_434_563, 4_610_563_484_942_939_130, 4_603_856_260_041_302_354]);
    }

    #[test]
    fn means_are_what_was_asked_for() {
        let mut random = Random::new(1);
        let n = 200_000;
        let mean = (0..n).map(|_| random.exponential(12.0)).sum::<f64>() / f64::from(n);
        assert!((mean - 12.0).abs() < 0.1, "{mean}");
        let end = Nanos::from_millis(100);
        assert!((0..n).all(|_| random.below(end) < end));
        assert_eq!(random.below(Nanos::ZERO), Nanos::ZERO);
        let losses = (0..n).filter(|_| random.happens(20_000)).count();
        assert!((3_800..4_200).contains(&losses), "{losses}");
        assert!(!random.happens(0) && random.happens(1_000_000));
    }
}
