//! What the per-packet path must know of a family beyond its addresses: its header, and its ICMP.

use millrace_common::{checksum::Sum, scratch::Packet};

use super::{frame::Frame, glance::Plain, parse::Shape};
use crate::family::Family;

pub(super) trait Network: Family {
    /// Bytes of the header without options or extensions.
    const HEADER: u32;
    /// Offset of the source address; the destination follows it.
    const ADDRESSES: u32;
    /// Offset of the word that has the hops that are left in it ([`millrace_common::header::hops`]).
    const HOPS: u32;
    /// Offset of the header's own checksum, if it has one.
    const CHECKSUM: Option<u32>;
    /// EtherType, in network order.
    const ETHER: u16;
    /// `AF_INET` or `AF_INET6`.
    const AF: u8;
    /// Source of a pod's packets to itself.
    const LOOP: Self::Address;
    /// The family's ICMP.
    const ICMP: u8;
    /// The ICMP checksum covers a pseudo header.
    const ICMP_PSEUDO: bool;
    const ECHO_REQUEST: u8;
    /// Type and code.
    const PORT_UNREACHABLE: [u8; 2];
    const TOO_BIG: [u8; 2];
    const TIME_EXCEEDED: [u8; 2];
    /// Both addresses as they lie in the header, source first.
    type Addresses: Copy + AsRef<[u32]>;
    /// A header without options.
    type Header: Copy;

    fn addresses(source: Self::Address, destination: Self::Address) -> Self::Addresses;

    /// As the kernel's route lookup has it: the rest is zero.
    fn words(address: Self::Address) -> [u32; 4];

    /// What the header says, if neither options nor extensions nor a fragment's part follow it.
    fn plain(header: Self::Header) -> Option<Plain<Self::Address>>;

    /// The part of it that routes may depend on, as `struct bpf_fib_lookup` has it.
    fn traffic_class(header: Self::Header) -> u32;

    /// False for addresses that mean nothing beyond a link, or no host: the stack knows what to do with them.
    fn is_routed(address: Self::Address) -> bool;

    fn header(source: Self::Address, destination: Self::Address, protocol: u8, payload: u32) -> Self::Header;

    /// Hops that are left, in the word at [`Network::HOPS`].
    fn hops(word: u32) -> u8;

    /// The word with one hop less. Where the header's own checksum is part of it, that of a header in which `change` was
    /// made elsewhere.
    fn forwarded(word: u32, change: Sum) -> u32;

    /// True for a source that an answer may be sent to.
    fn is_host(address: Self::Address) -> bool;

    fn icmp_is_error(kind: u8) -> bool;

    /// Reads the header at `packet.l3`, with its options or extensions: everything in `packet` but what the
    /// transport's header says. A `quoted` packet may be cut off.
    fn read(frame: impl Frame, packet: &mut Packet<Self::Address>, quoted: bool) -> Shape;
}

/// Bytes of the packet, wherever they lie.
#[inline(always)]
pub(super) fn load<T>(frame: impl Frame, offset: u32) -> Option<T> {
    frame.load(offset)
}

/// True if all could be written.
#[inline(always)]
pub(super) fn store<T>(frame: impl Frame, offset: u32, value: &T) -> bool {
    frame.store(offset, value)
}
