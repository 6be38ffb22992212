//! Runs the rivals' tools inside a network namespace. `setns` in the child instead of `ip netns exec`, which would add
//! a process and a mount namespace to every figure.

use std::{
    fs::File,
    io::Write,
    os::{fd::AsFd, unix::process::CommandExt},
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use millrace_tests::interrupt;

use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{error::Error, tools::Tools};

/// How often a running command is asked for: whether it must end early. Its end is noticed at once.
const LOOK: Duration = Duration::from_millis(200);

/// A named namespace (`/run/netns/NAME`), and how long one command in it may take.
#[derive(Clone, Debug)]
pub struct Namespace {
    pub name: String,
    /// A command that takes longer is killed and reported as [`Error::TooSlow`]; `None`: no bound.
    pub limit: Option<Duration>,
    /// Programs of another release; `None`: those that are installed.
    pub tools: Option<Tools>,
    /// `cgroup.procs` of a cgroup that commands run in.
    pub account: Option<PathBuf>,
    handle: Arc<File>,
}

impl Namespace {
    /// # Errors
    /// There is no namespace of that name.
    pub fn open(name: &str) -> Result<Self, Error> {
        let handle = File::open(format!("/run/netns/{name}"))
            .map_err(|source| Error::Namespace { name: name.to_owned(), source })?;
        Ok(Self { name: name.to_owned(), limit: None, tools: None, account: None, handle: Arc::new(handle) })
    }

    /// Runs a command that must succeed; returns what it printed.
    pub(super) fn run(&self, program: &str, arguments: &[&str], input: String) -> Result<String, Error> {
        let output = self.output(program, arguments, input)?;
        if !output.status.success() {
            return Err(Error::Failed {
                command: shown(program, arguments),
                namespace: self.name.clone(),
                status: output.status,
                stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Whether a command ends with status 0; for questions such as "is this rule there".
    pub(super) fn succeeds(&self, program: &str, arguments: &[&str]) -> Result<bool, Error> {
        Ok(self.output(program, arguments, String::new())?.status.success())
    }

    fn output(&self, program: &str, arguments: &[&str], input: String) -> Result<Output, Error> {
        let handle = Arc::clone(&self.handle);
        let mut account = self.entrance()?;
        let mut command = self.tools.as_ref().map_or_else(|| Command::new(program), |tools| tools.command(program));
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: between fork and exec the closure makes system calls on descriptors that the parent holds open; it
        // allocates nothing and takes no lock.
        unsafe {
            command.pre_exec(move || {
                // "0" is whoever writes it.
                account.as_mut().map_or(Ok(()), |procs| procs.write_all(b"0"))?;
                Ok(setns(handle.as_fd(), CloneFlags::CLONE_NEWNET)?)
            });
        }
        let mut child =
            command.spawn().map_err(|source| Error::Start { command: shown(program, arguments), source })?;
        let pid = Pid::from_raw(child.id().cast_signed());
        let stdin = child.stdin.take();
        // On threads: rules and answers are larger than a pipe, and a bound in time must not cost a poll interval.
        thread::spawn(move || {
            // A tool that stops reading reports why through its status.
            stdin.map(|mut stdin| stdin.write_all(input.as_bytes()))
        });
        let (done, finished) = mpsc::channel();
        thread::spawn(move || done.send(child.wait_with_output()));
        let start = Instant::now();
        loop {
            let left = self.limit.map_or(LOOK, |limit| limit.saturating_sub(start.elapsed()));
            match finished.recv_timeout(left.min(LOOK)) {
                Ok(report) => return report.map_err(|_| Error::Lost { command: shown(program, arguments) }),
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(Error::Lost { command: shown(program, arguments) });
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let interrupted = interrupt::check();
                    let limit = self.limit.filter(|limit| start.elapsed() >= *limit);
                    if interrupted.is_ok() && limit.is_none() {
                        continue;
                    }
                    // Gone already: as good as killed.
                    let _ = kill(pid, Signal::SIGKILL);
                    interrupted?;
                    let (command, namespace) = (shown(program, arguments), self.name.clone());
                    return Err(Error::TooSlow { command, namespace, limit: limit.unwrap_or_default() });
                }
            }
        }
    }

    fn entrance(&self) -> Result<Option<File>, Error> {
        let open = |path: &PathBuf| {
            File::options().write(true).open(path).map_err(|source| Error::Account { path: path.clone(), source })
        };
        self.account.as_ref().map(open).transpose()
    }

    /// Sets a variable under /proc/sys of the namespace.
    pub(super) fn sysctl(&self, path: &str, value: &'static str) -> Result<(), Error> {
        let file = format!("/proc/sys/{path}");
        // A thread of its own, since a namespace is the thread's: it ends there.
        let written = thread::scope(|scope| {
            let work = scope.spawn(|| {
                setns(self.handle.as_fd(), CloneFlags::CLONE_NEWNET)?;
                std::fs::write(&file, value)
            });
            work.join().unwrap_or_else(|_| Err(std::io::Error::other("the thread that writes it panicked")))
        });
        written.map_err(|source| Error::Sysctl { path: path.to_owned(), namespace: self.name.clone(), value, source })
    }
}

fn shown(program: &str, arguments: &[&str]) -> String {
    std::iter::once(program).chain(arguments.iter().copied()).collect::<Vec<_>>().join(" ")
}
