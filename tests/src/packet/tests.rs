//! The builder and the reader agree, and a wrong byte is noticed.

use std::net::SocketAddr;

use super::*;

const PAIRS: [(&str, &str); 2] =
    [("192.168.1.12:40000", "10.96.0.10:80"), ("[fd00:192:168:1::12]:40000", "[fd00:10:96::10]:80")];

fn pairs() -> impl Iterator<Item = (SocketAddr, SocketAddr)> {
    PAIRS.into_iter().map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap()))
}

#[test]
fn what_is_built_is_what_is_read_in_both_families() {
    for (source, destination) in pairs() {
        let packets = [
            Packet::tcp(source, destination, Flags::SYN),
            Packet::tcp(source, destination, Flags::FIN_ACK).payload(b"odd"),
            Packet::udp(source, destination, b"query").vlan(7).ttl(3),
            Packet::udp(source, destination, b"query").extension_headers(),
            Packet::sctp(source, destination, chunk::DATA).payload(b"some data"),
        ];
        for packet in packets {
            let seen = Seen::frame(&packet.frame()).unwrap();
            assert_eq!((seen.source, seen.destination), (source, destination));
            assert_eq!((seen.ttl, seen.vlan), (packet.ttl, packet.vlan));
            assert_eq!((seen.ip_checksum, seen.checksum), (Checksum::Right, Checksum::Right), "{packet:?}");
            match (&packet.body, &seen.body) {
                (Body::Tcp { flags, payload, .. }, SeenBody::Tcp { flags: f, payload: p, .. }) => {
                    assert_eq!((flags, payload), (f, p));
                }
                (Body::Udp { payload, .. }, SeenBody::Udp { payload: p }) => assert_eq!(payload, p),
                (Body::Sctp { tag, chunk, .. }, SeenBody::Sctp { tag: t, chunk: c, rest }) => {
                    assert_eq!((*tag, [chunk.kind, chunk.flags]), (*t, *c));
                    assert_eq!(rest[..chunk.value.len()], chunk.value, "and its padding");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn ip_options_come_back() {
    let (source, destination) = pairs().next().unwrap();
    let seen = Seen::frame(&Packet::udp(source, destination, b"x").ip_options(&[1, 1, 1, 0]).frame()).unwrap();
    assert_eq!(seen.ip_options, [1, 1, 1, 0]);
    assert!(seen.checksums_hold());
    assert_eq!(seen.destination, destination);
}

#[test]
fn an_icmp_error_quotes_the_packet_it_is_about() {
    for (source, destination) in pairs() {
        let about = Packet::udp(source, destination, &[0; 600]);
        let error = IcmpError::TooBig { mtu: 1400 };
        let seen = Seen::frame(&Packet::icmp_error(destination, error, &about, 96).frame()).unwrap();
        assert!(seen.checksums_hold());
        let SeenBody::IcmpError { error: read, quoted } = seen.body else { panic!("{seen:?}") };
        assert_eq!(read, error);
        assert_eq!((quoted.source, quoted.destination), (source, destination));
        assert_eq!(quoted.checksum, Checksum::Unknown);
    }
}

#[test]
fn fragments_carry_the_datagram_and_only_the_first_has_ports() {
    for (source, destination) in pairs() {
        let packet = Packet::udp(source, destination, &[7; 100]);
        let seen: Vec<_> = packet.fragments(9, 48).iter().map(|f| Seen::frame(f).unwrap()).collect();
        assert_eq!(seen.iter().map(|s| s.source.port()).collect::<Vec<_>>(), [40000, 0, 0]);
        let expected = [(0, true), (6, true), (12, false)].map(|(offset, more)| Fragment { id: 9, offset, more });
        assert_eq!(seen.iter().filter_map(|s| s.fragment).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_flipped_bit_is_noticed() {
    for (source, destination) in pairs() {
        let mut frame = Packet::tcp(source, destination, Flags::SYN).payload(b"abcd").frame();
        *frame.last_mut().unwrap() ^= 1;
        assert_eq!(Seen::frame(&frame).unwrap().checksum, Checksum::Wrong);
    }
}

#[test]
fn a_udp_checksum_of_zero_is_none_in_ipv4_and_wrong_in_ipv6() {
    let read = |(source, destination)| {
        Seen::frame(&Packet::udp(source, destination, b"x").without_checksum().frame()).unwrap().checksum
    };
    assert_eq!(pairs().map(read).collect::<Vec<_>>(), [Checksum::None, Checksum::Wrong]);
}
