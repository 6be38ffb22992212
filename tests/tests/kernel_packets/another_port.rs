//! Two flows that would look the same to their backend: a client talks to it from one port through two frontends. The second
//! flow is given another port, and everything that is about it finds its way back.

use std::{
    hint,
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use millrace_common::{
    address::{Addr4, Address as _, protocol},
    flow::{Flow, Tuple, loop_address},
    frontend::FrontendKind,
    snat::{FIRST_KEPT, LAST_KEPT},
    verdict::Verdict,
};
use millrace_tests::{
    packet::{Flags, IcmpError, Packet, Seen, SeenBody},
    test_run::Action,
};

use crate::rig::{Cast, Rig, answer, casts};

/// A service with one backend, behind its own address and a VIP.
fn two_frontends(cast: &Cast, backend: SocketAddr, number: u8) -> Rig {
    let mut rig = Rig::new();
    rig.service(cast, &[(1, backend)]);
    rig.frontend(1, cast.vip, number, FrontendKind::LoadBalancer);
    rig
}

/// The client asks both frontends; its address and port as the backend sees them in the second flow.
fn moved(rig: &Rig, cast: &Cast) -> SocketAddr {
    rig.pod_sends(&Packet::udp(cast.client, cast.service, b"question"));
    let seen = rig.pod_sends(&Packet::udp(cast.client, cast.vip, b"question")).seen().unwrap().source;
    assert_ne!(seen, cast.client);
    assert!((FIRST_KEPT..=LAST_KEPT).contains(&seen.port()), "{seen}");
    seen
}

fn quoted(seen: &Seen) -> (SocketAddr, SocketAddr) {
    assert!(seen.checksums_hold(), "{seen:#?}");
    let SeenBody::IcmpError { quoted, .. } = &seen.body else { panic!("{seen:#?}") };
    (quoted.source, quoted.destination)
}

/// Both ends read of the packets that they sent.
#[test]
fn errors_about_a_moved_flow_are_understood_at_both_ends() {
    for cast in casts() {
        let rig = two_frontends(&cast, cast.one, protocol::UDP);
        let seen = moved(&rig, &cast);
        let error =
            Packet::icmp_error(cast.stranger, IcmpError::TimeExceeded, &Packet::udp(seen, cast.one, b"question"), 1000);
        assert_eq!(quoted(&rig.pod_is_sent(&error).seen().unwrap()), (cast.client, cast.vip));
        let received = Packet::udp(cast.vip, cast.client, b"answer");
        rig.pod_is_sent(&Packet::udp(cast.one, seen, b"answer"));
        let error = Packet::icmp_error(cast.client, IcmpError::PortUnreachable, &received, 1000);
        assert_eq!(quoted(&rig.pod_sends(&error).seen().unwrap()), (cast.one, seen));
    }
}

/// Tails have no ports, and take the way of their heads; so do the answer's.
#[test]
fn fragments_of_a_moved_flow_stay_together() {
    for cast in casts() {
        let rig = two_frontends(&cast, cast.one, protocol::UDP);
        let seen = moved(&rig, &cast);
        let question = Packet::udp(cast.client, cast.vip, &[7; 1000]).fragments(0x71, 400);
        for (at, frame) in question.iter().enumerate() {
            let out = rig.pod_sends_frame(frame).seen().unwrap();
            assert_eq!((out.source.ip(), out.destination.ip()), (cast.client.ip(), cast.one.ip()));
            assert!(at > 0 || (out.source, out.destination) == (seen, cast.one), "{out:#?}");
        }
        let reply = Packet::udp(cast.one, seen, &[9; 1000]).fragments(0x72, 400);
        for (at, frame) in reply.iter().enumerate() {
            let out = rig.pod_is_sent_frame(frame).seen().unwrap();
            assert_eq!((out.source.ip(), out.destination.ip()), (cast.vip.ip(), cast.client.ip()));
            assert!(at > 0 || (out.source, out.destination) == (cast.vip, cast.client), "{out:#?}");
        }
    }
}

/// Two CPUs begin the same flow: what the slower one has reserved for it is free again.
#[test]
fn a_flow_that_begins_twice_at_once_holds_one_port() {
    let cast = casts()[0];
    for _ in 0..8 {
        let rig = two_frontends(&cast, cast.one, protocol::UDP);
        for port in 2000..2064 {
            let client = SocketAddr::new(cast.client.ip(), port);
            rig.pod_sends(&Packet::udp(client, cast.service, b"question"));
            let frame = Packet::udp(client, cast.vip, b"question").frame();
            let ready = AtomicU32::new(0);
            let begin = || {
                // Whoever sleeps in a lock is too late: the race is over within a microsecond.
                ready.fetch_add(1, Ordering::SeqCst);
                while ready.load(Ordering::SeqCst) < 2 {
                    hint::spin_loop();
                }
                rig.pod_sends_frame(&frame).seen().unwrap().source
            };
            let seen = thread::scope(|scope| {
                let other = scope.spawn(begin);
                [begin(), other.join().unwrap()]
            });
            assert_eq!(seen[0], seen[1], "the same flow");
        }
        let entries = rig.entries::<Tuple<Addr4>, Flow<Addr4>>("CT_NEW_V4");
        assert_eq!(entries.len(), 2 * 2 * 64, "two entries for each flow");
    }
}

/// A pod that is its own backend sees two clients, and neither is itself.
#[test]
fn a_pod_that_meets_itself_through_two_frontends_has_two_other_ends() {
    for cast in casts() {
        let server = SocketAddr::new(cast.client.ip(), 8080);
        let rig = two_frontends(&cast, server, protocol::UDP);
        let other = if cast.client.is_ipv4() { loop_address::V4.to_ip() } else { loop_address::V6.to_ip() };
        let ends = [cast.service, cast.vip].map(|frontend| {
            let out = rig.pod_sends(&Packet::udp(cast.client, frontend, b"question"));
            let seen = out.seen().unwrap();
            assert_eq!((out.action, seen.source.ip(), seen.destination), (Action::Redirect, other, server));
            (frontend, seen.source)
        });
        assert_ne!(ends[0].1, ends[1].1);
        for (frontend, end) in ends {
            let back = rig.pod_sends(&Packet::udp(server, end, b"answer")).seen().unwrap();
            assert_eq!((back.source, back.destination), (frontend, cast.client));
        }
    }
}

/// One client socket talks to two frontends of a service that has one backend. The backend sees two ports, and each answer
/// comes from the frontend that was asked, to the port that asked; so it does for datagrams and for connections.
#[test]
fn two_frontends_from_one_port_are_two_ports_to_the_backend() {
    for (cast, number) in casts().into_iter().flat_map(|cast| [(cast, protocol::UDP), (cast, protocol::TCP)]) {
        let rig = two_frontends(&cast, cast.one, number);
        let question = |source, to| match number {
            protocol::UDP => Packet::udp(source, to, b"question"),
            _ => Packet::tcp(source, to, Flags::SYN),
        };
        let data = |source, to| match number {
            protocol::UDP => Packet::udp(source, to, b"answer"),
            _ => Packet::tcp(source, to, Flags::ACK),
        };
        for port in 1024..1064 {
            let client = SocketAddr::new(cast.client.ip(), port);
            let asked = [cast.service, cast.vip].map(|to| {
                let seen = rig.pod_sends(&question(client, to)).seen().unwrap();
                assert_eq!((seen.destination, seen.source.ip()), (cast.one, client.ip()));
                (to, seen.source)
            });
            assert_eq!(asked[0].1, client, "the first one keeps its port");
            assert_ne!(asked[1].1, client);
            for (frontend, seen) in asked {
                let reply = match number {
                    protocol::UDP => Packet::udp(cast.one, seen, b"answer"),
                    _ => answer(&question(seen, cast.one), cast.one, seen),
                };
                let reply = rig.pod_is_sent(&reply).seen().unwrap();
                assert_eq!((reply.source, reply.destination), (frontend, client));
                let more = rig.pod_sends(&data(client, frontend)).seen().unwrap();
                assert_eq!((more.source, more.destination), (seen, cast.one), "it stays with its port");
            }
        }
        assert_eq!(rig.count(Verdict::FlowNewPort), 40, "{:?}", rig.counts());
        assert_eq!(rig.count(Verdict::DropNoPort), 0, "{:?}", rig.counts());
    }
}

/// Once the first flow is over, the second may have its port.
#[test]
fn a_flow_that_is_over_leaves_its_port_to_the_next() {
    for cast in casts() {
        let rig = two_frontends(&cast, cast.one, protocol::TCP);
        let first = Packet::tcp(cast.client, cast.service, Flags::SYN);
        let second = Packet::tcp(cast.client, cast.vip, Flags::SYN);
        rig.pod_sends(&first);
        rig.pod_is_sent(&answer(&first, cast.one, cast.client));
        rig.pod_sends(&Packet::tcp(cast.client, cast.service, Flags::RST));
        let seen = rig.pod_sends(&second).seen().unwrap();
        assert_eq!((seen.source, seen.destination), (cast.client, cast.one));
        let reply = rig.pod_is_sent(&answer(&second, cast.one, cast.client)).seen().unwrap();
        assert_eq!(reply.source, cast.vip);
        assert_eq!(rig.count(Verdict::FlowNewPort), 0, "{:?}", rig.counts());
    }
}
