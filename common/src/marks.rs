//! Bitmaps that tell at a glance what is nobody's business here: most packets of pods go from pod to pod. A mark that
//! is missing is proof, one that is there is a hint: two things may share its bits, and none is ever taken back while
//! the maps live, for a flow may outlive the frontend that it came through. What a stale mark costs is a lookup.

use crate::{
    address::{Address, Port},
    select::mix,
};

/// Elements of SERVICE_MARKS: 512 KiB. With 100,000 frontends, an address that is none of theirs looks like one in one
/// case of 250, for a mark is two bits of one element; were it one bit of 64 KiB, in one of six.
pub const SERVICE_WORDS: u32 = 1 << 16;

/// Bytes of ANSWER_MARKS: 128 KiB. 250 pods that ask twenty backends' ports each per packet set one in twenty-six. A
/// mark is a byte here, for several processors write them, and a store of one byte touches no other.
const CELLS: u32 = 1 << 17;
/// Elements of ANSWER_MARKS.
pub const ANSWER_WORDS: u32 = CELLS / 8;

/// Prefix length of the blocks in which ranges are marked: networks of IPv6 are 64 bits long; in IPv4 a service range
/// is seldom longer than 20 bits, and a /12 has 256 blocks.
pub const BLOCK_V4: u8 = 20;
pub const BLOCK_V6: u8 = 64;

/// Bits, one or two: which element of the map, and the bits in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    pub word: u32,
    pub bits: u64,
}

impl Mark {
    /// Whether all of its bits are in `word`, the element's value.
    #[inline(always)]
    #[must_use]
    pub const fn is_in(self, word: u64) -> bool {
        word & self.bits == self.bits
    }
}

/// In SERVICE_MARKS: an address that a frontend has.
#[inline(always)]
#[must_use]
pub fn frontend<A: Address>(address: &A) -> Mark {
    mark(hash(0x9e37_79b9, address.as_ref()))
}

/// In SERVICE_MARKS: the block of addresses that a range of services reaches into.
#[inline(always)]
#[must_use]
pub fn block<A: Address>(address: &A) -> Mark {
    mark(match *address.as_ref() {
        [word] => hash(0x7f4a_7c15, &[u32::from_be(word) >> (32 - BLOCK_V4)]),
        [high, low, ..] => hash(0x7f4a_7c15, &[high, low]),
        [] => 0,
    })
}

/// A byte: which element of the map, and the byte in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cell {
    pub word: u32,
    pub byte: u32,
}

/// In ANSWER_MARKS: the backend's port, and one end of the flows whose answers are translated at a pod's veth. That is
/// the client where it is a pod of this node, and else the backend: either way there are no more of them than pods.
#[inline(always)]
#[must_use]
pub fn answers<A: Address>(end: &A, backend_port: Port, protocol: u8) -> Cell {
    let hash = mix(hash(0x85eb_ca77, end.as_ref()), (backend_port.network() as u32) << 8 | protocol as u32);
    let cell = top(hash, CELLS);
    Cell { word: cell / 8, byte: cell % 8 }
}

#[inline(always)]
fn hash(seed: u32, words: &[u32]) -> u32 {
    let mut hash = seed;
    for &word in words {
        hash = mix(hash, word);
    }
    hash
}

#[inline(always)]
const fn mark(hash: u32) -> Mark {
    let place = top(hash, 1 << 28);
    let (one, other) = (place >> 6 & 63, place & 63);
    Mark { word: place >> 12 & (SERVICE_WORDS - 1), bits: 1 << one | 1 << other }
}

/// A number below `count`, a power of two: the highest bits depend on all others.
#[inline(always)]
const fn top(hash: u32, count: u32) -> u32 {
    hash.wrapping_mul(0xc2b2_ae35) >> (u32::BITS - count.trailing_zeros())
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        net::{Ipv4Addr, Ipv6Addr},
    };

    use super::*;
    use crate::address::{addr4, addr6, protocol::TCP};

    extern crate std;

    fn place(mark: Mark) -> (u32, u64) {
        assert!(mark.word < SERVICE_WORDS && matches!(mark.bits.count_ones(), 1 | 2));
        (mark.word, mark.bits)
    }

    /// The promise of [`SERVICE_WORDS`]: what is nobody's is let pass at a glance however many services there are.
    #[test]
    fn of_a_hundred_thousand_frontends_few_share_all_bits_of_an_address_that_is_no_services() {
        let mut words = std::vec![0; SERVICE_WORDS as usize];
        let v6 = |subnet, i: u32| addr6(Ipv6Addr::new(0xfd00, subnet, 0, 0, 0, 0, (i >> 16) as u16, i as u16));
        let frontends =
            (0..50_000).flat_map(|i| [frontend(&addr4(Ipv4Addr::from_bits(0x0a60_0000 + i))), frontend(&v6(0x96, i))]);
        frontends.for_each(|mark| words[mark.word as usize] |= mark.bits);
        let strangers =
            (0..50_000).flat_map(|i| [frontend(&addr4(Ipv4Addr::from_bits(0xc0a8_0000 + i))), frontend(&v6(0x192, i))]);
        let mistaken = strangers.filter(|mark| mark.is_in(words[mark.word as usize])).count();
        assert!((1..600).contains(&mistaken), "{mistaken} of 100,000");
    }

    /// Of 10,000 marks, hardly two are the same, and 370 share one of 131,072 bytes by chance.
    #[test]
    fn marks_are_spread() {
        let v4 = (0..10_000u32).map(|i| place(frontend(&addr4(Ipv4Addr::from_bits(0x0a60_0000 + i)))));
        assert!(v4.collect::<BTreeSet<_>>().len() > 9_990);
        let v6 = (0..10_000u16).map(|i| place(frontend(&addr6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, i)))));
        assert!(v6.collect::<BTreeSet<_>>().len() > 9_990);
        let cells = (0..10_000u16).map(|i| answers(&[u32::from(i % 100)], Port::new(i / 100), TCP));
        let cells = cells.inspect(|cell| assert!(cell.word < ANSWER_WORDS && cell.byte < 8));
        assert!(cells.map(|cell| cell.word * 8 + cell.byte).collect::<BTreeSet<_>>().len() > 9_500);
    }

    /// A block is marked as a whole, and its neighbour is not.
    #[test]
    fn addresses_of_a_block_share_its_mark() {
        let v4 = |ip: [u8; 4]| place(block(&addr4(Ipv4Addr::from(ip))));
        assert_eq!(v4([10, 96, 16, 0]), v4([10, 96, 31, 255]));
        assert_ne!(v4([10, 96, 31, 255]), v4([10, 96, 32, 0]));
        let v6 = |subnet, host| place(block(&addr6(Ipv6Addr::new(0xfd00, 0, 0, subnet, 0, 0, 0, host))));
        assert_eq!(v6(7, 1), v6(7, 0xffff));
        assert_ne!(v6(7, 1), v6(8, 1));
    }
}
