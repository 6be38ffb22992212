//! Runs the rivals' tools inside a network namespace. `setns` in the child instead of `ip netns exec`, which would add
//! a process and a mount namespace to every figure.

use std::{
    fs::File,
    io::Write,
    os::{fd::AsFd, unix::process::CommandExt},
    process::{Command, Output, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::error::Error;

/// A named namespace (`/run/netns/NAME`), and how long one command in it may take.
#[derive(Clone, Debug)]
pub struct Namespace {
    pub name: String,
    /// A command that takes longer is killed and reported as [`Error::TooSlow`]; `None`: no bound.
    pub limit: Option<Duration>,
    handle: Arc<File>,
}

impl Namespace {
    /// # Errors
    /// There is no namespace of that name.
    pub fn open(name: &str) -> Result<Self, Error> {
        let handle = File::open(format!("/run/netns/{name}"))
            .map_err(|source| Error::Namespace { name: name.to_owned(), source })?;
        Ok(Self { name: name.to_owned(), limit: None, handle: Arc::new(handle) })
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
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: between fork and exec the closure makes one system call on a descriptor that the parent holds open;
        // it allocates nothing and takes no lock.
        unsafe {
            command.pre_exec(move || Ok(setns(handle.as_fd(), CloneFlags::CLONE_NEWNET)?));
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
        let report = match self.limit {
            None => finished.recv().ok(),
            Some(limit) => match finished.recv_timeout(limit) {
                Ok(report) => Some(report),
                Err(mpsc::RecvTimeoutError::Disconnected) => None,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    // Gone already: as good as killed.
                    let _ = kill(pid, Signal::SIGKILL);
                    let (command, namespace) = (shown(program, arguments), self.name.clone());
                    return Err(Error::TooSlow { command, namespace, limit });
                }
            },
        };
        report.and_then(Result::ok).ok_or_else(|| Error::Lost { command: shown(program, arguments) })
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
