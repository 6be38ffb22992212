//! Which backend a packet reaches when things change under a flow: endpoints that go, connections that end, clients
//! that are remembered.

use std::net::SocketAddr;

use millrace_common::{
    address::protocol,
    address::{Port, addr4, addr6},
    frontend::{FrontendKey, FrontendKind, FrontendValue},
    service::{Attributes, SetWord},
    verdict::Verdict,
};
use millrace_tests::{
    packet::{Flags, Packet},
    test_run::Action,
};

use crate::rig::{Cast, Rig, answer, casts};

fn reached(rig: &Rig, packet: &Packet) -> SocketAddr {
    let out = rig.pod_sends(packet);
    assert_eq!(out.action, Action::Next, "{out:?} {:?}", rig.counts());
    out.seen().unwrap().destination
}

/// A UDP socket that keeps talking to a service follows it to another endpoint, with its first datagram after the old
/// one went; answered or not.
#[test]
fn datagrams_leave_an_endpoint_that_is_gone() {
    for cast in casts() {
        for answered in [false, true] {
            let mut rig = Rig::new();
            rig.service(&cast, &[(1, cast.one)]);
            let question = Packet::udp(cast.client, cast.service, b"question");
            assert_eq!(reached(&rig, &question), cast.one);
            if answered {
                rig.pod_is_sent(&answer(&question, cast.one, cast.client));
            }
            rig.serving(1, 1, false);
            rig.backends(1, &[(2, cast.two)]);
            assert_eq!(reached(&rig, &question), cast.two);
            assert_eq!(rig.count(Verdict::PacketMoved), 1, "{:?}", rig.counts());
            let reply = rig.pod_is_sent(&answer(&question, cast.two, cast.client)).seen().unwrap();
            assert_eq!(reply.source, cast.service);
            // The id of the first endpoint serves another now: that is no reason to come back.
            rig.serving(1, 2, true);
            assert_eq!(reached(&rig, &question), cast.two);
        }
    }
}

/// The last endpoint goes: the next datagram is refused, and the one after an endpoint came is served, on one socket.
#[test]
fn datagrams_are_refused_while_there_is_no_endpoint() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        let question = Packet::udp(cast.client, cast.service, b"question");
        reached(&rig, &question);
        rig.pod_is_sent(&answer(&question, cast.one, cast.client));
        rig.serving(1, 1, false);
        rig.set(1, SetWord::REJECT);
        assert_eq!(rig.pod_sends(&question).action, Action::Redirect);
        assert_eq!(rig.count(Verdict::RejectedUnreachable), 1);
        rig.backends(1, &[(2, cast.two)]);
        assert_eq!(reached(&rig, &question), cast.two);
    }
}

/// A service that is deleted is no service: the next datagram goes its way untouched.
#[test]
fn datagrams_to_a_deleted_service_are_untouched() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        let question = Packet::udp(cast.client, cast.service, b"question");
        reached(&rig, &question);
        rig.pod_is_sent(&answer(&question, cast.one, cast.client));
        rig.serving(1, 1, false);
        remove_frontend(&mut rig, &cast);
        assert_eq!(reached(&rig, &question), cast.service);
    }
}

fn remove_frontend(rig: &mut Rig, cast: &Cast) {
    let port = Port::new(cast.service.port());
    match cast.service {
        SocketAddr::V4(f) => {
            let address = addr4(*f.ip());
            for key in [FrontendKey::new(address, port, protocol::UDP), FrontendKey::owned(address)] {
                rig.remove::<_, FrontendValue>("FRONTENDS_V4", &key);
            }
        }
        SocketAddr::V6(f) => {
            let address = addr6(*f.ip());
            for key in [FrontendKey::new(address, port, protocol::UDP), FrontendKey::owned(address)] {
                rig.remove::<_, FrontendValue>("FRONTENDS_V6", &key);
            }
        }
    }
}

/// A connection outlives its endpoint's readiness, and its service: it ends when its two sides end it.
#[test]
fn connections_stay_where_they_are() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        let syn = Packet::tcp(cast.client, cast.service, Flags::SYN);
        reached(&rig, &syn);
        rig.pod_is_sent(&answer(&syn, cast.one, cast.client));
        rig.serving(1, 1, false);
        rig.backends(1, &[(2, cast.two)]);
        let data = Packet::tcp(cast.client, cast.service, Flags::ACK).payload(b"more");
        assert_eq!(reached(&rig, &data), cast.one);
        rig.set(1, SetWord::REJECT);
        remove_frontend(&mut rig, &cast);
        assert_eq!(reached(&rig, &data), cast.one);
        let reply = rig.pod_is_sent(&Packet::tcp(cast.one, cast.client, Flags::ACK)).seen().unwrap();
        assert_eq!(reply.source, cast.service);
    }
}

/// A port that was used before may be used again: a SYN after the connection's end begins another one, with a choice
/// of its own. A SYN that is merely sent again goes where the first went.
#[test]
fn a_port_is_used_again() {
    let ends: [(&str, &[(bool, Flags)]); 3] = [
        ("both sides closed", &[(true, Flags::FIN_ACK), (false, Flags::FIN_ACK)]),
        ("the client reset it", &[(true, Flags::RST)]),
        ("the server reset it", &[(false, Flags::RST)]),
    ];
    for cast in casts() {
        for (name, end) in ends {
            let mut rig = Rig::new();
            rig.service(&cast, &[(1, cast.one)]);
            let syn = Packet::tcp(cast.client, cast.service, Flags::SYN);
            reached(&rig, &syn);
            rig.pod_is_sent(&answer(&syn, cast.one, cast.client));
            // Endpoint 1 goes on serving, but the service prefers another: only a new choice goes there.
            rig.backends(1, &[(2, cast.two)]);
            assert_eq!(reached(&rig, &syn), cast.one, "sent again");
            for (from_client, flags) in end {
                if *from_client {
                    assert_eq!(reached(&rig, &Packet::tcp(cast.client, cast.service, *flags)), cast.one);
                } else {
                    rig.pod_is_sent(&Packet::tcp(cast.one, cast.client, *flags));
                }
            }
            // Who has reset a connection acknowledges nothing any more.
            if !end.contains(&(true, Flags::RST)) {
                let last = Packet::tcp(cast.client, cast.service, Flags::ACK);
                assert_eq!(reached(&rig, &last), cast.one, "{name}: the last acknowledgment is the old connection's");
            }
            assert_eq!(reached(&rig, &syn), cast.two, "{name}");
            let reply = rig.pod_is_sent(&answer(&syn, cast.two, cast.client)).seen().unwrap();
            assert_eq!(reply.source, cast.service);
        }
    }
}

/// A server that refuses (a reset to the SYN) is heard, and the next attempt may go elsewhere.
#[test]
fn a_refused_attempt_leaves_nothing_behind() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        let syn = Packet::tcp(cast.client, cast.service, Flags::SYN);
        reached(&rig, &syn);
        let refusal = rig.pod_is_sent(&Packet::tcp(cast.one, cast.client, Flags::RST_ACK)).seen().unwrap();
        assert_eq!(refusal.source, cast.service);
        rig.backends(1, &[(2, cast.two)]);
        assert_eq!(reached(&rig, &syn), cast.two);
    }
}

/// A segment of a connection that is not known is another's: it goes on untouched, and is counted.
#[test]
fn an_unknown_segment_is_untouched() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        for flags in [Flags::ACK, Flags::SYN_ACK, Flags::FIN_ACK, Flags::RST] {
            let packet = Packet::tcp(cast.client, cast.service, flags);
            let out = rig.pod_sends(&packet);
            assert_eq!((out.action, out.frame), (Action::Next, packet.frame()));
        }
        assert_eq!(rig.count(Verdict::PassUnknownSegment), 4);
    }
}

/// With session affinity, one client's connections all reach one backend, through every frontend, while it serves.
#[test]
fn a_client_is_remembered() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one), (2, cast.two)]);
        rig.frontend(1, cast.vip, protocol::TCP, FrontendKind::LoadBalancer);
        rig.attributes(1, Attributes::new(Attributes::AFFINITY, 10_800));
        let connect = |rig: &Rig, port: u16| {
            let to = if port.is_multiple_of(2) { cast.service } else { cast.vip };
            reached(rig, &Packet::tcp(SocketAddr::new(cast.client.ip(), port), to, Flags::SYN))
        };
        let first = connect(&rig, 1024);
        for port in 1025..1100 {
            assert_eq!(connect(&rig, port), first);
        }
        // Its backend goes: the client is given the other one, and remembered there.
        let (gone, other) = if first == cast.one { (1, cast.two) } else { (2, cast.one) };
        rig.serving(gone, 1, false);
        rig.backends(1, &[(3 - gone, other)]);
        for port in 2000..2020 {
            assert_eq!(connect(&rig, port), other);
        }
    }
}
