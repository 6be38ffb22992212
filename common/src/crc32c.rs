//! CRC32c, SCTP's checksum (RFC 9260, appendix A), as far as a program needs it: how it changes with the ports, which are
//! the first four bytes that it covers, without a look at the rest.
//!
//! A CRC is linear: that of a message with some bits flipped is that of the message, xor that of the flipped bits alone
//! (without preset and inversion). The flipped bits are a polynomial, and the bytes behind them a power of x that it is
//! multiplied by, modulo the CRC's own. Bit 31 of a word is the coefficient of x^0.

/// Castagnoli's, without x^32.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// x^(8 i): what `i` bytes multiply by.
static BYTES: [u32; 256] = powers(BYTE);
/// x^(8 * 256 i).
static PAGES: [u32; 256] = powers(multiply(powers(BYTE)[255], BYTE));

/// x^0.
const ONE: u32 = 1 << 31;
/// x^8.
const BYTE: u32 = ONE >> 8;

/// The CRC of a packet of `length` bytes, at most 65,535, whose first word (as it lies in memory) becomes `new`. `crc` as
/// it lies in memory too.
#[inline(always)]
#[must_use]
pub fn replace_first(crc: u32, old: u32, new: u32, length: u32) -> u32 {
    let flipped = u32::from_le(old ^ new);
    let behind_pages = multiply(flipped, BYTES[(length & 0xff) as usize]);
    crc ^ multiply(behind_pages, PAGES[(length >> 8 & 0xff) as usize]).to_le()
}

/// The CRC of a few words, all as they lie in memory.
#[inline(always)]
#[must_use]
pub fn of_words(words: &[u32]) -> u32 {
    // Four bytes are x^32, which the register holds shifted out already.
    let crc = words.iter().fold(u32::MAX, |crc, word| multiply(crc ^ u32::from_le(*word), BYTES[4]));
    (!crc).to_le()
}

/// The product of two polynomials, modulo the CRC's. Without branches: a verifier walks through it once.
#[inline(always)]
const fn multiply(one: u32, mut other: u32) -> u32 {
    let mut product = 0;
    let mut bit = u32::BITS;
    while bit > 0 {
        bit -= 1;
        product ^= other & 0u32.wrapping_sub(one >> bit & 1);
        other = other >> 1 ^ POLYNOMIAL & 0u32.wrapping_sub(other & 1);
    }
    product
}

const fn powers(of: u32) -> [u32; 256] {
    let mut powers = [ONE; 256];
    let mut i = 1;
    while i < powers.len() {
        powers[i] = multiply(powers[i - 1], of);
        i += 1;
    }
    powers
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;

    use std::vec::Vec;

    /// As the standard defines it, bit by bit.
    fn plain(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 })
        })
    }

    /// The check value that catalogues of CRCs give for CRC-32C.
    #[test]
    fn the_check_value() {
        assert_eq!(plain(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_few_words() {
        let words = [0x1234_5678, 0, u32::MAX, 0x8000_0001];
        let bytes: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_ne_bytes()).collect();
        assert_eq!(u32::from_le(of_words(&words)), plain(&bytes));
    }

    /// Other ports in a packet of any length: the CRC that follows is the one computed anew.
    #[test]
    fn a_replaced_word_is_as_good_as_a_new_crc() {
        let mut random = 1u32;
        let mut next = || {
            random = random.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
            random
        };
        for length in (4..600).chain([1023, 1024, 1480, 8980, 65_535]) {
            let mut bytes: Vec<u8> = (0..length).map(|_| next().to_be_bytes()[0]).collect();
            let before = plain(&bytes).to_le();
            let old = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            let new = next();
            bytes[..4].copy_from_slice(&new.to_ne_bytes());
            assert_eq!(replace_first(before, old, new, length), plain(&bytes).to_le(), "{length} bytes");
        }
    }
}
