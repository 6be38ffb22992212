//! Large datagrams travel in fragments, and only the first has ports: all of them must reach the same backend.

use millrace_common::verdict::Verdict;
use millrace_tests::{
    packet::{Packet, Seen},
    test_run::Action,
};

use crate::rig::{Rig, casts};

/// Puts the payloads of fragments together again, as the receiver does, and checks the checksum over the whole.
fn reassembled(frames: &[Vec<u8>], whole: &Packet) -> Vec<u8> {
    let header = whole.ip_bytes().len() - whole_transport(whole).len();
    let fragment_header = if whole.source.is_ipv6() { 8 } else { 0 };
    frames.iter().flat_map(|frame| frame[14 + header + fragment_header..].to_vec()).collect()
}

/// The transport's header and payload of an unfragmented packet.
fn whole_transport(packet: &Packet) -> Vec<u8> {
    let bytes = packet.ip_bytes();
    bytes[if packet.source.is_ipv6() { 40 } else { 20 }..].to_vec()
}

/// A datagram of three fragments, and its answer of three, arrive whole, with the right checksum.
#[test]
fn all_fragments_of_a_datagram_take_the_same_way() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        let question = Packet::udp(cast.client, cast.service, &[7; 1000]);
        let sent: Vec<_> = question.fragments(0x77, 400).iter().map(|f| rig.pod_sends_frame(f)).collect();
        assert!(sent.iter().all(|out| out.action == Action::Next));
        for out in &sent {
            let seen = out.seen().unwrap();
            assert_eq!((seen.source.ip(), seen.destination.ip()), (cast.client.ip(), cast.one.ip()));
            assert!(seen.checksums_hold());
        }
        let frames: Vec<_> = sent.into_iter().map(|out| out.frame).collect();
        let expected = Packet::udp(cast.client, cast.one, &[7; 1000]);
        assert_eq!(reassembled(&frames, &expected), whole_transport(&expected));

        let reply = Packet::udp(cast.one, cast.client, &[9; 1000]);
        let received: Vec<_> = reply.fragments(0x78, 400).iter().map(|f| rig.pod_is_sent_frame(f).frame).collect();
        let expected = Packet::udp(cast.service, cast.client, &[9; 1000]);
        assert_eq!(reassembled(&received, &expected), whole_transport(&expected));
        for frame in received {
            assert_eq!(Seen::frame(&frame).unwrap().source.ip(), cast.service.ip());
        }
    }
}

/// A tail that comes before its head cannot be delivered: towards a service it is dropped and counted; anything else
/// is left alone.
#[test]
fn a_tail_without_its_head() {
    for cast in casts() {
        let mut rig = Rig::new();
        rig.service(&cast, &[(1, cast.one)]);
        let tails = |packet: Packet| packet.fragments(0x99, 400).split_off(1);
        for frame in tails(Packet::udp(cast.client, cast.service, &[7; 1000])) {
            let out = rig.pod_sends_frame(&frame);
            assert_eq!((out.action, &out.frame), (Action::Drop, &frame));
        }
        assert_eq!(rig.count(Verdict::DropFragmentWithoutHead), 2);
        for frame in tails(Packet::udp(cast.client, cast.stranger, &[7; 1000])) {
            let out = rig.pod_sends_frame(&frame);
            assert_eq!((out.action, out.frame), (Action::Next, frame));
        }
        for frame in tails(Packet::udp(cast.one, cast.client, &[7; 1000])) {
            let out = rig.pod_is_sent_frame(&frame);
            assert_eq!((out.action, out.frame), (Action::Next, frame));
        }
    }
}
