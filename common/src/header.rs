//! The headers of a packet as numbers: what the programs read, and the headers of the answers that they write.
//! Words are as they lie in a packet.

use crate::{
    address::{Addr4, Addr6, Port, protocol},
    checksum::Sum,
    crc32c,
};

/// EtherTypes (IEEE 802), in network order.
pub mod ether {
    pub const IPV4: u16 = 0x0800u16.to_be();
    pub const IPV6: u16 = 0x86ddu16.to_be();
    /// 802.1Q and 802.1ad: a VLAN tag of four bytes comes first.
    pub const VLAN: u16 = 0x8100u16.to_be();
    pub const VLAN_OUTER: u16 = 0x88a8u16.to_be();
    /// The bits of a tag that are the VLAN's number; host order, as in `vlan_tci`.
    pub const VLAN_NUMBER: u32 = 0xfff;
    /// Offset of the EtherType.
    pub const TYPE: u32 = 12;
    /// Bytes before the network header without a tag.
    pub const HEADER: u32 = 14;
    pub const TAG: u32 = 4;
}

/// Bits of byte 13 of a TCP header (RFC 9293, 3.1).
pub mod tcp {
    pub const FIN: u8 = 1;
    pub const SYN: u8 = 1 << 1;
    pub const RST: u8 = 1 << 2;
    pub const ACK: u8 = 1 << 4;
    pub const HEADER: u32 = 20;
    /// Offset of the checksum.
    pub const CHECKSUM: u32 = 16;
    /// Offset of the header's length: words, in the upper half of the byte.
    pub const LENGTH: u32 = 12;

    /// True for the segment that begins a connection.
    #[inline(always)]
    #[must_use]
    pub const fn opens(flags: u8) -> bool {
        flags & (SYN | ACK | RST | FIN) == SYN
    }
}

/// SCTP (RFC 9260, 3): a header, then chunks.
pub mod sctp {
    use super::tcp;

    pub const HEADER: u32 = 12;
    /// Offset of the CRC32c.
    pub const CHECKSUM: u32 = 8;
    /// With the header of the first chunk.
    pub const SHORTEST: u32 = HEADER + 4;

    const INIT: u8 = 1;
    const INIT_ACK: u8 = 2;
    pub const ABORT: u8 = 6;
    const SHUTDOWN: u8 = 7;
    const SHUTDOWN_ACK: u8 = 8;
    const SHUTDOWN_COMPLETE: u8 = 14;

    /// What a first chunk of this type means to an association, in TCP's flags for what means the same to a connection.
    /// SHUTDOWN COMPLETE is the last packet of all, as a reset is.
    #[inline(always)]
    #[must_use]
    pub const fn flags(chunk: u8) -> u8 {
        match chunk {
            INIT => tcp::SYN,
            INIT_ACK => tcp::SYN | tcp::ACK,
            SHUTDOWN | SHUTDOWN_ACK => tcp::FIN | tcp::ACK,
            ABORT | SHUTDOWN_COMPLETE => tcp::RST,
            _ => tcp::ACK,
        }
    }
}

pub mod udp {
    pub const HEADER: u32 = 8;
    /// Offset of the checksum.
    pub const CHECKSUM: u32 = 6;
}

/// IPv6 next-header values that are walked over (RFC 8200, 4).
pub mod extension {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const DESTINATION: u8 = 60;
    /// Headers that are walked over at most; a packet with more is nobody's service traffic.
    pub const LIMIT: u32 = 6;
}

/// Which part of a datagram a packet is.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    Whole,
    /// The first fragment: the only one with ports.
    Head,
    Tail,
}

impl Part {
    /// From an IPv4 header's flags and offset, host order (RFC 791, 3.1).
    #[inline(always)]
    #[must_use]
    pub const fn of_v4(word: u16) -> Self {
        Self::from(word & 0x1fff != 0, word & 0x2000 != 0)
    }

    /// From an IPv6 fragment header's offset and M flag, host order (RFC 8200, 4.5).
    #[inline(always)]
    #[must_use]
    pub const fn of_v6(word: u16) -> Self {
        Self::from(word & 0xfff8 != 0, word & 1 != 0)
    }

    #[inline(always)]
    const fn from(offset: bool, more: bool) -> Self {
        match (offset, more) {
            (true, _) => Self::Tail,
            (false, true) => Self::Head,
            // IPv6 calls it an atomic fragment (RFC 6946).
            (false, false) => Self::Whole,
        }
    }
}

const TTL: u8 = 64;

/// An IPv4 header without options, its checksum computed, for `payload` bytes.
#[inline(always)]
#[must_use]
pub const fn ipv4(source: Addr4, destination: Addr4, protocol: u8, payload: u32) -> [u32; 5] {
    let length = (20 + payload as u16).to_be_bytes();
    let first = u32::from_ne_bytes([0x45, 0, length[0], length[1]]);
    // Do not fragment, as the kernel says of its own resets.
    let second = u32::from_ne_bytes([0, 0, 0x40, 0]);
    let third = u32::from_ne_bytes([TTL, protocol, 0, 0]);
    let sum = Sum::ZERO.add(first).add(second).add(third).add(source[0]).add(destination[0]);
    let [a, b] = sum.checksum().to_ne_bytes();
    [first, second, u32::from_ne_bytes([TTL, protocol, a, b]), source[0], destination[0]]
}

/// An IPv6 header for `payload` bytes.
#[inline(always)]
#[must_use]
pub const fn ipv6(source: Addr6, destination: Addr6, protocol: u8, payload: u32) -> [u32; 10] {
    let length = (payload as u16).to_be_bytes();
    let [s0, s1, s2, s3] = source;
    let [d0, d1, d2, d3] = destination;
    let first = u32::from_ne_bytes([0x60, 0, 0, 0]);
    [first, u32::from_ne_bytes([length[0], length[1], protocol, TTL]), s0, s1, s2, s3, d0, d1, d2, d3]
}

/// The sum of the pseudo header (RFC 9293, 3.1; RFC 8200, 8.1).
#[inline(always)]
#[must_use]
pub fn pseudo(source: &[u32], destination: &[u32], protocol: u8, length: u32) -> Sum {
    let addresses = source.iter().chain(destination).fold(Sum::ZERO, |sum, &word| sum.add(word));
    addresses.add(length.to_be()).add((protocol as u32).to_be())
}

/// What a reset must know of the segment that it answers, host order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    pub sequence: u32,
    pub acknowledgment: u32,
    pub flags: u8,
    /// Bytes of payload.
    pub payload: u32,
}

/// The TCP header that resets `segment` (RFC 9293, 3.5.2), from `source_port`; its checksum starts from `pseudo`.
#[inline(always)]
#[must_use]
pub const fn reset(segment: Segment, source_port: Port, destination_port: Port, pseudo: Sum) -> [u32; 5] {
    let (sequence, acknowledgment, flags) = if segment.flags & tcp::ACK != 0 {
        (segment.acknowledgment, 0, tcp::RST)
    } else {
        let taken = (segment.flags & tcp::SYN != 0) as u32 + (segment.flags & tcp::FIN != 0) as u32 + segment.payload;
        (0, segment.sequence.wrapping_add(taken), tcp::RST | tcp::ACK)
    };
    let [a, b] = source_port.network().to_ne_bytes();
    let [c, d] = destination_port.network().to_ne_bytes();
    let ports = u32::from_ne_bytes([a, b, c, d]);
    // Five words of header; no window.
    let bits = u32::from_ne_bytes([5 << 4, flags, 0, 0]);
    let (sequence, acknowledgment) = (sequence.to_be(), acknowledgment.to_be());
    let sum = pseudo.add(ports).add(sequence).add(acknowledgment).add(bits);
    let [a, b] = sum.checksum().to_ne_bytes();
    [ports, sequence, acknowledgment, bits, u32::from_ne_bytes([a, b, 0, 0])]
}

/// The SCTP packet that aborts the association of a packet which begins with these words (RFC 9260, 8.4): the initiate tag
/// of an INIT is the fifth. Its checksum is left out where that packet's was.
#[inline(always)]
#[must_use]
pub fn abort(words: [u32; 5]) -> [u32; 4] {
    let [ports, tag, checksum, chunk, initiate] = words;
    let [a, b, c, d] = ports.to_ne_bytes();
    let opens = tcp::opens(sctp::flags(chunk.to_ne_bytes()[0]));
    // T: the tag is the receiver's own, sent back.
    let (tag, t) = if opens { (initiate, 0) } else { (tag, 1) };
    let mut answer = [u32::from_ne_bytes([c, d, a, b]), tag, 0, u32::from_ne_bytes([sctp::ABORT, t, 0, 4])];
    if checksum != 0 {
        answer[2] = crc32c::of_words(&answer);
    }
    answer
}

/// True for a source that an answer may be sent to: no broadcast, multicast or unspecified address (RFC 1122, 3.2.2).
#[inline(always)]
#[must_use]
pub const fn is_host_v4(address: Addr4) -> bool {
    let first = address[0].to_ne_bytes()[0];
    address[0] != 0 && first < 224 && first != 127
}

/// See [`is_host_v4`] (RFC 4443, 2.4).
#[inline(always)]
#[must_use]
pub const fn is_host_v6(address: Addr6) -> bool {
    let [a, b, c, d] = address;
    a | b | c | d != 0 && a.to_ne_bytes()[0] != 0xff
}

/// fe80::/10 (RFC 4291, 2.5.6).
#[inline(always)]
#[must_use]
pub const fn is_link_local_v6(address: Addr6) -> bool {
    let [a, b, _, _] = address[0].to_ne_bytes();
    a == 0xfe && b & 0xc0 == 0x80
}

/// ICMP types and codes (RFC 792, RFC 4443).
pub mod icmp {
    pub const HEADER: u32 = 8;
    /// Offset of the checksum.
    pub const CHECKSUM: u32 = 2;
    pub const ECHO_REQUEST_V4: u8 = 8;
    pub const ECHO_REQUEST_V6: u8 = 128;
    /// Type and code of "port unreachable".
    pub const PORT_UNREACHABLE_V4: [u8; 2] = [3, 3];
    pub const PORT_UNREACHABLE_V6: [u8; 2] = [1, 4];
    /// "Fragmentation needed" (RFC 1191, 4) and "packet too big".
    pub const TOO_BIG_V4: [u8; 2] = [3, 4];
    pub const TOO_BIG_V6: [u8; 2] = [2, 0];
    /// "Time exceeded in transit": no hops left.
    pub const TIME_EXCEEDED_V4: [u8; 2] = [11, 0];
    pub const TIME_EXCEEDED_V6: [u8; 2] = [3, 0];

    /// Destination unreachable (fragmentation needed too), time exceeded, parameter problem: they quote a packet.
    #[inline(always)]
    #[must_use]
    pub const fn is_error_v4(kind: u8) -> bool {
        matches!(kind, 3 | 11 | 12)
    }

    /// Destination unreachable, packet too big, time exceeded, parameter problem.
    #[inline(always)]
    #[must_use]
    pub const fn is_error_v6(kind: u8) -> bool {
        matches!(kind, 1..=4)
    }
}

/// The protocol number of the family's ICMP.
pub const ICMP_V4: u8 = protocol::ICMP;
/// See [`ICMP_V4`].
pub const ICMP_V6: u8 = protocol::ICMPV6;

/// The hops that are left, in the header of a packet that is sent on: a word of it each, in memory order.
pub mod hops {
    use crate::checksum::Sum;

    /// Offset of the word in an IPv4 header: hops, protocol, checksum.
    pub const WORD_V4: u32 = 8;
    /// In an IPv6 header: length, next header, hops.
    pub const WORD_V6: u32 = 4;

    #[inline(always)]
    #[must_use]
    pub const fn left_v4(word: u32) -> u8 {
        word.to_ne_bytes()[0]
    }

    #[inline(always)]
    #[must_use]
    pub const fn left_v6(word: u32) -> u8 {
        word.to_ne_bytes()[3]
    }

    /// With one hop less, and the checksum of a header where `change` was made elsewhere. There must be a hop left.
    #[inline(always)]
    #[must_use]
    pub const fn forwarded_v4(word: u32, change: Sum) -> u32 {
        let [hops, protocol, a, b] = word.to_ne_bytes();
        let less = hops.wrapping_sub(1);
        let (old, new) = (u32::from_ne_bytes([hops, protocol, 0, 0]), u32::from_ne_bytes([less, protocol, 0, 0]));
        let [a, b] = change.replace(old, new).update(u16::from_ne_bytes([a, b])).to_ne_bytes();
        u32::from_ne_bytes([less, protocol, a, b])
    }

    /// With one hop less. There must be one left.
    #[inline(always)]
    #[must_use]
    pub const fn forwarded_v6(word: u32) -> u32 {
        let [a, b, next, hops] = word.to_ne_bytes();
        u32::from_ne_bytes([a, b, next, hops.wrapping_sub(1)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the number of hops, also where the checksum carries, and when an address changes at the same time.
    #[test]
    fn a_header_with_one_hop_less_has_a_checksum_that_holds() {
        let at = hops::WORD_V4 as usize / 4;
        for hops in 2..=u8::MAX {
            for address in [0, 1, 0xffff_ffff, 0x0a00_0001] {
                let mut header = ipv4([address], [0x0102_0304], 6, 100);
                let [_, protocol, ..] = header[at].to_ne_bytes();
                header[at] = u32::from_ne_bytes([hops, protocol, 0, 0]);
                let [a, b] = header.iter().fold(Sum::ZERO, |sum, &word| sum.add(word)).checksum().to_ne_bytes();
                header[at] = u32::from_ne_bytes([hops, protocol, a, b]);
                let change = Sum::ZERO.replace(header[3], 0xc0a8_0001);
                header[at] = hops::forwarded_v4(header[at], change);
                header[3] = 0xc0a8_0001;
                assert_eq!(
                    header.iter().fold(Sum::ZERO, |sum, &word| sum.add(word)).checksum(),
                    0,
                    "{hops}, {address:x}"
                );
                assert_eq!(hops::left_v4(header[at]), hops - 1);
            }
        }
        assert_eq!(hops::left_v6(hops::forwarded_v6(u32::from_ne_bytes([1, 2, 6, 64]))), 63);
    }

    /// What a kernel answers to a SYN with data (RFC 9293, 3.5.2, group 1): everything sent so far is acknowledged.
    #[test]
    fn a_reset_acknowledges_what_it_resets() {
        let ports = (Port::new(80), Port::new(40000));
        let reset_of = |segment| reset(segment, ports.0, ports.1, Sum::ZERO);
        let syn = Segment { sequence: u32::MAX, acknowledgment: 9, flags: tcp::SYN, payload: 10 };
        let [_, sequence, acknowledgment, bits, _] = reset_of(syn);
        assert_eq!((sequence, u32::from_be(acknowledgment)), (0, 10), "it wraps");
        assert_eq!(bits.to_ne_bytes(), [0x50, tcp::RST | tcp::ACK, 0, 0]);

        let ack = Segment { flags: tcp::ACK, ..syn };
        let [_, sequence, acknowledgment, bits, _] = reset_of(ack);
        assert_eq!((u32::from_be(sequence), acknowledgment), (9, 0));
        assert_eq!(bits.to_ne_bytes(), [0x50, tcp::RST, 0, 0]);
    }

    /// Only a bare SYN begins a connection.
    #[test]
    fn what_opens_a_connection() {
        let ece_and_cwr = 0xc0;
        assert!(tcp::opens(tcp::SYN) && tcp::opens(tcp::SYN | ece_and_cwr));
        for flags in [0, tcp::ACK, tcp::SYN | tcp::ACK, tcp::SYN | tcp::RST, tcp::SYN | tcp::FIN, tcp::FIN] {
            assert!(!tcp::opens(flags), "{flags:#x}");
        }
    }

    /// Offset and flags of both families, where only some bits count.
    #[test]
    fn which_part_of_a_datagram() {
        let do_not_fragment = 0x4000;
        for (word, part) in
            [(do_not_fragment, Part::Whole), (0x2000, Part::Head), (0x2001, Part::Tail), (1, Part::Tail)]
        {
            assert_eq!(Part::of_v4(word), part, "{word:#x}");
        }
        let reserved = 6;
        for (word, part) in [(reserved, Part::Whole), (1, Part::Head), (9, Part::Tail), (8, Part::Tail)] {
            assert_eq!(Part::of_v6(word), part, "{word:#x}");
        }
    }
}
