//! Random changes of a small cluster, from objects to maps: whatever happens, and in whatever order, the maps say what
//! the objects say, and no program sees anything else on the way.
#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use millrace_agent::{
    datapath::MemoryTables,
    diff::{Op, Planner, Sizes, dump},
    lb::{Balancer, Frontend, table},
    model::Algorithm,
};
use millrace_common::service::{Attributes, SetWord};
use support::{
    Random,
    cluster::Cluster,
    model::{Expected, ExpectedFrontend, expect},
    pipeline::{Pipeline, node},
    watched::Watched,
};

const SIZES: Sizes = Sizes { services: 128, frontends: 256, backends: 1024, slots: 16_384, source_ranges: 256 };
/// Comparing all maps with the model costs more than many events.
const EVENTS_PER_COMPARISON: usize = 8;

type Frontends = BTreeMap<Frontend, ExpectedFrontend>;

/// The maps as a program finds them through the frontends.
fn found(tables: &MemoryTables) -> Frontends {
    let snapshot = tables.snapshot();
    let set = |family, index: u32, word: u64| {
        let word = SetWord(word);
        match (word.count(), word.base()) {
            (0, 1) => Expected::Reject,
            (0, 2) => Expected::Drop,
            (0, _) => Expected::Unused,
            (count, base) => {
                let address = |at| {
                    let slot = snapshot.slots[&(family, at)];
                    assert_eq!(slot.owner, index);
                    assert!(snapshot.backends[&slot.backend].serving());
                    slot.address
                };
                let members: BTreeSet<SocketAddr> = (base..base + count).map(address).collect();
                let algorithm = if word.has_table() { Algorithm::Maglev } else { Algorithm::Random };
                if word.has_table() {
                    let sorted: Vec<SocketAddr> = members.iter().copied().collect();
                    let wanted = table(&sorted).into_iter().map(|member| sorted[usize::from(member)]);
                    let held = snapshot.tables[&(family, base)].iter().map(|at| address(base + u32::from(*at)));
                    assert!(wanted.eq(held), "the table of {}", snapshot.names[&index]);
                }
                Expected::Endpoints(algorithm, members)
            }
        }
    };
    (snapshot.frontends.iter())
        .map(|(frontend, &(kind, index))| {
            let record = snapshot.records[&index];
            let (family, name) = (frontend.family(), &snapshot.names[&index]);
            let service = name.split_once(':').unwrap().0.to_owned();
            let (cluster, local) = (set(family, index, record.cluster), set(family, index, record.local));
            let attributes = Attributes(record.attributes);
            (*frontend, ExpectedFrontend { kind, cluster, local, attributes, service })
        })
        .collect()
}

/// Nothing is left that anybody would have to pay for.
fn assert_empty(tables: &MemoryTables, planner: &Planner) {
    let snapshot = tables.snapshot();
    assert_eq!(dump(&snapshot), "", "the maps end empty");
    assert!(snapshot.names.is_empty() && snapshot.records.is_empty());
    assert_eq!(snapshot.backends.values().filter(|state| state.serving()).count(), 0, "no backend serves nobody");
    let usage = planner.usage();
    assert_eq!((usage.services, usage.backends, usage.frontends), (0, 0, [0, 0]));
    for slots in usage.slots {
        assert_eq!((slots.free, slots.longest), (slots.size, slots.size), "the arena is one free block again");
    }
}

fn run(seed: u64, events: usize, per_batch: usize, watched: bool) {
    let mut random = Random(seed);
    let mut cluster = Cluster::new(12);
    let mut pipeline = Pipeline::new(SIZES, Watched::new(MemoryTables::new(SIZES), seed ^ 0x5eed));
    let mut plain = Pipeline::new(SIZES, MemoryTables::new(SIZES));
    for event in 0..events {
        let change = cluster.step(&mut random);
        if watched {
            pipeline.apply(change);
        } else {
            plain.apply(change);
        }
        if event % per_batch != 0 {
            continue;
        }
        if watched {
            let expected = expect(&cluster);
            pipeline.tables.allowed[1].clone_from(&expected);
            pipeline.sync();
            assert!(pipeline.outcome.errors.is_empty(), "{:?}", pipeline.outcome.errors);
            assert_eq!(found(&pipeline.tables.tables), expected, "seed {seed}, event {event}");
            pipeline.tables.allowed[0] = expected;
            if random.once_in(3) {
                pipeline.grace();
            }
        } else {
            plain.sync();
            assert!(plain.outcome.errors.is_empty(), "{:?}", plain.outcome.errors);
            if event % EVENTS_PER_COMPARISON == 0 {
                assert_eq!(found(&plain.tables), expect(&cluster), "seed {seed}, event {event}");
            }
            if random.once_in(3) {
                plain.grace();
            }
            if random.once_in(200) {
                restart(&mut plain);
            }
        }
    }
    let changes = cluster.clear();
    if watched {
        assert!(pipeline.tables.reads > 0);
        changes.into_iter().for_each(|change| pipeline.apply(change));
        pipeline.tables.allowed[1].clear();
        pipeline.settle();
        assert_empty(&pipeline.tables.tables, &pipeline.planner);
    } else {
        changes.into_iter().for_each(|change| plain.apply(change));
        plain.settle();
        assert_empty(&plain.tables, &plain.planner);
    }
}

/// The agent ends and starts anew: the same objects take not one operation.
fn restart(pipeline: &mut Pipeline<MemoryTables>) {
    pipeline.planner = Planner::restore(&pipeline.tables.snapshot(), SIZES);
    pipeline.balancer = Balancer::new(node());
    let chores = pipeline.planner.chores();
    pipeline.write(&chores);
    pipeline.dirty = pipeline.index.services().map(|service| service.key.clone()).collect();
    let ops = pipeline.sync();
    assert_eq!(ops, [], "the maps were as wanted before the restart");
    // Records that had lost their last reader but not yet their name.
    pipeline.dirty.extend(pipeline.planner.services().cloned());
    assert!(pipeline.sync().is_empty(), "nothing leads to what was being deleted");
}

#[test]
fn a_hundred_thousand_random_events_leave_the_maps_as_the_objects_say() {
    run(1, 60_000, 1, false);
    run(2, 40_000, 7, false);
}

#[test]
fn no_program_ever_sees_a_foreign_or_a_torn_set() {
    for seed in 1..=4 {
        run(seed, 400, 1, true);
        run(seed, 1_000, 5, true);
    }
}

#[test]
fn any_order_of_arrival_gives_the_same_maps() {
    for seed in 1..=30 {
        let mut random = Random(seed);
        let mut cluster = Cluster::new(12);
        for _ in 0..100 {
            cluster.step(&mut random);
        }
        let mut changes = cluster.changes();
        let mut dumps: Vec<String> = Vec::new();
        for _ in 0..4 {
            let mut pipeline = Pipeline::new(SIZES, MemoryTables::new(SIZES));
            for at in (1..changes.len()).rev() {
                changes.swap(at, random.below(at + 1));
            }
            for change in changes.clone() {
                pipeline.apply(change);
                if random.once_in(3) {
                    pipeline.sync();
                }
            }
            pipeline.settle();
            assert_eq!(found(&pipeline.tables), expect(&cluster));
            dumps.push(dump(&pipeline.tables.snapshot()));
        }
        assert!(dumps.windows(2).all(|pair| pair[0] == pair[1]), "seed {seed}: {dumps:#?}");
    }
}

#[test]
fn one_operation_in_ten_fails_and_the_maps_still_become_what_is_wanted() {
    for seed in 1..=20 {
        let mut random = Random(seed);
        let mut cluster = Cluster::new(12);
        let mut pipeline = Pipeline::new(SIZES, MemoryTables::new(SIZES));
        for round in 0..20 {
            let mut faults = Random(seed * 1_000 + round + 1);
            pipeline.tables.fail_when(Some(Box::new(move |_: &Op| faults.once_in(10))));
            for _ in 0..30 {
                let change = cluster.step(&mut random);
                pipeline.apply(change);
                pipeline.sync();
                if random.once_in(4) {
                    pipeline.grace();
                }
                if random.once_in(50) {
                    // An agent that is killed in the middle of all this.
                    pipeline.planner = Planner::restore(&pipeline.tables.snapshot(), SIZES);
                    pipeline.balancer = Balancer::new(node());
                    pipeline.dirty = pipeline.index.services().map(|service| service.key.clone()).collect();
                    pipeline.dirty.extend(pipeline.planner.services().cloned());
                }
            }
            pipeline.settle();
            pipeline.tables.fail_when(None);
            pipeline.settle();
            assert_eq!(found(&pipeline.tables), expect(&cluster), "seed {seed}, round {round}");
        }
        cluster.clear().into_iter().for_each(|change| pipeline.apply(change));
        pipeline.settle();
        assert_empty(&pipeline.tables, &pipeline.planner);
    }
}
