//! What a plan says, case by case: which operations, in which order, and no others.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use millrace_agent::{
    datapath::{MemoryTables, Outcome, carry_out},
    diff::{Op, Plan, Planner, Sizes, Word, dump},
    lb::{Frontend, Set, WantedPort},
    model::ServiceKey,
};
use millrace_common::{
    frontend::FrontendKind,
    service::{Attributes, SetWord},
};
use proptest::prelude::*;
use support::wanted::{endpoints, frontend, key, port, set};

const SIZES: Sizes = Sizes { services: 16, frontends: 64, backends: 64, slots: 64 };

struct Node {
    planner: Planner,
    tables: MemoryTables,
}

impl Node {
    fn new() -> Self {
        Self::with(SIZES)
    }

    fn with(sizes: Sizes) -> Self {
        Self { planner: Planner::new(sizes), tables: MemoryTables::new(sizes) }
    }

    fn plan(&mut self, ports: &[WantedPort]) -> Plan {
        let mut by_service: BTreeMap<ServiceKey, Vec<WantedPort>> = BTreeMap::new();
        for port in ports {
            by_service.entry(port.name.service.clone()).or_default().push(port.clone());
        }
        self.planner.plan(by_service.iter().map(|(key, ports)| (key, ports.as_slice())))
    }

    fn write(&mut self, plan: &Plan) -> Outcome {
        carry_out(plan, &mut self.planner, &mut self.tables)
    }

    /// Plans and writes; the operations, in short.
    fn bring(&mut self, ports: &[WantedPort]) -> Vec<String> {
        let plan = self.plan(ports);
        assert_eq!(plan.refused, []);
        let outcome = self.write(&plan);
        assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
        plan.ops().map(short).collect()
    }

    fn delete(&mut self, service: &str) -> Vec<String> {
        let plan = self.planner.plan([(&key(service), [].as_slice())]);
        self.write(&plan);
        plan.ops().map(short).collect()
    }

    fn grace(&mut self) -> Vec<String> {
        if let Some(ticket) = self.planner.pending_grace() {
            self.planner.graced(ticket);
        }
        let chores = self.planner.chores();
        self.write(&chores);
        chores.ops().map(short).collect()
    }
}

fn short(op: &Op) -> String {
    match op {
        Op::StoreBackend { id, state } => {
            let verb = if state.serving() { "serves" } else { "stops" };
            format!("backend {id} {verb} in epoch {}", state.epoch())
        }
        Op::WriteBlock { base, slots, .. } => format!("block {base} of {}", slots.len()),
        Op::StoreName { index, name } if name.0[0] == 0 => format!("no name {index}"),
        Op::StoreName { index, .. } => format!("name {index}"),
        Op::StoreWord { index, word: Word::Attributes, .. } => format!("attributes {index}"),
        Op::StoreWord { index, word, value } => {
            let word = if *word == Word::Cluster { "cluster" } else { "local" };
            match (SetWord(*value).count(), SetWord(*value).base()) {
                (0, 0) => format!("{word} {index} unused"),
                (0, 1) => format!("{word} {index} reject"),
                (0, _) => format!("{word} {index} drop"),
                (count, base) => format!("{word} {index} to {count} at {base}"),
            }
        }
        Op::Grace => "grace".to_owned(),
        Op::InsertFrontend { frontend, kind, index } => format!("+ {} {frontend} {index}", kind.name()),
        Op::DeleteFrontend { frontend } => format!("- {frontend}"),
        Op::InsertOwned { address } => format!("+ owned {address}"),
        Op::DeleteOwned { address } => format!("- owned {address}"),
        Op::InsertRange { index, range } => format!("{index} lets {range} in"),
        Op::DeleteRange { index, range } => format!("{index} keeps {range} out"),
        Op::InsertCidr { cidr } => format!("+ range {cidr}"),
        Op::DeleteCidr { cidr } => format!("- range {cidr}"),
    }
}

#[test]
fn a_new_service_is_complete_before_a_frontend_leads_to_it() {
    let mut node = Node::new();
    let expected = [
        "backend 0 serves in epoch 1",
        "backend 1 serves in epoch 1",
        "block 0 of 2",
        "name 0",
        "cluster 0 to 2 at 0",
        "+ ClusterIP 10.96.0.1:80/TCP 0",
        "+ owned 10.96.0.1",
    ];
    assert_eq!(node.bring(&[port(1, &[1, 2])]), expected);
    assert_eq!(node.bring(&[port(1, &[1, 2])]), [""; 0], "wanted again, it takes no operation");
}

#[test]
fn a_changed_endpoint_flips_one_word_and_keeps_the_other_ids() {
    let mut node = Node::new();
    node.bring(&[port(1, &[1, 2])]);
    let expected = ["backend 2 serves in epoch 1", "block 2 of 2", "cluster 0 to 2 at 2", "backend 0 stops in epoch 1"];
    assert_eq!(node.bring(&[port(1, &[2, 3])]), expected);
    node.grace();
    // The id and the slots of the endpoint that went are used again, the id in its next epoch.
    let expected = ["backend 0 serves in epoch 2", "block 4 of 3", "cluster 0 to 3 at 4"];
    assert_eq!(node.bring(&[port(1, &[2, 3, 4])]), expected);
}

#[test]
fn an_endpoint_that_still_serves_keeps_its_id_outside_of_every_set() {
    let mut node = Node::new();
    node.bring(&[port(1, &[1, 2])]);
    let mut draining = port(1, &[2]);
    draining.serving = endpoints(1, &[1, 2]);
    assert_eq!(node.bring(&[draining]), ["block 2 of 1", "cluster 0 to 1 at 2"]);
    assert_eq!(node.bring(&[port(1, &[2])]), ["backend 0 stops in epoch 1"]);
}

#[test]
fn equal_sets_share_one_block() {
    let mut node = Node::new();
    let mut both = port(1, &[1, 2]);
    both.local = set(1, &[1, 2]);
    let ops = node.bring(&[both.clone()]);
    assert_eq!(ops.iter().filter(|op| op.starts_with("block")).count(), 1);
    // The sets part, and meet again in the local set's block.
    both.cluster = set(1, &[1]);
    node.bring(&[both.clone()]);
    both.cluster = both.local.clone();
    assert_eq!(node.bring(&[both.clone()]), ["cluster 0 to 2 at 0"]);
    node.delete("s1");
    node.grace();
    node.grace();
    assert_eq!(node.planner.usage().slots[0].free, SIZES.slots, "a shared block is freed once");
}

#[test]
fn the_set_in_use_is_never_missing_while_a_policy_changes() {
    let mut node = Node::new();
    node.bring(&[port(1, &[1, 2])]);
    let mut local = port(1, &[1, 2]);
    local.cluster = Set::Unused;
    local.local = set(1, &[1]);
    local.attributes = Attributes::new(Attributes::INTERNAL_LOCAL, 0);
    let to_local = ["block 2 of 1", "local 0 to 1 at 2", "attributes 0", "cluster 0 unused"];
    assert_eq!(node.bring(&[local]), to_local);
    let to_cluster = ["block 4 of 2", "cluster 0 to 2 at 4", "attributes 0", "local 0 unused"];
    assert_eq!(node.bring(&[port(1, &[1, 2])]), to_cluster);
}

#[test]
fn a_deleted_service_is_unlinked_first_and_zeroed_after_a_grace_period() {
    let mut node = Node::new();
    node.bring(&[port(1, &[1])]);
    let unlink = ["- owned 10.96.0.1", "- 10.96.0.1:80/TCP", "cluster 0 reject", "backend 0 stops in epoch 1"];
    assert_eq!(node.delete("s1"), unlink);
    assert_eq!(node.planner.chores(), Plan::default(), "readers may still stand on it");
    assert_eq!(node.grace(), ["cluster 0 unused", "no name 0"]);
    assert_eq!(node.planner.usage().services, 0);
}

#[test]
fn inserts_after_a_delete_wait_for_a_grace_period_and_endpoints_do_not() {
    let mut node = Node::new();
    node.bring(&[port(1, &[1]), port(2, &[1])]);
    node.delete("s2");
    let ops = node.bring(&[port(1, &[1, 2]), port(3, &[1])]);
    let grace = ops.iter().position(|op| op == "grace").unwrap();
    assert!(ops[..grace].contains(&"cluster 0 to 2 at 2".to_owned()), "{ops:?}");
    assert_eq!(ops[grace + 1..], ["+ ClusterIP 10.96.0.3:80/TCP 2", "+ owned 10.96.0.3"]);
    node.delete("s3");
    node.grace();
    let ops = node.bring(&[port(4, &[1])]);
    assert!(!ops.contains(&"grace".to_owned()), "the grace period has passed already: {ops:?}");
}

#[test]
fn within_one_plan_inserts_come_before_deletes_and_nothing_waits() {
    let mut node = Node::new();
    node.bring(&[port(1, &[1])]);
    let (new, ports) = (port(2, &[1]), [port(2, &[1])]);
    let plan = node.planner.plan([(&key("s1"), [].as_slice()), (&new.name.service, ports.as_slice())]);
    assert!(plan.ops().all(|op| *op != Op::Grace));
}

#[test]
fn a_frontend_that_changes_hands_is_deleted_and_inserted_with_a_grace_period_between() {
    let mut node = Node::new();
    node.bring(&[port(1, &[1]), port(2, &[1])]);
    let mut heir = port(2, &[1]);
    heir.frontends.insert(frontend(1), FrontendKind::ExternalIp);
    let ops = node.bring(&[heir]);
    assert_eq!(ops, ["- 10.96.0.1:80/TCP", "grace", "+ ExternalIP 10.96.0.1:80/TCP 1"]);
}

#[test]
fn a_renamed_port_keeps_its_record_and_its_flows() {
    let mut node = Node::new();
    node.bring(&[port(1, &[1, 2])]);
    let mut renamed = port(1, &[1, 2]);
    renamed.name.port = "web".into();
    assert_eq!(node.bring(&[renamed]), ["name 0"]);
}

#[test]
fn a_full_map_refuses_by_name_and_takes_the_service_when_room_appears() {
    for (sizes, full) in [
        (
            Sizes { services: 2, ..SIZES },
            "shop/s3:http/TCP/v4: the map SERVICES is full (2 entries); raise --max-services",
        ),
        (
            Sizes { backends: 4, ..SIZES },
            "shop/s3:http/TCP/v4: the map BACKENDS is full (4 entries); raise --max-backends",
        ),
        (Sizes { slots: 4, ..SIZES }, "shop/s3:http/TCP/v4: the map SLOTS_V4 is full (4 entries); raise --max-slots"),
        (
            Sizes { frontends: 4, ..SIZES },
            "shop/s3:http/TCP/v4: the map FRONTENDS_V4 is full (4 entries); raise --max-services",
        ),
    ] {
        let mut node = Node::with(sizes);
        let plan = node.plan(&[port(1, &[1, 2]), port(2, &[1, 2]), port(3, &[1, 2])]);
        assert_eq!(plan.refused.iter().map(ToString::to_string).collect::<Vec<_>>(), [full]);
        assert!(node.write(&plan).errors.is_empty());
        assert_eq!(node.planner.retry(), [], "nothing was freed");
        let others = node.bring(&[port(1, &[1, 2]), port(2, &[1, 2])]);
        assert_eq!(others, [""; 0], "the others are there: {full}");
        node.delete("s2");
        node.grace();
        node.grace();
        assert_eq!(node.planner.retry(), [key("s3")], "{full}");
        assert!(!node.bring(&[port(3, &[1, 2])]).is_empty());
        assert!(node.tables.frontend(&frontend(3)).is_some());
    }
}

#[test]
fn a_refused_service_takes_nothing_from_those_that_fit() {
    let mut node = Node::with(Sizes { backends: 4, ..SIZES });
    let plan = node.plan(&[port(1, &[1, 2, 3, 4, 5]), port(2, &[1, 2, 3, 4])]);
    assert_eq!(plan.refused.len(), 1);
    node.write(&plan);
    assert!(node.tables.frontend(&frontend(2)).is_some());
}

#[test]
fn service_ranges_follow_what_is_wanted() {
    let mut node = Node::new();
    let ranges =
        |texts: &[&str]| -> BTreeSet<ipnet::IpNet> { texts.iter().map(|text| text.parse().unwrap()).collect() };
    let plan = node.planner.plan_cidrs(&ranges(&["10.96.0.0/12", "fd00:96::/112"]));
    node.write(&plan);
    let plan = node.planner.plan_cidrs(&ranges(&["10.96.0.0/12", "10.112.0.0/12"]));
    assert_eq!(plan.ops().map(short).collect::<Vec<_>>(), ["+ range 10.112.0.0/12", "- range fd00:96::/112"]);
}

#[test]
fn remains_that_make_no_sense_are_cleared_at_start_up_and_everything_else_is_kept() {
    let mut node = Node::new();
    node.bring(&[port(1, &[1, 2]), port(2, &[1])]);
    node.bring(&[port(3, &[1]), port(4, &[1]), port(5, &[1])]);
    let mut found = node.tables.snapshot();
    found.names.insert(2, "no name at all".into());
    found.names.remove(&3);
    for slot in found.slots.values_mut().filter(|slot| slot.owner == 4) {
        slot.owner = 0;
    }
    let planner = Planner::restore(&found, SIZES);
    let chores: BTreeSet<String> = planner.chores().ops().map(short).collect();
    let expected = [
        // The record without a usable name goes, with its frontend.
        "- 10.96.0.3:80/TCP",
        "cluster 2 reject",
        // A frontend without a record.
        "- 10.96.0.4:80/TCP",
        // The word that leads to slots of another owner.
        "cluster 4 reject",
        // Backends that nobody's set holds.
        "backend 3 stops in epoch 1",
        "backend 4 stops in epoch 1",
        "backend 5 stops in epoch 1",
    ];
    assert_eq!(chores, expected.map(str::to_owned).into());
    node.planner = planner;
    let chores = node.planner.chores();
    node.write(&chores);
    node.grace();
    node.delete("s5");
    for _ in 0..3 {
        node.grace();
    }
    let left: Vec<_> = node.tables.frontends().map(|(frontend, _)| *frontend).collect();
    assert_eq!(left, [frontend(1), frontend(2)]);
    assert_eq!(node.planner.services().cloned().collect::<BTreeSet<_>>(), [key("s1"), key("s2")].into());
    assert_eq!(node.bring(&[port(1, &[1, 2]), port(2, &[1])]), [""; 0], "what made sense was left alone");
}

fn any_port() -> impl Strategy<Value = WantedPort> {
    let hosts = || prop::collection::btree_set(1u8..6, 0..4).prop_map(|hosts| hosts.into_iter().collect::<Vec<u8>>());
    let kind = prop_oneof![Just(FrontendKind::ClusterIp), Just(FrontendKind::ExternalIp)];
    (1u8..6, hosts(), prop::option::of(hosts()), hosts(), kind, any::<bool>(), 0u64..4).prop_map(
        |(service, cluster, local, serving, kind, renamed, flags)| {
            let mut port = port(service, &cluster);
            port.local = local.map_or(Set::Unused, |local| set(service, &local));
            port.serving.extend(endpoints(service, &serving));
            port.serving.sort_unstable();
            port.serving.dedup();
            port.frontends.insert(frontend(service + 100), kind);
            port.attributes = Attributes::new(flags, 0);
            if renamed {
                port.name.port = "web".into();
            }
            port
        },
    )
}

fn wanted() -> impl Strategy<Value = BTreeMap<ServiceKey, Vec<WantedPort>>> {
    prop::collection::vec(any_port(), 0..5)
        .prop_map(|ports| ports.into_iter().map(|port| (port.name.service.clone(), vec![port])).collect())
}

fn bring_all(node: &mut Node, wanted: &BTreeMap<ServiceKey, Vec<WantedPort>>) -> usize {
    let gone: Vec<ServiceKey> = node.planner.services().filter(|key| !wanted.contains_key(*key)).cloned().collect();
    let gone = gone.iter().map(|key| (key, [].as_slice()));
    let plan = node.planner.plan(wanted.iter().map(|(key, ports)| (key, ports.as_slice())).chain(gone));
    let outcome = node.write(&plan);
    assert!(outcome.errors.is_empty() && plan.refused.is_empty());
    plan.steps.len()
}

fn settled(node: &mut Node) -> String {
    while !node.grace().is_empty() {}
    dump(&node.tables.snapshot())
}

proptest! {
    #[test]
    fn the_difference_applied_to_one_state_gives_the_other(a in wanted(), b in wanted()) {
        let (mut node, mut fresh) = (Node::new(), Node::new());
        bring_all(&mut node, &a);
        bring_all(&mut node, &b);
        bring_all(&mut fresh, &b);
        prop_assert_eq!(settled(&mut node), settled(&mut fresh));
        prop_assert_eq!(bring_all(&mut node, &b), 0, "what is there takes no operation");
        // So it is for an agent that starts anew over these maps.
        node.planner = Planner::restore(&node.tables.snapshot(), SIZES);
        let chores = node.planner.chores();
        node.write(&chores);
        prop_assert_eq!(bring_all(&mut node, &b), 0, "nor does it after a restart");
        bring_all(&mut node, &BTreeMap::new());
        prop_assert_eq!(settled(&mut node), "");
    }
}

/// An address that becomes the node's own while a service still has a node port there: its mark goes with the last
/// frontend that owned it, or the node's other ports would be refused.
#[test]
fn a_node_port_does_not_make_the_nodes_address_the_services_own() {
    let mut node = Node::new();
    let mut port = port(1, &[1]);
    let external = frontend(7);
    port.frontends.insert(external, FrontendKind::ExternalIp);
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
