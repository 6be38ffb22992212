//! Maps of another size: the contents move to new maps while the old programs still run, then the programs, then the
//! pins.

use std::{collections::BTreeMap, io, os::fd::AsFd, path::Path};

use aya::maps::{MapData, MapError};
use millrace_common::{
    maps::{self, MapKind, MapSpec},
    service::SetWord,
};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use tracing::info;

use super::{
    Limits, Pins, SetupError,
    fate::Fate,
    pins::{at, open_pinned, remove_dir},
    snapshot::snapshot,
    syscall::{self, NOEXIST},
};

/// Contents are in `next`; the attached programs still use `maps`.
pub(super) struct Resize {
    pins: Pins,
    resized: Vec<&'static MapSpec>,
}

/// Copies every map whose size changes.
///
/// # Errors
/// Contents that the smaller map cannot hold, before anything is copied; or what the kernel refused.
pub(super) fn copy(pins: &Pins, limits: &Limits, fates: &BTreeMap<&'static str, Fate>) -> Result<Resize, SetupError> {
    let is_resized = |spec: &&MapSpec| matches!(fates.get(spec.name), Some(Fate::Resize { .. }));
    let resized: Vec<&'static MapSpec> = maps::ALL.iter().filter(is_resized).collect();
    check_fit(pins, limits, &resized)?;
    for spec in &resized {
        let moved = copy_map(pins, spec, limits.entries(spec))?;
        info!(map = spec.name, entries = limits.entries(spec), moved, "map gets another size");
    }
    Ok(Resize { pins: pins.clone(), resized })
}

impl Resize {
    pub(super) fn settle(self) -> Result<(), SetupError> {
        // Flows that began between the copy and the switch of the last program.
        for spec in self.resized.iter().filter(|spec| spec.name.starts_with("CT_")) {
            copy_map(&self.pins, spec, u32::MAX)?;
        }
        let (maps, next) = (self.pins.maps(), self.pins.next());
        renameat2(AT_FDCWD, &next, AT_FDCWD, &maps, RenameFlags::RENAME_EXCHANGE)
            .map_err(|errno| at(&next, "exchange with maps")(errno.into()))?;
        remove_dir(&next)
    }
}

/// Pins the map at `from` at a second path.
pub(super) fn pin_again(from: &Path, to: &Path, name: &str) -> Result<(), SetupError> {
    let failed = |source| SetupError::Map { map: name.to_owned(), operation: "pin", source };
    let map = MapData::from_pin(from).map_err(failed)?;
    map.pin(to).map_err(|error| failed(MapError::PinError { name: Some(name.to_owned()), error }))
}

fn check_fit(pins: &Pins, limits: &Limits, resized: &[&'static MapSpec]) -> Result<(), SetupError> {
    let now = snapshot(pins)?;
    let highest = |last: Option<u32>| last.map_or(0, |index| u64::from(index) + 1);
    let words = now.records.values().flat_map(|record| [SetWord(record.cluster), SetWord(record.local)]);
    let blocks = words.filter(|word| word.count() > 0);
    let slots = blocks.map(|word| u64::from(word.base()) + u64::from(word.slots())).max().unwrap_or(0);
    for spec in resized {
        let (used, flag) = match spec.name {
            "SERVICES" | "NAMES" => (highest(now.names.keys().last().copied()), "--max-services"),
            "BACKENDS" => (highest(now.backends.keys().last().copied()), "--max-backends"),
            "SLOTS_V4" | "SLOTS_V6" => (slots, "--max-slots"),
            "FRONTENDS_V4" | "FRONTENDS_V6" => (count(pins, spec)?, "--max-frontends"),
            "SOURCE_RANGES_V4" | "SOURCE_RANGES_V6" => (count(pins, spec)?, "--max-source-ranges"),
            "CT_V4" | "CT_V6" => (count(pins, spec)?, "--max-flows"),
            // The rest forgets its oldest entries by nature.
            _ => (0, ""),
        };
        let wanted = limits.entries(spec);
        if used > u64::from(wanted) {
            return Err(SetupError::DoesNotFit { map: spec.name, used, wanted, flag });
        }
    }
    Ok(())
}

/// Entries in use in a map that programs or the agent insert into.
pub(super) fn count(pins: &Pins, spec: &MapSpec) -> Result<u64, SetupError> {
    let map = open_pinned(&pins.map(spec.name))?;
    let mut entries = 0;
    each_key(&map, spec, |_| {
        entries += 1;
        Ok(true)
    })?;
    Ok(entries)
}

/// Copies what `next` does not have yet; of an array the first `limit` elements. Returns how many.
fn copy_map(pins: &Pins, spec: &MapSpec, limit: u32) -> Result<u64, SetupError> {
    let from = open_pinned(&pins.map(spec.name))?;
    let to = open_pinned(&pins.next().join(spec.name))?;
    let array = spec.kind == MapKind::Array;
    let flags = if array { 0 } else { NOEXIST };
    let mut value = vec![0; spec.value_size as usize];
    let mut moved = 0;
    each_key(&from, spec, |key| {
        if array && key.try_into().is_ok_and(|index| u32::from_ne_bytes(index) >= limit) {
            return Ok(false);
        }
        // An entry that a program deleted meanwhile is no loss.
        if !syscall::map_lookup(from.fd().as_fd(), key, &mut value)? || (array && value.iter().all(|&byte| byte == 0)) {
            return Ok(true);
        }
        match syscall::map_update(to.fd().as_fd(), key, &value, flags) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
            result => {
                result?;
                moved += 1;
            }
        }
        Ok(true)
    })?;
    Ok(moved)
}

/// Calls `visit` for each key until it returns false.
fn each_key(map: &MapData, spec: &MapSpec, mut visit: impl FnMut(&[u8]) -> io::Result<bool>) -> Result<(), SetupError> {
    let failed =
        |error| SetupError::Map { map: spec.name.to_owned(), operation: "copy", source: MapError::IoError(error) };
    let mut key = vec![0; spec.key_size as usize];
    let mut next = key.clone();
    let mut more = syscall::map_next_key(map.fd().as_fd(), None, &mut key).map_err(failed)?;
    while more {
        // The step first: a visitor may see its key deleted, after which the kernel would start over.
        more = syscall::map_next_key(map.fd().as_fd(), Some(&key), &mut next).map_err(failed)?;
        if !visit(&key).map_err(failed)? {
            break;
        }
        std::mem::swap(&mut key, &mut next);
    }
    Ok(())
}
