//! Where a process lives: a network namespace and a cgroup. Socket hooks run by the cgroup that a socket's creator
//! is in, so whatever stands for a pod's or a node's process must be a child placed here.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::{fd::AsFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    sched::{CloneFlags, setns},
    sys::{prctl, signal::Signal},
};

use crate::netns::PREFIX;

/// A cgroup v2 directory; dropping it kills what runs in it and removes it with its children.
#[derive(Debug)]
pub struct Cgroup {
    pub path: PathBuf,
}

impl Cgroup {
    /// `name` under the root of the cgroup v2 hierarchy.
    ///
    /// # Errors
    /// No cgroup v2 is mounted, or the kernel's.
    pub fn create(name: &str) -> Result<Self> {
        Self::at(root()?.join(name))
    }

    /// A directory inside this one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn child(&self, name: &str) -> Result<Self> {
        Self::at(self.path.join(name))
    }

    fn at(path: PathBuf) -> Result<Self> {
        fs::create_dir(&path).with_context(|| format!("cannot create the cgroup {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove_cgroup(&self.path);
    }
}

/// Where cgroup v2 is mounted; on a hybrid host that is not /sys/fs/cgroup.
///
/// # Errors
/// If it is not mounted.
pub fn root() -> Result<PathBuf> {
    let mounted = roots()?.into_iter().next();
    mounted.context("cgroup v2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")
}

/// Everywhere that it is mounted.
pub(crate) fn roots() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let of = |fields: Vec<&str>| match fields[..] {
        [_, path, "cgroup2", ..] => Some(PathBuf::from(path)),
        _ => None,
    };
    Ok(fields.filter_map(of).collect())
}

fn remove_cgroup(path: &Path) {
    drop(fs::write(path.join("cgroup.kill"), "1"));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    // A killed process leaves its cgroup a moment later.
    let deadline = Instant::now() + Duration::from_secs(2);
    while fs::remove_dir(path).is_err_and(|e| e.kind() == io::ErrorKind::ResourceBusy) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(2));
    }
}

/// Removes the cgroups of harness processes that are gone.
pub fn sweep() {
    for entry in root().and_then(|root| Ok(fs::read_dir(root)?)).into_iter().flatten().flatten() {
        if owner_is_gone(&entry.file_name().to_string_lossy()) {
            remove_cgroup(&entry.path());
        }
    }
}

/// True for a name of the harness (`mr-PID-...`) whose process has ended.
pub fn owner_is_gone(name: &str) -> bool {
    name.strip_prefix(PREFIX)
        .and_then(|rest| rest.split('-').next())
        .and_then(|pid| pid.parse::<u32>().ok())
        .is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

/// A network namespace and a cgroup.
#[derive(Clone, Debug)]
pub struct Place {
    pub netns: Arc<File>,
    pub cgroup: PathBuf,
}

impl Place {
    /// A command that will run here, in a process group of its own, and that dies with the thread that starts it.
    ///
    /// # Errors
    /// If the cgroup is gone.
    pub fn command(&self, program: &Path) -> Result<Command> {
        let procs = self.cgroup.join("cgroup.procs");
        let mut procs =
            OpenOptions::new().write(true).open(&procs).with_context(|| format!("cannot open {}", procs.display()))?;
        let netns = Arc::clone(&self.netns);
        let mut command = Command::new(program);
        command.process_group(0);
        // SAFETY: between fork and exec the closure only makes system calls (setns, write, prctl); it allocates
        // nothing and takes no lock.
        unsafe {
            command.pre_exec(move || {
                setns(netns.as_fd(), CloneFlags::CLONE_NEWNET)?;
                // "0" is whoever writes it.
                procs.write_all(b"0")?;
                prctl::set_pdeathsig(Signal::SIGKILL)?;
                Ok(())
            });
        }
        Ok(command)
    }
}
