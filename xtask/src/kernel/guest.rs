//! Runs QEMU: with the processor's virtualisation where that works, else by emulation, which is slower and enough.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};

use super::{Measured, Platform, Prepared, console::Console};

/// A machine under KVM says its first word within two seconds. One that does not will not: some nested hypervisors
/// offer /dev/kvm and stop at the first instruction that they do not know.
const KVM_PATIENCE: Duration = Duration::from_secs(6);

/// Emulated, the first word comes after three seconds here.
const BOOT_PATIENCE: Duration = Duration::from_secs(120);

/// For all tests of one kernel, or for the benchmarks, emulated, on a slow machine, beside the other kernels.
const PATIENCE: Duration = Duration::from_secs(3600);

/// A kernel that panics before the first test says something of the emulator, nothing of what is tested.
const BOOTS: u32 = 3;

/// One instruction is one nanosecond of the machine's time, and nothing else makes it pass: not the load of the host,
/// not its clock.
const COUNTING: [&str; 8] = ["-accel", "tcg", "-cpu", "max", "-icount", "shift=0,sleep=off", "-smp", "1"];

/// The day and the random numbers are always the same.
const REPEATED: [&str; 4] = ["-rtc", "base=2025-01-01,clock=vm", "-seed", "1"];

/// It begins today.
const TODAY: [&str; 2] = ["-rtc", "base=utc,clock=vm"];

/// Memory for large clusters, taken only as it is used.
const LARGE: [&str; 2] = ["-m", "6144"];

const KVM: [&str; 4] = ["-accel", "kvm", "-cpu", "host"];

/// Two processors: the maps' races are between them.
const PAIR: [&str; 2] = ["-smp", "2"];

/// The memory is taken only as it is used.
const MACHINE: [&str; 7] = ["-m", "2048", "-nographic", "-nodefaults", "-no-reboot", "-serial", "stdio"];

/// Boots one, copies its console to its log and, under its name, to standard output, and judges it. Returns what it said
/// for the record.
pub(crate) fn boot(machine: &Prepared) -> Result<Vec<String>> {
    let name = machine.name;
    let (console, _) = machine.run(&PAIR, &[machine.platform.emulated(), &PAIR].concat())?;
    println!("{name:>5} | {} tests; the slowest:", console.times.tests());
    for (test, took) in console.times.slowest() {
        println!("{name:>5} | {:>8.1} s  {test}", took.as_secs_f64());
    }
    machine.judge(console, machine.tests)
}

/// Boots one that runs the benchmarks. Where it has to be emulated, its clock counts instructions: an emulated processor's
/// times would be the host's load.
pub(crate) fn measure(machine: &Prepared) -> Result<Measured> {
    let line = format!("file:{}", machine.figures.display());
    let more = [&LARGE[..], &["-serial", &line]].concat();
    let (console, emulated) = machine.run(&[&PAIR[..], &more].concat(), &[&COUNTING[..], &TODAY, &more].concat())?;
    machine.judge(console, 1)?;
    let figures = fs::read_to_string(&machine.figures)
        .with_context(|| format!("machine {}: cannot read {}", machine.name, machine.figures.display()))?;
    Ok(Measured { figures, emulated })
}

/// Boots one in which time counts instructions, for one test.
pub(crate) fn count(machine: &Prepared) -> Result<Vec<String>> {
    machine.judge(machine.watch(&[&COUNTING[..], &REPEATED].concat(), BOOT_PATIENCE)?, machine.tests)
}

impl Prepared {
    /// Runs it to its end: with the processor's virtualisation and these options, or, where that does not work, with those
    /// for an emulated one. Which, says the second of both.
    fn run(&self, virtualised: &[&str], emulated: &[&str]) -> Result<(Console, bool)> {
        let name = self.name;
        if self.platform == Platform::X86 && OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok() {
            let console = self.watch(&[&KVM[..], virtualised].concat(), KVM_PATIENCE)?;
            if console.began {
                return Ok((console, false));
            }
            println!("{name:>5} | KVM is there but starts no machine: emulating");
        }
        let mut console = self.watch(emulated, BOOT_PATIENCE)?;
        for attempt in 2..=BOOTS {
            if console.began {
                break;
            }
            println!("{name:>5} | the machine ended before its tests began: boot {attempt} of {BOOTS}");
            console = self.watch(emulated, BOOT_PATIENCE)?;
        }
        Ok((console, true))
    }

    fn judge(&self, console: Console, expected: usize) -> Result<Vec<String>> {
        let verdict = console.verdict(expected);
        verdict.map_err(|why| anyhow!("machine {}: {why}; the console is in {}", self.name, self.log.display()))?;
        Ok(console.records)
    }

    /// Runs the machine until it ends, or until it has said nothing of ours within `patience`.
    fn watch(&self, options: &[&str], patience: Duration) -> Result<Console> {
        let mut file = File::create(&self.log).with_context(|| format!("cannot write {}", self.log.display()))?;
        let child = Command::new(self.platform.qemu())
            .args(MACHINE)
            .args(options)
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
