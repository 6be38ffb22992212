//! Which machines there are: a kernel series on a platform each.

use std::str::FromStr;

use anyhow::Result;

use super::arm64;
use crate::apt::Apt;

/// One of the matrix.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    /// On the command line, before each line of its console, and of its directory.
    pub(crate) name: &'static str,
    pub(crate) series: &'static str,
    pub(crate) platform: Platform,
}

/// Amazon Linux 2023's and Debian 12's series, and the long-term series after it.
pub(super) const MACHINES: [Machine; 3] = [
    Machine { name: "6.1", series: "6.1", platform: Platform::X86 },
    Machine { name: "6.12", series: "6.12", platform: Platform::X86 },
    Machine { name: "arm64", series: "6.12", platform: Platform::Arm64 },
];

/// Where there is one for all figures.
pub(super) const MEASURED: &Machine = &MACHINES[1];

/// What a machine is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Platform {
    /// Runs what is built here.
    X86,
    /// Is built for, and emulated.
    Arm64,
}

impl Platform {
    /// As Debian names it.
    pub(super) const fn architecture(self) -> &'static str {
        match self {
            Self::X86 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Where its packages come from.
    pub(super) fn apt(self) -> Result<Apt> {
        match self {
            Self::X86 => Ok(Apt::own()),
            Self::Arm64 => arm64::apt(),
        }
    }

    pub(super) const fn strip(self) -> &'static str {
        match self {
            Self::X86 => "strip",
            Self::Arm64 => "aarch64-linux-gnu-strip",
        }
    }

    pub(super) const fn qemu(self) -> &'static str {
        match self {
            Self::X86 => "qemu-system-x86_64",
            Self::Arm64 => "qemu-system-aarch64",
        }
    }

    /// One thread for both x86 processors: with two, a kernel that patches its own code under way (static keys) is now and
    /// then caught in the middle of an instruction. arm64's instructions have one length.
    pub(super) const fn emulated(self) -> &'static [&'static str] {
        match self {
            Self::X86 => &["-accel", "tcg,thread=single", "-cpu", "max"],
            Self::Arm64 => &["-accel", "tcg,thread=multi", "-machine", "virt", "-cpu", "neoverse-n1"],
        }
    }

    /// A panic ends the machine at once; of the kernel's messages, errors and worse go to the console. An emulated
    /// processor has none of the flaws that a kernel works around at the cost of a flushed TLB for each system call.
    pub(super) const fn command_line(self) -> &'static str {
        match self {
            Self::X86 => "console=ttyS0 panic=-1 loglevel=4 net.ifnames=0 mitigations=off no5lvl",
            Self::Arm64 => "console=ttyAMA0 panic=-1 loglevel=4 net.ifnames=0 mitigations=off",
        }
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Choice {
    One(&'static Machine),
    /// Those that run what is built here, with what every run of the tests has on them.
    Native,
    All,
}

impl Choice {
    pub(crate) fn machines(self) -> Vec<&'static Machine> {
        match self {
            Self::One(machine) => vec![machine],
            Self::Native => MACHINES.iter().filter(|machine| machine.platform == Platform::X86).collect(),
            Self::All => MACHINES.iter().collect(),
        }
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "all" => return Ok(Self::All),
            "native" => return Ok(Self::Native),
            _ => {}
        }
        let machine = MACHINES.iter().find(|machine| machine.name == word);
        machine.map(Self::One).ok_or_else(|| {
            format!(
                "one of {}, native, all",
                MACHINES.iter().map(|machine| machine.name).collect::<Vec<_>>().join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(choice: Choice) -> Vec<&'static str> {
        choice.machines().into_iter().map(|machine| machine.name).collect()
    }

    #[test]
    fn a_run_of_the_tests_does_without_the_machine_that_is_built_for_apart() {
        assert_eq!(names(Choice::Native), ["6.1", "6.12"]);
        assert_eq!(names("all".parse().expect("a choice")), ["6.1", "6.12", "arm64"]);
    }

    #[test]
    fn a_machine_goes_by_its_name_and_another_word_is_told_what_there_is() {
        assert_eq!(names("arm64".parse().expect("a choice")), ["arm64"]);
        assert_eq!("6.13".parse::<Choice>().err(), Some("one of 6.1, 6.12, arm64, native, all".to_owned()));
    }
}
