//! A node that has no address of its own, or has lost the one that flows were begun with.

use millrace_common::verdict::Verdict;
use millrace_tests::{
    packet::{Flags, Packet},
    test_run::Action,
};

use crate::{
    rig::{Rig, answer, openings},
    uplink::{Node, assert_sent, casts, hidden, node_port},
};

#[test]
fn a_client_outside_is_refused_where_the_node_has_no_address_to_ask_the_backend_from() {
    let node = Node::new();
    for cast in casts() {
        let mut rig = Rig::new();
        node_port(&mut rig, &cast, &[(1, cast.elsewhere)]);
        let openings = openings(cast.client, cast.node_port);
        rig.own_addresses(false);
        for (opening, count) in openings.iter().zip(1..) {
            assert_eq!(node.gets(&rig, opening).action, Action::Drop, "{opening:?}");
            assert_eq!(rig.count(Verdict::DropNoNodeAddress), count, "{:?}", rig.counts());
        }
        // Nothing is left of it: as soon as there is an address, the same packets begin flows.
        rig.own_addresses(true);
        for opening in &openings {
            hidden(&node.gets(&rig, opening), cast.node_port.ip(), cast.elsewhere);
        }
    }
}

/// A connection cannot change an end. Datagrams that nobody has answered yet begin anew; those of an established flow do so
/// when the agent says that an address is lost.
#[test]
fn a_lost_address_is_used_for_no_new_flow_and_an_established_connection_goes_on() {
    let node = Node::new();
    for cast in casts() {
        let mut rig = Rig::new();
        node_port(&mut rig, &cast, &[(1, cast.elsewhere)]);
        let [connection, datagram] = openings(cast.client, cast.node_port);
        let [seen, _] = [&connection, &datagram]
            .map(|opening| hidden(&node.gets(&rig, opening), cast.node_port.ip(), cast.elsewhere));
        assert_sent(&node.gets(&rig, &answer(&connection, cast.elsewhere, seen)), cast.node_port, cast.client);
        rig.own_addresses(false);
        assert_sent(&node.gets(&rig, &Packet::tcp(cast.client, cast.node_port, Flags::ACK)), seen, cast.elsewhere);
        assert_eq!(node.gets(&rig, &datagram).action, Action::Drop, "nobody has answered it");
        rig.own_addresses(true);

        let seen = hidden(&node.gets(&rig, &datagram), cast.node_port.ip(), cast.elsewhere);
        assert_sent(&node.gets(&rig, &answer(&datagram, cast.elsewhere, seen)), cast.node_port, cast.client);
        rig.own_addresses(false);
        assert_sent(&node.gets(&rig, &datagram), seen, cast.elsewhere);
        rig.store("WITHDRAWALS", 0, 1u64);
        assert_eq!(node.gets(&rig, &datagram).action, Action::Drop, "its answers would come to nobody");
        assert_eq!(rig.count(Verdict::DropNoNodeAddress), 2, "{:?}", rig.counts());
        rig.own_addresses(true);
        hidden(&node.gets(&rig, &datagram), cast.node_port.ip(), cast.elsewhere);
        rig.store("WITHDRAWALS", 0, 0u64);
    }
}
