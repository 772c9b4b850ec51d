//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

/// A sum of 16-bit words brought back to 16 bits with end-around carry (RFC 1071, section 1).
///
/// Two folds suffice for any `u32`: the first leaves at most `0x1fffe`, the second at most `0xffff`.
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    let twice = (once & 0xffff) + (once >> 16);
    // At most 0xffff, by the bound above.
    twice as u16
}

/// The checksum of a header in which one 16-bit word went from `old_word` to `new_word`, all in the order of the
/// field as written (big-endian values).
///
/// RFC 1624, equation 3: `HC' = ~(~HC + ~m + m')`. Unlike RFC 1141's form it does not turn a checksum that
/// should be `0x0000` into `0xffff`. A checksum that was wrong stays wrong by as much, so that the receiver
/// still sees the damage.
#[inline(always)]
pub const fn update16(old_checksum: u16, old_word: u16, new_word: u16) -> u16 {
    !fold(!old_checksum as u32 + !old_word as u32 + new_word as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The sum of section 4.1 of RFC 1071 over whole words.
    fn checksum(words: &[u16]) -> u16 {
        !fold(words.iter().copied().map(u32::from).sum())
    }

    #[test]
    fn rfc1071_section_3_example() {
        assert_eq!(checksum(&[0x0001, 0xf203, 0xf4f5, 0xf6f7]), !0xddf2);
    }

    #[test]
    fn rfc1624_section_4_example_gives_zero_and_not_ffff() {
        assert_eq!(update16(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn a_fold_never_loses_a_carry() {
        assert_eq!(fold(0), 0);
        assert_eq!(fold(0xffff), 0xffff);
        assert_eq!(fold(0x1_0000), 1);
        assert_eq!(fold(0x1_ffff), 1);
        assert_eq!(fold(u32::MAX), 0xffff);
    }

    proptest! {
        #[test]
        fn an_update_equals_the_sum_taken_anew(
            // The first word of an IPv4 header is never zero, which keeps the sum from being zero.
            first in 1u16..,
            rest in proptest::collection::vec(any::<u16>(), 1..30),
            at in any::<prop::sample::Index>(),
            new in any::<u16>(),
        ) {
            let mut words = rest;
            words.push(first);
            let before = checksum(&words);
            let at = at.index(words.len() - 1);
            let old = core::mem::replace(&mut words[at], new);
            prop_assert_eq!(update16(before, old, new), checksum(&words));
        }
    }
}
