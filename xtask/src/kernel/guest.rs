//! Runs QEMU: with the processor's virtualisation where that works, else by emulation, which is slower and enough.

use std::{
    fs::{self, OpenOptions},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{
    Measured, Platform, Prepared,
    attempt::{Next, next},
    watch::{Patience, Watched, watch},
};

/// A machine under KVM says its first word within two seconds. One that does not will not: some nested hypervisors
/// offer /dev/kvm and stop at the first instruction that they do not know.
const KVM_PATIENCE: Duration = Duration::from_secs(6);

/// Emulated, the first word comes after three seconds here. A machine under test may say nothing for so long, then it hangs: a
/// test writes its name before it runs and its verdict after, and this is a little more than the longest that one waits for
/// anything, a quarter of an hour (the race of flips). The whole bounds all tests of one kernel, on a slow host, beside the other
/// kernels; those few of a run of everything took 18 minutes.
const OF_TESTS: Patience = Patience {
    boot: Duration::from_secs(120),
    silence: Duration::from_secs(960),
    whole: Duration::from_secs(2 * 3600),
};

/// Thousands of services of a rival are laid out in silence, by a processor whose clock counts instructions.
const OF_FIGURES: Patience =
    Patience { silence: Duration::from_secs(1800), whole: Duration::from_secs(4 * 3600), ..OF_TESTS };

/// An emulator that hangs says nothing of what is tested. Nothing else is tried again: see [`next`].
const BOOTS: u32 = 3;

/// Opens the names of logs of boots that failed before their tests began.
const KEPT: &str = "console-";

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

/// Boots one, copies its console to its log and, under its name, to standard output, and judges it. Returns what it said
/// for the record.
pub(crate) fn boot(machine: &Prepared) -> Result<Vec<String>> {
    let name = machine.name;
    let ran = machine.run(&PAIR, &[machine.platform.emulated(), &PAIR].concat(), OF_TESTS)?;
    println!("{name:>5} | {} tests; the slowest:", ran.watched.console.times.tests());
    for (test, took) in ran.watched.console.times.slowest() {
        println!("{name:>5} | {:>8.1} s  {test}", took.as_secs_f64());
    }
    machine.judge(ran, machine.tests)
}

/// Boots one that runs the benchmarks. Where it has to be emulated, its clock counts instructions: an emulated processor's
/// times would be the host's load.
pub(crate) fn measure(machine: &Prepared) -> Result<Measured> {
    let line = format!("file:{}", machine.figures.display());
    let more = [&LARGE[..], &["-serial", &line]].concat();
    let counting = [&COUNTING[..], &TODAY, &more].concat();
    let ran = machine.run(&[&PAIR[..], &more].concat(), &counting, OF_FIGURES)?;
    let emulated = ran.emulated;
    machine.judge(ran, 1)?;
    let figures = fs::read_to_string(&machine.figures)
        .with_context(|| format!("machine {}: cannot read {}", machine.name, machine.figures.display()))?;
    Ok(Measured { figures, emulated })
}

/// Boots one in which time counts instructions, for one test.
pub(crate) fn count(machine: &Prepared) -> Result<Vec<String>> {
    machine.forget_boots()?;
    let options = [&COUNTING[..], &REPEATED, &LARGE].concat();
    machine.judge(machine.emulated(&options, OF_FIGURES, Vec::new())?, machine.tests)
}

/// A boot that got as far as its tests, and what was before it.
struct Ran {
    watched: Watched,
    emulated: bool,
    /// Boots that failed: a sentence for each.
    before: Vec<String>,
}

impl Prepared {
    /// Runs it to its end: with the processor's virtualisation and these options, or, where that does not work, with those
    /// for an emulated one.
    fn run(&self, virtualised: &[&str], emulated: &[&str], patience: Patience) -> Result<Ran> {
        self.forget_boots()?;
        let mut before = Vec::new();
        if self.platform == Platform::X86 && OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok() {
            let short = Patience { boot: KVM_PATIENCE, ..patience };
            let watched = watch(self, &[&KVM[..], virtualised].concat(), &short)?;
            match next(&watched, true) {
                Next::Judge => return Ok(Ran { watched, emulated: false, before }),
                Next::Fail(why) if watched.console.panicked().is_some() => return Err(self.failed("kvm", &why)?),
                // Ended or hung without a word of the kernel's: the hypervisor cannot do it.
                Next::Again(why) | Next::Fail(why) => before.push(self.keep("kvm", &why)?),
            }
        }
        self.emulated(emulated, patience, before)
    }

    fn emulated(&self, options: &[&str], patience: Patience, mut before: Vec<String>) -> Result<Ran> {
        for boot in 1..=BOOTS {
            let watched = watch(self, options, &patience)?;
            let label = format!("boot-{boot}");
            match next(&watched, boot < BOOTS) {
                Next::Judge => return Ok(Ran { watched, emulated: true, before }),
                Next::Again(why) => before.push(self.keep(&label, &why)?),
                Next::Fail(why) => return Err(self.failed(&label, &why)?),
            }
        }
        bail!("machine {}: no boot was tried", self.name)
    }

    fn judge(&self, ran: Ran, expected: usize) -> Result<Vec<String>> {
        let name = self.name;
        for sentence in &ran.before {
            println!("{name:>5} | REMEMBER: {sentence}");
        }
        match ran.watched.verdict(expected) {
            Ok(()) => Ok(ran.watched.console.records),
            Err(why) => bail!("machine {name}: {why}; the console is in {}", self.log.display()),
        }
    }

    /// Puts the console of a boot that failed out of the next one's way, and says so. Returns what was said.
    fn keep(&self, label: &str, why: &str) -> Result<String> {
        let kept = self.log.with_file_name(format!("{KEPT}{label}.log"));
        fs::rename(&self.log, &kept).with_context(|| format!("cannot write {}", kept.display()))?;
        let sentence = format!("{label} FAILED: {why}; its console is in {}", kept.display());
        println!("{:>5} | {sentence}", self.name);
        Ok(sentence)
    }

    fn failed(&self, label: &str, why: &str) -> Result<anyhow::Error> {
        Ok(anyhow::anyhow!("machine {}: {}", self.name, self.keep(label, why)?))
    }

    /// Of an earlier run.
    fn forget_boots(&self) -> Result<()> {
        let directory = self.log.parent().context("a log lies in a directory")?;
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(KEPT) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}
