//! The object's maps against `millrace_common::maps`: what the agent writes is what the programs read. Needs no
//! privileges.

use aya_obj::Object;
use millrace_agent::datapath::object;
use millrace_common::{maps::ALL, verdict::Verdict};

#[test]
fn every_map_of_the_abi_is_in_the_object_with_its_kind_sizes_and_flags() {
    let object = Object::parse(object()).unwrap();
    for spec in ALL {
        let map = object.maps.get(spec.name).unwrap_or_else(|| panic!("the object has no map {}", spec.name));
        assert_eq!(
            (map.map_type(), map.key_size(), map.value_size(), map.max_entries(), map.map_flags()),
            (spec.kind.number(), spec.key_size, spec.value_size, spec.max_entries, spec.flags),
            "map {}: (kind, key size, value size, entries, flags)",
            spec.name
        );
    }
}

#[test]
fn the_object_has_no_map_that_the_abi_does_not_know() {
    const STORAGES: [&str; 1] = ["DATAGRAMS"];
    let object = Object::parse(object()).unwrap();
    let unknown: Vec<_> = object
        .maps
        .keys()
        .filter(|name| !name.starts_with('.') && !STORAGES.contains(&name.as_str()))
        .filter(|name| !ALL.iter().any(|spec| spec.name == **name))
        .collect();
    assert!(unknown.is_empty(), "maps that no start would pin: {unknown:?}");
}

#[test]
fn every_program_is_recognisable_by_its_name_and_within_the_kernels_15_characters() {
    let object = Object::parse(object()).unwrap();
    assert!(!object.programs.is_empty());
    for name in object.programs.keys() {
        assert!(name.starts_with("mr_") && name.len() <= 15, "program {name}");
    }
}

/// An agent that takes a data path over reads counters by their place, and so does `stats` of another version: a new
/// verdict goes to the end, or `LAYOUT_VERSION` goes up with this file.
#[test]
fn a_counter_keeps_its_place_in_stats() {
    let now: Vec<&str> = Verdict::ALL.iter().map(|verdict| verdict.name()).collect();
    let pinned: Vec<&str> = include_str!("golden/stats.txt").lines().collect();
    assert_eq!(now, pinned);
}
