//! What the node's own pods and processes send and get where the clients outside come in.

use std::net::{Ipv4Addr, SocketAddr};

use millrace_common::{address::protocol, frontend::FrontendKind, service::SetWord, verdict::Verdict};
use millrace_tests::{address::in_family, packet::Seen, test_run::Action};

use super::{Node, assert_sent_with, casts, hidden_with, node_port};
use crate::rig::{Rig, answer, openings};

/// A pod of this node that uses the node port is answered at its own veth, not where its backend's packets come in.
#[test]
fn answers_to_pods_are_left_to_their_veths() {
    let node = Node::new();
    for cast in casts() {
        let mut rig = Rig::new();
        node_port(&mut rig, &cast, &[(1, cast.pod), (2, cast.elsewhere)]);
        let client = SocketAddr::new(in_family(Ipv4Addr::new(192, 168, 1, 12), cast.client.is_ipv6()), 40_000);
        for opening in openings(client, cast.node_port) {
            let to = rig.pod_sends(&opening).seen().unwrap().destination;
            let reply = answer(&opening, to, client);
            for out in [node.pod_sends(&rig, &reply), node.gets(&rig, &reply)] {
                assert_eq!((out.action, out.frame), (Action::Next, reply.frame()));
            }
            assert_eq!(rig.pod_is_sent(&reply).seen().unwrap().source, cast.node_port);
        }
    }
}

/// From one port it asks two frontends that have one backend: the second flow has a port that the node keeps for such flows.
#[test]
fn a_process_that_asks_two_frontends_from_one_port_is_answered_by_both() {
    let node = Node::new();
    for cast in casts() {
        let mut rig = Rig::new();
        let frontends = [80, 81].map(|port| SocketAddr::new(cast.router.ip(), port));
        for (frontend, protocol) in frontends.into_iter().flat_map(|to| [(to, protocol::TCP), (to, protocol::UDP)]) {
            rig.frontend(1, frontend, protocol, FrontendKind::LoadBalancer);
        }
        rig.backends(1, &[(1, cast.elsewhere)]);
        let process = SocketAddr::new(cast.node_port.ip(), 40_003);
        for (first, second) in openings(process, frontends[0]).into_iter().zip(openings(process, frontends[1])) {
            assert_sent_with(64, &node.sends(&rig, &first), process, cast.elsewhere);
            let seen = hidden_with(64, &node.sends(&rig, &second), process.ip(), cast.elsewhere);
            for (to, frontend) in [(process, frontends[0]), (seen, frontends[1])] {
                let back = node.gets(&rig, &answer(&first, cast.elsewhere, to)).seen().unwrap();
                assert_eq!((back.source, back.destination), (frontend, process));
            }
        }
        assert_eq!(rig.count(Verdict::FlowNewPort), 2, "{:?}", rig.counts());
    }
}

/// A process of the node whose call no socket hook has seen: it is served where its packets leave, answered in its own
/// name, and met with silence where the policy says so.
#[test]
fn what_the_socket_hooks_missed_is_served_at_the_uplink() {
    let node = Node::new();
    for cast in casts() {
        let mut rig = Rig::new();
        let vip = SocketAddr::new(cast.router.ip(), 80);
        for protocol in [protocol::TCP, protocol::UDP] {
            rig.frontend(1, vip, protocol, FrontendKind::LoadBalancer);
        }
        rig.backends(1, &[(1, cast.elsewhere)]);
        let process = SocketAddr::new(cast.node_port.ip(), 40_000);
        for opening in openings(process, vip) {
            // The node is where it begins: no hop is gone yet.
            assert_sent_with(64, &node.sends(&rig, &opening), process, cast.elsewhere);
            let back = node.gets(&rig, &answer(&opening, cast.elsewhere, process));
            assert_eq!(back.action, Action::Next, "it is for the node itself");
            let seen = back.seen().unwrap();
            assert_eq!((seen.source, seen.destination), (vip, process));
            assert!(seen.checksums_hold(), "{seen:#?}");
        }
        rig.set(1, SetWord::DROP);
        for opening in openings(SocketAddr::new(process.ip(), 40_001), vip) {
            assert_eq!(node.sends(&rig, &opening).action, Action::Drop);
        }
        rig.set(1, SetWord::REJECT);
        for opening in openings(SocketAddr::new(process.ip(), 40_002), vip) {
            let out = node.sends(&rig, &opening);
            assert_eq!(out.action, Action::Redirect, "back into the node: {out:?}");
            let seen: Seen = out.seen().unwrap();
            assert_eq!((seen.source.ip(), seen.destination.ip()), (vip.ip(), process.ip()));
        }
    }
}

/// A backend in the node's own namespace sees the client, and its answer is given the node port as it leaves.
#[test]
fn a_backend_on_the_node_itself_sees_the_client() {
    let node = Node::new();
    for cast in casts() {
        let mut rig = Rig::new();
        let server = SocketAddr::new(cast.node_port.ip(), 9100);
        node_port(&mut rig, &cast, &[(1, server)]);
        for opening in openings(cast.client, cast.node_port) {
            let out = node.gets(&rig, &opening);
            assert_eq!(out.action, Action::Next, "the stack delivers it");
            let seen = out.seen().unwrap();
            assert_eq!((seen.source, seen.destination), (cast.client, server));
            let back = node.sends(&rig, &answer(&opening, server, cast.client));
            assert_eq!(back.action, Action::Next, "it leaves by this device already");
            let seen = back.seen().unwrap();
            assert_eq!((seen.source, seen.destination), (cast.node_port, cast.client));
        }
    }
}
