//! What happens where there is no room, and where two flows would look the same.

use std::net::SocketAddr;

use millrace_common::{address::protocol, frontend::FrontendKind, verdict::Verdict};
use millrace_tests::{
    packet::{Flags, Packet},
    test_run::Action,
};

use crate::rig::{Rig, answer, casts};

/// A full table refuses new flows and says so; those that it holds go on.
#[test]
fn a_full_table_refuses_new_flows_and_keeps_the_old() {
    for cast in casts() {
        let mut rig = Rig::with_flows(64);
        rig.service(&cast, &[(1, cast.one)]);
        let client = |port: u16| SocketAddr::new(cast.client.ip(), port);
        let open = |rig: &Rig, port: u16| {
            let syn = Packet::tcp(client(port), cast.service, Flags::SYN);
            rig.pod_sends(&syn);
            rig.pod_is_sent(&answer(&syn, cast.one, client(port))).action == Action::Next
        };
        let opened: Vec<u16> = (1000..1100).filter(|port| open(&rig, *port)).collect();
        assert_eq!(opened.len(), 32, "two entries for each flow");
        assert_eq!(rig.count(Verdict::DropTableFull), 68, "{:?}", rig.counts());
        for port in opened {
            let data = Packet::tcp(client(port), cast.service, Flags::ACK).payload(b"more");
            assert_eq!(rig.pod_sends(&data).seen().unwrap().destination, cast.one);
            let reply = Packet::tcp(cast.one, client(port), Flags::ACK);
            assert_eq!(rig.pod_is_sent(&reply).seen().unwrap().source, cast.service);
        }
    }
}

/// One client socket talks to two frontends of a service that has one backend. The backend sees two ports, and each answer
/// comes from the frontend that was asked, to the port that asked; so it does for datagrams and for connections.
#[test]
fn two_frontends_from_one_port_are_two_ports_to_the_backend() {
    for (cast, number) in casts().into_iter().flat_map(|cast| [(cast, protocol::UDP), (cast, protocol::TCP)]) {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        rig.frontend(1, cast.vip, number, FrontendKind::LoadBalancer);
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
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        rig.frontend(1, cast.vip, protocol::TCP, FrontendKind::LoadBalancer);
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

/// A flood of SYNs that nobody answers costs established connections nothing.
#[test]
fn a_flood_of_syns_evicts_no_established_flow() {
    let cast = casts()[0];
    let mut rig = Rig::new();
    rig.service(&cast, &[(1, cast.one)]);
    let syn = Packet::tcp(cast.client, cast.service, Flags::SYN);
    rig.pod_sends(&syn);
    rig.pod_is_sent(&answer(&syn, cast.one, cast.client));
    for port in 1..20_000 {
        let flood = Packet::tcp(SocketAddr::new(cast.stranger.ip(), port), cast.service, Flags::SYN);
        assert_eq!(rig.pod_sends(&flood).action, Action::Next);
    }
    let reply = rig.pod_is_sent(&Packet::tcp(cast.one, cast.client, Flags::ACK)).seen().unwrap();
    assert_eq!(reply.source, cast.service);
    assert_eq!(rig.count(Verdict::DropTableFull), 0);
}
