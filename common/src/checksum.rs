//! One's complement sums (RFC 1071), fresh and incremental (RFC 1624). Words are taken as they lie in memory: the sum
//! does not care for byte order as long as it is written back the same way.

/// A sum under way.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Sum(u64);

impl Sum {
    pub const ZERO: Self = Self(0);

    /// With a 32-bit word (two of the 16-bit words that the sum is made of).
    #[inline(always)]
    #[must_use]
    pub const fn add(self, word: u32) -> Self {
        Self(self.0 + word as u64)
    }

    /// Both sums.
    #[inline(always)]
    #[must_use]
    pub const fn join(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// With `new` in the place of `old`.
    #[inline(always)]
    #[must_use]
    pub const fn replace(self, old: u32, new: u32) -> Self {
        self.add(!old).add(new)
    }

    /// With the words of `new` in the place of those of `old`.
    #[inline(always)]
    #[must_use]
    pub fn replace_all(self, old: &[u32], new: &[u32]) -> Self {
        old.iter().zip(new).fold(self, |sum, (&old, &new)| sum.replace(old, new))
    }

    /// As `bpf_l3_csum_replace` and `bpf_l4_csum_replace` take a difference (`__wsum`).
    #[inline(always)]
    #[must_use]
    pub const fn folded32(self) -> u32 {
        let once = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        ((once & 0xffff_ffff) + (once >> 32)) as u32
    }

    #[inline(always)]
    const fn folded16(self) -> u16 {
        let word = self.folded32();
        let once = (word & 0xffff) + (word >> 16);
        ((once & 0xffff) + (once >> 16)) as u16
    }

    /// The checksum of what was added.
    #[inline(always)]
    #[must_use]
    pub const fn checksum(self) -> u16 {
        !self.folded16()
    }

    /// The checksum that follows from `checksum` when this difference is made to what it covers.
    #[inline(always)]
    #[must_use]
    pub const fn update(self, checksum: u16) -> u16 {
        self.add(!checksum as u32).checksum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 1071, 3: its sum is ddf2.
    #[test]
    fn the_example_of_the_standard() {
        let words = [[0x00, 0x01, 0xf2, 0x03], [0xf4, 0xf5, 0xf6, 0xf7]].map(u32::from_ne_bytes);
        let sum = words.into_iter().fold(Sum::ZERO, Sum::add);
        assert_eq!(sum.checksum().to_ne_bytes(), [!0xdd, !0xf2]);
    }

    /// A checksum that is updated word by word is the one computed anew, also where carries ripple.
    #[test]
    fn an_update_is_as_good_as_a_new_sum() {
        let mut words = [0xffff_ffff, 0, 0x8000_0001, 0x1234_5678];
        let fresh = |words: &[u32]| words.iter().fold(Sum::ZERO, |sum, &word| sum.add(word)).checksum();
        let mut random = 1u32;
        for i in 0..10_000 {
            let before = fresh(&words);
            let old = words[i % 4];
            random = random.wrapping_mul(0x0101_0101).wrapping_add(0x9e37_79b9);
            words[i % 4] = random;
            assert_eq!(Sum::ZERO.replace(old, random).update(before), fresh(&words), "step {i}");
        }
    }
}
