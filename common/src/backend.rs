//! Backends: a slot says where one is, a state word says whether it still serves.

use core::mem::offset_of;

use crate::address::{Addr4, Addr6, Port};

/// Value of SLOTS_V4 and SLOTS_V6. A set is `count` slots from `base`, sorted by `backend`; a written block is never
/// edited, it is replaced by another block.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Slot<A> {
    pub address: A,
    pub port: Port,
    /// Generation of the block (12 bits), as in the word that points here: an assertion, not a lock.
    pub generation: u16,
    /// Index into BACKENDS; one id belongs to one endpoint of one service record.
    pub backend: u32,
    /// The service record that the block was written for: an assertion too.
    pub owner: u32,
}

/// `epoch:32 | serving:1`, low bits first. A flow or an affinity entry that carries another epoch, or whose backend
/// no longer serves, chooses anew: O(1), no table scan when an endpoint goes.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct BackendState(pub u64);

impl BackendState {
    #[must_use]
    pub const fn new(epoch: u32, serving: bool) -> Self {
        Self(epoch as u64 | (serving as u64) << 32)
    }

    #[inline(always)]
    #[must_use]
    pub const fn epoch(self) -> u32 {
        self.0 as u32
    }

    #[inline(always)]
    #[must_use]
    pub const fn serving(self) -> bool {
        self.0 >> 32 & 1 == 1
    }

    /// True while the backend that was chosen in `epoch` serves.
    #[inline(always)]
    #[must_use]
    pub const fn alive(self, epoch: u32) -> bool {
        self.serving() && self.epoch() == epoch
    }
}

// Array maps round a value's stride up to 8 bytes: the V6 slot's stride is 32.
const _: () = assert!(size_of::<Slot<Addr4>>() == 16);
const _: () = assert!(size_of::<Slot<Addr6>>() == 28);
const _: () = assert!(offset_of!(Slot<Addr4>, port) == 4 && offset_of!(Slot<Addr4>, backend) == 8);
const _: () = assert!(offset_of!(Slot<Addr6>, port) == 16 && offset_of!(Slot<Addr6>, owner) == 24);
