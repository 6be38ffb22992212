//! The stages as the agent joins them, over maps in memory: what a start may touch, and that failures converge.
#![expect(clippy::panic, reason = "a test that cannot go on says where")]

mod support;

use std::collections::BTreeSet;

use millrace_agent::{
    app::Pipeline,
    datapath::MemoryTables,
    diff::{Planner, Sizes, Snapshot},
    lb::{Assigned, NodeInfo},
    model::{Service, ServiceKey},
    watch::{Change, Doubt, ObjectKey, Rejection},
};
use millrace_common::frontend::FrontendKind;
use support::{Random, cluster::Cluster};

const SIZES: Sizes = Sizes { services: 128, frontends: 512, backends: 1024, slots: 16_384, source_ranges: 256 };

fn pipeline(planner: Planner, tables: MemoryTables) -> Pipeline<MemoryTables> {
    let node = NodeInfo { name: "n1".into(), zone: None, ..NodeInfo::default() };
    Pipeline::new(node, [], planner, tables)
}

fn take_all(pipeline: &mut Pipeline<MemoryTables>, changes: impl IntoIterator<Item = Change>) {
    changes.into_iter().for_each(|change| pipeline.take(change));
}

/// Rounds, retries and grace periods until nothing is left to do.
fn settle(pipeline: &mut Pipeline<MemoryTables>) {
    for _ in 0..500 {
        pipeline.retry();
        let round = pipeline.round();
        let grace = pipeline.pending_grace();
        if let Some(ticket) = grace {
            pipeline.graced(ticket);
        }
        if round.failures == 0 && round.written == 0 && grace.is_none() && !pipeline.is_behind() {
            return;
        }
    }
    panic!("no end of work");
}

fn cluster(seed: u64) -> Cluster {
    let (mut cluster, mut random) = (Cluster::new(20), Random(seed));
    (0..300).for_each(|_| drop(cluster.step(&mut random)));
    cluster
}

/// A pipeline that has programmed the cluster.
fn programmed(cluster: &Cluster) -> Pipeline<MemoryTables> {
    let mut pipeline = pipeline(Planner::new(SIZES), MemoryTables::new(SIZES));
    take_all(&mut pipeline, cluster.changes());
    pipeline.take(Change::Synced);
    settle(&mut pipeline);
    pipeline
}

/// The agent ends; the next one starts over the same maps.
fn restarted(before: Pipeline<MemoryTables>) -> (Pipeline<MemoryTables>, Snapshot) {
    let tables = before.into_tables();
    let snapshot = tables.snapshot();
    (pipeline(Planner::restore(&snapshot, SIZES), tables), snapshot)
}

#[test]
fn a_restart_writes_nothing_while_the_source_still_speaks() {
    let cluster = cluster(11);
    let (mut pipeline, before) = restarted(programmed(&cluster));
    for change in cluster.changes().into_iter().take(9) {
        pipeline.take(change);
        assert_eq!(pipeline.round().written, 0);
    }
    assert_eq!(pipeline.tables().snapshot(), before);
}

#[test]
fn a_restart_over_an_unchanged_cluster_writes_nothing_at_all() {
    let cluster = cluster(12);
    let (mut pipeline, before) = restarted(programmed(&cluster));
    take_all(&mut pipeline, cluster.changes());
    pipeline.take(Change::Synced);
    let round = pipeline.round();
    assert_eq!((round.written, round.failures), (0, 0));
    assert_eq!(pipeline.tables().snapshot(), before);
}

#[test]
fn a_source_that_takes_too_long_brings_new_services_in_and_touches_no_old_one() {
    let old = cluster(13);
    let (mut pipeline, before) = restarted(programmed(&old));
    // The old services without their slices, and one that nobody knew: only that may be written.
    let mut random = Random(5);
    let mut new = Cluster::new(40);
    while !new.services.keys().any(|key| !old.services.contains_key(key)) {
        new.step(&mut random);
    }
    let services = |cluster: &Cluster| -> Vec<Change> {
        let wrap = |service: &Service| Change::Service(service.key.clone(), Some(Box::new(service.clone())));
        cluster.services.values().map(wrap).collect()
    };
    let mut changes = services(&old);
    changes.extend(services(&new).into_iter().filter(|change| match change {
        Change::Service(key, _) => !old.services.contains_key(key),
        _ => false,
    }));
    take_all(&mut pipeline, changes);
    pipeline.stop_waiting();
    settle(&mut pipeline);
    let after = pipeline.tables().snapshot();
    for (index, record) in &before.records {
        assert_eq!(after.records.get(index), Some(record), "{:?}", before.names.get(index));
    }
    assert!(after.names.len() > before.names.len(), "the new service is in the maps");

    take_all(&mut pipeline, old.changes());
    pipeline.take(Change::Synced);
    settle(&mut pipeline);
    assert!(pipeline.tables().snapshot().names.len() >= before.names.len());
}

#[test]
fn a_source_that_takes_too_long_is_followed_where_a_service_is_new() {
    let cluster = cluster(18);
    let whole = programmed(&cluster).into_tables().snapshot();
    let mut late = pipeline(Planner::new(SIZES), MemoryTables::new(SIZES));
    late.stop_waiting();
    // One at a time: each service is in the maps, without an endpoint, when its slices come.
    for change in cluster.changes() {
        late.take(change);
        settle(&mut late);
    }
    let followed = late.tables().snapshot();
    let endpoints = |snapshot: &Snapshot| snapshot.slots.values().map(|slot| slot.address).collect::<BTreeSet<_>>();
    assert_eq!(endpoints(&followed), endpoints(&whole));
    assert!(!late.is_synced() && !endpoints(&whole).is_empty());

    let gone = cluster.services.keys().map(|key| Change::Service(key.clone(), None));
    take_all(&mut late, gone);
    settle(&mut late);
    assert!(late.tables().snapshot().names.is_empty(), "what is deleted goes, too");
}

#[test]
fn what_the_cluster_lost_while_no_agent_ran_is_removed_when_the_source_is_complete() {
    let (mut pipeline, before) = restarted(programmed(&cluster(14)));
    assert!(!before.names.is_empty());
    pipeline.take(Change::Synced);
    settle(&mut pipeline);
    let after = pipeline.tables().snapshot();
    assert!(after.names.is_empty() && after.frontends.is_empty() && after.owned.is_empty(), "{:?}", after.names);
}

#[test]
fn one_operation_in_ten_fails_and_the_maps_still_come_to_hold_what_they_would_have() {
    let cluster = cluster(15);
    let healthy = programmed(&cluster).into_tables().snapshot();
    let mut tables = MemoryTables::new(SIZES);
    let mut random = Random(99);
    tables.fail_when(Some(Box::new(move |_| random.once_in(10))));
    let mut pipeline = pipeline(Planner::new(SIZES), tables);
    take_all(&mut pipeline, cluster.changes());
    pipeline.take(Change::Synced);
    settle(&mut pipeline);
    let failing = pipeline.into_tables().snapshot();
    // Indices, ids and blocks depend on what failed; services and frontends do not.
    let names = |snapshot: &Snapshot| snapshot.names.values().cloned().collect::<BTreeSet<_>>();
    let frontends = |snapshot: &Snapshot| snapshot.frontends.keys().copied().collect::<BTreeSet<_>>();
    assert_eq!(names(&failing), names(&healthy));
    assert_eq!(frontends(&failing), frontends(&healthy));
    assert_eq!(failing.slots.len(), healthy.slots.len());
}

#[test]
fn a_new_address_on_the_node_takes_a_frontend_away_and_its_loss_gives_it_back() {
    let cluster = cluster(16);
    let mut pipeline = programmed(&cluster);
    let before = pipeline.tables().snapshot();
    let address = before.frontends.keys().next().unwrap().address;
    pipeline.set_addresses(Assigned { all: [address].into(), ..Assigned::default() });
    settle(&mut pipeline);
    let snapshot = pipeline.tables().snapshot();
    let left = snapshot.frontends.iter().filter(|(frontend, _)| frontend.address == address);
    assert!(left.map(|(_, (kind, _))| kind).all(|kind| *kind == FrontendKind::NodePort), "its own node ports only");
    assert!(!snapshot.owned.contains(&address), "its other ports are the node's");
    pipeline.set_addresses(Assigned::default());
    settle(&mut pipeline);
    let keys = |snapshot: &Snapshot| snapshot.frontends.keys().copied().collect::<Vec<_>>();
    assert_eq!(keys(&pipeline.tables().snapshot()), keys(&before));
}

fn reject(pipeline: &mut Pipeline<MemoryTables>, doubt: &Doubt) {
    pipeline.take(Change::Rejected(Rejection::whole(doubt.clone(), "makes no sense".to_owned())));
}

/// The service that a change is about.
fn about(change: &Change) -> Option<&ServiceKey> {
    match change {
        Change::Service(key, _) => Some(key),
        Change::EndpointSlice(_, Some(slice)) => Some(&slice.service),
        _ => None,
    }
}

/// Whether a service port's name is one of the service's.
fn is_of(port: &str, service: &ServiceKey) -> bool {
    port.strip_prefix(&service.to_string()).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
}

/// Services in the maps, in order; first those with an address that another Service names, too.
fn in_the_maps(cluster: &Cluster, pipeline: &Pipeline<MemoryTables>) -> Vec<ServiceKey> {
    let rivalled = |key: &ServiceKey| {
        let ips = &cluster.services[key].cluster_ips;
        let others = cluster.services.values().filter(|other| other.key != *key);
        others.flat_map(|other| &*other.cluster_ips).any(|ip| ips.contains(ip))
    };
    let mut services: Vec<_> = pipeline.planner().services().cloned().collect();
    services.sort_by_key(|key| (!rivalled(key), key.clone()));
    assert!(rivalled(&services[0]), "else nobody could take what it has");
    services
}

/// Its place and contents, as the data path sees them.
fn standing(snapshot: &Snapshot, service: &ServiceKey) -> String {
    let of = |index: &u32| snapshot.names.get(index).is_some_and(|name| is_of(name, service));
    let records: Vec<_> = snapshot.records.iter().filter(|(index, _)| of(index)).collect();
    let frontends: Vec<_> = snapshot.frontends.iter().filter(|(_, (_, index))| of(index)).collect();
    format!("{records:?} {frontends:?}")
}

#[test]
fn a_service_that_cannot_be_read_at_a_restart_stays_as_it_was_left_until_it_can_and_no_other_does() {
    let cluster = cluster(18);
    let (mut pipeline, before) = restarted(programmed(&cluster));
    let services = in_the_maps(&cluster, &pipeline);
    let [bad, gone, ..] = services.as_slice() else { panic!("{services:?}") };
    let doubt = Doubt::Object(ObjectKey::Service(bad.clone()));
    reject(&mut pipeline, &doubt);
    take_all(
        &mut pipeline,
        cluster.changes().into_iter().filter(|change| !about(change).is_some_and(|key| key == bad || key == gone)),
    );
    pipeline.take(Change::Synced);
    settle(&mut pipeline);
    let after = pipeline.tables().snapshot();
    assert_eq!(standing(&after, bad), standing(&before, bad));
    assert_eq!(pipeline.held(), 1);
    assert!(after.names.values().all(|name| !is_of(name, gone)), "{gone} is not in the cluster any more");

    // Now it can be read, and it is nothing for us: an ExternalName, say.
    pipeline.take(Change::Settled(doubt));
    settle(&mut pipeline);
    assert!(pipeline.tables().snapshot().names.values().all(|name| !is_of(name, bad)));
    assert_eq!(pipeline.held(), 0);
}

#[test]
fn a_file_that_cannot_be_read_at_a_restart_takes_no_service_away_and_keeps_no_readable_one_from_changing() {
    let cluster = cluster(18);
    let (mut pipeline, before) = restarted(programmed(&cluster));
    let names = |pipeline: &Pipeline<MemoryTables>| {
        pipeline.tables().snapshot().names.values().cloned().collect::<BTreeSet<_>>()
    };
    let all = names(&pipeline);
    let hidden = in_the_maps(&cluster, &pipeline).swap_remove(0);
    let doubt = Doubt::File(std::path::Path::new("/etc/millrace/shop.yaml").into());
    reject(&mut pipeline, &doubt);
    take_all(&mut pipeline, cluster.changes().into_iter().filter(|change| about(change) != Some(&hidden)));
    pipeline.take(Change::Synced);
    settle(&mut pipeline);
    assert_eq!(names(&pipeline), all);
    assert_eq!(standing(&pipeline.tables().snapshot(), &hidden), standing(&before, &hidden));

    let readable = cluster.services.keys().find(|key| **key != hidden && all.iter().any(|name| is_of(name, key)));
    let readable = readable.unwrap().clone();
    pipeline.take(Change::Service(readable.clone(), None));
    settle(&mut pipeline);
    assert!(names(&pipeline).iter().all(|name| !is_of(name, &readable)), "it was deleted where it can be read");
    assert_eq!(standing(&pipeline.tables().snapshot(), &hidden), standing(&before, &hidden));

    pipeline.take(Change::Settled(doubt));
    settle(&mut pipeline);
    assert!(names(&pipeline).iter().all(|name| !is_of(name, &hidden)), "the file says nothing of it");
}

#[test]
fn a_service_whose_slices_of_one_family_cannot_be_read_keeps_both_families_and_a_deleted_one_goes() {
    let cluster = cluster(19);
    let (mut pipeline, before) = restarted(programmed(&cluster));
    let services = in_the_maps(&cluster, &pipeline);
    let has = |key: &ServiceKey, v6: bool| {
        let of = cluster.slices.values().filter(|slice| slice.service == *key);
        of.flat_map(|slice| &*slice.endpoints).any(|endpoint| endpoint.address.is_ipv6() == v6)
    };
    let dual = |key: &&ServiceKey| cluster.services[*key].cluster_ips.len() == 2 && has(key, true) && has(key, false);
    let dual = services.iter().find(dual).unwrap();
    let gone = services.iter().find(|key| *key != dual).unwrap();
    let unread = |change: &Change| match change {
        Change::EndpointSlice(_, Some(slice)) => {
            slice.service == *dual && slice.endpoints.iter().any(|endpoint| endpoint.address.is_ipv6())
        }
        _ => false,
    };
    let slice = cluster.slices.values().find(|slice| slice.service == *dual).unwrap();
    reject(&mut pipeline, &Doubt::Object(ObjectKey::EndpointSlice(slice.key.clone())));
    let told = cluster.changes().into_iter().filter(|change| !unread(change) && about(change) != Some(gone));
    take_all(&mut pipeline, told);
    pipeline.take(Change::Synced);
    settle(&mut pipeline);
    let after = pipeline.tables().snapshot();
    assert_eq!(standing(&after, dual), standing(&before, dual));
    assert!(after.names.values().all(|name| !is_of(name, gone)), "no slice makes a Service that is gone");
}

#[test]
fn a_service_range_takes_effect_though_a_file_cannot_be_read_and_one_that_may_be_in_there_stays() {
    let ranges = |pipeline: &Pipeline<MemoryTables>| pipeline.tables().snapshot().cidrs.into_iter().collect::<Vec<_>>();
    let range = |text: &str| text.parse::<ipnet::IpNet>().unwrap();
    let node = NodeInfo { name: "n1".into(), zone: None, ..NodeInfo::default() };
    let mut first = Pipeline::new(node.clone(), [range("10.96.0.0/12")], Planner::new(SIZES), MemoryTables::new(SIZES));
    first.take(Change::Synced);
    settle(&mut first);
    let tables = first.into_tables();
    let planner = Planner::restore(&tables.snapshot(), SIZES);
    let mut second = Pipeline::new(node, [range("172.20.0.0/16")], planner, tables);
    let doubt = Doubt::File(std::path::Path::new("/etc/millrace/ranges.yaml").into());
    reject(&mut second, &doubt);
    second.take(Change::Synced);
    settle(&mut second);
    assert_eq!(ranges(&second), [range("10.96.0.0/12"), range("172.20.0.0/16")]);
    second.take(Change::Settled(doubt));
    settle(&mut second);
    assert_eq!(ranges(&second), [range("172.20.0.0/16")]);
}
