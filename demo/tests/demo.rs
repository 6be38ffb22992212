//! The demo as its user sees it: a program that tells its story to the end, or to Ctrl-C or its terminal's end, and leaves nothing behind.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends at what it did not expect")]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use millrace_tests::{netns::PREFIX, place};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tempfile::TempDir;

/// For all of it, on a machine that has other things to do; it takes half a minute.
const STORY: Duration = Duration::from_secs(300);
/// From Ctrl-C to the end; it takes a second or two.
const END: Duration = Duration::from_secs(60);

/// The demo under way; dropped before its end it is interrupted, so that it takes its stage down.
struct Demo {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    printed: String,
    /// For its temporary files.
    directory: TempDir,
}

impl Demo {
    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_millrace-demo"));
        command.args(["--pace", "4"]).env("TMPDIR", directory.path());
        // As a shell starts a program: Ctrl-C reaches it and the commands that it runs, not the tests.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdout, stderr) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        Self { child, stdout, stderr, printed: String::new(), directory }
    }

    /// Waits for a line with this text in it.
    fn wait_for(&mut self, text: &str) {
        while let Ok(line) = self.stdout.recv_timeout(STORY) {
            self.printed.push_str(&line);
            if line.contains(text) {
                return;
            }
        }
        panic!("`{text}` is not printed:\n{}", self.all_that_was_said());
    }

    fn signal(&self, signal: Signal) {
        killpg(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    fn wait(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("it does not end in {patience:?}:\n{}", self.all_that_was_said());
    }

    fn all_that_was_said(&mut self) -> String {
        self.printed.extend(self.stdout.try_iter());
        format!("{}{}", self.printed, self.stderr.try_iter().collect::<String>())
    }

    /// Whatever carries its process id in its name or runs among such: namespaces, bpf file systems with all pins in
    /// them, mounts, cgroups, processes, temporary files.
    fn on_the_machine(&self) -> Vec<String> {
        let name = format!("{PREFIX}{}-", self.child.id());
        let root = place::root().unwrap();
        let directories = [Path::new("/run/netns"), Path::new("/run/millrace-harness"), &root];
        let mut found = directories.map(|directory| entries(directory, &name)).concat();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        found.extend(mounts.lines().filter(|mount| mount.contains(&name)).map(|mount| format!("mount {mount}")));
        for process in entries(Path::new("/proc"), "") {
            // One that has ended since has no cgroup.
            let cgroup = fs::read_to_string(Path::new(&process).join("cgroup")).unwrap_or_default();
            if cgroup.contains(&name) {
                found.push(format!("process {process}"));
            }
        }
        found.extend(entries(self.directory.path(), ""));
        found
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(Signal::SIGINT);
            let deadline = Instant::now() + END;
            while self.child.try_wait().is_ok_and(|status| status.is_none()) && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(10));
            }
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (line, received) = channel();
    thread::spawn(move || {
        for text in BufReader::new(from).lines().map_while(Result::ok) {
            // Nobody listens after a test's end.
            drop(line.send(text + "\n"));
        }
    });
    received
}

fn entries(directory: &Path, prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    named.map(|entry| entry.path().display().to_string()).collect()
}

#[test]
fn the_story_is_told_to_its_end_without_a_failed_request() {
    let mut demo = Demo::start();
    demo.wait_for("serves 12 services");
    // What is not seen now could not be missed at the end.
    let on_stage = demo.on_the_machine().join("\n");
    let (cgroups, files) = (place::root().unwrap(), demo.directory.path());
    let (cgroups, files) = (cgroups.to_str().unwrap(), files.to_str().unwrap());
    for kind in ["/run/netns/", "/run/millrace-harness/", "mount ", "process ", cgroups, files] {
        assert!(on_stage.contains(kind), "no {kind} in\n{on_stage}");
    }
    let status = demo.wait(STORY);
    let left = demo.on_the_machine();
    let said = demo.all_that_was_said();
    assert!(status.success(), "{status}\n{said}");
    assert_eq!(left, [""; 0], "is left behind\n{said}");

    let mut rest = said.as_str();
    for line in [
        "A cluster on this machine",
        "✓ node-a in eu-central-1a, node-b in eu-central-1b; 28 pods",
        "1  Traffic by service",
        "refused at once",
        "cart             zone hints",
        " requests, none failed",
        "2  A backend leaves, another comes",
        "• cart-a1 left the slices: no request reaches it",
        "• cart-a1 is stopped",
        "• cart-a9 was added to the slices: its first request came",
        " requests, 0 failed; cart-a1 ",
        " requests, none failed",
        "3  kill -9 of the agents",
        "• millrace-agent on node-a killed",
        "• millrace-agent on node-b killed",
        "• millrace-agent on node-a is back",
        "• millrace-agent on node-b is back",
        " requests, none failed",
        "4  Connect latency",
        "IPv4  direct p50",
        "IPv6  direct p50",
        "In all",
        " requests, 0 failed",
    ] {
        let (_, after) = rest.split_once(line).unwrap_or_else(|| panic!("no `{line}`, or too early:\n{said}"));
        rest = after;
    }
}

/// `signal` once `moment` has come.
fn interrupted(signal: Signal, moment: impl FnOnce(&mut Demo)) {
    let mut demo = Demo::start();
    moment(&mut demo);
    assert_ne!(demo.on_the_machine(), [""; 0], "there is nothing to take down");
    demo.signal(signal);
    let status = demo.wait(END);
    let left = demo.on_the_machine();
    let said = demo.all_that_was_said();
    assert_eq!(status.code(), Some(130), "{status}\n{said}");
    assert!(said.contains("interrupted; everything is taken down"), "{said}");
    assert_eq!(left, [""; 0], "is left behind\n{said}");
}

#[test]
fn ctrl_c_while_pods_are_wired_takes_everything_down() {
    interrupted(Signal::SIGINT, |demo| {
        let deadline = Instant::now() + STORY;
        while !demo.on_the_machine().iter().any(|name| name.ends_with("-cart-a2")) {
            assert!(Instant::now() < deadline, "no pod is wired:\n{}", demo.all_that_was_said());
            thread::sleep(Duration::from_millis(2));
        }
    });
}

#[test]
fn ctrl_c_while_agents_start_takes_everything_down() {
    interrupted(Signal::SIGINT, |demo| demo.wait_for("28 pods"));
}

#[test]
fn ctrl_c_under_load_takes_everything_down() {
    interrupted(Signal::SIGINT, |demo| demo.wait_for("1  Traffic by service"));
}

#[test]
fn a_terminal_that_is_closed_takes_everything_down() {
    interrupted(Signal::SIGHUP, |demo| demo.wait_for("1  Traffic by service"));
}
