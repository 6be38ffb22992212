//! Whose an address is, and who is let in.

use std::collections::BTreeSet;

use millrace_agent::{diff::Planner, lb::Frontend};
use millrace_common::{frontend::FrontendKind, service::Attributes};

use crate::{
    node::{Node, SIZES},
    support::wanted::{frontend, port},
};

/// An address that becomes the node's own while a service still has a node port there: its mark goes with the last
/// frontend that owned it, or the node's other ports would be refused.
#[test]
fn a_node_port_does_not_make_the_nodes_address_the_services_own() {
    let mut node = Node::new();
    let mut port = port(1, &[1]);
    let external = frontend(7);
    port.frontends.insert(external, FrontendKind::ClusterIp);
    node.bring(&[port.clone()]);
    port.frontends.remove(&external);
    port.frontends.insert(Frontend { port: 30_080, ..external }, FrontendKind::NodePort);
    let ops = node.bring(&[port.clone()]);
    assert!(ops.contains(&"- owned 10.96.0.7".to_owned()), "{ops:?}");
    assert_eq!(node.bring(&[port]), [""; 0]);
    let ops = node.delete("s1");
    assert!(!ops.iter().any(|op| op.contains("owned 10.96.0.7")), "{ops:?}");
}

/// Between two operations a guarded VIP never lets everybody in, nor shuts out somebody who is let in before and after.
#[test]
fn source_ranges_are_there_before_they_guard_and_go_after() {
    let mut node = Node::new();
    let mut guarded = port(1, &[1]);
    guarded.attributes = Attributes::new(Attributes::SOURCE_RANGES, 0);
    let ranges = ["10.0.0.0/8", "198.18.0.0/15", "203.0.113.0/24"].map(|range| range.parse().unwrap());
    guarded.source_ranges = BTreeSet::from([ranges[0], ranges[1]]);
    let at = |ops: &[String], wanted: &str| ops.iter().position(|op| op == wanted).unwrap_or_else(|| panic!("{ops:?}"));
    let ops = node.bring(&[guarded.clone()]);
    assert!(at(&ops, "0 lets 198.18.0.0/15 in") < at(&ops, "attributes 0"), "{ops:?}");
    guarded.source_ranges = BTreeSet::from([ranges[0], ranges[2]]);
    let ops = node.bring(&[guarded.clone()]);
    assert_eq!(ops, ["0 lets 203.0.113.0/24 in", "0 keeps 198.18.0.0/15 out"]);
    let mut restarted = Node { planner: Planner::restore(&node.tables.snapshot(), SIZES), tables: node.tables };
    assert_eq!(restarted.bring(&[guarded]), [""; 0], "a restart knows them");
    restarted.delete("s1");
    let chores = restarted.grace();
    assert!(at(&chores, "0 keeps 10.0.0.0/8 out") < at(&chores, "no name 0"), "{chores:?}");
    assert!(restarted.tables.snapshot().ranges.is_empty());
}
