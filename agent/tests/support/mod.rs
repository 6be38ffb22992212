//! A small cluster that changes at random, the pipeline from its objects to maps in memory, and a plain model of what
//! the maps must then say.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "each test uses its own part, and ends at what it did not expect"
)]

pub mod cluster;
pub mod model;
pub mod pipeline;
pub mod wanted;
pub mod watched;

/// A small generator of its own, so that a failure is repeated by its seed alone (xorshift64*).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        ((self.next() >> 33) as usize) % bound
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}
