//! Removes every trace of an agent: the opposite of all the attaching.

use std::{fs, path::Path};

use super::{
    Attacher, Pins, SetupError, TcMode,
    pins::{at, entries, remove_dir},
    qdisc,
};

/// Detaches and unpins everything of `pins`. What is already gone is no error; one failure does not keep the rest from
/// being removed. Filters of clsact are found in the network namespace of the caller. Returns what was done, a line
/// each.
///
/// # Errors
/// A running agent, or the first thing that could not be removed.
pub fn cleanup(pins: &Pins) -> Result<Vec<String>, SetupError> {
    if !pins.root().exists() {
        return Ok(vec![format!("nothing at {}", pins.root().display())]);
    }
    let _lock = pins.lock()?;
    let mut failures = Vec::new();
    let links = entries(&pins.links())?.len();
    // The programs first: without maps there would be nothing to tell them what to leave alone.
    failures.extend(remove_dir(&pins.links()).err());
    match Attacher::new(pins.clone(), TcMode::Clsact).remove_all_filters() {
        Ok(added) => failures.extend(qdisc::remove_unused(&added).map_err(at(Path::new("clsact"), "remove")).err()),
        Err(error) => failures.push(error),
    }
    for directory in [pins.next(), pins.maps()] {
        failures.extend(remove_dir(&directory).err());
    }
    let mut done = vec![format!("removed {links} links and all maps of {}", pins.root().display())];
    for name in entries(pins.root())?.into_iter().filter(|name| name.starts_with("layout-") || name == "clsact") {
        failures.extend(remove_dir(&pins.root().join(name)).err());
    }
    match fs::remove_dir(pins.root()) {
        Ok(()) => done.push(format!("removed {}", pins.root().display())),
        // It may be the mount point itself, or hold what others pinned.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::ENOTEMPTY | libc::EPERM)) => {}
        Err(error) => failures.push(at(pins.root(), "rmdir")(error)),
    }
    failures.into_iter().next().map_or(Ok(done), Err)
}
