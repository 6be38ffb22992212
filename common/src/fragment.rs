//! IP fragments: only the first has ports, the others find them here.

use crate::address::Port;

/// Key of FRAGMENTS: what identifies a datagram (RFC 791, 3.2; RFC 8200, 4.5), as it arrives.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FragmentKey<A> {
    pub source: A,
    pub destination: A,
    /// Network order; 16 bits in IPv4.
    pub id: u32,
    pub protocol: u8,
    pub _pad: [u8; 3],
}

/// Value of FRAGMENTS: the ports of the first fragment.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FragmentPorts {
    pub source_port: Port,
    pub destination_port: Port,
}

const _: () = assert!(size_of::<FragmentKey<crate::address::Addr4>>() == 16);
const _: () = assert!(size_of::<FragmentKey<crate::address::Addr6>>() == 40);
const _: () = assert!(size_of::<FragmentPorts>() == 4);
