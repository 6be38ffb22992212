//! ICMP errors reach whoever sent the packet that they are about, in words that it understands: without them, a path
//! with a smaller MTU swallows a connection, and a dead server is found out by timeouts only.

use std::net::SocketAddr;

use millrace_common::verdict::Verdict;
use millrace_tests::{
    packet::{Checksum, IcmpError, Packet, Seen, SeenBody},
    test_run::Action,
};

use crate::rig::{Rig, answer, casts, openings};

const ERRORS: [IcmpError; 4] =
    [IcmpError::TooBig { mtu: 1400 }, IcmpError::PortUnreachable, IcmpError::HostUnreachable, IcmpError::TimeExceeded];

/// The error says `error` about a packet from `source` to `destination`, and every checksum in it holds.
fn assert_about(seen: &Seen, error: IcmpError, source: SocketAddr, destination: SocketAddr) {
    assert!(seen.checksums_hold(), "{seen:#?}");
    let SeenBody::IcmpError { error: said, quoted } = &seen.body else { panic!("{seen:#?}") };
    assert_eq!(*said, error);
    assert_eq!((quoted.source, quoted.destination), (source, destination));
}

/// A router on the way, or the backend itself, complains about a packet of the client's: the client reads of the
/// packet that it sent, to the service. A complaint of the backend comes from the service.
#[test]
fn the_client_understands_errors_about_its_packets() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        for opening in openings(cast.client, cast.service) {
            for answered in [false, true] {
                let mut translated = opening.clone();
                translated.destination = rig.pod_sends(&opening).seen().unwrap().destination;
                if answered {
                    rig.pod_is_sent(&answer(&opening, cast.one, cast.client));
                }
                for error in ERRORS {
                    // The whole packet, and as little as a router must quote.
                    let least = if cast.client.is_ipv4() { 28 } else { 48 };
                    for (from, quote) in [(cast.stranger, 1000), (cast.one, 1000), (cast.stranger, least)] {
                        let out = rig.pod_is_sent(&Packet::icmp_error(from, error, &translated, quote));
                        assert_eq!(out.action, Action::Next);
                        let seen = out.seen().unwrap();
                        assert_about(&seen, error, cast.client, cast.service);
                        let source = if from == cast.one { cast.service } else { from };
                        assert_eq!((seen.source.ip(), seen.destination.ip()), (source.ip(), cast.client.ip()));
                        let SeenBody::IcmpError { quoted, .. } = &seen.body else { panic!("{seen:#?}") };
                        if quote == 1000 {
                            assert_eq!(quoted.checksum, Checksum::Right, "{seen:#?}");
                        }
                    }
                }
            }
        }
        assert_eq!(rig.count(Verdict::IcmpErrorTranslated), 48, "{:?}", rig.counts());
    }
}

/// The client complains about an answer that it got (its socket is gone): the backend reads of the answer that it
/// sent, to the client, and the complaint reaches it.
#[test]
fn the_backend_understands_errors_about_its_answers() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        for opening in openings(cast.client, cast.service) {
            rig.pod_sends(&opening);
            let reply = answer(&opening, cast.one, cast.client);
            let mut received = reply.clone();
            received.source = rig.pod_is_sent(&reply).seen().unwrap().source;
            let out = rig.pod_sends(&Packet::icmp_error(cast.client, IcmpError::PortUnreachable, &received, 1000));
            assert_eq!(out.action, Action::Next);
            let seen = out.seen().unwrap();
            assert_about(&seen, IcmpError::PortUnreachable, cast.one, cast.client);
            assert_eq!((seen.source.ip(), seen.destination.ip()), (cast.client.ip(), cast.one.ip()));
        }
    }
}

/// An error about a packet of no known flow is none of ours, in both directions; nor is one that was cut off.
#[test]
fn errors_about_other_packets_are_untouched() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        let [_, opening] = openings(cast.client, cast.service);
        let mut translated = opening.clone();
        translated.destination = rig.pod_sends(&opening).seen().unwrap().destination;
        let mut others: Vec<_> = openings(cast.client, cast.two).into();
        others.push(Packet::udp(cast.client, cast.stranger, b"x"));
        for about in others {
            let error = Packet::icmp_error(cast.stranger, IcmpError::TimeExceeded, &about, 1000);
            assert_eq!(rig.pod_is_sent(&error).frame, error.frame());
            assert_eq!(rig.pod_sends(&error).frame, error.frame());
        }
        let least = if cast.client.is_ipv4() { 28 } else { 48 };
        for quote in 0..least {
            let error = Packet::icmp_error(cast.stranger, IcmpError::TimeExceeded, &translated, quote);
            let out = rig.pod_is_sent(&error);
            assert_eq!((out.action, out.frame), (Action::Next, error.frame()), "{quote} bytes");
        }
    }
}

/// A forged error to another host than the one that sent the quoted packet changes nothing.
#[test]
fn an_error_for_the_wrong_host_is_untouched() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        let [_, opening] = openings(cast.client, cast.service);
        let mut translated = opening.clone();
        translated.destination = rig.pod_sends(&opening).seen().unwrap().destination;
        let mut error = Packet::icmp_error(cast.stranger, IcmpError::HostUnreachable, &translated, 1000);
        error.destination = cast.two;
        assert_eq!(rig.pod_is_sent(&error).frame, error.frame());
    }
}
