//! The tests under other kernels: boots Debian's kernels in virtual machines, each with the same test binaries as
//! here. A file of any `tests/` whose name begins with `kernel_` runs there too.

mod console;
mod executables;
mod guest;
mod initramfs;
mod libraries;
mod modules;
mod package;

use std::str::FromStr;

use anyhow::{Result, bail};

use crate::workspace;

pub(crate) use guest::Machines;

/// Which kernels: Amazon Linux 2023's and Debian 12's series, and the long-term series after it.
const VERSIONS: [&str; 2] = ["6.1", "6.12"];

#[derive(Clone, Copy)]
pub(crate) enum Choice {
    One(&'static str),
    All,
}

impl Choice {
    pub(crate) fn versions(self) -> Vec<&'static str> {
        match self {
            Self::One(version) => vec![version],
            Self::All => VERSIONS.to_vec(),
        }
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        if word == "all" {
            return Ok(Self::All);
        }
        let version = VERSIONS.iter().find(|version| **version == word);
        version.map(|version| Self::One(version)).ok_or_else(|| format!("one of {}, all", VERSIONS.join(", ")))
    }
}

/// Boots one kernel, runs the tests in it, and fails unless every one of them says that it passed.
pub(crate) fn test(machines: &mut Machines, version: &str, filter: Option<&str>) -> Result<()> {
    let directory = workspace::target().join("vm").join(version);
    let executables = executables::build()?;
    if executables.tests.is_empty() {
        bail!("no test of tests/tests/ begins with kernel_: nothing would be tested");
    }
    let kernel = package::unpacked(version, &directory)?;
    let archive = initramfs::build(&kernel, &executables, filter, &directory)?;
    let log = directory.join("console.log");
    machines.boot(&kernel, &archive, executables.tests.len(), &log)
}
