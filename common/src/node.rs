//! The node's own addresses. They may change while the programs run: a lease ends, a router is heard of.

use crate::address::{Addr4, Addr6};

/// Value of NODE_ADDRESS: as which address the node sends clients outside on to a backend, and uses services itself.
///
/// There are two, so that nobody reads half of one address and half of another: programs read the one that `current` of
/// the first names. The agent writes the other one when no program reads it any more, and names it in one store.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OwnAddress {
    /// Index of the value that is in force. Of the first value only.
    pub current: u64,
    /// Zero: none, here and below.
    pub v6: Addr6,
    pub v4: Addr4,
    pub _pad: u32,
}

const _: () = assert!(size_of::<OwnAddress>() == 32);
