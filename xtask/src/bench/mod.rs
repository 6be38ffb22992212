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
    if let Some(why) = asked.refused() {
        bail!("{why}");
    }
    if asked.in_vm() {
        if !asked.is_services() {
            bail!("--in-vm is an option of `bench services`: no other benchmark needs another kernel");
        }
        return in_vm::measure(&asked, Vec::new());
    }
    // Clients outside are measured there only where that is asked for: `--in-vm --clients ...`.
    let of_pods = asked.value("--clients").is_none_or(|clients| clients == "pods");
    let mut failed = Vec::new();
    if asked.has_services() && of_pods && asked.wants("ipvs") && !has_ipvs() {
        failed.extend(beside(&asked).err());
    }
    if asked.is_everything() {
        return judge(&each(&asked, failed)?);
    }
    if failed.is_empty() {
        return release_and_become("millrace-bench", &arguments.arguments, equip);
    }
    let mut command = program(release("millrace-bench")?);
    equip(&mut command);
    run(command.args(&arguments.arguments))?;
    judge(&failed)
}

/// Each, whatever becomes of the others. Returns what failed, with what had failed before.
fn each(asked: &Asked<'_>, mut failed: Vec<String>) -> Result<Vec<String>> {
    let alone = asked.of_services_alone();
    if !alone.is_empty() {
        println!("bench: options of services, without effect on packets and scale: {}", alone.join(", "));
    }
    let bench = release("millrace-bench")?;
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
    Ok(failed)
}

/// A run of which a part failed has failed, whatever the others found.
fn judge(failed: &[String]) -> Result<()> {
    if failed.is_empty() { Ok(()) } else { bail!("not measured: {}", failed.join("; ")) }
}

/// With the newest tools of the rivals' that Debian has.
fn equip(bench: &mut Command) {
    if let Some(tools) = rivals::newest() {
        bench.env("MILLRACE_RIVALS", tools);
    }
}

/// In front of a run on this machine, which does not depend on it. The error names the part that failed.
fn beside(asked: &Asked<'_>) -> Result<(), String> {
    println!("bench: this kernel has no IPVS: measuring all of it in a virtual machine with Debian's kernel first ...");
    let services = asked.services();
    let (bounded, left_out) = Asked(&services).up_to(LARGEST);
    if !left_out.is_empty() {
        println!(
            "bench: not measured there: {} services; `cargo xtask bench services --in-vm --sizes ...` does it",
            left_out.join(", ")
        );
    }
    let Some(arguments) = bounded else { return Ok(()) };
    let bounded = Asked(&arguments);
    let sizes = bounded.value("--sizes").filter(|_| !left_out.is_empty());
    let bounds = sizes.map(|sizes| format!("--sizes {sizes}"));
    in_vm::measure(&bounded, bounds.into_iter().collect()).map_err(|error| {
        println!("bench: IPVS IS NOT MEASURED, the run in the virtual machine failed: {error:#}");
        "services in a virtual machine, with IPVS".to_owned()
    })
}

/// Asked as the benchmark asks: the kernel loads the module for it.
fn has_ipvs() -> bool {
    program("ipvsadm").args(["--list", "--numeric"]).output().is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_failed_is_named_at_the_end() {
        assert!(judge(&[]).is_ok());
        let failed = ["services in a virtual machine, with IPVS", "scale"].map(str::to_owned);
        let error = judge(&failed).expect_err("two parts failed").to_string();
        assert_eq!(error, "not measured: services in a virtual machine, with IPVS; scale");
    }
}
