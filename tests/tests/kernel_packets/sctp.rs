//! SCTP through services: associations, and a checksum that covers the whole packet from its ports on.

use std::net::SocketAddr;

use millrace_common::{address::protocol, frontend::FrontendKind, service::SetWord, verdict::Verdict};
use millrace_tests::{
    packet::{
        Checksum, IcmpError, Packet, Seen, SeenBody,
        chunk::{ABORT, COOKIE_ECHO, DATA, INIT, INIT_ACK, SHUTDOWN, SHUTDOWN_ACK, SHUTDOWN_COMPLETE},
    },
    test_run::{Action, Outcome},
};

use crate::{
    rig::{Cast, Rig, casts},
    uplink,
};

fn service(cast: &Cast, backend: SocketAddr) -> Rig {
    let mut rig = Rig::new();
    rig.service(cast, &[(1, backend)]);
    rig
}

/// The pod's packet, and where it went.
fn reached(rig: &Rig, packet: &Packet) -> SocketAddr {
    let out = rig.pod_sends(packet);
    assert_eq!(out.action, Action::Next, "{out:?} {:?}", rig.counts());
    out.seen().unwrap().destination
}

fn assert_between(seen: &Seen, source: SocketAddr, destination: SocketAddr) {
    assert_eq!((seen.source, seen.destination), (source, destination), "{seen:#?}");
    assert_eq!((seen.ip_checksum, seen.checksum), (Checksum::Right, Checksum::Right), "{seen:#?}");
}

/// An association is set up, carries messages of any length, and every checksum that either side sees is right.
#[test]
fn an_association_reaches_a_backend_and_is_answered_by_the_service() {
    for cast in casts() {
        let rig = service(&cast, cast.one);
        for (from_client, kind) in [(true, INIT), (false, INIT_ACK), (true, COOKIE_ECHO), (false, DATA)] {
            if from_client {
                let seen = rig.pod_sends(&Packet::sctp(cast.client, cast.service, kind)).seen().unwrap();
                assert_between(&seen, cast.client, cast.one);
            } else {
                let seen = rig.pod_is_sent(&Packet::sctp(cast.one, cast.client, kind)).seen().unwrap();
                assert_between(&seen, cast.service, cast.client);
            }
        }
        for length in (0..64).chain([255, 256, 257, 1000, 1452, 3000]) {
            let message: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let question = Packet::sctp(cast.client, cast.service, DATA).payload(&message);
            assert_between(&rig.pod_sends(&question).seen().unwrap(), cast.client, cast.one);
            let reply = Packet::sctp(cast.one, cast.client, DATA).payload(&message);
            assert_between(&rig.pod_is_sent(&reply).seen().unwrap(), cast.service, cast.client);
        }
        assert_eq!(rig.count(Verdict::PacketNewFlow), 1, "{:?}", rig.counts());
    }
}

/// A checksum that the kernel has left to the device is zero, and must be zero still when the device adds it up.
#[test]
fn a_checksum_that_is_not_there_yet_stays_out() {
    for cast in casts() {
        let rig = service(&cast, cast.one);
        for kind in [INIT, DATA] {
            let out = rig.pod_sends(&Packet::sctp(cast.client, cast.service, kind).without_checksum());
            assert_eq!(out.seen().unwrap().destination, cast.one);
            assert_eq!(out.seen().unwrap().checksum, Checksum::None);
        }
    }
}

/// Where ports stay as they are, so does the checksum: it does not cover the addresses. Fragments get through as well.
#[test]
fn a_backend_on_the_services_own_port_is_sent_the_same_bytes() {
    for cast in casts() {
        let backend = SocketAddr::new(cast.one.ip(), cast.service.port());
        let rig = service(&cast, backend);
        let init = Packet::sctp(cast.client, cast.service, INIT);
        assert_between(&rig.pod_sends(&init).seen().unwrap(), cast.client, backend);
        let message = Packet::sctp(cast.client, cast.service, DATA).payload(&[7; 900]);
        for (number, frame) in message.fragments(0x55, 400).iter().enumerate() {
            let out = rig.pod_sends_frame(frame);
            assert_eq!(out.action, Action::Next, "fragment {number}");
            assert_eq!(out.seen().unwrap().destination.ip(), backend.ip());
            let header = 14 + if cast.client.is_ipv4() { 20 } else { 40 };
            assert_eq!(out.frame[header..], frame[header..], "fragment {number}");
        }
        assert_eq!(rig.count(Verdict::DropSctpFragment), 0);
    }
}

/// The first fragment does not tell what its checksum covers: where that would change, the packet is dropped and
/// counted rather than sent on to be thrown away.
#[test]
fn a_fragment_whose_checksum_would_change_is_dropped() {
    for cast in casts() {
        let rig = service(&cast, cast.one);
        reached(&rig, &Packet::sctp(cast.client, cast.service, INIT));
        let message = Packet::sctp(cast.client, cast.service, DATA).payload(&[7; 900]);
        for frame in message.fragments(0x55, 400) {
            assert_eq!(rig.pod_sends_frame(&frame).action, Action::Drop);
        }
        assert_eq!(rig.count(Verdict::DropSctpFragment), 1);
        assert_eq!(rig.count(Verdict::DropFragmentWithoutHead), 2);
    }
}

/// Only an INIT begins an association; anything else of an unknown one is another's.
#[test]
fn a_packet_of_an_unknown_association_is_untouched() {
    for cast in casts() {
        let rig = service(&cast, cast.one);
        for kind in [INIT_ACK, DATA, COOKIE_ECHO, SHUTDOWN, SHUTDOWN_ACK, ABORT] {
            let packet = Packet::sctp(cast.client, cast.service, kind);
            let out = rig.pod_sends(&packet);
            assert_eq!((out.action, out.frame), (Action::Next, packet.frame()));
        }
        assert_eq!(rig.count(Verdict::PassUnknownSegment), 6);
    }
}

/// A port may be used again once an association has ended, and its next one chooses for itself; an INIT that is merely
/// sent again goes where the first went.
#[test]
fn a_port_is_used_again_after_an_association() {
    let ends: [(&str, &[(bool, u8)]); 4] = [
        ("shut down", &[(true, SHUTDOWN), (false, SHUTDOWN_ACK)]),
        ("shut down by the server", &[(false, SHUTDOWN), (true, SHUTDOWN_ACK), (false, SHUTDOWN_COMPLETE)]),
        ("the client aborted it", &[(true, ABORT)]),
        ("the server aborted it", &[(false, ABORT)]),
    ];
    for cast in casts() {
        for (name, end) in ends {
            let mut rig = service(&cast, cast.one);
            let init = Packet::sctp(cast.client, cast.service, INIT);
            reached(&rig, &init);
            rig.pod_is_sent(&Packet::sctp(cast.one, cast.client, INIT_ACK));
            rig.backends(1, &[(2, cast.two)]);
            assert_eq!(reached(&rig, &init), cast.one, "sent again");
            for &(from_client, kind) in end {
                if from_client {
                    assert_eq!(reached(&rig, &Packet::sctp(cast.client, cast.service, kind)), cast.one, "{name}");
                } else {
                    let seen = rig.pod_is_sent(&Packet::sctp(cast.one, cast.client, kind)).seen().unwrap();
                    assert_between(&seen, cast.service, cast.client);
                }
            }
            assert_eq!(reached(&rig, &init), cast.two, "{name}");
        }
    }
}

fn assert_aborted(out: &Outcome, packet: &Packet, reflected: u8) {
    assert_eq!(out.action, Action::Redirect, "{out:?}");
    let seen = out.seen().unwrap();
    assert_between(&seen, packet.destination, packet.source);
    let SeenBody::Sctp { tag, chunk, rest } = seen.body else { panic!("{seen:#?}") };
    assert_eq!((tag, chunk, rest), (Packet::INITIATE_TAG, [ABORT, reflected], Vec::new()));
}

/// Nobody is there: the client is told so by an ABORT that it takes for its own association's, at once.
#[test]
fn a_service_without_endpoints_aborts_at_once() {
    for cast in casts() {
        let mut rig = service(&cast, cast.one);
        rig.set(1, SetWord::REJECT);
        let init = Packet::sctp(cast.client, cast.service, INIT);
        assert_aborted(&rig.pod_sends(&init), &init, 0);
        // A port that the service does not have: the packet's own tag comes back (bit T).
        let elsewhere = SocketAddr::new(cast.service.ip(), 81);
        let data = Packet::sctp(cast.client, elsewhere, DATA).payload(b"more of it");
        assert_aborted(&rig.pod_sends(&data), &data, 1);
        assert_eq!(rig.count(Verdict::RejectedReset), 2);
        for kind in [ABORT, SHUTDOWN_COMPLETE] {
            assert_eq!(rig.pod_sends(&Packet::sctp(cast.client, elsewhere, kind)).action, Action::Drop);
        }
        assert_eq!(rig.count(Verdict::RejectedSilently), 2, "the last words of an association are not answered");
    }
}

/// A packet that is cut off inside its chunk's header is no packet.
#[test]
fn a_truncated_packet_reaches_no_backend() {
    for cast in casts() {
        let rig = service(&cast, cast.one);
        let mut frame = Packet::sctp(cast.client, cast.service, SHUTDOWN).frame();
        frame.truncate(frame.len() - 2);
        assert_eq!(rig.pod_sends_frame(&frame).action, Action::Drop);
        assert_eq!(rig.count(Verdict::DropMalformed), 1);
    }
}

/// A router complains about a packet to the backend: the client reads of the one that it sent, whose quoted checksum is
/// the one that it sent too.
#[test]
fn the_client_understands_errors_about_its_packets() {
    for cast in casts() {
        let rig = service(&cast, cast.one);
        let init = Packet::sctp(cast.client, cast.service, INIT);
        let mut translated = init.clone();
        translated.destination = reached(&rig, &init);
        let error = IcmpError::TooBig { mtu: 1400 };
        for (quote, checksum) in [(1000, Checksum::Right), (48, Checksum::Unknown)] {
            let seen = rig.pod_is_sent(&Packet::icmp_error(cast.stranger, error, &translated, quote)).seen().unwrap();
            assert!(seen.checksums_hold(), "{seen:#?}");
            let SeenBody::IcmpError { error: said, quoted } = &seen.body else { panic!("{seen:#?}") };
            assert_eq!((*said, quoted.source, quoted.destination), (error, cast.client, cast.service));
            assert_eq!(quoted.checksum, checksum);
        }
    }
}

/// A pod that is its own backend is answered by the service.
#[test]
fn a_pod_reaches_itself() {
    for cast in casts() {
        let own = SocketAddr::new(cast.client.ip(), 9000);
        let rig = service(&cast, own);
        let out = rig.pod_sends(&Packet::sctp(cast.client, cast.service, INIT));
        assert_eq!(out.action, Action::Redirect);
        let seen = out.seen().unwrap();
        assert_between(&seen, seen.source, own);
        assert_ne!(seen.source.ip(), cast.client.ip());
        let back = rig.pod_sends(&Packet::sctp(own, seen.source, INIT_ACK));
        assert_between(&back.seen().unwrap(), cast.service, cast.client);
    }
}

/// A client outside uses a node port: the backend sees a port of the node's, and both directions' checksums are right.
#[test]
fn a_client_outside_reaches_a_backend() {
    let node = uplink::Node::new();
    for cast in uplink::casts() {
        for backend in [cast.pod, cast.elsewhere] {
            let mut rig = Rig::new();
            uplink::node_port(&mut rig, &cast, &[(1, backend)]);
            let init = Packet::sctp(cast.client, cast.node_port, INIT);
            let hidden = uplink::hidden(&node.gets(&rig, &init), cast.node_port.ip(), backend);
            let reply = Packet::sctp(backend, hidden, INIT_ACK);
            let back = if backend == cast.pod { node.pod_sends(&rig, &reply) } else { node.gets(&rig, &reply) };
            uplink::assert_sent(&back, cast.node_port, cast.client);
            let data = Packet::sctp(cast.client, cast.node_port, DATA).payload(&[9; 1001]);
            uplink::assert_sent(&node.gets(&rig, &data), hidden, backend);
        }
    }
}

/// A process of the node: its socket's call is nobody's business, but its packets are translated where they leave.
#[test]
fn a_process_of_the_node_is_served_where_its_packets_leave() {
    let node = uplink::Node::new();
    for cast in uplink::casts() {
        let mut rig = Rig::new();
        let vip = SocketAddr::new(cast.router.ip(), 443);
        rig.frontend(1, vip, protocol::SCTP, FrontendKind::ClusterIp);
        rig.backends(1, &[(1, cast.elsewhere)]);
        let own = SocketAddr::new(cast.node_port.ip(), 41_000);
        let out = node.sends(&rig, &Packet::sctp(own, vip, INIT));
        assert_between(&out.seen().unwrap(), own, cast.elsewhere);
        let back = node.gets(&rig, &Packet::sctp(cast.elsewhere, own, INIT_ACK));
        assert_between(&back.seen().unwrap(), vip, own);
    }
}
