//! Debian's packages that are unpacked and never installed: this machine's, and those of another release or architecture,
//! of which the machine's own apt does not learn.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    command::{capture, program},
    debian,
};

/// The machine's apt, or one with lists of its own.
pub(crate) struct Apt {
    options: Vec<String>,
}

impl Apt {
    /// The machine's.
    pub(crate) const fn own() -> Self {
        Self { options: Vec::new() }
    }

    /// One that keeps its lists in `directory`. `options` (`Name=value`) say what it looks for.
    pub(crate) fn apart(directory: &Path, options: &[String]) -> Result<Self> {
        let lists = directory.join("lists");
        let partial = lists.join("partial");
        fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
        let own = [
            format!("Dir::State::lists={}", lists.display()),
            "Dir::Cache::pkgcache=".to_owned(),
            "Dir::Cache::srcpkgcache=".to_owned(),
        ];
        Ok(Self { options: options.iter().chain(&own).map(|option| format!("-o{option}")).collect() })
    }

    /// Packages whose names match; the lists are fetched where they name none, as on a fresh machine.
    pub(crate) fn search(&self, pattern: &str) -> Result<Vec<String>> {
        let names = || -> Result<Vec<String>> {
            let found = capture(self.program("apt-cache").args(["search", "--names-only", pattern]))?;
            Ok(found.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
        };
        let found = names()?;
        if !found.is_empty() {
            return Ok(found);
        }
        self.refresh()?;
        names()
    }

    /// Unpacks packages into `root`, unless it is there; below the directory of `root` lies what is half done.
    pub(crate) fn unpacked(&self, packages: &[&str], root: PathBuf) -> Result<PathBuf> {
        if root.exists() {
            return Ok(root);
        }
        let download = root.with_file_name("download");
        let _ = fs::remove_dir_all(&download);
        fs::create_dir_all(&download).with_context(|| format!("cannot create {}", download.display()))?;
        let fetch = || {
            let mut command = self.program("apt-get");
            capture(command.args(["--quiet=2", "download"]).args(packages).current_dir(&download))
        };
        // Lists may be missing, or name what the mirror has replaced since.
        if fetch().is_err() {
            self.refresh()?;
            fetch()?;
        }
        debian::unpack(&download, &root)?;
        Ok(root)
    }

    fn refresh(&self) -> Result<()> {
        if self.options.is_empty() {
            return debian::refresh();
        }
        capture(self.program("apt-get").args(["--quiet=2", "update"])).map(drop)
    }

    fn program(&self, name: &str) -> Command {
        let mut command = program(name);
        command.args(&self.options);
        command
    }
}
