//! Source ranges and service ranges that do not fit: who is let in, and what of the rest goes on.
#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use millrace_agent::{
    diff::{Planner, Sizes},
    lb::WantedPort,
};
use millrace_common::{frontend::FrontendKind, maps, service::Attributes};

use super::node::{Node, SIZES, short};
use crate::support::wanted::{endpoints, frontend, key, port, set};

const SMALL: Sizes = Sizes { source_ranges: 4, ..SIZES };

/// Single addresses: 172.16.0.0 and every 256th after it.
fn ranges(numbers: impl IntoIterator<Item = u32>) -> BTreeSet<IpNet> {
    let address = |number: u32| IpAddr::from((0xac10_0000 + number * 256).to_be_bytes());
    numbers.into_iter().map(|number| IpNet::from(address(number))).collect()
}

fn guarded(service: u8, hosts: &[u8], numbers: impl IntoIterator<Item = u32>) -> WantedPort {
    let source_ranges = ranges(numbers);
    let attributes = Attributes::new(Attributes::SOURCE_RANGES, 0);
    let mut port = WantedPort { source_ranges, attributes, ..port(service, hosts) };
    port.frontends.insert(frontend(service + 100), FrontendKind::LoadBalancer);
    port
}

/// Writes what is planned, and what room it makes; what is refused of it in the end.
fn bring(node: &mut Node, ports: &[WantedPort]) -> Vec<String> {
    let mut refused = Vec::new();
    for attempt in 0.. {
        let plan = node.plan(ports);
        if attempt == 0 || !plan.refused.is_empty() {
            refused = plan.refused.iter().map(ToString::to_string).collect();
        }
        let outcome = node.write(&plan);
        assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
        if node.planner.retry().is_empty() {
            return refused;
        }
        assert!(attempt < 5, "no end of work");
        refused.clear();
    }
    refused
}

/// What a program asks for: whether the guard is up, and whom it lets in.
fn guard(node: &Node, service: u8) -> (bool, BTreeSet<IpNet>) {
    let (_, index) = node.tables.frontend(&frontend(service + 100)).unwrap();
    let closed = Attributes(node.tables.service(index).attributes).has(Attributes::SOURCE_RANGES);
    (closed, node.tables.snapshot().ranges.get(&index).cloned().unwrap_or_default())
}

const FULL: &str = "shop/s1:http/TCP/v4: its 5 source ranges do not fit into the map SOURCE_RANGES_V4 (4 entries), so its \
                    load balancer's addresses let in nobody new; raise --max-source-ranges";

#[test]
fn ranges_that_do_not_fit_close_the_vip_and_keep_nothing_else_from_being_programmed() {
    let mut node = Node::with(SMALL);
    assert_eq!(bring(&mut node, &[guarded(1, &[1], 0..5), guarded(2, &[1], 5..9)]), [FULL]);
    assert_eq!(guard(&node, 1), (true, ranges([])), "open to nobody");
    assert_eq!(guard(&node, 2), (true, ranges(5..9)), "another's ranges");
    assert!(node.tables.frontend(&frontend(1)).is_some(), "its ClusterIP is no business of the ranges");
    // Its endpoints are followed all the same.
    assert_eq!(bring(&mut node, &[guarded(1, &[1, 2], 0..5)]), [FULL]);
    assert_eq!(node.tables.snapshot().backends.values().filter(|state| state.serving()).count(), 3);

    // The other one goes: there is room for four.
    node.delete("s2");
    node.grace();
    node.grace();
    assert_eq!(node.planner.retry(), [key("s1")]);
    assert_eq!(bring(&mut node, &[guarded(1, &[1, 2], 0..4)]), [""; 0]);
    assert_eq!(guard(&node, 1), (true, ranges(0..4)));
}

#[test]
fn a_vip_that_was_open_is_closed_by_ranges_that_do_not_fit() {
    let mut node = Node::with(SMALL);
    let mut open = guarded(1, &[1], []);
    open.attributes = Attributes::default();
    bring(&mut node, &[open]);
    assert_eq!(guard(&node, 1), (false, ranges([])));
    assert_eq!(bring(&mut node, &[guarded(1, &[1], 0..5)]), [FULL]);
    assert_eq!(guard(&node, 1), (true, ranges([])));
}

#[test]
fn of_ranges_that_do_not_fit_those_that_stay_go_on_and_those_that_go_are_kept_out() {
    let mut node = Node::with(SMALL);
    bring(&mut node, &[guarded(1, &[1], 0..4)]);
    assert_eq!(bring(&mut node, &[guarded(1, &[1], 2..7)]), [FULL]);
    assert_eq!(guard(&node, 1), (true, ranges(2..4)));
}

#[test]
fn ranges_that_fit_once_those_before_them_have_gone_are_no_reason_to_alarm_anybody() {
    let mut node = Node::with(SMALL);
    bring(&mut node, &[guarded(1, &[1], 0..4)]);
    assert_eq!(bring(&mut node, &[guarded(1, &[1], 4..8)]), [""; 0]);
    assert_eq!(guard(&node, 1), (true, ranges(4..8)));
}

/// A service that cannot be programmed as wanted for another reason shall not stay open for it.
#[test]
fn a_guard_does_not_wait_for_room_elsewhere() {
    let mut node = Node::with(Sizes { slots: 1, ..SMALL });
    let mut open = guarded(1, &[1], []);
    open.attributes = Attributes::default();
    bring(&mut node, &[open]);
    let mut wanted = guarded(1, &[1, 2, 3], 0..2);
    (wanted.cluster, wanted.serving) = (set(1, &[1, 2, 3]), endpoints(1, &[1, 2, 3]));
    let refused = bring(&mut node, &[wanted]);
    assert!(matches!(&refused[..], [reason] if reason.contains("raise --max-slots")), "{refused:?}");
    assert_eq!(guard(&node, 1), (true, ranges(0..2)));
}

/// What the API server takes of one Service, in the map as it is by default.
#[test]
fn seventy_thousand_ranges_of_one_service_fail_no_operation_and_a_restart_knows_them() {
    let sizes = Sizes { source_ranges: maps::SOURCE_RANGES, ..SIZES };
    let mut node = Node::with(sizes);
    let refused = bring(&mut node, &[guarded(1, &[1], 0..70_000), guarded(2, &[1], 0..65_536)]);
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].contains("shop/s1:http/TCP/v4: its 70000 source ranges"), "{refused:?}");
    assert_eq!(guard(&node, 2).1.len(), 65_536);
    node.planner = Planner::restore(&node.tables.snapshot(), sizes);
    assert_eq!(node.planner.usage().source_ranges, [65_536, 0]);
    assert_eq!(bring(&mut node, &[guarded(3, &[1], [1])]).len(), 1, "a restart counts what it finds");
}

fn nets(texts: &[&str]) -> BTreeSet<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn service_ranges_follow_what_is_wanted() {
    let mut node = Node::new();
    let plan = node.planner.plan_cidrs(&nets(&["10.96.0.0/12", "fd00:96::/112"])).plan;
    node.write(&plan);
    let plan = node.planner.plan_cidrs(&nets(&["10.96.0.0/12", "10.112.0.0/12"])).plan;
    assert_eq!(plan.ops().map(short).collect::<Vec<_>>(), ["+ range 10.112.0.0/12", "- range fd00:96::/112"]);
}

#[test]
fn of_more_service_ranges_than_fit_the_rest_is_named_and_one_that_holds_them_all_is_the_remedy() {
    let mut node = Node::new();
    let mut wanted: BTreeSet<IpNet> = ranges(0..300);
    wanted.insert("10.96.0.0/12".parse().unwrap());
    let found = node.planner.plan_cidrs(&wanted);
    assert_eq!(found.left_out.len(), 45);
    assert!(node.write(&found.plan).errors.is_empty());
    assert_eq!(node.planner.usage().cidrs, [maps::SERVICE_CIDRS, 0]);
    assert!(node.planner.cidrs().contains(&"10.96.0.0/12".parse().unwrap()), "the widest comes first");
    assert_eq!(node.planner.plan_cidrs(&wanted).plan.ops().count(), 0, "nothing to do the second time");

    wanted.insert("172.16.0.0/12".parse().unwrap());
    let found = node.planner.plan_cidrs(&wanted);
    assert_eq!(found.left_out, BTreeSet::new());
    assert!(node.write(&found.plan).errors.is_empty());
    assert_eq!(*node.planner.cidrs(), nets(&["10.96.0.0/12", "172.16.0.0/12"]));
}
