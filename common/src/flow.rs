//! Connection tracking: two entries per flow, one for each direction.

use crate::address::{Addr4, Addr6, Port};

/// Key of CT and CT_NEW: the packet as it arrives, before translation.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Tuple<A> {
    pub source: A,
    pub destination: A,
    pub source_port: Port,
    pub destination_port: Port,
    pub protocol: u8,
    /// [`Tuple::FORWARD`] or [`Tuple::REPLY`]: a pod that talks to itself has both with like addresses.
    pub direction: u8,
    pub _pad: u16,
}

impl<A: Copy> Tuple<A> {
    /// From the client.
    pub const FORWARD: u8 = 0;
    /// To the client.
    pub const REPLY: u8 = 1;

    /// The tuple of a packet that answers this one, in `direction`.
    #[inline(always)]
    #[must_use]
    pub fn reversed(&self, direction: u8) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
            direction,
            _pad: 0,
        }
    }
}

/// Value of CT and CT_NEW.
///
/// The kernel may hand a deleted element to another key while a program still reads it. `head` and `tail` carry the
/// hash of the key ([`crate::select::tag`]); a reader that finds either wrong treats the entry as absent.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Flow<A> {
    pub head: u32,
    /// Index of the service record.
    pub service: u32,
    pub backend: u32,
    /// Epoch of the backend when it was chosen.
    pub epoch: u32,
    /// What the packet's addresses and ports become.
    pub source: A,
    pub destination: A,
    pub source_port: Port,
    pub destination_port: Port,
    /// Seconds of CLOCK_MONOTONIC when a packet of this direction was last seen.
    pub last_seen: u32,
    /// [`state`] bits seen in this direction.
    pub state: u32,
    pub tail: u32,
}

/// Bits of [`Flow::state`].
pub mod state {
    /// A packet of this direction was seen.
    pub const SEEN: u32 = 1;
    /// TCP: the sender of this direction has closed.
    pub const FIN: u32 = 1 << 1;
    /// TCP: this direction carried a reset.
    pub const RST: u32 = 1 << 2;
    /// The client and the backend are one pod; the source is translated too.
    pub const HAIRPIN: u32 = 1 << 3;
}

/// Seconds that an idle flow is kept, by what was seen of it.
pub mod timeout {
    /// TCP, both sides open. Two hours and four minutes: past the default keepalive (RFC 5382, REQ-5).
    pub const TCP_ESTABLISHED: u32 = 7440;
    /// TCP, closed by one or both sides, or reset.
    pub const TCP_CLOSING: u32 = 120;
    /// UDP that was answered (RFC 4787, REQ-5, asks for two minutes or more).
    pub const UDP: u32 = 180;
    /// Any other protocol.
    pub const OTHER: u32 = 600;
}

const _: () = assert!(size_of::<Tuple<Addr4>>() == 16);
const _: () = assert!(size_of::<Tuple<Addr6>>() == 40);
const _: () = assert!(size_of::<Flow<Addr4>>() == 40);
const _: () = assert!(size_of::<Flow<Addr6>>() == 64);
