//! Starts `millrace-probe` in a pod or on a node and reads what it prints.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, ChildStdout, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;

use crate::{
    place::Place,
    probe::{Attempt, LoadReport, Manner, Outcome, Protocol, StreamLine},
};

/// A running probe; dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Manner {
    /// As few seconds as a test can do with: 1 s of patience.
    #[must_use]
    pub const fn of(protocol: Protocol) -> Self {
        Self { protocol, timeout: 1000, every: 0 }
    }

    fn arguments(&self) -> [String; 6] {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::UdpUnconnected => "udp-unconnected",
            Protocol::UdpOneSocket => "udp-one-socket",
        };
        let [timeout, every] = [self.timeout, self.every].map(|ms| ms.to_string());
        ["--protocol".into(), protocol.into(), "--timeout".into(), timeout, "--every".into(), every]
    }
}

/// The probe lies beside the test that runs it.
fn binary() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let found = own.ancestors().map(|directory| directory.join("millrace-probe")).find(|path| path.is_file());
    found.with_context(|| format!("no millrace-probe beside {}: cargo build -p millrace-tests", own.display()))
}

fn start(place: &Place, arguments: &[String]) -> Result<(Running, ChildStdout)> {
    let mut command = place.command(&binary()?)?;
    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start millrace-probe {}", arguments.join(" ")))?;
    let stdout = child.stdout.take().context("no standard output")?;
    Ok((Running { child }, stdout))
}

fn finish<T: DeserializeOwned>(mut running: Running, mut stdout: impl Read) -> Result<T> {
    drop(running.child.stdin.take());
    let mut text = String::new();
    stdout.read_to_string(&mut text)?;
    let status = running.child.wait()?;
    if !status.success() {
        bail!("millrace-probe ended with {status}");
    }
    let last = text.lines().last().context("millrace-probe printed nothing")?;
    serde_json::from_str(last).with_context(|| format!("millrace-probe printed {last}"))
}

/// Starts a server that answers by `name`; it is up when this returns.
///
/// # Errors
/// If it does not start.
pub fn serve(place: &Place, name: &str, port: u16) -> Result<Running> {
    let arguments = ["serve".into(), "--name".into(), name.to_owned(), "--port".into(), port.to_string()];
    let (running, stdout) = start(place, &arguments)?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    if line.trim() != "ready" {
        bail!("server {name} did not start: {line}");
    }
    Ok(running)
}

/// Tries `count` times, the targets in turn, a new socket each time.
///
/// # Errors
/// If the probe cannot run; what becomes of the attempts is no error.
pub fn connect(place: &Place, to: &[SocketAddr], count: usize, manner: &Manner) -> Result<Vec<Attempt>> {
    let mut arguments = vec!["connect".to_owned(), "--count".into(), count.to_string()];
    arguments.extend(to.iter().flat_map(|to| ["--to".to_owned(), to.to_string()]));
    arguments.extend(manner.arguments());
    let (running, stdout) = start(place, &arguments)?;
    finish(running, stdout)
}

/// Connections without end.
#[derive(Debug)]
pub struct Load {
    running: Running,
    stdout: ChildStdout,
}

impl Load {
    /// # Errors
    /// If the probe cannot run.
    pub fn start(place: &Place, to: &[SocketAddr], workers: usize, manner: &Manner) -> Result<Self> {
        let mut arguments = vec!["load".to_owned(), "--workers".into(), workers.to_string()];
        arguments.extend(to.iter().flat_map(|to| ["--to".to_owned(), to.to_string()]));
        arguments.extend(manner.arguments());
        let (running, stdout) = start(place, &arguments)?;
        Ok(Self { running, stdout })
    }

    /// Ends it and tells what became of all connections.
    ///
    /// # Errors
    /// If the probe died.
    pub fn stop(self) -> Result<LoadReport> {
        finish(self.running, self.stdout)
    }
}

/// One socket that goes on talking.
#[derive(Debug)]
pub struct Stream {
    running: Running,
    lines: Receiver<StreamLine>,
    last: Option<StreamLine>,
}

impl Stream {
    /// # Errors
    /// If the probe cannot run.
    pub fn start(place: &Place, to: SocketAddr, manner: &Manner) -> Result<Self> {
        let mut arguments = vec!["stream".to_owned(), "--to".into(), to.to_string()];
        arguments.extend(manner.arguments());
        let (running, stdout) = start(place, &arguments)?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
                let Ok(line) = serde_json::from_str(&line) else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { running, lines, last: None })
    }

    /// Waits until an exchange ends as `wanted`.
    ///
    /// # Errors
    /// If none does within `patience`; says how the last one ended.
    pub fn wait_for(&mut self, patience: Duration, wanted: impl Fn(&Outcome) -> bool) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            if self.last.as_ref().is_some_and(|line| wanted(&line.outcome)) {
                return Ok(());
            }
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.last = Some(line),
                Err(RecvTimeoutError::Timeout) => bail!("not within {patience:?}; last seen: {:?}", self.last),
                Err(RecvTimeoutError::Disconnected) => bail!("the stream has ended with {:?}", self.last),
            }
        }
    }

    /// Ends it; every change of outcome since the last [`Stream::wait_for`], and the end.
    ///
    /// # Errors
    /// If the probe died before.
    pub fn stop(mut self) -> Result<Vec<StreamLine>> {
        drop(self.running.child.stdin.take());
        let lines: Vec<_> = self.last.take().into_iter().chain(self.lines.iter()).collect();
        if !self.running.child.wait()?.success() || lines.is_empty() {
            bail!("the stream died; it said {lines:?}");
        }
        Ok(lines)
    }
}
