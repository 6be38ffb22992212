//! What becomes of each pinned map at start: pure.

use std::{collections::BTreeMap, path::PathBuf};

use millrace_common::maps::MapSpec;

use super::{Limits, Pins, SetupError};

/// What the kernel says of a pinned map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MapShape {
    /// `enum bpf_map_type`.
    pub(super) kind: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) flags: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Create,
    Reuse,
    /// The operator asks for another size: a new map takes the contents over.
    Resize {
        from: u32,
        to: u32,
    },
}

/// Decides for each map of the ABI.
///
/// # Errors
/// A pinned map of another kind or with other keys or values: another layout, which no copy could mend.
pub(super) fn decide(
    specs: &'static [MapSpec],
    limits: &Limits,
    pinned: &BTreeMap<&str, MapShape>,
    pins: &Pins,
) -> Result<BTreeMap<&'static str, Fate>, SetupError> {
    let mut fates = BTreeMap::new();
    for spec in specs {
        let to = limits.entries(spec);
        let fate = match pinned.get(spec.name) {
            None => Fate::Create,
            Some(shape) if !same_layout(spec, shape) => return Err(other_map(spec, shape, pins.map(spec.name))),
            Some(shape) if shape.max_entries == to => Fate::Reuse,
            Some(shape) => Fate::Resize { from: shape.max_entries, to },
        };
        fates.insert(spec.name, fate);
    }
    Ok(fates)
}

fn same_layout(spec: &MapSpec, shape: &MapShape) -> bool {
    (spec.kind.number(), spec.key_size, spec.value_size, spec.flags)
        == (shape.kind, shape.key_size, shape.value_size, shape.flags)
}

fn other_map(spec: &MapSpec, shape: &MapShape, path: PathBuf) -> SetupError {
    let text = |kind: u32, key: u32, value: u32, flags: u32| {
        format!("of type {kind} with keys of {key} and values of {value} bytes, flags {flags:#x}")
    };
    SetupError::OtherMap {
        path,
        found: text(shape.kind, shape.key_size, shape.value_size, shape.flags),
        wanted: text(spec.kind.number(), spec.key_size, spec.value_size, spec.flags),
    }
}

#[cfg(test)]
mod tests {
    use millrace_common::maps::ALL;

    use super::*;

    fn pinned(change: impl Fn(&MapSpec, &mut MapShape)) -> BTreeMap<&'static str, MapShape> {
        ALL.iter()
            .map(|spec| {
                let mut shape = MapShape {
                    kind: spec.kind.number(),
                    key_size: spec.key_size,
                    value_size: spec.value_size,
                    max_entries: spec.max_entries,
                    flags: spec.flags,
                };
                change(spec, &mut shape);
                (spec.name, shape)
            })
            .collect()
    }

    fn decided(limits: &Limits, pinned: &BTreeMap<&str, MapShape>) -> Result<BTreeMap<&'static str, Fate>, SetupError> {
        decide(ALL, limits, pinned, &Pins::at("/sys/fs/bpf/millrace"))
    }

    #[test]
    fn a_node_without_maps_gets_all_of_them() {
        let fates = decided(&Limits::default(), &BTreeMap::new()).unwrap();
        assert!(fates.values().all(|fate| *fate == Fate::Create));
    }

    #[test]
    fn a_restart_with_the_same_limits_keeps_every_map() {
        let fates = decided(&Limits::default(), &pinned(|_, _| {})).unwrap();
        assert!(fates.values().all(|fate| *fate == Fate::Reuse));
    }

    #[test]
    fn a_larger_limit_resizes_only_the_maps_that_it_speaks_of() {
        let limits = Limits { backends: 1 << 20, ..Limits::default() };
        let fates = decided(&limits, &pinned(|_, _| {})).unwrap();
        let resized: Vec<_> = fates.iter().filter(|(_, fate)| matches!(fate, Fate::Resize { .. })).collect();
        assert_eq!(resized, [(&"BACKENDS", &Fate::Resize { from: 1 << 18, to: 1 << 20 })]);
    }

    #[test]
    fn a_map_with_other_values_is_refused_by_its_path() {
        let other = pinned(|spec, shape| {
            if spec.name == "CT_V6" {
                shape.value_size += 8;
            }
        });
        let error = decided(&Limits::default(), &other).unwrap_err().to_string();
        assert!(error.contains("/sys/fs/bpf/millrace/maps/CT_V6") && error.contains("cleanup"), "{error}");
    }
}
