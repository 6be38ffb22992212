//! From bytes to a tuple. Nothing is believed: lengths are compared with the packet, and headers that contradict each
//! other are no headers.

use millrace_common::{
    address::{Port, protocol},
    header::{Part, icmp, sctp, tcp, udp},
    scratch::Packet,
};

use super::{
    frame::Frame,
    network::{Network, load},
};

/// How far reading got.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// No network header at all: nobody can say whose packet it is.
    Unreadable,
    /// The addresses are known, the rest contradicts itself or is cut off.
    Malformed,
    Readable,
}

/// Network and transport header.
#[inline(never)]
pub(super) fn parse<F: Network>(frame: impl Frame, packet: &mut Packet<F::Address>) -> Shape {
    headers::<F>(frame, packet)
}

/// As [`parse`], as part of its caller.
#[inline(always)]
pub(super) fn headers<F: Network>(frame: impl Frame, packet: &mut Packet<F::Address>) -> Shape {
    match F::read(frame, packet, false) {
        Shape::Readable if packet.part != Part::Tail => transport::<F>(frame, packet),
        shape => shape,
    }
}

#[inline(always)]
fn transport<F: Network>(frame: impl Frame, packet: &mut Packet<F::Address>) -> Shape {
    match packet.tuple.protocol {
        protocol::TCP => {
            let Some(header) = load::<[u16; 10]>(frame, packet.l4) else { return Shape::Malformed };
            let [offset, flags] = header[6].to_ne_bytes();
            let length = (offset >> 4) as u32 * 4;
            // Of a fragment, at least what is read here must be its own, and not padding.
            let own = if packet.part == Part::Whole { length } else { tcp::HEADER };
            if length < tcp::HEADER || own > packet.l4_length {
                return Shape::Malformed;
            }
            packet.kind = flags;
            ports(packet, header[0], header[1])
        }
        protocol::UDP => {
            let Some(header) = load::<[u16; 4]>(frame, packet.l4) else { return Shape::Malformed };
            let length = u16::from_be(header[2]) as u32;
            let own = if packet.part == Part::Whole { length } else { udp::HEADER };
            if length < udp::HEADER || own > packet.l4_length {
                return Shape::Malformed;
            }
            ports(packet, header[0], header[1])
        }
        protocol::SCTP => {
            let Some(header) = load::<[u32; sctp::SHORTEST as usize / 4]>(frame, packet.l4) else {
                return Shape::Malformed;
            };
            if packet.l4_length < sctp::SHORTEST {
                return Shape::Malformed;
            }
            packet.kind = sctp::flags(header[3].to_ne_bytes()[0]);
            let [a, b, c, d] = header[0].to_ne_bytes();
            ports(packet, u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]))
        }
        other if other == F::ICMP => {
            let Some(header) = load::<[u8; icmp::HEADER as usize]>(frame, packet.l4) else { return Shape::Malformed };
            if packet.l4_length < icmp::HEADER {
                return Shape::Malformed;
            }
            packet.kind = header[0];
            Shape::Readable
        }
        _ => Shape::Readable,
    }
}

#[inline(always)]
fn ports<A>(packet: &mut Packet<A>, source: u16, destination: u16) -> Shape {
    packet.tuple.source_port = Port::from_network(source);
    packet.tuple.destination_port = Port::from_network(destination);
    Shape::Readable
}
