//! Which packets XDP takes on: whole ones, whose headers are where they are as a rule.

use millrace_common::{
    address::protocol,
    header::{self, Part, ether, tcp, udp},
    scratch::Packet,
};

use crate::packet::{
    frame::{Buffer, Frame},
    network::Network,
};

/// TCP or UDP, in one piece and in one buffer (the parser has compared the length), without options or extensions,
/// with hops left, and with a checksum of its own.
#[inline(always)]
pub(super) fn is_plain<F: Network>(buffer: Buffer, packet: &Packet<F::Address>) -> bool {
    packet.part == Part::Whole
        && packet.l4 == ether::HEADER + F::HEADER
        && matches!(packet.tuple.protocol, protocol::TCP | protocol::UDP)
        && buffer.load::<u32>(ether::HEADER + F::HOPS).is_some_and(|word| F::hops(word) > 1)
        && buffer.load::<u8>(0).is_some_and(|first| first & 1 == 0)
        && !is_partial::<F>(buffer, packet)
}

/// True for a checksum that was left to a device (CHECKSUM_PARTIAL), as on packets that never saw a wire: of a veth, of
/// a virtual machine's host, or put together by GRO. It is the sum of the pseudo header, and what is to become of it is
/// written beside the packet, where XDP cannot look and which a frame that it sends loses. One whole checksum in 65,536
/// looks the same.
#[inline(always)]
fn is_partial<F: Network>(buffer: Buffer, packet: &Packet<F::Address>) -> bool {
    let tuple = &packet.tuple;
    let at = if tuple.protocol == protocol::TCP { tcp::CHECKSUM } else { udp::CHECKSUM };
    let pseudo = header::pseudo(tuple.source.as_ref(), tuple.destination.as_ref(), tuple.protocol, packet.l4_length);
    buffer.load::<u16>(ether::HEADER + F::HEADER + at).is_none_or(|checksum| checksum == !pseudo.checksum())
}
