//! One boot: starts QEMU, keeps what its console says, and tells how it came to its end.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{Prepared, console::Console};

/// The memory is taken only as it is used.
const MACHINE: [&str; 7] = ["-m", "2048", "-nographic", "-nodefaults", "-no-reboot", "-serial", "stdio"];

/// How long a machine is waited for.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// Until its tests begin.
    pub(super) boot: Duration,
    /// Then, from one output to the next.
    pub(super) silence: Duration,
    /// From its start to its end.
    pub(super) whole: Duration,
}

/// Why nobody watches any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// QEMU ended: switched off, or a panic.
    Over,
    /// Its tests did not begin within that time.
    NoBegin(Duration),
    /// It said nothing for that time.
    Silent(Duration),
    /// It went on talking, and never came to an end.
    TooLong(Duration),
}

/// A boot that is over.
pub(super) struct Watched {
    pub(super) console: Console,
    pub(super) end: End,
}

impl Watched {
    /// # Errors
    /// Why this boot is no proof that `expected` test binaries passed.
    pub(super) fn verdict(&self, expected: usize) -> Result<(), String> {
        let last = || self.console.last_test().unwrap_or_else(|| "before the first one".to_owned());
        let hung = match self.end {
            End::Silent(time) => format!("said nothing for {} s", time.as_secs()),
            End::TooLong(time) => format!("did not end within {} s", time.as_secs()),
            // The lines themselves say how far it came.
            End::Over | End::NoBegin(_) => return self.console.verdict(expected),
        };
        let more = self.console.verdict(expected).err().unwrap_or_default();
        Err(format!("HANG: the machine {hung}; the last test seen: {}; {more}", last()))
    }
}

/// Runs the machine until it ends, or until patience does.
pub(super) fn watch(machine: &Prepared, options: &[&str], patience: &Patience) -> Result<Watched> {
    let mut file = File::create(&machine.log).with_context(|| format!("cannot write {}", machine.log.display()))?;
    let child = Command::new(machine.platform.qemu())
        .args(MACHINE)
        .args(options)
        .args(["-append", machine.platform.command_line(), "-kernel"])
        .arg(&machine.kernel.image)
        .arg("-initrd")
        .arg(&machine.archive)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(file.try_clone()?)
        .spawn()
        .with_context(|| format!("cannot start {}", machine.platform.qemu()))?;
    let mut running = Running(child);
    let output = running.output()?;
    let (start, mut console) = (Instant::now(), Console::default());
    loop {
        let age = start.elapsed();
        let (limit, end) = limit(console.began, age, patience);
        let bytes = match output.recv_timeout(limit) {
            Ok(bytes) => bytes,
            Err(RecvTimeoutError::Timeout) => return Ok(Watched { console, end }),
            Err(RecvTimeoutError::Disconnected) => return Ok(Watched { console, end: End::Over }),
        };
        file.write_all(&bytes)?;
        // A test's name comes before its verdict, on the same line: of one that hangs, it is all that there is.
        for line in console.take(&bytes) {
            let before = console.began;
            console.line(&line, start.elapsed());
            if before && !console.ended() {
                println!("{:>5} | {line}", machine.name);
            }
        }
    }
}

/// How long the next output is waited for, and what its absence means then.
fn limit(began: bool, age: Duration, patience: &Patience) -> (Duration, End) {
    if !began {
        return (patience.boot.saturating_sub(age), End::NoBegin(patience.boot));
    }
    let rest = patience.whole.saturating_sub(age);
    if rest < patience.silence {
        (rest, End::TooLong(patience.whole))
    } else {
        (patience.silence, End::Silent(patience.silence))
    }
}

/// A running QEMU, ended when it goes out of scope.
struct Running(Child);

impl Running {
    /// What it writes, as it comes, until it closes.
    fn output(&mut self) -> Result<Receiver<Vec<u8>>> {
        let mut output = self.0.stdout.take().context("QEMU's output is not a pipe")?;
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(receiver)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        boot: Duration::from_secs(120),
        silence: Duration::from_secs(600),
        whole: Duration::from_secs(3600),
    };

    fn watched(lines: &str, end: End) -> Watched {
        let mut console = Console::default();
        for line in console.take(lines.as_bytes()) {
            console.line(&line, Duration::ZERO);
        }
        Watched { console, end }
    }

    #[test]
    fn a_machine_may_take_its_time_to_boot_and_then_be_silent_for_a_while_and_never_longer_than_all_tests_take() {
        let seconds = Duration::from_secs;
        assert_eq!(limit(false, seconds(100), &PATIENCE), (seconds(20), End::NoBegin(seconds(120))));
        assert_eq!(limit(true, seconds(100), &PATIENCE), (seconds(600), End::Silent(seconds(600))));
        assert_eq!(limit(true, seconds(3500), &PATIENCE), (seconds(100), End::TooLong(PATIENCE.whole)));
        assert_eq!(limit(true, seconds(4000), &PATIENCE).0, Duration::ZERO);
    }

    #[test]
    fn a_hang_names_the_test_that_never_ended() {
        let lines = "MILLRACE-MACHINE-BEGIN 6.1\nrunning 2 tests\ntest quick ... ok\ntest stuck ... ";
        let why = watched(lines, End::Silent(PATIENCE.silence)).verdict(1).expect_err("it hung");
        assert!(why.contains("said nothing for 600 s; the last test seen: stuck (it did not end)"), "{why}");
    }

    #[test]
    fn a_hang_between_tests_names_the_last_one() {
        let lines = "MILLRACE-MACHINE-BEGIN 6.1\nrunning 1 test\ntest quick ... ok\n";
        let why = watched(lines, End::TooLong(PATIENCE.whole)).verdict(1).expect_err("it hung");
        assert!(why.contains("the last test seen: quick (it ended)"), "{why}");
    }

    #[test]
    fn even_a_machine_whose_tests_all_passed_must_switch_itself_off() {
        let lines = "MILLRACE-MACHINE-BEGIN\nMILLRACE-MACHINE-RESULT kernel_boot 0\nMILLRACE-MACHINE-END 0\n";
        assert_eq!(watched(lines, End::Over).verdict(1), Ok(()));
        assert!(watched(lines, End::Silent(PATIENCE.silence)).verdict(1).is_err());
    }
}
