//! The pure choices: compiled into the eBPF programs, tested on the host.

use crate::flow::Tuple;

/// Slot offset for a random number: `(random * count) >> 32`, always below `count` (for `count` above 0).
#[inline(always)]
#[must_use]
pub const fn slot(random: u32, count: u32) -> u32 {
    ((random as u64 * count as u64) >> 32) as u32
}

/// Steps of a binary search that any set may need (a set has fewer than 2^20 slots).
pub const SEARCH_STEPS: u32 = 20;

/// Offset of `backend` in a block of `count` slots sorted by backend id, where `id_at(offset)` reads one.
/// The loop is bounded by [`SEARCH_STEPS`], for the verifier.
#[inline(always)]
pub fn find(count: u32, backend: u32, mut id_at: impl FnMut(u32) -> Option<u32>) -> Option<u32> {
    let (mut low, mut high) = (0u32, count);
    for _ in 0..=SEARCH_STEPS {
        if low >= high {
            return None;
        }
        let middle = low + (high - low) / 2;
        let id = id_at(middle)?;
        if id == backend {
            return Some(middle);
        }
        if id < backend {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    None
}

/// Hash of a flow's key, kept in the entry: tells a reader whether the element was handed to another key meanwhile.
/// Never 0, so that a zeroed entry matches nothing.
#[inline(always)]
#[must_use]
pub fn tag<A: AsRef<[u32]>>(tuple: &Tuple<A>) -> u32 {
    let mut hash = 0x9e37_79b9u32;
    for &word in tuple.source.as_ref() {
        hash = mix(hash, word);
    }
    for &word in tuple.destination.as_ref() {
        hash = mix(hash, word);
    }
    hash = mix(hash, (tuple.source_port.network() as u32) << 16 | tuple.destination_port.network() as u32);
    mix(hash, (tuple.protocol as u32) << 8 | tuple.direction as u32) | 1
}

/// One step of a hash.
#[inline(always)]
#[must_use]
pub const fn mix(hash: u32, word: u32) -> u32 {
    let hash = (hash ^ word).wrapping_mul(0x85eb_ca6b);
    hash ^ hash >> 15
}
