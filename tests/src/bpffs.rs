//! A bpf file system for one node. It is a mount of its own, so that unmounting it lets go of every pin in it.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::netns::unique;

const DIRECTORY: &str = "/run/millrace-harness";

/// Dropping it unmounts it: maps, programs and links that only a pin kept alive are gone.
#[derive(Debug)]
pub struct Bpffs {
    pub path: PathBuf,
}

impl Bpffs {
    /// # Errors
    /// Not root, or a kernel without bpffs.
    pub fn mount(what: &str) -> Result<Self> {
        let path = PathBuf::from(DIRECTORY).join(unique(what));
        fs::create_dir_all(&path)?;
        mount(Some("bpf"), &path, Some("bpf"), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("cannot mount a bpf file system at {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn remove(path: &PathBuf) {
    let _ = umount2(path, MntFlags::MNT_DETACH);
    drop(fs::remove_dir(path));
}

/// Removes the file systems of harness processes that are gone.
pub fn sweep() {
    for entry in fs::read_dir(DIRECTORY).into_iter().flatten().flatten() {
        if crate::place::owner_is_gone(&entry.file_name().to_string_lossy()) {
            remove(&entry.path());
        }
    }
}
