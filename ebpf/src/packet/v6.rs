//! The IPv6 header and its extensions (RFC 8200).

use millrace_common::{
    address::Addr6,
    checksum::Sum,
    flow::loop_address,
    header::{self, ICMP_V6, Part, ether, extension, hops, icmp},
    scratch::Packet,
};

use super::{
    frame::Frame,
    glance::Plain,
    network::{Network, load},
    parse::Shape,
};
use crate::family::V6;

impl Network for V6 {
    const HEADER: u32 = 40;
    const ADDRESSES: u32 = 8;
    const HOPS: u32 = hops::WORD_V6;
    const CHECKSUM: Option<u32> = None;
    const ETHER: u16 = ether::IPV6;
    const AF: u8 = 10;
    const LOOP: Addr6 = loop_address::V6;
    const ICMP: u8 = ICMP_V6;
    const ICMP_PSEUDO: bool = true;
    const ECHO_REQUEST: u8 = icmp::ECHO_REQUEST_V6;
    const PORT_UNREACHABLE: [u8; 2] = icmp::PORT_UNREACHABLE_V6;
    const TOO_BIG: [u8; 2] = icmp::TOO_BIG_V6;
    const TIME_EXCEEDED: [u8; 2] = icmp::TIME_EXCEEDED_V6;
    type Addresses = [u32; 8];
    type Header = [u32; 10];

    #[inline(always)]
    fn addresses(source: Addr6, destination: Addr6) -> [u32; 8] {
        let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (source, destination);
        [s0, s1, s2, s3, d0, d1, d2, d3]
    }

    #[inline(always)]
    fn words(address: Addr6) -> [u32; 4] {
        address
    }

    #[inline(always)]
    fn traffic_class(_: [u32; 10]) -> u32 {
        // No route has one, and where a rule has, packets are left to the stack.
        0
    }

    #[inline(always)]
    fn is_routed(address: Addr6) -> bool {
        header::is_host_v6(address) && !header::is_link_local_v6(address)
    }

    #[inline(always)]
    fn header(source: Addr6, destination: Addr6, protocol: u8, payload: u32) -> [u32; 10] {
        header::ipv6(source, destination, protocol, payload)
    }

    #[inline(always)]
    fn plain(header: [u32; 10]) -> Option<Plain<Addr6>> {
        let [_, _, protocol, _] = header[1].to_ne_bytes();
        let [_, _, s0, s1, s2, s3, d0, d1, d2, d3] = header;
        let plain = Plain { source: [s0, s1, s2, s3], destination: [d0, d1, d2, d3], protocol };
        (header[0].to_ne_bytes()[0] >> 4 == 6).then_some(plain)
    }

    #[inline(always)]
    fn hops(word: u32) -> u8 {
        hops::left_v6(word)
    }

    #[inline(always)]
    fn forwarded(word: u32, _: Sum) -> u32 {
        hops::forwarded_v6(word)
    }

    #[inline(always)]
    fn is_host(address: Addr6) -> bool {
        header::is_host_v6(address)
    }

    #[inline(always)]
    fn icmp_is_error(kind: u8) -> bool {
        icmp::is_error_v6(kind)
    }

    #[inline(always)]
    fn read(frame: impl Frame, packet: &mut Packet<Addr6>, quoted: bool) -> Shape {
        let Some(words) = load::<[u32; 10]>(frame, packet.l3) else { return Shape::Unreadable };
        if words[0].to_ne_bytes()[0] >> 4 != 6 {
            return Shape::Unreadable;
        }
        let [high, low, next, _] = words[1].to_ne_bytes();
        packet.tuple.source = [words[2], words[3], words[4], words[5]];
        packet.tuple.destination = [words[6], words[7], words[8], words[9]];
        let start = packet.l3 + Self::HEADER;
        let available = frame.length().wrapping_sub(start);
        let length = match u16::from_be_bytes([high, low]) as u32 {
            // More than the field can say (RFC 2675, BIG TCP).
            0 if available > u16::MAX as u32 => available,
            length => length,
        };
        if length > available && !quoted {
            return Shape::Malformed;
        }
        walk(frame, packet, next, start, length)
    }
}

/// Over the extension headers to the transport. ESP, AH and a routing header that is not used up end the walk: what
/// lies behind them is not ours to read.
#[inline(always)]
fn walk(frame: impl Frame, packet: &mut Packet<Addr6>, first: u8, start: u32, length: u32) -> Shape {
    let (mut next, mut at) = (first, start);
    for _ in 0..extension::LIMIT {
        match next {
            extension::HOP_BY_HOP | extension::DESTINATION | extension::ROUTING => {
                let Some([after, units, _, left]) = load::<[u8; 4]>(frame, at) else { return Shape::Malformed };
                if next == extension::ROUTING && left != 0 {
                    break;
                }
                next = after;
                at += (units as u32 + 1) * 8;
            }
            extension::FRAGMENT => {
                let Some([word, id]) = load::<[u32; 2]>(frame, at) else { return Shape::Malformed };
                let [after, _, high, low] = word.to_ne_bytes();
                packet.part = Part::of_v6(u16::from_be_bytes([high, low]));
                packet.fragment = id;
                next = after;
                at += 8;
                // Whatever header follows lies in the first fragment only.
                if packet.part == Part::Tail {
                    break;
                }
            }
            _ => break,
        }
    }
    packet.tuple.protocol = next;
    packet.l4 = at;
    packet.l4_length = (start + length).wrapping_sub(at);
    if at > start + length { Shape::Malformed } else { Shape::Readable }
}
