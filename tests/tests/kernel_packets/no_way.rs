//! Backends that the node knows no way to, though they are endpoints: what is sent on past the stack ends here, and is counted.

use millrace_common::verdict::Verdict;
use millrace_tests::{packet::IcmpError, packet::Packet, test_run::Action};

use crate::{
    rig::{Rig, answer, openings},
    uplink::{Node, assert_sent, casts, hidden, node_port},
};

/// While there is no route to the backend; which is elsewhere.
fn without_route(node: &Node, act: impl FnOnce()) {
    let n1 = &node.network.node("n1").unwrap().netns;
    let routes = ["192.168.2.0/24", "fd00:192:168:2::/64"];
    n1.ip(&routes.map(|to| format!("route add unreachable {to} metric 1"))).unwrap();
    act();
    n1.ip(&routes.map(|to| format!("route del unreachable {to} metric 1"))).unwrap();
}

#[test]
fn a_packet_to_a_backend_without_a_way_is_dropped_and_counted() {
    let node = Node::new();
    for cast in casts() {
        let mut rig = Rig::new();
        node_port(&mut rig, &cast, &[(1, cast.elsewhere)]);
        let [connection, datagram] = openings(cast.client, cast.node_port);
        without_route(&node, || {
            for opening in [&connection, &datagram] {
                assert_eq!(node.gets(&rig, opening).action, Action::Drop, "{opening:?}");
            }
            assert_eq!(rig.count(Verdict::DropNoRoute), 2, "{:?}", rig.counts());
        });
        // It may be sent again, and the flow is still known.
        let seen = hidden(&node.gets(&rig, &datagram), cast.node_port.ip(), cast.elsewhere);
        let reply = answer(&datagram, cast.elsewhere, seen);
        assert_sent(&node.gets(&rig, &reply), cast.node_port, cast.client);

        // What the client has to say of an answer cannot be told to the backend either.
        let mut answered = reply;
        (answered.source, answered.destination) = (cast.node_port, cast.client);
        let error = Packet::icmp_error(cast.client, IcmpError::PortUnreachable, &answered, 64);
        without_route(&node, || {
            assert_eq!(node.gets(&rig, &error).action, Action::Drop);
            assert_eq!(rig.count(Verdict::DropNoRoute), 3, "{:?}", rig.counts());
        });
        assert_eq!(node.gets(&rig, &error).action, Action::Redirect);
        assert_eq!(rig.count(Verdict::DropNoRoute), 3, "{:?}", rig.counts());
    }
}
