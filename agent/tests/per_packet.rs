//! Which pods are translated per packet, and what is written for them: the annotation and the label, and the cgroups that
//! come and go.
#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::collections::{BTreeMap, BTreeSet};

use millrace_agent::{
    app::Pipeline,
    datapath::MemoryTables,
    diff::{ChosenPods, Planner, PodCgroup, PodCgroups, Sizes, plan_per_packet},
    lb::{NodeInfo, per_packet},
    model::{Index, Namespace, Pod, PodKey, PodUid, SocketLb},
    watch::Change,
};
use millrace_common::per_packet::Levels;
use proptest::prelude::*;
use serde_json::{Value, json};

const KEY: &str = "millrace.io/socket-lb";
const SIZES: Sizes = Sizes { services: 8, frontends: 8, backends: 8, slots: 64, source_ranges: 16 };

fn pod(change: impl FnOnce(&mut Value)) -> Option<(Pod, Vec<String>)> {
    let mut object = json!({
        "metadata": {"namespace": "shop", "name": "cart-1", "uid": "u1", "annotations": {}},
        "spec": {"nodeName": "n1", "containers": []},
        "status": {"phase": "Running"},
    });
    change(&mut object);
    let parsed = Pod::from_resource(&serde_json::from_value(object).unwrap(), "n1").unwrap();
    parsed.map(|parsed| (parsed.value, parsed.problems.iter().map(ToString::to_string).collect()))
}

fn namespace(labels: &Value) -> Option<(Namespace, Vec<String>)> {
    let object = json!({"metadata": {"name": "shop", "labels": labels}});
    let parsed = Namespace::from_resource(&serde_json::from_value(object).unwrap()).unwrap();
    parsed.map(|parsed| (parsed.value, parsed.problems.iter().map(ToString::to_string).collect()))
}

#[test]
fn the_pods_annotation_goes_before_its_namespaces_label() {
    let (none, on, off) = (None, Some("on"), Some("off"));
    for (annotation, label, chosen) in [
        (none, none, false),
        (none, on, false),
        (none, off, true),
        (on, none, false),
        (on, off, false),
        (off, none, true),
        (off, on, true),
        (off, off, true),
        (Some("of"), none, false),
        (Some("of"), off, true),
        (Some("of"), on, false),
        (none, Some("no"), false),
        (off, Some("no"), true),
    ] {
        let (pod, _) = pod(|pod| {
            if let Some(value) = annotation {
                pod["metadata"]["annotations"][KEY] = json!(value);
            }
        })
        .unwrap();
        let mut index = Index::default();
        assert!(index.apply(Change::Pod(pod.key.clone(), Some(Box::new(pod.clone())))).pods);
        if let Some(value) = label {
            let (namespace, _) = namespace(&json!({KEY: value})).unwrap();
            assert!(index.apply(Change::Namespace("shop".into(), Some(namespace))).pods);
        }
        let expected: BTreeMap<_, _> = [(pod.uid.clone(), pod.key.clone())].into_iter().filter(|_| chosen).collect();
        assert_eq!(per_packet(&index), expected, "annotation {annotation:?}, label {label:?}");
        assert!(!index.apply(Change::Pod(pod.key.clone(), Some(Box::new(pod.clone())))).pods, "nothing new");
        index.apply(Change::Pod(pod.key, None));
        assert_eq!(per_packet(&index), BTreeMap::new(), "the pod is gone");
    }
}

#[test]
fn a_value_that_is_none_is_named_with_those_that_are_and_says_nothing() {
    let (read, problems) = pod(|pod| pod["metadata"]["annotations"][KEY] = json!("Off")).unwrap();
    assert_eq!(read.socket_lb, None);
    assert_eq!(
        problems,
        [format!("metadata.annotations[{KEY}]: `Off` says nothing, it is as if it were not there; write on or off")]
    );
    let (read, problems) = namespace(&json!({KEY: "false"})).unwrap();
    assert_eq!(read.socket_lb, None);
    assert!(problems[0].starts_with(&format!("metadata.labels[{KEY}]: `false`")), "{problems:?}");
}

#[test]
fn pods_of_other_nodes_of_the_hosts_network_and_those_that_are_over_are_not_read() {
    assert!(pod(|_| {}).is_some());
    assert!(pod(|pod| pod["spec"]["nodeName"] = json!("n2")).is_none());
    assert!(pod(|pod| pod["spec"]["nodeName"] = Value::Null).is_none(), "not scheduled yet");
    assert!(pod(|pod| pod["spec"]["hostNetwork"] = json!(true)).is_none());
    for phase in ["Succeeded", "Failed"] {
        assert!(pod(|pod| pod["status"]["phase"] = json!(phase)).is_none(), "{phase}");
    }
    assert!(namespace(&json!({"team": "shop"})).is_none());
}

#[test]
fn a_static_pod_is_known_by_the_uid_that_the_kubelet_has_for_it() {
    let mirror = "kubernetes.io/config.mirror";
    let (read, _) =
        pod(|pod| pod["metadata"]["annotations"][mirror] = json!("9b0b3e4b5fb1a4e7d1c4b0a1d2e3f405")).unwrap();
    assert_eq!(read.uid, PodUid::new("9b0b3e4b5fb1a4e7d1c4b0a1d2e3f405"));
    let nameless = json!({"metadata": {"name": "cart-1"}, "spec": {"nodeName": "n1", "containers": []}});
    let error = Pod::from_resource(&serde_json::from_value(nameless).unwrap(), "n1").unwrap_err().to_string();
    assert!(error.starts_with("metadata.uid: is missing"), "{error}");
}

#[test]
fn a_switch_is_on_or_off_and_the_pod_says_which() {
    for (value, said) in [("on", SocketLb::On), ("off", SocketLb::Off)] {
        let (read, problems) = pod(|pod| pod["metadata"]["annotations"][KEY] = json!(value)).unwrap();
        assert_eq!((read.socket_lb, problems), (Some(said), Vec::new()));
    }
}

fn chosen(uids: impl IntoIterator<Item = u64>, complete: bool) -> ChosenPods {
    let pods = uids.into_iter().map(|uid| (self::uid(uid), PodKey::new("shop", &uid.to_string())));
    ChosenPods { pods: pods.collect(), complete }
}

fn uid(number: u64) -> PodUid {
    PodUid::new(&number.to_string())
}

/// The pod, its cgroup's id and level.
fn cgroups(found: impl IntoIterator<Item = (u64, u64, u32)>, beyond: bool) -> PodCgroups {
    let found = found.into_iter().map(|(pod, id, level)| PodCgroup { uid: uid(pod), id, level });
    PodCgroups { found: found.collect(), beyond }
}

#[test]
fn programs_look_no_further_than_the_chosen_pods_are() {
    let all = [(1, 101, 2), (2, 102, 3), (3, 103, 5)];
    for (pods, beyond, levels) in [
        (vec![], false, Levels::NONE),
        (vec![9], false, Levels::NONE),
        (vec![1], false, Levels::new(2, 2)),
        (vec![1, 2], false, Levels::new(2, 3)),
        (vec![2, 3], false, Levels::new(3, 5)),
        // What is above the root that can be seen makes every level higher.
        (vec![1, 2], true, Levels::new(2, u32::MAX)),
    ] {
        let plan = plan_per_packet(&chosen(pods.clone(), true), &cgroups(all, beyond), &BTreeSet::new());
        assert_eq!(plan.levels, levels, "{pods:?}, beyond: {beyond}");
    }
}

#[test]
fn until_the_source_is_complete_only_what_is_gone_is_taken_back() {
    // An earlier agent chose pods 1 and 2; the cgroup of the first has gone since, and only pod 3 has been named so far.
    let (held, seen) = (BTreeSet::from([101, 102]), cgroups([(2, 102, 3), (3, 103, 3)], false));
    let plan = plan_per_packet(&chosen([3], false), &seen, &held);
    assert_eq!((plan.insert, plan.delete), (BTreeSet::from([103]), BTreeSet::from([101])));
    let plan = plan_per_packet(&chosen([3], true), &seen, &held);
    assert_eq!((plan.insert, plan.delete), (BTreeSet::from([103]), BTreeSet::from([101, 102])));
}

#[test]
fn services_that_are_complete_say_nothing_of_pods_and_pods_nothing_of_services() {
    let (pod, _) = pod(|pod| pod["metadata"]["annotations"][KEY] = json!("off")).unwrap();
    let mut pipeline = Pipeline::new(NodeInfo::default(), [], Planner::new(SIZES), MemoryTables::new(SIZES));
    pipeline.take(Change::Synced);
    assert_eq!(*pipeline.per_packet(), ChosenPods::default(), "what an earlier agent left stays");
    pipeline.take(Change::Pod(pod.key.clone(), Some(Box::new(pod.clone()))));
    let pods = BTreeMap::from([(pod.uid, pod.key)]);
    assert_eq!(*pipeline.per_packet(), ChosenPods { pods: pods.clone(), complete: false });
    pipeline.take(Change::PodsSynced);
    assert_eq!(*pipeline.per_packet(), ChosenPods { pods, complete: true });

    let mut pipeline = Pipeline::new(NodeInfo::default(), [], Planner::new(SIZES), MemoryTables::new(SIZES));
    pipeline.take(Change::PodsSynced);
    assert!(!pipeline.is_synced() && pipeline.per_packet().complete);
}

proptest! {
    /// Whatever was held: what a plan leaves is exactly the chosen pods that are there, each within the programs' reach.
    #[test]
    fn a_plan_leads_to_what_is_wanted_and_a_second_one_has_nothing_to_do(
        pods in prop::collection::btree_set(0u64..12, 0..8),
        found in prop::collection::btree_map(1u64..40, (0u64..12, 1u32..7), 0..16),
        held in prop::collection::btree_set(1u64..40, 0..10),
        beyond: bool,
    ) {
        let seen = cgroups(found.iter().map(|(id, (pod, level))| (*pod, *id, *level)), beyond);
        let chosen = chosen(pods.iter().copied(), true);
        let plan = plan_per_packet(&chosen, &seen, &held);
        let after: BTreeSet<u64> = &(&held | &plan.insert) - &plan.delete;
        let wanted: BTreeSet<u64> = found.iter().filter(|(_, (pod, _))| pods.contains(pod)).map(|(id, _)| *id).collect();
        prop_assert_eq!(&after, &wanted);
        prop_assert!(plan.insert.is_disjoint(&held) && plan.delete.is_subset(&held));
        let asked: BTreeSet<u32> = (0..Levels::MOST).map_while(|step| plan.levels.at(step)).collect();
        for id in &wanted {
            prop_assert!(asked.contains(&found[id].1), "{:?} for level {}", plan.levels, found[id].1);
        }
        prop_assert_eq!(wanted.is_empty(), plan.levels == Levels::NONE);
        let there: BTreeSet<u64> = wanted.iter().map(|id| found[id].0).collect();
        prop_assert_eq!(plan.missing.len(), pods.difference(&there).count());
        let again = plan_per_packet(&chosen, &seen, &after);
        prop_assert!(again.insert.is_empty() && again.delete.is_empty() && again.levels == plan.levels);
    }
}
