//! The root file system of a virtual machine: busybox, iproute2, modules, and the tests at the paths that they have
//! here, so that what a test compiled in (its crate's directory, the agent's path) holds there too.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::{Platform, Task, arm64, console, executables::Executables, libraries, modules, package::Kernel};
use crate::{
    command::{capture, program},
    workspace,
};

/// One program under the names that decide what it does.
const IPTABLES: [(&str, [&str; 6]); 2] = [
    (
        "xtables-nft-multi",
        [
            "iptables-nft",
            "iptables-nft-save",
            "iptables-nft-restore",
            "ip6tables-nft",
            "ip6tables-nft-save",
            "ip6tables-nft-restore",
        ],
    ),
    (
        "xtables-legacy-multi",
        [
            "iptables-legacy",
            "iptables-legacy-save",
            "iptables-legacy-restore",
            "ip6tables-legacy",
            "ip6tables-legacy-save",
            "ip6tables-legacy-restore",
        ],
    ),
];

const INIT: &str = include_str!("init.sh");
const TESTS: &str = include_str!("tests.sh");
const SERVICES: &str = include_str!("services.sh");

/// Without any the agent's client of API servers does not start.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Data that tests read, below the workspace's root.
const DATA: [&str; 3] = ["tests", "manifests", "docs"];

/// Builds the archive below `directory` and returns its path.
pub(crate) fn build(
    kernel: &Kernel,
    executables: &Executables,
    platform: Platform,
    task: Task<'_>,
    directory: &Path,
) -> Result<PathBuf> {
    let root = Root { path: directory.join("root"), platform };
    let _ = fs::remove_dir_all(&root.path);
    match platform {
        Platform::X86 => {
            root.copy_userland(Path::new("/"))?;
            root.copy_rivals()?;
        }
        Platform::Arm64 => {
            let userland = arm64::userland()?;
            root.copy_userland(&userland)?;
            for library in libraries::below(&userland)? {
                root.copy_as(&userland.join(&library), &library)?;
            }
        }
    }
    root.copy_file(Path::new(AUTHORITIES))?;
    let mut list = String::new();
    for (name, path) in &executables.tests {
        root.copy_stripped(path)?;
        list.push_str(&format!("{name} {} {}\n", path.display(), task.arguments(platform, name)));
    }
    for path in &executables.programs {
        root.copy_stripped(path)?;
    }
    for data in DATA {
        root.copy_tree(&workspace::root().join(data))?;
    }
    if let Some(rivals) = task.rivals() {
        root.copy_tree(&rivals.join("usr/sbin"))?;
        root.copy_tree(&rivals.join("usr/lib"))?;
    }
    let modules = modules::install(&kernel.modules, &root.path.join("modules"))?;
    fs::write(root.path.join("tests"), list)?;
    root.write_init(&modules, task, executables)?;
    root.archive(&directory.join("initramfs.cpio"))
}

struct Root {
    path: PathBuf,
    platform: Platform,
}

impl Root {
    /// Where a path of the guest lies here.
    fn inside(&self, path: &Path) -> Result<PathBuf> {
        let inside = self.path.join(path.strip_prefix("/").unwrap_or(path));
        if let Some(parent) = inside.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(inside)
    }

    /// What every machine has, from where it lies in `from`.
    fn copy_userland(&self, from: &Path) -> Result<()> {
        self.copy_program(&found(from, "busybox")?, Path::new("/bin/busybox"))?;
        for name in ["ip", "tc"] {
            self.copy_program(&found(from, name)?, &Path::new("/usr/sbin").join(name))?;
        }
        Ok(())
    }

    fn copy_program(&self, from: &Path, to: &Path) -> Result<()> {
        self.copy_as(from, to)?;
        self.copy_libraries(from)
    }

    fn copy_as(&self, from: &Path, to: &Path) -> Result<()> {
        fs::copy(from, self.inside(to)?).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(())
    }

    /// Without debug information: it would take ten times the memory.
    fn copy_stripped(&self, path: &Path) -> Result<()> {
        capture(program(self.platform.strip()).arg("--strip-debug").arg("-o").arg(self.inside(path)?).arg(path))?;
        self.copy_libraries(path)
    }

    fn copy_libraries(&self, program: &Path) -> Result<()> {
        for library in libraries::of(program)? {
            let inside = self.inside(&library)?;
            if !inside.exists() {
                fs::copy(&library, inside).with_context(|| format!("cannot copy {}", library.display()))?;
            }
        }
        Ok(())
    }

    fn copy_file(&self, path: &Path) -> Result<()> {
        self.copy_as(path, path)
    }

    fn copy_tree(&self, directory: &Path) -> Result<()> {
        let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                self.copy_tree(&path)?;
            } else {
                fs::copy(&path, self.inside(&path)?)?;
            }
        }
        Ok(())
    }

    /// The tools of the benchmarks' rivals, with what they open while they run.
    fn copy_rivals(&self) -> Result<()> {
        for name in ["nft", "ipset", "ipvsadm"] {
            self.copy_program(&found(Path::new("/"), name)?, &Path::new("/usr/sbin").join(name))?;
        }
        for (program, names) in IPTABLES {
            let program = fs::canonicalize(found(Path::new("/"), program)?)?;
            for name in names {
                self.copy_program(&program, &Path::new("/usr/sbin").join(name))?;
            }
            // Its matches and targets lie beside its library.
            for library in libraries::of(&program)?.iter().filter(|library| library.ends_with("libxtables.so.12")) {
                self.copy_tree(&fs::canonicalize(library)?.with_file_name("xtables"))?;
            }
        }
        // ipset and ipvsadm ask it for numbers of protocols.
        self.copy_file(Path::new("/etc/protocols"))
    }

    fn write_init(&self, modules: &[String], task: Task<'_>, executables: &Executables) -> Result<()> {
        let bench = executables.probe().map(|path| path.display().to_string()).unwrap_or_default();
        let mut variables = task.variable().to_owned();
        variables.extend(task.rivals().map(|directory| format!(" MILLRACE_RIVALS={}", directory.display())));
        let run = match task {
            Task::Measure { arguments, .. } => SERVICES.replace("@ARGUMENTS@", arguments),
            _ => {
                variables.extend(executables.probe().map(|path| format!(" MILLRACE_BENCH={}", path.display())));
                TESTS.to_owned()
            }
        };
        let init = INIT
            .replace("@RUN@", &run)
            .replace("@BENCH@", &bench)
            .replace("@MODULES@", &modules.join(" "))
            .replace("@VARIABLES@", &variables)
            .replace("@DIRECTORY@", &workspace::root().join("tests").display().to_string())
            .replace("@BEGIN@", console::BEGIN)
            .replace("@RESULT@", console::RESULT)
            .replace("@END@", console::END);
        let path = self.path.join("init");
        fs::write(&path, init)?;
        Ok(fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?)
    }

    fn archive(&self, to: &Path) -> Result<PathBuf> {
        let mut names = BTreeSet::new();
        names_below(&self.path, &self.path, &mut names)?;
        let mut cpio = Command::new("cpio")
            .args(["--create", "--format=newc", "--null", "--quiet"])
            .current_dir(&self.path)
            .stdin(Stdio::piped())
            .stdout(fs::File::create(to).with_context(|| format!("cannot write {}", to.display()))?)
            .spawn()
            .context("cannot start cpio")?;
        if let Some(mut list) = cpio.stdin.take() {
            use std::io::Write as _;
            for name in names {
                list.write_all(name.as_os_str().as_encoded_bytes())?;
                list.write_all(&[0])?;
            }
        }
        if !cpio.wait()?.success() {
            bail!("cpio failed: is there room below {}?", to.display());
        }
        Ok(to.to_owned())
    }
}

/// Relative paths, a directory before what is in it.
fn names_below(root: &Path, directory: &Path, names: &mut BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        names.insert(path.strip_prefix(root)?.to_owned());
        if path.is_dir() {
            names_below(root, &path, names)?;
        }
    }
    Ok(())
}

/// A program of the system that lies in `root`. An absolute link in it (Debian's /sbin/ip is one) leads out of it, to this
/// machine's program.
fn found(root: &Path, name: &str) -> Result<PathBuf> {
    let root = fs::canonicalize(root).with_context(|| format!("no system in {}", root.display()))?;
    ["usr/sbin", "sbin", "usr/bin", "bin"]
        .iter()
        .map(|directory| root.join(directory).join(name))
        .find(|path| fs::canonicalize(path).is_ok_and(|program| program.starts_with(&root)))
        .with_context(|| format!("{name} is not where Debian puts it in {}; run `cargo xtask setup`", root.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_out_of_an_unpacked_system_is_not_taken_for_its_program() {
        let root = std::env::temp_dir().join(format!("millrace-found-{}", std::process::id()));
        for directory in ["sbin", "bin"] {
            fs::create_dir_all(root.join(directory)).expect("a directory of our own");
        }
        symlink("/bin/sh", root.join("sbin/sh")).expect("a link");
        assert!(found(&root, "sh").is_err());
        fs::write(root.join("bin/sh"), "").expect("a file");
        let program = found(&root, "sh");
        fs::remove_dir_all(&root).expect("ours to remove");
        assert!(program.expect("the file").ends_with("bin/sh"));
    }

    /// The bench names the directory of its figures after families and clients.
    #[test]
    fn figures_of_all_families_and_clients_leave_the_machine() {
        for directory in ["benchmarks", "benchmarks-ipv6", "benchmarks-through-dual"] {
            let at = std::env::temp_dir().join(format!("millrace-services-{}", std::process::id()));
            let _ = fs::remove_dir_all(&at);
            fs::create_dir_all(&at).expect("a directory of our own");
            let path = |name: &str| at.join(name).display().to_string();
            let bench = "bench() { mkdir -p target/bench/$2 && echo figures >target/bench/$2/services.json; }; bench";
            let script = SERVICES
                .replace("/run/bench", &path("bench"))
                .replace("/sys/fs/cgroup/cgroup.subtree_control", &path("controllers"))
                .replace("stty ", ": ")
                .replace("/dev/ttyS1", &path("line"))
                .replace("@BENCH@", bench)
                .replace("@ARGUMENTS@", &format!("services {directory}"))
                .replace("@RESULT@", "result");
            let said = capture(program("sh").args(["-c", &script])).expect("the script");
            let figures = fs::read_to_string(at.join("line"));
            fs::remove_dir_all(&at).expect("ours to remove");
            assert_eq!((said.as_str(), figures.expect(directory).as_str()), ("result services 0\n", "figures\n"));
        }
    }
}
