//! What happens where there is no room.

use std::net::SocketAddr;

use millrace_common::verdict::Verdict;
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
