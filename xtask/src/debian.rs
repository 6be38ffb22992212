//! Debian's packages: is apt there, may we, and what to say when not.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail};

use crate::{
    command::{capture, exists, program},
    privileges,
};

/// Installs packages, after one line that says which and why.
///
/// # Errors
/// No apt, not root, or apt's own refusal: each names the packages and the remedy.
pub(crate) fn install(packages: &[&str], why: &str) -> Result<()> {
    let list = packages.join(" ");
    if !exists("apt-get") {
        bail!("missing for {why}: {list} (Debian's names); this machine has no apt-get: install their like by hand");
    }
    if !privileges::is_root() {
        bail!("missing for {why}: {list}; run `apt-get install {list}` or this command as root");
    }
    println!("setup: missing for {why}: installing {list} ...");
    refresh()?;
    apt(&["install", "--yes", "--no-install-recommends"], packages)
        .with_context(|| format!("apt-get does not install {list}; Debian 12 with its security updates has them all"))
}

/// Fetches the lists of packages, once in a run.
pub(crate) fn refresh() -> Result<()> {
    static DONE: AtomicBool = AtomicBool::new(false);
    if !DONE.swap(true, Ordering::Relaxed) {
        apt(&["update"], &[]).context("the lists of packages cannot be fetched: is a mirror reachable?")?;
    }
    Ok(())
}

fn apt(verb: &[&str], packages: &[&str]) -> Result<()> {
    let mut command = program("apt-get");
    // Another apt at work (a machine's first minutes) holds the lock for a while.
    command.args(["--quiet=2", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]);
    // A thousand lines that nobody reads; apt's complaints are shown when it fails.
    capture(command.args(verb).args(packages).env("DEBIAN_FRONTEND", "noninteractive"))?;
    Ok(())
}
