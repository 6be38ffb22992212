//! Removes every trace of an agent: the opposite of all the attaching.

use std::fs;

use super::{
    Attacher, Pins, SetupError, TcMode,
    pins::{at, entries, remove_dir},
    reserved_ports,
};

/// Detaches and unpins everything of `pins`. What is already gone is no error; one failure does not keep the rest from
/// being removed. Filters of clsact are found in whatever network namespace the agent ran. Returns what was done, a
/// line each.
///
/// # Errors
/// A path that is not an agent's, a running agent, or the first thing that could not be removed.
pub fn cleanup(pins: &Pins) -> Result<Vec<String>, SetupError> {
    if !pins.check_removable()? {
        return Ok(vec![format!("nothing at {}", pins.root().display())]);
    }
    let _lock = pins.lock()?;
    let mut failures = Vec::new();
    let links = entries(&pins.links())?.len();
    // The programs first: without maps there would be nothing to tell them what to leave alone.
    failures.extend(remove_dir(&pins.links()).err());
    failures.extend(Attacher::new(pins.clone(), TcMode::Clsact).remove_all_filters().err());
    failures.extend(reserved_ports::release_all(pins).err());
    for directory in [pins.next(), pins.maps()] {
        failures.extend(remove_dir(&directory).err());
    }
    let mut done = vec![format!("removed {links} links and all maps of {}", pins.root().display())];
    for name in entries(pins.root())?.into_iter().filter(|name| name.starts_with("layout-")) {
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
