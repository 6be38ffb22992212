//! Packets that make no sense: cut off anywhere, with lengths that lie. Nothing of the kind reaches a backend, and
//! nothing that is not for a service is touched.

use millrace_common::verdict::Verdict;
use millrace_tests::{
    packet::{IcmpError, Packet},
    test_run::Action,
};

use crate::{
    random::Random,
    rig::{Rig, answer, casts, openings},
};

/// However short a packet to a service is cut, it is dropped or left as it is: never rewritten, never answered.
#[test]
fn a_truncated_packet_reaches_no_backend() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        let header = if cast.client.is_ipv4() { 20 } else { 40 };
        for opening in openings(cast.client, cast.service) {
            let dressed = if cast.client.is_ipv4() {
                opening.clone().ip_options(&[1; 8])
            } else {
                opening.clone().extension_headers()
            };
            // The tag is there because the kernel refuses to run a program on less than a whole IP header, but does
            // not look behind a tag.
            let tagged = [opening.clone().vlan(7), dressed.vlan(7)];
            for frame in tagged.map(|packet| packet.frame()) {
                for length in 18..frame.len() {
                    let cut = &frame[..length];
                    let out = rig.pod_sends_frame(cut);
                    // Before the destination is there to be read, nobody knows whose packet it is.
                    let expected = if length < 18 + header { Action::Next } else { Action::Drop };
                    assert_eq!((out.action, out.frame.as_slice()), (expected, cut), "{length} bytes of {opening:?}");
                }
            }
        }
        assert_eq!(rig.count(Verdict::PacketNewFlow), 0);
        assert_eq!(rig.count(Verdict::DropRewriteFailed), 0);
        assert!(rig.count(Verdict::DropMalformed) > 0);
    }
}

/// The same for answers and for errors, on their way to the pod: what is cut off is left for the pod's kernel to
/// judge, byte for byte.
#[test]
fn a_truncated_answer_is_left_alone() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        for opening in openings(cast.client, cast.service) {
            let mut translated = opening.clone();
            translated.destination = rig.pod_sends(&opening).seen().unwrap().destination;
            let reply = answer(&opening, cast.one, cast.client);
            let error = Packet::icmp_error(cast.stranger, IcmpError::HostUnreachable, &translated, 1000);
            for frame in [reply.vlan(7).frame(), error.vlan(7).frame()] {
                for length in 18..frame.len() {
                    let cut = &frame[..length];
                    let out = rig.pod_is_sent_frame(cut);
                    assert_eq!((out.action, out.frame.as_slice()), (Action::Next, cut), "{length} bytes");
                }
            }
        }
    }
}

/// Lengths that contradict the packet are found out, one by one.
#[test]
fn lengths_that_lie_are_dropped() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        let v4 = cast.client.is_ipv4();
        let l4 = if v4 { 34 } else { 54 };
        let [connection, datagram] = openings(cast.client, cast.service).map(|packet| packet.frame());
        let mut lies: Vec<(&str, Vec<u8>)> = Vec::new();
        let mut lie = |name, frame: &[u8], at: usize, value: u8| {
            let mut frame = frame.to_vec();
            frame[at] = value;
            lies.push((name, frame));
        };
        if v4 {
            lie("a header of 16 bytes", &datagram, 14, 0x44);
            lie("a header longer than the packet", &datagram, 14, 0x4f);
            lie("a total length of 3", &datagram, 17, 3);
        }
        lie("more bytes than there are", &datagram, if v4 { 16 } else { 18 }, 9);
        lie("a TCP header of 16 bytes", &connection, l4 + 12, 4 << 4);
        lie("a TCP header longer than the packet", &connection, l4 + 12, 15 << 4);
        lie("a datagram shorter than its header", &datagram, l4 + 5, 7);
        lie("a datagram longer than its packet", &datagram, l4 + 4, 9);
        for (name, frame) in lies {
            let out = rig.pod_sends_frame(&frame);
            assert_eq!((out.action, out.frame), (Action::Drop, frame), "{name}");
        }
        assert_eq!(rig.count(Verdict::PacketNewFlow), 0);
    }
}

/// The same packets to an address of no service are none of our business.
#[test]
fn malformed_packets_to_others_are_untouched() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        for opening in openings(cast.client, cast.stranger) {
            let frame = opening.vlan(7).frame();
            for length in 18..frame.len() {
                let out = rig.pod_sends_frame(&frame[..length]);
                assert_eq!((out.action, out.frame.as_slice()), (Action::Next, &frame[..length]));
            }
        }
        assert!(rig.counts().is_empty(), "{:?}", rig.counts());
    }
}

/// Random bytes where headers should be never get to a backend under another address than they named, and never stop
/// the programs.
#[test]
fn noise_does_no_harm() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        let clean = openings(cast.client, cast.service).map(|packet| packet.payload(&[0; 64]).frame());
        let mut random = Random::new();
        for i in 0..20_000 {
            let mut frame = clean[i % 2].clone();
            for _ in 0..=random.below(4) {
                let at = 12 + random.below(frame.len() - 12);
                frame[at] = random.byte();
            }
            let out = rig.pod_sends_frame(&frame);
            let changed = out.action == Action::Next && out.frame != frame;
            if changed {
                let seen = out.seen().unwrap();
                assert_eq!(seen.destination.ip(), cast.one.ip(), "{seen:?}");
            }
            rig.pod_is_sent_frame(&frame);
        }
        // What is not all there is found out before it is rewritten: then the kernel has no reason to refuse.
        assert_eq!(rig.count(Verdict::DropRewriteFailed), 0, "{:?}", rig.counts());
    }
}
