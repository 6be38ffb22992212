//! Runs QEMU: with the processor's virtualisation where that works, else by emulation, which is slower and enough.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};

use super::{console::Console, package::Kernel};

/// A machine under KVM says its first word within two seconds. One that does not will not: some nested hypervisors
/// offer /dev/kvm and stop at the first instruction that they do not know.
const KVM_PATIENCE: Duration = Duration::from_secs(6);

/// Emulated, the first word comes after three seconds here.
const BOOT_PATIENCE: Duration = Duration::from_secs(120);

/// For all tests of one kernel, emulated, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(900);

/// One thread for both processors: with two, a kernel that patches its own code under way (static keys) is now and then
/// caught in the middle of an instruction.
const EMULATED: [&str; 4] = ["-accel", "tcg,thread=single", "-cpu", "max"];

/// A kernel that panics before the first test says something of the emulator, nothing of what is tested.
const BOOTS: u32 = 3;

/// Two processors: the maps' races are between them. The memory is taken only as it is used.
const MACHINE: [&str; 9] = ["-smp", "2", "-m", "2048", "-nographic", "-nodefaults", "-no-reboot", "-serial", "stdio"];

/// A panic ends the machine at once; of the kernel's messages, errors and worse go to the console.
const COMMAND_LINE: &str = "console=ttyS0 panic=-1 loglevel=4 net.ifnames=0";

/// How machines run here. Found out by the first one that is booted.
pub(crate) struct Machines {
    kvm: bool,
}

impl Machines {
    pub(crate) fn new() -> Self {
        Self { kvm: OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok() }
    }

    /// Boots one, copies its console to `log` and to standard output, and judges it.
    pub(crate) fn boot(&mut self, kernel: &Kernel, archive: &Path, expected: usize, log: &Path) -> Result<()> {
        let mut console = Console::default();
        if self.kvm {
            console = watch(kernel, archive, &["-accel", "kvm", "-cpu", "host"], KVM_PATIENCE, log)?;
            self.kvm = console.began;
            if !self.kvm {
                println!("KVM is there but starts no machine: emulating");
            }
        }
        for attempt in 1..=BOOTS {
            if console.began {
                break;
            }
            if attempt > 1 {
                println!("the machine ended before its tests began: boot {attempt} of {BOOTS}");
            }
            console = watch(kernel, archive, &EMULATED, BOOT_PATIENCE, log)?;
        }
        console.verdict(expected).map_err(|why| anyhow!("{why}; the console is in {}", log.display()))
    }
}

/// Runs one machine until it ends, or until it has said nothing of ours within `patience`.
fn watch(kernel: &Kernel, archive: &Path, accelerator: &[&str], patience: Duration, log: &Path) -> Result<Console> {
    let mut file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let child = Command::new("qemu-system-x86_64")
        .args(accelerator)
        .args(MACHINE)
        .args(["-append", COMMAND_LINE, "-kernel"])
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(archive)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(file.try_clone()?)
        .spawn()
        .context("cannot start qemu-system-x86_64")?;
    let mut machine = Machine(child);
    let lines = machine.lines()?;
    let (start, mut console) = (Instant::now(), Console::default());
    loop {
        let limit = if console.began { PATIENCE } else { patience };
        let Ok(line) = lines.recv_timeout(limit.saturating_sub(start.elapsed())) else { return Ok(console) };
        writeln!(file, "{line}")?;
        let before = console.began;
        console.line(&line);
        if before && !console.ended() {
            println!("  | {line}");
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
