//! The tests under other kernels: boots Debian's kernels in virtual machines, each with the same test binaries as
//! here. A file of any `tests/` whose name begins with `kernel_` runs there too.

mod console;
mod executables;
mod guest;
mod initramfs;
mod libraries;
mod modules;
mod package;
mod times;

use std::{fs, path::PathBuf, str::FromStr, thread};

use anyhow::{Result, bail};

use crate::workspace;

pub(crate) use console::{RECORD, after};

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

/// What the tests in a machine are there for.
#[derive(Clone, Copy)]
pub(crate) enum Task<'of> {
    /// To pass: all, or those whose name contains this.
    Test(Option<&'of str>),
    /// To say what docs/kernels.md must say of each kernel.
    Record,
    /// To count what a connection costs in instructions: all that is recorded, or what is compared on every run.
    Count { record: bool },
}

impl Task<'_> {
    /// Words for each test binary.
    pub(crate) fn arguments(&self) -> &str {
        match self {
            Self::Test(filter) => filter.unwrap_or_default(),
            Self::Record => "recorded_ --nocapture",
            Self::Count { .. } => "--ignored --nocapture",
        }
    }

    /// An assignment in the tests' environment.
    pub(crate) fn variable(&self) -> &'static str {
        match self {
            Self::Test(_) | Self::Count { record: false } => "MILLRACE_MACHINE=1",
            Self::Record | Self::Count { record: true } => "MILLRACE_RECORD=1",
        }
    }
}

/// A machine that is ready to be booted.
struct Prepared {
    /// Before each line of its console.
    name: &'static str,
    kernel: package::Kernel,
    archive: PathBuf,
    log: PathBuf,
}

/// Boots the kernels side by side, runs the tests in each, and fails unless every one of them says that it passed. One
/// kernel's failure hides nothing of another's. Returns what they said for the record.
pub(crate) fn test(versions: &[&'static str], task: Task<'_>) -> Result<Vec<String>> {
    let executables = executables::build()?.for_kernels();
    if executables.tests.is_empty() {
        bail!("no test of tests/tests/ begins with kernel_: nothing would be tested");
    }
    let mut machines = Vec::new();
    for version in versions {
        let directory = workspace::target().join("vm").join(version);
        let kernel = package::unpacked(version, &directory)?;
        let archive = initramfs::build(&kernel, &executables, task, &directory)?;
        machines.push(Prepared { name: version, kernel, archive, log: directory.join("console.log") });
    }
    let expected = executables.tests.len();
    let results: Vec<Result<Vec<String>>> = thread::scope(|scope| {
        let boot = |machine: &Prepared| guest::boot(machine, expected);
        let running: Vec<_> = machines.iter().map(|machine| scope.spawn(move || boot(machine))).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let (mut said, mut failed) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(records) => said.extend(records),
            Err(error) => failed.push(format!("{error:#}")),
        }
    }
    if failed.is_empty() { Ok(said) } else { bail!("{}", failed.join("\n")) }
}

/// The kernel in which instructions are counted.
const COUNTED: &str = "6.12";

/// Boots one machine in which time counts instructions: see [`Task::Count`]. Returns what the counting test said for the record.
pub(crate) fn count(record: bool) -> Result<Vec<String>> {
    let executables = executables::build()?.for_counting();
    if executables.tests.len() != 1 {
        bail!("there is no test `{}`: nothing would be counted", executables::COUNTING);
    }
    let directory = workspace::target().join("vm");
    let kernel = package::unpacked(COUNTED, &directory.join(COUNTED))?;
    let directory = directory.join("instructions");
    fs::create_dir_all(&directory)?;
    let archive = initramfs::build(&kernel, &executables, Task::Count { record }, &directory)?;
    let log = directory.join("console.log");
    guest::count(&Prepared { name: "count", kernel, archive, log })
}
