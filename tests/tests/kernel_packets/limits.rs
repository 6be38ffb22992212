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

/// One client socket talks to two frontends of a service. The backend cannot tell the two flows apart, so they get two
/// backends, and each answer comes from the frontend that was asked.
#[test]
fn two_frontends_from_one_port_get_two_backends() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one), (2, cast.two)]);
        rig.frontend(1, cast.vip, protocol::UDP, FrontendKind::LoadBalancer);
        for port in 1024..1064 {
            let client = SocketAddr::new(cast.client.ip(), port);
            let ask = |to| {
                let out = rig.pod_sends(&Packet::udp(client, to, b"question"));
                (out.action == Action::Next).then(|| out.seen().unwrap().destination)
            };
            let first = ask(cast.service).unwrap();
            // Chosen at random, a few times: that all of them hit the first one happens.
            let Some(second) = ask(cast.vip) else { continue };
            assert_ne!(first, second);
            for (backend, frontend) in [(first, cast.service), (second, cast.vip)] {
                let reply = rig.pod_is_sent(&Packet::udp(backend, client, b"answer")).seen().unwrap();
                assert_eq!(reply.source, frontend);
            }
        }
        assert!(rig.count(Verdict::DropReplyAmbiguous) < 12, "{:?}", rig.counts());
    }
}

/// With one backend only, the second flow is refused and counted: better than an answer from the wrong address. Once
/// the first is over, the second may have its place.
#[test]
fn an_ambiguous_flow_is_refused_until_the_other_is_over() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        rig.frontend(1, cast.vip, protocol::TCP, FrontendKind::LoadBalancer);
        let first = Packet::tcp(cast.client, cast.service, Flags::SYN);
        let second = Packet::tcp(cast.client, cast.vip, Flags::SYN);
        rig.pod_sends(&first);
        assert_eq!(rig.pod_sends(&second).action, Action::Drop);
        rig.pod_is_sent(&answer(&first, cast.one, cast.client));
        assert_eq!(rig.pod_sends(&second).action, Action::Drop);
        assert_eq!(rig.count(Verdict::DropReplyAmbiguous), 2, "{:?}", rig.counts());

        rig.pod_sends(&Packet::tcp(cast.client, cast.service, Flags::RST));
        assert_eq!(rig.pod_sends(&second).seen().unwrap().destination, cast.one);
        let reply = rig.pod_is_sent(&answer(&second, cast.one, cast.client)).seen().unwrap();
        assert_eq!(reply.source, cast.vip);
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
