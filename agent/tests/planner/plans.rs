//! What a plan says, case by case.

use std::collections::BTreeSet;

use millrace_agent::{
    diff::{Op, Plan, Planner, Sizes},
    lb::Set,
};
use millrace_common::{frontend::FrontendKind, service::Attributes};

use crate::{
    node::{Node, SIZES, short},
    support::wanted::{endpoints, frontend, key, port, set},
};

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
            "shop/s3:http/TCP/v4: the map FRONTENDS_V4 is full (4 entries); raise --max-frontends",
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
