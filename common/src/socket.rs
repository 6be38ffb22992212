//! What is remembered of a socket, for as long as it is open.

use crate::address::{Addr6, Port};

/// Value of SOCKETS, keyed by the socket's cookie: the frontend that a TCP socket named, and the backend that it is
/// connected to instead, by which an entry is known to be of the connection of now. IPv4 as in [`Translation`].
///
/// A hash and not the socket's storage: allocating and freeing that for each connection cost 2.5 % of a whole one
/// (connect, one exchange, close; kernel 6.18); this costs 0.8 %, of which all sockets pay some at their end.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Connection {
    pub frontend: Addr6,
    pub backend: Addr6,
    pub frontend_port: Port,
    pub backend_port: Port,
}

/// A frontend that the application named and the backend it talks to instead. IPv4 addresses are stored mapped
/// (`::ffff:a.b.c.d`), so that one form serves IPv4, IPv6 and IPv4-mapped sockets.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Translation {
    pub frontend: Addr6,
    pub backend: Addr6,
    pub frontend_port: Port,
    pub backend_port: Port,
    /// Index of the service record.
    pub service: u32,
    pub backend_id: u32,
    /// Epoch of the backend when it was chosen; 0 marks an empty entry (epochs start at 1).
    pub epoch: u32,
}

/// Value of DATAGRAMS: a UDP socket's sticky choices, one per frontend, the oldest replaced.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Datagrams {
    pub translations: [Translation; Self::ENTRIES],
    /// Entry to replace next.
    pub next: u32,
    /// Entry used last: of several frontends with one backend, an answer is most likely from that one.
    pub last: u32,
}

impl Datagrams {
    /// Frontends that one UDP socket talks to at a time without choosing anew (a power of two).
    pub const ENTRIES: usize = 4;
}

const _: () = assert!(size_of::<Connection>() == 36);
const _: () = assert!(size_of::<Translation>() == 48);
const _: () = assert!(size_of::<Datagrams>() == 200);
