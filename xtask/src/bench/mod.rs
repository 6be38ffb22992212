//! `cargo xtask bench`: builds the agent and the benchmarks, and becomes the one that is asked for, or runs all of them.
//! Where a run of `services` wants IPVS and this kernel has none, the same goes through a virtual machine first, whose kernel
//! has it.

mod asked;
mod in_vm;

use std::process::Command;

use anyhow::{Result, bail};

use self::asked::Asked;
use crate::{
    command::{program, run},
    demo::{release, release_and_become},
    privileges, rivals, setup,
};

/// The promises about programming name this size; larger ones take an emulated machine hours.
const LARGEST: u32 = 10_000;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which benchmark, and its options: `services --sizes 1,1000 --out DIR`; `services --help` lists them. `services
    /// --in-vm` runs in a virtual machine with Debian's kernel, which has IPVS, and nowhere else. Without a name all of them
    /// run, for hours: services (for pods, and for clients outside), packets, scale; options are those of
    /// `services`, and `--out` is everybody's
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn bench(arguments: &Arguments) -> Result<()> {
    privileges::require("the benchmarks")?;
    setup::to_measure()?;
    let asked = Asked(&arguments.arguments);
    if asked.is_everything() && (asked.in_vm() || asked.value("--clients").is_some()) {
        bail!("--in-vm and --clients are options of one benchmark: name it, `bench services ...`");
    }
    if asked.in_vm() {
        if !asked.is_services() {
            bail!("--in-vm is an option of `bench services`: no other benchmark needs another kernel");
        }
        return in_vm::measure(&asked);
    }
    // The machine has no clients outside.
    let of_pods = asked.value("--clients").is_none_or(|clients| clients == "pods");
    if asked.has_services() && of_pods && asked.wants("ipvs") && !has_ipvs() {
        beside(&asked);
    }
    if !asked.is_everything() {
        return release_and_become("millrace-bench", &arguments.arguments, equip);
    }
    everything(&asked)
}

/// Each, whatever becomes of the others.
fn everything(asked: &Asked<'_>) -> Result<()> {
    let bench = release("millrace-bench")?;
    let mut failed = Vec::new();
    for arguments in asked.parts() {
        let what = arguments.join(" ");
        println!("bench: {what} ...");
        let mut command = program(&bench);
        equip(&mut command);
        if let Err(error) = run(command.args(arguments)) {
            println!("bench: {error:#}");
            failed.push(what);
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("not measured: {}", failed.join("; ")) }
}

/// With the newest tools of the rivals' that Debian has.
fn equip(bench: &mut Command) {
    if let Some(tools) = rivals::newest() {
        bench.env("MILLRACE_RIVALS", tools);
    }
}

/// In front of a run on this machine. That does not depend on it: what goes wrong is said, and the page of the other run
/// says of IPVS that it was not measured.
fn beside(asked: &Asked<'_>) {
    println!("bench: this kernel has no IPVS: measuring all of it in a virtual machine with Debian's kernel first ...");
    let services = asked.services();
    let (bounded, left_out) = Asked(&services).up_to(LARGEST);
    if !left_out.is_empty() {
        println!(
            "bench: not measured there: {} services; `cargo xtask bench services --in-vm --sizes ...` does it",
            left_out.join(", ")
        );
    }
    let done = match bounded {
        Some(arguments) => in_vm::measure(&Asked(&arguments)),
        None => Ok(()),
    };
    if let Err(error) = done {
        println!("bench: IPVS IS NOT MEASURED, the run in the virtual machine failed: {error:#}");
    }
}

/// Asked as the benchmark asks: the kernel loads the module for it.
fn has_ipvs() -> bool {
    program("ipvsadm").args(["--list", "--numeric"]).output().is_ok_and(|output| output.status.success())
}
