//! Packets between pods of one node, past its stack: they arrive as the stack would have delivered them, and take to it
//! whenever it has a say.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod changes;
mod limits;
mod scene;

use std::time::Duration;

use millrace_tests::{packet::Checksum, probe::Protocol, wire::Wire};

use self::scene::{SERVER, Scene, VIP, both};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn pods_of_a_node_reach_each_other_and_their_services_past_its_stack() {
    let scene = Scene::new(&[]);
    scene.wait_until_routed();
    for (what, address) in [("pod", SERVER), ("service", VIP)] {
        for to in both(address) {
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::UdpUnconnected] {
                let before = scene.routed();
                assert_eq!(scene.ask(to, protocol).as_deref(), Some("server"), "{what} {to} {protocol:?}");
                assert!(scene.routed() >= before + 2, "{what} {to} {protocol:?} went by the stack");
            }
        }
    }
}

/// A packet that is handed over has one hop less, and checksums that hold, as the stack would have it.
#[test]
fn a_packet_arrives_as_the_stack_would_have_delivered_it() {
    let scene = Scene::new(&[]);
    scene.wait_until_routed();
    for to in both(SERVER).into_iter().chain(both(VIP)) {
        let wire = Wire::open(&scene.pod("server").netns, "eth0").unwrap();
        assert!(scene.ask(to, Protocol::Udp).is_some());
        let question = wire.find(PATIENCE, |seen| seen.destination.port() == scene::TARGET).unwrap().unwrap();
        assert_eq!((question.ttl, question.ip_checksum), (63, Checksum::Right), "{to}");
        let back = Wire::open(&scene.pod("client").netns, "eth0").unwrap();
        assert!(scene.ask(to, Protocol::Tcp).is_some());
        let answer = back.find(PATIENCE, |seen| seen.source == scene::seen_from(to)).unwrap().unwrap();
        assert_eq!((answer.ttl, answer.ip_checksum), (63, Checksum::Right), "{to}");
    }
}

#[test]
fn an_operator_who_wants_none_of_it_has_the_stack() {
    let scene = Scene::new(&["--host-routing", "off"]);
    for to in both(SERVER).into_iter().chain(both(VIP)) {
        assert_eq!(scene.ask(to, Protocol::Udp).as_deref(), Some("server"));
    }
    assert_eq!(scene.routed(), 0);
}
