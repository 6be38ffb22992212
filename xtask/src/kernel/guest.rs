//! Runs QEMU: with the processor's virtualisation where that works, else by emulation, which is slower and enough.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};

use super::{Platform, Prepared, console::Console};

/// A machine under KVM says its first word within two seconds. One that does not will not: some nested hypervisors
/// offer /dev/kvm and stop at the first instruction that they do not know.
const KVM_PATIENCE: Duration = Duration::from_secs(6);

/// Emulated, the first word comes after three seconds here.
const BOOT_PATIENCE: Duration = Duration::from_secs(120);

/// For all tests of one kernel, emulated, on a slow machine, beside the other kernels.
const PATIENCE: Duration = Duration::from_secs(3600);

/// A kernel that panics before the first test says something of the emulator, nothing of what is tested.
const BOOTS: u32 = 3;

/// One instruction is one nanosecond of the machine's time, and nothing else makes it pass: not the load of the host,
/// not its clock, not its random numbers.
const COUNTING: [&str; 12] = [
    "-accel",
    "tcg",
    "-cpu",
    "max",
    "-icount",
    "shift=0,sleep=off",
    "-rtc",
    "base=2025-01-01,clock=vm",
    "-seed",
    "1",
    "-smp",
    "1",
];

/// Two processors: the maps' races are between them.
const PAIR: [&str; 2] = ["-smp", "2"];

/// The memory is taken only as it is used.
const MACHINE: [&str; 7] = ["-m", "2048", "-nographic", "-nodefaults", "-no-reboot", "-serial", "stdio"];

/// Boots one, copies its console to its log and, under its name, to standard output, and judges it. Returns what it said
/// for the record.
pub(crate) fn boot(machine: &Prepared) -> Result<Vec<String>> {
    let Prepared { name, platform, .. } = *machine;
    let mut console = Console::default();
    if platform == Platform::X86 && OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok() {
        console = machine.watch(&[&["-accel", "kvm", "-cpu", "host"][..], &PAIR].concat(), KVM_PATIENCE)?;
        if !console.began {
            println!("{name:>5} | KVM is there but starts no machine: emulating");
        }
    }
    for attempt in 1..=BOOTS {
        if console.began {
            break;
        }
        if attempt > 1 {
            println!("{name:>5} | the machine ended before its tests began: boot {attempt} of {BOOTS}");
        }
        console = machine.watch(&[platform.emulated(), &PAIR].concat(), BOOT_PATIENCE)?;
    }
    println!("{name:>5} | {} tests; the slowest:", console.times.tests());
    for (test, took) in console.times.slowest() {
        println!("{name:>5} | {:>8.1} s  {test}", took.as_secs_f64());
    }
    machine.judge(console)
}

/// Boots one in which time counts instructions, for one test.
pub(crate) fn count(machine: &Prepared) -> Result<Vec<String>> {
    machine.judge(machine.watch(&COUNTING, BOOT_PATIENCE)?)
}

impl Prepared {
    fn judge(&self, console: Console) -> Result<Vec<String>> {
        let verdict = console.verdict(self.tests);
        verdict.map_err(|why| anyhow!("machine {}: {why}; the console is in {}", self.name, self.log.display()))?;
        Ok(console.records)
    }

    /// Runs the machine until it ends, or until it has said nothing of ours within `patience`.
    fn watch(&self, processors: &[&str], patience: Duration) -> Result<Console> {
        let mut file = File::create(&self.log).with_context(|| format!("cannot write {}", self.log.display()))?;
        let child = Command::new(self.platform.qemu())
            .args(processors)
            .args(MACHINE)
            .args(["-append", self.platform.command_line(), "-kernel"])
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(&self.archive)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file.try_clone()?)
            .spawn()
            .with_context(|| format!("cannot start {}", self.platform.qemu()))?;
        let mut machine = Machine(child);
        let lines = machine.lines()?;
        let (start, mut console) = (Instant::now(), Console::default());
        loop {
            let limit = if console.began { PATIENCE } else { patience };
            let Ok(line) = lines.recv_timeout(limit.saturating_sub(start.elapsed())) else { return Ok(console) };
            writeln!(file, "{line}")?;
            let before = console.began;
            console.line(&line, start.elapsed());
            if before && !console.ended() {
                println!("{:>5} | {line}", self.name);
            }
        }
    }
}

/// A running QEMU, ended when it goes out of scope.
struct Machine(Child);

impl Machine {
    /// The console's lines, until it closes.
    fn lines(&mut self) -> Result<Receiver<String>> {
        let output = self.0.stdout.take().context("QEMU's output is not a pipe")?;
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(receiver)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
