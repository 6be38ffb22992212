//! Session affinity (`sessionAffinity: ClientIP`): one memory for all paths.

/// Key of AFFINITY.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AffinityKey<A> {
    pub client: A,
    /// Index of the service record.
    pub service: u32,
}

/// Value of AFFINITY. Valid while the backend lives in `epoch` and is in the set in use.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AffinityValue {
    pub backend: u32,
    pub epoch: u32,
    /// Milliseconds of CLOCK_MONOTONIC at the client's last new connection.
    pub last_used: u64,
}

const _: () = assert!(size_of::<AffinityKey<crate::address::Addr4>>() == 8);
const _: () = assert!(size_of::<AffinityKey<crate::address::Addr6>>() == 20);
const _: () = assert!(size_of::<AffinityValue>() == 16);
