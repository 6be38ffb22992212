//! The product itself: `millrace-agent`, run on a node as an operator would run it, told what to do by its command
//! line and its directory of manifests only.

use std::{
    env,
    ffi::{CStr, CString},
    fs::{self, File},
    io,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid, setuid},
};

use crate::{
    interrupt,
    manifests::Manifests,
    mark::Mark,
    node::Node,
    place::{self, Place},
};

/// How long an agent may take to say or do anything at all; generous, since emulated machines run this too: one under load
/// takes 70 s there for the verifier alone, on a slow host.
const PATIENCE: Duration = Duration::from_secs(300);

const NOBODY: Uid = Uid::from_raw(65534);

/// A running agent; dropping it kills it. What it pinned stays until its node goes.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    binary: PathBuf,
    bpffs: PathBuf,
    log: PathBuf,
}

impl Agent {
    /// Starts it on `node` and waits until all that `manifests` holds is in force. `arguments` are added to those
    /// that every node needs.
    ///
    /// # Errors
    /// If it is not built, does not start or does not come so far; with the end of its log.
    pub fn start(node: &Node, manifests: &Manifests, arguments: &[&str]) -> Result<Self> {
        let mut agent = Self::spawn(node, manifests, arguments)?;
        agent.settle(manifests)?;
        Ok(agent)
    }

    /// Starts it and waits for nothing.
    ///
    /// # Errors
    /// If it is not built or cannot be run.
    pub fn spawn(node: &Node, manifests: &Manifests, arguments: &[&str]) -> Result<Self> {
        Self::run(node, manifests, arguments, |command| {
            name(node, command);
            command.arg("--cgroup-root").arg(&node.cgroup.path);
            Ok(())
        })
    }

    /// As [`Agent::spawn`], of an agent that nobody tells the node's addresses.
    ///
    /// # Errors
    /// As [`Agent::spawn`].
    pub fn spawn_nameless(node: &Node, manifests: &Manifests, arguments: &[&str]) -> Result<Self> {
        Self::run(node, manifests, arguments, |command| {
            command.arg("--cgroup-root").arg(&node.cgroup.path);
            Ok(())
        })
    }

    /// As [`Agent::start`], of an agent that looks for the cgroup v2 hierarchy by itself, where the node's own cgroup is all
    /// that is to be seen of it.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub fn start_in_own_hierarchy(node: &Node, manifests: &Manifests) -> Result<Self> {
        let roots = paths(place::roots()?)?;
        let own = CString::new(node.cgroup.path.as_os_str().as_bytes())?;
        let mut agent = Self::run(node, manifests, &[], |command| {
            name(node, command);
            let prepare = move || {
                own_mounts()?;
                let none: Option<&CStr> = None;
                // What is mounted over the first root hides the rest of the hierarchy, `own` included.
                let mut from = own.as_c_str();
                for root in &roots {
                    mount(Some(from), root.as_c_str(), none, MsFlags::MS_BIND, none)?;
                    from = root;
                }
                Ok(())
            };
            // SAFETY: only system calls between fork and exec, no allocation, no lock.
            unsafe { command.pre_exec(prepare) };
            Ok(())
        })?;
        agent.settle(manifests)?;
        Ok(agent)
    }

    fn run(
        node: &Node,
        manifests: &Manifests,
        arguments: &[&str],
        prepare: impl FnOnce(&mut Command) -> Result<()>,
    ) -> Result<Self> {
        let binary = binary()?;
        let log = manifests.beside().join(format!("agent-{}.log", node.name));
        let output = File::options().create(true).append(true).open(&log)?;
        let mut command = node.place().command(&binary)?;
        command.args(["run", "--node-name", &node.name, "--zone", &node.zone]);
        command
            .arg("--source")
            .arg(format!("dir:{}", manifests.path().display()))
            .arg("--bpffs")
            .arg(&node.bpffs.path)
            .args(["--service-cidr", "10.96.0.0/12", "--service-cidr", "fd00:10:96::/48"])
            .stdout(output.try_clone()?)
            .stderr(output);
        prepare(&mut command)?;
        // Last: they may say otherwise.
        command.args(arguments);
        let child = command.spawn().with_context(|| format!("cannot run {}", binary.display()))?;
        Ok(Self { child, binary, bpffs: node.bpffs.path.clone(), log })
    }

    /// Waits until what the manifests say now is in force: writes one more Service and waits for it to be.
    ///
    /// # Errors
    /// If that takes too long or the agent has ended; with the end of its log.
    pub fn settle(&mut self, manifests: &Manifests) -> Result<()> {
        let mark = Mark::write(manifests)?;
        self.wait_for(&mark)
    }

    /// Waits until the programs know a Service.
    ///
    /// # Errors
    /// As [`Agent::settle`], and [`interrupt::Interrupted`].
    pub fn wait_for(&mut self, mark: &Mark) -> Result<()> {
        let start = Instant::now();
        loop {
            if mark.is_programmed(&self.bpffs) {
                // It is programmed last or nearly so; what shares its batch follows at once.
                thread::sleep(Duration::from_millis(30));
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the agent has ended ({status}):\n{}", self.log_tail());
            }
            if start.elapsed() > PATIENCE {
                let services = self.ask(&["services"]);
                bail!("{mark:?} is not programmed after {PATIENCE:?}: {services:?}\n{}", self.log_tail());
            }
            interrupt::pause(Duration::from_millis(5))?;
        }
    }

    /// One of the verbs that read the pinned maps, as JSON text.
    ///
    /// # Errors
    /// What the agent's command line says.
    pub fn ask(&self, verb: &[&str]) -> Result<String> {
        let output = Command::new(&self.binary).args(verb).args(["-o", "json", "--bpffs"]).arg(&self.bpffs).output()?;
        if !output.status.success() {
            bail!("millrace-agent {}: {}", verb.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// SIGTERM, and waits for the end. The data path goes on.
    ///
    /// # Errors
    /// If it does not end, or not well; with the end of its log.
    pub fn terminate(mut self) -> Result<()> {
        let status = self.signal(Signal::SIGTERM)?;
        if !status.success() {
            bail!("the agent ended with {status} on SIGTERM:\n{}", self.log_tail());
        }
        Ok(())
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// If it was not there to be killed.
    pub fn kill(mut self) -> Result<()> {
        let status = self.signal(Signal::SIGKILL)?;
        if status.signal() != Some(Signal::SIGKILL as i32) {
            bail!("the agent had ended before ({status}):\n{}", self.log_tail());
        }
        Ok(())
    }

    fn signal(&mut self, signal: Signal) -> Result<ExitStatus> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(2));
        }
        bail!("the agent does not end on {signal}:\n{}", self.log_tail())
    }

    /// The last lines of what it logged.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if thread::panicking() {
            eprintln!("the agent's log ends so:\n{}", self.log_tail());
        }
    }
}

fn name(node: &Node, command: &mut Command) {
    for address in node.addresses() {
        command.args(["--node-ip", &address.to_string()]);
    }
}

/// Runs `millrace-agent` with exactly these arguments until it ends by itself. `as_user`: without root's capabilities.
///
/// # Errors
/// If it is not built or does not end.
pub fn run_to_end(place: &Place, arguments: &[&str], as_user: bool) -> Result<Output> {
    let drop_root = move || if as_user { Ok(setuid(NOBODY)?) } else { Ok(()) };
    run_after(place, arguments, None, drop_root)
}

/// As [`run_to_end`], as root, where the only programs to be found are those of the directory `tools`.
///
/// # Errors
/// As [`run_to_end`].
pub fn run_with_tools(place: &Place, arguments: &[&str], tools: &Path) -> Result<Output> {
    run_after(place, arguments, Some(tools), || Ok(()))
}

/// As [`run_to_end`], where the kernel's BTF is not to be seen: an empty file system lies over it, in a mount namespace
/// of the agent's own.
///
/// # Errors
/// As [`run_to_end`].
pub fn run_without_btf(place: &Place, arguments: &[&str]) -> Result<Output> {
    run_after(place, arguments, None, || {
        own_mounts()?;
        let none: Option<&CStr> = None;
        Ok(mount(none, c"/sys/kernel/btf", Some(c"tmpfs"), MsFlags::empty(), none)?)
    })
}

/// As [`run_to_end`], where no cgroup v2 hierarchy is mounted.
///
/// # Errors
/// As [`run_to_end`].
pub fn run_without_cgroup2(place: &Place, arguments: &[&str]) -> Result<Output> {
    let roots = paths(place::roots()?)?;
    run_after(place, arguments, None, move || {
        own_mounts()?;
        // Of those that lie over each other the last one goes first.
        roots.iter().rev().try_for_each(|root| Ok(umount2(root.as_c_str(), MntFlags::MNT_DETACH)?))
    })
}

fn paths(paths: Vec<PathBuf>) -> Result<Vec<CString>> {
    paths.into_iter().map(|path| Ok(CString::new(path.into_os_string().into_vec())?)).collect()
}

/// Mounts of the caller's own, for what is to be seen by it only. Only system calls.
fn own_mounts() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&CStr> = None;
    Ok(mount(none, c"/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?)
}

/// `prepare` makes system calls between fork and exec; it allocates nothing and takes no lock.
fn run_after(
    place: &Place,
    arguments: &[&str],
    tools: Option<&Path>,
    prepare: impl Fn() -> io::Result<()> + Send + Sync + 'static,
) -> Result<Output> {
    let mut command = place.command(&binary()?)?;
    command.envs(tools.map(|tools| ("PATH", tools)));
    // After the place's own closure, which needs to be root; so `Command::uid` would come too early.
    // SAFETY: only system calls between fork and exec, no allocation, no lock.
    unsafe { command.pre_exec(prepare) };
    let mut child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            bail!("millrace-agent {} does not end", arguments.join(" "));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(child.wait_with_output()?)
}

/// The agent to run: `MILLRACE_AGENT`, or the one that lies beside the running test; built first where cargo runs the test and the
/// sources are newer.
///
/// # Errors
/// If it cannot be built.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("MILLRACE_AGENT") {
        return Ok(path.into());
    }
    let own = env::current_exe()?;
    // target/debug/deps/test-hash, or target/debug/program.
    let directory = own.parent().context("the running program lies nowhere")?;
    let profile = if directory.ends_with("deps") { directory.parent().unwrap_or(directory) } else { directory };
    let path = profile.join("millrace-agent");
    if let Some(cargo) = env::var_os("CARGO").filter(|_| stale(&path)) {
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", "millrace-agent"]);
        if profile.ends_with("release") {
            build.arg("--release");
        }
        let status = build.current_dir(workspace()).status().context("cannot run cargo")?;
        if !status.success() {
            bail!("cargo build -p millrace-agent failed");
        }
    }
    if !path.is_file() {
        bail!("no agent at {}: cargo build -p millrace-agent", path.display());
    }
    Ok(path)
}

fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// True if a source of the agent is newer than `binary`, or there is no binary.
fn stale(binary: &Path) -> bool {
    let Ok(built) = fs::metadata(binary).and_then(|metadata| metadata.modified()) else { return true };
    ["agent", "common", "ebpf"].iter().any(|part| newest(&workspace().join(part)) > Some(built))
}

fn newest(directory: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name() != "target")
        .filter_map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => newest(&entry.path()),
            _ => entry.metadata().and_then(|metadata| metadata.modified()).ok(),
        })
        .max()
}
