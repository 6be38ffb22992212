//! Debian's packages: is apt there, may we, and what to say when not.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

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

/// The version of a package that is installed.
pub(crate) fn version(package: &str) -> Option<String> {
    let query = ["--show", "--showformat", "${db:Status-Status} ${Version}", package];
    let said = capture(program("dpkg-query").args(query)).ok()?;
    said.strip_prefix("installed ").map(str::to_owned)
}

/// Fetches the lists of packages, once in a run.
pub(crate) fn refresh() -> Result<()> {
    static DONE: AtomicBool = AtomicBool::new(false);
    if !DONE.swap(true, Ordering::Relaxed) {
        apt(&["update"], &[]).context("the lists of packages cannot be fetched: is a mirror reachable?")?;
    }
    Ok(())
}

/// Unpacks all packages of the directory `download` into `root`, and removes the directory. `root` is there when all of it
/// is: what is half unpacked lies beside it.
pub(crate) fn unpack(download: &Path, root: &Path) -> Result<()> {
    let partial = root.with_file_name("partial");
    let _ = fs::remove_dir_all(&partial);
    let mut packages = 0;
    for archive in fs::read_dir(download).with_context(|| format!("cannot read {}", download.display()))? {
        capture(program("dpkg-deb").arg("--extract").arg(archive?.path()).arg(&partial))?;
        packages += 1;
    }
    if packages == 0 {
        bail!("apt-get download left no file in {}", download.display());
    }
    fs::rename(&partial, root).with_context(|| format!("cannot create {}", root.display()))?;
    Ok(fs::remove_dir_all(download)?)
}

fn apt(verb: &[&str], packages: &[&str]) -> Result<()> {
    let mut command = program("apt-get");
    // Another apt at work (a machine's first minutes) holds the lock for a while.
    command.args(["--quiet=2", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]);
    // A thousand lines that nobody reads; apt's complaints are shown when it fails.
    capture(command.args(verb).args(packages).env("DEBIAN_FRONTEND", "noninteractive"))?;
    Ok(())
}
