//! A pod talks to a service: its packets reach a backend, and the answers come from the service.

use millrace_common::verdict::Verdict;
use millrace_tests::{
    packet::{Flags, Packet, Seen},
    test_run::Action,
};

use crate::rig::{Rig, answer, casts, openings};

/// What the packet says after translation is what it said before, but for the addresses, and its checksums hold.
fn assert_translated(before: &Packet, after: &Seen, source: std::net::SocketAddr, destination: std::net::SocketAddr) {
    let said = Seen::frame(&before.frame()).unwrap();
    assert!(after.checksums_hold(), "{after:#?}");
    assert_eq!((after.source, after.destination), (source, destination));
    let unchanged = Seen { source: said.source, destination: said.destination, ..after.clone() };
    assert_eq!(unchanged, said);
}

/// A connection or an exchange of datagrams through a ClusterIP: the backend sees the client's own address, the client
/// sees the service's, whatever the family and the transport.
#[test]
fn a_packet_reaches_a_backend_and_its_answer_comes_from_the_service() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        for opening in openings(cast.client, cast.service) {
            let sent = rig.pod_sends(&opening);
            assert_eq!(sent.action, Action::Next);
            assert_translated(&opening, &sent.seen().unwrap(), cast.client, cast.one);

            let reply = answer(&opening, cast.one, cast.client);
            let received = rig.pod_is_sent(&reply);
            assert_eq!(received.action, Action::Next);
            assert_translated(&reply, &received.seen().unwrap(), cast.service, cast.client);

            let more = rig.pod_sends(&opening.payload(b"more")).seen().unwrap();
            assert_eq!(more.destination, cast.one);
        }
        assert_eq!(rig.count(Verdict::PacketNewFlow), 2, "{:?}", rig.counts());
        assert_eq!(rig.count(Verdict::PacketForwarded), 2, "{:?}", rig.counts());
        assert_eq!(rig.count(Verdict::PacketReversed), 2, "{:?}", rig.counts());
    }
}

/// Packets that are no service's are left alone, byte for byte, in both directions.
#[test]
fn traffic_of_no_service_is_untouched() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        for opening in openings(cast.client, cast.stranger) {
            let out = rig.pod_sends(&opening);
            assert_eq!((out.action, out.frame), (Action::Next, opening.frame()));
            let reply = answer(&opening, cast.stranger, cast.client);
            let out = rig.pod_is_sent(&reply);
            assert_eq!((out.action, out.frame), (Action::Next, reply.frame()));
        }
        assert!(rig.counts().is_empty(), "{:?}", rig.counts());
    }
}

/// IP options, extension headers and a VLAN tag in the frame are kept and looked behind.
#[test]
fn options_extensions_and_tags_are_looked_behind() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        for opening in openings(cast.client, cast.service) {
            let dressed = [
                opening.clone().vlan(7),
                if cast.client.is_ipv4() { opening.ip_options(&[1; 40]) } else { opening.extension_headers() },
            ];
            for packet in dressed {
                let sent = rig.pod_sends(&packet).seen().unwrap();
                assert_translated(&packet, &sent, cast.client, cast.one);
            }
        }
    }
}

/// A sender that leaves out UDP's checksum (IPv4 allows it) finds it left out at the other end.
#[test]
fn a_checksum_that_was_left_out_stays_out() {
    let cast = casts()[0];
    let mut rig = Rig::new();
    rig.service(&cast, &[(1, cast.one)]);
    let packet = Packet::udp(cast.client, cast.service, b"x").without_checksum();
    let sent = rig.pod_sends(&packet).seen().unwrap();
    assert_translated(&packet, &sent, cast.client, cast.one);
}

/// Every backend of a service gets its share of the connections, and no one else gets any.
#[test]
fn every_backend_is_used() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one), (2, cast.two)]);
        let mut hits = [0; 2];
        for port in 1024..1424 {
            let client = std::net::SocketAddr::new(cast.client.ip(), port);
            let sent = rig.pod_sends(&Packet::tcp(client, cast.service, Flags::SYN)).seen().unwrap();
            let which = [cast.one, cast.two].iter().position(|b| *b == sent.destination).unwrap();
            hits[which] += 1;
        }
        assert!(hits.iter().all(|&n| n > 140), "{hits:?}");
    }
}

/// Marks are hints: where every one is set, by whatever share a bit or a byte, packets are what they were.
#[test]
fn marks_that_mean_nothing_change_nothing() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        rig.mark_everything();
        for opening in openings(cast.client, cast.service) {
            let sent = rig.pod_sends(&opening).seen().unwrap();
            assert_translated(&opening, &sent, cast.client, cast.one);
            let back = answer(&opening, cast.one, cast.client);
            let received = rig.pod_is_sent(&back).seen().unwrap();
            assert_translated(&back, &received, cast.service, cast.client);
        }
        for packet in openings(cast.client, cast.stranger).iter().chain(&openings(cast.stranger, cast.client)) {
            for outcome in [rig.pod_sends(packet), rig.pod_is_sent(packet)] {
                assert_eq!((outcome.action, &outcome.frame), (Action::Next, &packet.frame()), "{packet:?}");
            }
        }
    }
}

/// An address is looked at only where the agent has marked it: what most packets cost is this glance.
#[test]
fn what_has_no_mark_passes_at_a_glance() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        rig.unmark_services();
        for packet in openings(cast.client, cast.service) {
            let outcome = rig.pod_sends(&packet);
            assert_eq!((outcome.action, &outcome.frame), (Action::Next, &packet.frame()), "{packet:?}");
        }
        assert!(rig.counts().is_empty(), "{:?}", rig.counts());
    }
}
