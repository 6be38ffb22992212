//! Host ports of a pod of this node, as packets meet them.

use std::net::SocketAddr;

use millrace_common::{address::protocol, frontend::FrontendKind, service::Attributes, verdict::Verdict};
use millrace_tests::{
    packet::{Packet, chunk},
    test_run::Action,
};

use crate::{
    rig::{Rig, answer, openings},
    uplink::{Cast, Node, assert_sent, casts},
};

/// As the agent programs it.
fn host_port(cast: &Cast) -> Rig {
    let mut rig = Rig::new();
    for protocol in [protocol::TCP, protocol::UDP, protocol::SCTP] {
        rig.frontend(1, cast.node_port, protocol, FrontendKind::HostPort);
    }
    rig.backends(1, &[(1, cast.pod)]);
    rig.swap_sets(1);
    rig.backends(1, &[(1, cast.pod)]);
    rig.attributes(1, Attributes::new(Attributes::EXTERNAL_LOCAL, 0));
    rig
}

/// A client outside reaches the pod, which sees who it is, and is answered by the node's address and port.
#[test]
fn a_client_outside_reaches_the_pod_and_is_seen_by_it() {
    let node = Node::new();
    for cast in casts() {
        let rig = host_port(&cast);
        for opening in openings(cast.client, cast.node_port) {
            assert_sent(&node.gets(&rig, &opening), cast.client, cast.pod);
            let reply = answer(&opening, cast.pod, cast.client);
            assert_sent(&node.pod_sends(&rig, &reply), cast.node_port, cast.client);
        }
        let init = Packet::sctp(cast.client, cast.node_port, chunk::INIT);
        assert_sent(&node.gets(&rig, &init), cast.client, cast.pod);
        let reply = Packet::sctp(cast.pod, cast.client, chunk::INIT_ACK);
        assert_sent(&node.pod_sends(&rig, &reply), cast.node_port, cast.client);
        assert_eq!(rig.count(Verdict::PacketNewFlow), 3, "{:?}", rig.counts());
    }
}

/// Another pod of the node names the node's address: it reaches the pod and is answered by what it named.
#[test]
fn a_pod_of_the_node_reaches_the_pod() {
    for cast in casts() {
        let rig = host_port(&cast);
        let client = SocketAddr::new(cast.elsewhere.ip(), 40_000);
        for opening in openings(client, cast.node_port) {
            let seen = rig.pod_sends(&opening).seen().unwrap();
            assert_eq!((seen.source, seen.destination), (client, cast.pod));
            let reply = rig.pod_is_sent(&answer(&opening, cast.pod, client)).seen().unwrap();
            assert_eq!((reply.source, reply.destination), (cast.node_port, client));
        }
    }
}

/// The node's other ports stay the node's own.
#[test]
fn other_ports_of_the_node_are_untouched() {
    let node = Node::new();
    for cast in casts() {
        let rig = host_port(&cast);
        let other = SocketAddr::new(cast.node_port.ip(), 22);
        for packet in openings(cast.client, other) {
            let out = node.gets(&rig, &packet);
            assert_eq!((out.action, out.frame), (Action::Next, packet.frame()));
        }
    }
}
