//! A pod reaches itself through its own service.

use std::net::SocketAddr;

use millrace_common::{address::Address, flow::loop_address};
use millrace_tests::{
    packet::{IcmpError, Packet, SeenBody},
    test_run::{Action, Outcome},
};

use crate::rig::{Cast, Rig, answer, casts, openings};

/// Where a pod's packets to itself come from.
fn loop_of(cast: &Cast) -> SocketAddr {
    let ip = if cast.client.is_ipv4() { loop_address::V4.to_ip() } else { loop_address::V6.to_ip() };
    SocketAddr::new(ip, cast.client.port())
}

fn assert_returned(packet: &Packet, out: &Outcome) {
    assert_eq!(out.action, Action::Redirect, "{out:?}");
    assert_eq!(out.frame[..6], packet.source_mac, "it goes to the pod");
    assert_eq!(out.frame[6..12], packet.destination_mac);
    assert!(out.seen().unwrap().checksums_hold(), "{out:?}");
}

/// The pod's server sees a client that is not the pod itself, and its answers come back to the pod's client from the
/// service: both by way of the node, though neither leaves it.
#[test]
fn a_pod_talks_to_itself_through_its_service() {
    for cast in casts() {
        let mut rig = Rig::new();
        let server = SocketAddr::new(cast.client.ip(), 8080);
        let other_end = loop_of(&cast);
        rig.service(&cast, &[(1, server)]);
        for opening in openings(cast.client, cast.service) {
            for _ in 0..2 {
                let out = rig.pod_sends(&opening);
                assert_returned(&opening, &out);
                let seen = out.seen().unwrap();
                assert_eq!((seen.source, seen.destination), (other_end, server));
                let delivered = rig.pod_is_sent_frame(&out.frame);
                assert_eq!((delivered.action, &delivered.frame), (Action::Next, &out.frame), "not touched again");

                let reply = answer(&opening, server, other_end);
                let out = rig.pod_sends(&reply);
                assert_returned(&reply, &out);
                let seen = out.seen().unwrap();
                assert_eq!((seen.source, seen.destination), (cast.service, cast.client));
                let delivered = rig.pod_is_sent_frame(&out.frame);
                assert_eq!((delivered.action, delivered.frame), (Action::Next, out.frame), "not touched again");
            }
        }
    }
}

/// Nobody listens in the pod: its own kernel says so, and its client hears that the service's port is unreachable.
#[test]
fn a_pod_hears_its_own_refusal() {
    for cast in casts() {
        let mut rig = Rig::new();
        let server = SocketAddr::new(cast.client.ip(), 8080);
        rig.service(&cast, &[(1, server)]);
        let question = Packet::udp(cast.client, cast.service, b"anybody?");
        let mut delivered = question.clone();
        (delivered.source, delivered.destination) = {
            let seen = rig.pod_sends(&question).seen().unwrap();
            (seen.source, seen.destination)
        };
        let error = Packet::icmp_error(server, IcmpError::PortUnreachable, &delivered, 1000);
        let out = rig.pod_sends(&error);
        assert_returned(&error, &out);
        let seen = out.seen().unwrap();
        assert_eq!((seen.source.ip(), seen.destination.ip()), (cast.service.ip(), cast.client.ip()));
        let SeenBody::IcmpError { quoted, .. } = seen.body else { panic!("{seen:#?}") };
        assert_eq!((quoted.source, quoted.destination), (cast.client, cast.service));
    }
}

/// A packet to the loop address that answers nothing is left alone.
#[test]
fn nothing_comes_from_the_loop_address_by_itself() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        for packet in openings(cast.client, loop_of(&cast)) {
            let out = rig.pod_sends(&packet);
            assert_eq!((out.action, out.frame), (Action::Next, packet.frame()));
        }
    }
}
