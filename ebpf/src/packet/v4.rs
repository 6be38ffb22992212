//! The IPv4 header (RFC 791).

use millrace_common::{
    address::Addr4,
    checksum::Sum,
    flow::loop_address,
    header::{self, ICMP_V4, Part, ether, hops, icmp},
    scratch::Packet,
};

use super::{
    frame::Frame,
    glance::Plain,
    network::{Network, load},
    parse::Shape,
};
use crate::family::V4;

/// Version 4, five words of header.
const PLAIN: u8 = 0x45;

/// `IPTOS_RT_MASK` (linux/in_route.h).
const ROUTING_TOS: u8 = 0x1c;

impl Network for V4 {
    const HEADER: u32 = 20;
    const ADDRESSES: u32 = 12;
    const HOPS: u32 = hops::WORD_V4;
    const CHECKSUM: Option<u32> = Some(10);
    const ETHER: u16 = ether::IPV4;
    const AF: u8 = 2;
    const LOOP: Addr4 = loop_address::V4;
    const ICMP: u8 = ICMP_V4;
    const ICMP_PSEUDO: bool = false;
    const ECHO_REQUEST: u8 = icmp::ECHO_REQUEST_V4;
    const PORT_UNREACHABLE: [u8; 2] = icmp::PORT_UNREACHABLE_V4;
    const TOO_BIG: [u8; 2] = icmp::TOO_BIG_V4;
    const TIME_EXCEEDED: [u8; 2] = icmp::TIME_EXCEEDED_V4;
    type Addresses = [u32; 2];
    type Header = [u32; 5];

    #[inline(always)]
    fn addresses(source: Addr4, destination: Addr4) -> [u32; 2] {
        [source[0], destination[0]]
    }

    #[inline(always)]
    fn words(address: Addr4) -> [u32; 4] {
        [address[0], 0, 0, 0]
    }

    #[inline(always)]
    fn traffic_class(header: [u32; 5]) -> u32 {
        let [_, class, ..] = header[0].to_ne_bytes();
        (class & ROUTING_TOS) as u32
    }

    #[inline(always)]
    fn is_routed(address: Addr4) -> bool {
        header::is_host_v4(address)
    }

    #[inline(always)]
    fn header(source: Addr4, destination: Addr4, protocol: u8, payload: u32) -> [u32; 5] {
        header::ipv4(source, destination, protocol, payload)
    }

    #[inline(always)]
    fn plain(header: [u32; 5]) -> Option<Plain<Addr4>> {
        let [first, ..] = header[0].to_ne_bytes();
        let [_, _, flags, offset] = header[1].to_ne_bytes();
        let [_, protocol, _, _] = header[2].to_ne_bytes();
        let whole = Part::of_v4(u16::from_be_bytes([flags, offset])) == Part::Whole;
        (first == PLAIN && whole).then_some(Plain { source: [header[3]], destination: [header[4]], protocol })
    }

    #[inline(always)]
    fn hops(word: u32) -> u8 {
        hops::left_v4(word)
    }

    #[inline(always)]
    fn forwarded(word: u32, change: Sum) -> u32 {
        hops::forwarded_v4(word, change)
    }

    #[inline(always)]
    fn is_host(address: Addr4) -> bool {
        header::is_host_v4(address)
    }

    #[inline(always)]
    fn icmp_is_error(kind: u8) -> bool {
        icmp::is_error_v4(kind)
    }

    #[inline(always)]
    fn read(frame: impl Frame, packet: &mut Packet<Addr4>, quoted: bool) -> Shape {
        let Some(words) = load::<[u32; 5]>(frame, packet.l3) else { return Shape::Unreadable };
        let [first, _, high, low] = words[0].to_ne_bytes();
        if first >> 4 != 4 {
            return Shape::Unreadable;
        }
        let [_, protocol, _, _] = words[2].to_ne_bytes();
        packet.tuple.source = [words[3]];
        packet.tuple.destination = [words[4]];
        packet.tuple.protocol = protocol;
        let [id_high, id_low, flags, offset] = words[1].to_ne_bytes();
        packet.fragment = u32::from_ne_bytes([id_high, id_low, 0, 0]);
        packet.part = Part::of_v4(u16::from_be_bytes([flags, offset]));
        let length = (first & 0xf) as u32 * 4;
        packet.l4 = packet.l3 + length;
        let available = frame.length().wrapping_sub(packet.l3);
        let total = match u16::from_be_bytes([high, low]) as u32 {
            // More than the field can say (BIG TCP).
            0 if available > u16::MAX as u32 => available,
            total => total,
        };
        packet.l4_length = total.wrapping_sub(length);
        if length < Self::HEADER || total < length || (total > available && !quoted) {
            return Shape::Malformed;
        }
        Shape::Readable
    }
}
