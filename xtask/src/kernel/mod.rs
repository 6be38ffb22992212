//! The tests under other kernels: boots Debian's kernels in virtual machines, each with the same test binaries as
//! here. A file of any `tests/` whose name begins with `kernel_` runs there too.

mod arm64;
mod attempt;
mod console;
mod executables;
mod guest;
mod initramfs;
mod libraries;
mod machine;
mod modules;
mod package;
mod times;
mod watch;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context as _, Result, bail};

use crate::workspace;

pub(crate) use arm64::COMPILER as ARM64_COMPILER;
use executables::Executables;

pub(crate) use console::{RECORD, after};
pub(crate) use machine::{Choice, Machine, Platform};

/// What another architecture may spoil, by names of tests: its kernel takes the programs, a flip is never seen torn, and what
/// is pinned outlives an agent. All tests would take an hour, emulated.
const ESSENTIAL: &str =
    "every_program_passes_the_verifier recorded_ a_flipped_service_is_never_seen_torn restarts_and_kills";

/// What a run of everything has on each kernel of the matrix, as test binaries and words for each: that it loads the
/// programs, that an agent's devices have them and a restart takes them over, that what they do with packets is what they do
/// here, and the tables' rows of ClusterIPs with sockets and packet by packet; and the benchmarks' IPVS, which this machine's
/// kernel need not have. What else there is runs on this machine's own kernel, and with `--kernel 6.1`, `6.12` or `all`: every
/// test of packets reads the programs into the kernel, which takes ten seconds, emulated.
const DIFFERING: [(&str, &str); 5] = [
    ("kernel_boot", ""),
    ("kernel_restart", ""),
    ("kernel_packets", "translate:: choice:: conversations:: race::"),
    ("conformance", "over_the_socket_path over_the_per_packet_path"),
    ("kernel_ipvs", ""),
];

/// What the tests in a machine are there for.
#[derive(Clone, Copy)]
pub(crate) enum Task<'of> {
    /// To pass: all (emulated for another architecture: the essential ones), or those whose name contains this.
    Test(Option<&'of str>),
    /// To pass: what differs from kernel to kernel. See [`DIFFERING`].
    Differing,
    /// To say what docs/kernels.md must say of each kernel.
    Record,
    /// To count what a connection costs in instructions: what is compared on every run.
    Count,
    /// The same of all that is recorded, with the rivals' tools that lie unpacked here.
    CountAll { rivals: Option<&'of Path> },
    /// To run `millrace-bench services` with these arguments, and with the rivals' tools that lie unpacked here.
    Measure { arguments: &'of str, rivals: Option<&'of Path> },
}

impl Task<'_> {
    /// Words for this test binary.
    pub(crate) fn arguments(&self, platform: Platform, test: &str) -> &str {
        match self {
            Self::Test(Some(filter)) => filter,
            Self::Differing => DIFFERING.iter().find(|(name, _)| *name == test).map_or("", |(_, words)| words),
            Self::Test(None) if platform == Platform::Arm64 => ESSENTIAL,
            Self::Test(None) => "",
            Self::Record => "recorded_ --nocapture",
            Self::Count | Self::CountAll { .. } => "--ignored --nocapture",
            // Its program is no test.
            Self::Measure { .. } => "",
        }
    }

    /// Where the tools of a newer release than this machine's lie.
    pub(crate) const fn rivals(&self) -> Option<&Path> {
        match self {
            Self::CountAll { rivals } | Self::Measure { rivals, .. } => *rivals,
            Self::Test(_) | Self::Differing | Self::Record | Self::Count => None,
        }
    }

    /// An assignment in the tests' environment.
    pub(crate) fn variable(&self) -> &'static str {
        match self {
            // Of the tables those rows that are about ClusterIPs.
            Self::Differing => "MILLRACE_MACHINE=essential",
            Self::Test(_) | Self::Count | Self::Measure { .. } => "MILLRACE_MACHINE=1",
            Self::Record | Self::CountAll { .. } => "MILLRACE_RECORD=1",
        }
    }
}

/// A machine that is ready to be booted.
struct Prepared {
    /// Before each line of its console.
    name: &'static str,
    platform: Platform,
    kernel: package::Kernel,
    archive: PathBuf,
    /// Of the boot that counts; those before it that failed have theirs beside it.
    log: PathBuf,
    /// What it writes to its second serial line, where it has one.
    figures: PathBuf,
    /// How many test binaries it has.
    tests: usize,
}

/// Boots the kernels side by side, runs the tests in each, and fails unless every one of them says that it passed. One
/// kernel's failure hides nothing of another's. Returns what they said for the record.
pub(crate) fn test(machines: &[&'static Machine], task: Task<'_>) -> Result<Vec<String>> {
    let mut prepared = Vec::new();
    for platform in [Platform::X86, Platform::Arm64] {
        let machines = machines.iter().filter(|machine| machine.platform == platform);
        if machines.clone().next().is_none() {
            continue;
        }
        let mut executables = executables::build(platform)?.for_kernels();
        if matches!(task, Task::Differing) {
            let left = executables.keep(&DIFFERING.map(|(name, _)| name));
            println!("on this machine's own kernel only (elsewhere with --kernel): {}", left.join(" "));
            for (name, words) in DIFFERING {
                executables.check(name, words)?;
                if !words.is_empty() {
                    println!("of {name} only: {words}");
                }
            }
        }
        if executables.tests.is_empty() {
            bail!("no test of tests/tests/ begins with kernel_: nothing would be tested");
        }
        for machine in machines {
            prepared.push(prepare(machine.name, machine, &executables, task)?);
        }
    }
    let results: Vec<Result<Vec<String>>> = thread::scope(|scope| {
        let running: Vec<_> = prepared.iter().map(|machine| scope.spawn(|| guest::boot(machine))).collect();
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

/// `name`: of its console's lines and of its directory.
fn prepare(name: &'static str, machine: &Machine, executables: &Executables, task: Task<'_>) -> Result<Prepared> {
    let directory = |name| workspace::target().join("vm").join(name);
    let kernel = package::unpacked(machine, &directory(machine.name))?;
    let (platform, directory) = (machine.platform, directory(name));
    fs::create_dir_all(&directory)?;
    let archive = initramfs::build(&kernel, executables, platform, task, &directory)
        .with_context(|| format!("the root file system of machine {name}"))?;
    let log = directory.join("console.log");
    let figures = directory.join("figures.json");
    Ok(Prepared { name, platform, kernel, archive, log, figures, tests: executables.tests.len() })
}

/// Boots one machine in which time counts instructions, for [`Task::Count`] or [`Task::CountAll`]. Returns what the counting
/// test said for the record.
pub(crate) fn count(task: Task<'_>) -> Result<Vec<String>> {
    let executables = executables::build(machine::MEASURED.platform)?.for_counting();
    if executables.tests.len() != 1 {
        bail!("there is no test `{}`: nothing would be counted", executables::COUNTING);
    }
    guest::count(&prepare("count", machine::MEASURED, &executables, task)?)
}

/// Figures of the benchmarks, as JSON, and whether they are an emulated processor's.
pub(crate) struct Measured {
    pub(crate) figures: String,
    pub(crate) emulated: bool,
}

/// Boots one machine with a kernel that has all that kube-proxy ever used, for one run of `bench`, the benchmarks' program,
/// which lies beside the agent: see [`Task::Measure`].
pub(crate) fn measure(bench: &Path, arguments: &str, rivals: Option<&Path>) -> Result<Measured> {
    let programs = vec![bench.to_owned(), bench.with_file_name("millrace-agent")];
    let executables = Executables { tests: Vec::new(), programs };
    let task = Task::Measure { arguments, rivals };
    guest::measure(&prepare("bench", machine::MEASURED, &executables, task)?)
}
