//! Nobody is there: the client learns it at once, and from the address that it talked to.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    EtherType, Ethernet2Header, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpNumber, Ipv4Header, Ipv6Header,
    TcpHeader, icmpv4, icmpv6,
};
use millrace_common::{service::SetWord, verdict::Verdict};
use millrace_tests::{
    packet::{Body, Flags, Packet},
    test_run::Action,
};

use crate::rig::{Cast, Rig, casts, openings};

/// The frame that answers `packet` with `transport`, written by another hand than the programs'.
fn answer(packet: &Packet, protocol: IpNumber, transport: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let ether_type = if packet.source.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 };
    let ethernet = Ethernet2Header { source: packet.destination_mac, destination: packet.source_mac, ether_type };
    ethernet.write(&mut frame).unwrap();
    match (packet.destination.ip(), packet.source.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = u16::try_from(transport.len()).unwrap();
            let mut header = Ipv4Header::new(length, 64, protocol, from.octets(), to.octets()).unwrap();
            header.dont_fragment = true;
            header.header_checksum = header.calc_header_checksum();
            header.write(&mut frame).unwrap();
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = Ipv6Header {
                payload_length: u16::try_from(transport.len()).unwrap(),
                next_header: protocol,
                hop_limit: 64,
                source: from.octets(),
                destination: to.octets(),
                ..Ipv6Header::default()
            };
            header.write(&mut frame).unwrap();
        }
        other => panic!("{other:?}"),
    }
    frame.extend_from_slice(transport);
    frame
}

/// RFC 9293, 3.5.2: what resets `packet`.
fn reset(packet: &Packet) -> Vec<u8> {
    let Body::Tcp { flags, sequence, acknowledgment, payload } = &packet.body else { panic!("{packet:?}") };
    let mut header = TcpHeader::new(packet.destination.port(), packet.source.port(), 0, 0);
    header.rst = true;
    if flags.ack {
        header.sequence_number = *acknowledgment;
    } else {
        header.ack = true;
        let taken = u32::from(flags.syn) + u32::from(flags.fin) + u32::try_from(payload.len()).unwrap();
        header.acknowledgment_number = sequence.wrapping_add(taken);
    }
    header.checksum = match (packet.destination.ip(), packet.source.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => header.calc_checksum_ipv4_raw(from.octets(), to.octets(), &[]).unwrap(),
        (IpAddr::V6(from), IpAddr::V6(to)) => header.calc_checksum_ipv6_raw(from.octets(), to.octets(), &[]).unwrap(),
        other => panic!("{other:?}"),
    };
    answer(packet, IpNumber::TCP, &header.to_bytes())
}

/// RFC 792 and RFC 4443: "port unreachable", quoting the first 128 bytes of `packet`.
fn unreachable(packet: &Packet) -> Vec<u8> {
    let mut quote = packet.ip_bytes();
    quote.truncate(128);
    let (protocol, header) = match (packet.destination.ip(), packet.source.ip()) {
        (IpAddr::V4(_), _) => {
            let kind = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port);
            (IpNumber::ICMP, Icmpv4Header::with_checksum(kind, &quote).to_bytes().to_vec())
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let kind = Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Port);
            let header = Icmpv6Header::with_checksum(kind, from.octets(), to.octets(), &quote).unwrap();
            (IpNumber::IPV6_ICMP, header.to_bytes().to_vec())
        }
        other => panic!("{other:?}"),
    };
    answer(packet, protocol, &[header, quote].concat())
}

fn assert_answered(rig: &Rig, packet: &Packet, expected: &[u8]) {
    let out = rig.pod_sends(packet);
    assert_eq!(out.action, Action::Redirect, "{packet:?} {:?}", rig.counts());
    assert_eq!(out.frame, expected, "{out:?}");
    assert!(out.seen().unwrap().checksums_hold(), "{out:?}");
}

fn without_endpoints(cast: &Cast) -> Rig {
    let mut rig = Rig::new();
    rig.service(cast, &[(1, cast.one)]);
    rig.set(1, SetWord::REJECT);
    rig
}

/// A service without endpoints refuses: TCP with a reset, UDP with "port unreachable", byte for byte as the standards
/// have them.
#[test]
fn a_service_without_endpoints_refuses_at_once() {
    for cast in casts() {
        let rig = without_endpoints(&cast);
        let [connection, datagram] = openings(cast.client, cast.service);
        assert_answered(&rig, &connection, &reset(&connection));
        assert_answered(&rig, &datagram, &unreachable(&datagram));
        // TCP Fast Open: data in the SYN is acknowledged too, and the answer is shorter than the question.
        let early = connection.clone().payload(&[7; 300]);
        assert_answered(&rig, &early, &reset(&early));
        // A quote has its limit, and an empty datagram is quoted whole.
        let long = datagram.clone().payload(&[7; 900]);
        assert_answered(&rig, &long, &unreachable(&long));
        let empty = datagram.payload(&[]);
        assert_answered(&rig, &empty, &unreachable(&empty));
        assert_eq!((rig.count(Verdict::RejectedReset), rig.count(Verdict::RejectedUnreachable)), (2, 3));
    }
}

/// Options and extension headers do not keep a client from its answer.
#[test]
fn options_and_extensions_are_refused_as_well() {
    for cast in casts() {
        let rig = without_endpoints(&cast);
        for packet in openings(cast.client, cast.service) {
            let packet = if cast.client.is_ipv4() { packet.ip_options(&[1; 40]) } else { packet.extension_headers() };
            assert_answered(&rig, &packet, &unreachable(&packet));
        }
    }
}

/// A port that the service does not have, and a ping, are refused as a host would: the address is nobody else's.
#[test]
fn a_service_address_refuses_what_it_does_not_serve() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        let other = SocketAddr::new(cast.service.ip(), 81);
        let [connection, datagram] = openings(cast.client, other);
        assert_answered(&rig, &connection, &reset(&connection));
        assert_answered(&rig, &datagram, &unreachable(&datagram));
        let ping = Packet::new(cast.client, other, Body::EchoRequest { id: 7, payload: b"abcdefgh".to_vec() });
        assert_answered(&rig, &ping, &unreachable(&ping));
        let segment = Packet::new(
            cast.client,
            other,
            Body::Tcp { flags: Flags::ACK, sequence: 5, acknowledgment: 77, payload: b"late".to_vec() },
        );
        assert_answered(&rig, &segment, &reset(&segment));
        let tunnel = Packet::new(cast.client, other, Body::Raw { protocol: 47, bytes: vec![0; 24] });
        assert_answered(&rig, &tunnel, &unreachable(&tunnel));
    }
}

/// An answer to an answer would never end: a reset, a broadcast and an impossible source get none.
#[test]
fn what_must_not_be_answered_is_not() {
    for cast in casts() {
        let rig = without_endpoints(&cast);
        let other = SocketAddr::new(cast.service.ip(), 81);
        let nobody = if cast.client.is_ipv4() { "0.0.0.0:1" } else { "[::]:1" }.parse().unwrap();
        let crowd = if cast.client.is_ipv4() { "224.0.0.1:1" } else { "[ff02::1]:1" }.parse().unwrap();
        let mut broadcast = Packet::udp(cast.client, cast.service, b"x");
        broadcast.destination_mac = [0xff; 6];
        let packets = [
            Packet::tcp(cast.client, other, Flags::RST),
            broadcast,
            Packet::udp(nobody, cast.service, b"x"),
            Packet::udp(crowd, cast.service, b"x"),
        ];
        for packet in packets {
            let out = rig.pod_sends(&packet);
            assert_eq!((out.action, out.frame), (Action::Drop, packet.frame()));
        }
        assert_eq!(rig.count(Verdict::RejectedSilently), 4);
    }
}

/// A pod that floods a dead service gets some answers, and silence for the rest: it cannot make the node work for it.
#[test]
fn answers_are_limited() {
    let cast = casts()[0];
    let rig = without_endpoints(&cast);
    let frame = Packet::udp(cast.client, cast.service, b"x").frame();
    let flood = 20_000;
    let answered = (0..flood).filter(|_| rig.pod_sends_frame(&frame).action == Action::Redirect).count() as u64;
    let silent = rig.count(Verdict::RejectedSilently);
    assert_eq!(answered + silent, flood);
    assert!(answered >= millrace_common::answer::BURST, "{answered}");
    assert_eq!(rig.count(Verdict::RejectedUnreachable), answered);
}

/// A policy that allows no endpoint of this node is silence, and so is an address of the service range that no service
/// has: a client must not learn from a refusal that does not come from its service.
#[test]
fn silence_where_nobody_may_answer() {
    for cast in casts() {
        let mut rig = without_endpoints(&cast);
        rig.set(1, SetWord::DROP);
        rig.service_range(cast.service.ip(), if cast.client.is_ipv4() { 16 } else { 112 });
        let mut nobody = cast.service;
        nobody.set_ip(match cast.service.ip() {
            IpAddr::V4(ip) => IpAddr::V4((u32::from(ip) + 89).into()),
            IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) + 89).into()),
        });
        for packet in openings(cast.client, cast.service).into_iter().chain(openings(cast.client, nobody)) {
            let out = rig.pod_sends(&packet);
            assert_eq!((out.action, out.frame), (Action::Drop, packet.frame()));
        }
        assert_eq!(rig.count(Verdict::DropNoLocalEndpoint), 2);
        assert_eq!(rig.count(Verdict::DropNoSuchService), 2);
    }
}
