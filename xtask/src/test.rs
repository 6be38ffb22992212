//! `cargo xtask test`: everything that must hold before a change lands. What CI runs, and all that it runs.

use anyhow::Result;

use crate::{
    command::{cargo, run},
    instructions, kernel, licences, privileges, setup,
    steps::Steps,
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only the tests in virtual machines: with kernel 6.1, with 6.12, the essential ones on arm64, or
    /// all of these; native: what a run without this has on 6.1 and 6.12
    #[arg(long, value_name = "MACHINE")]
    kernel: Option<kernel::Choice>,
    /// With --kernel: only tests whose name contains this
    #[arg(requires = "kernel")]
    filter: Option<String>,
}

/// Compiles for the kernel's virtual machine only; the agent's build script builds it.
const EBPF: &str = "millrace-ebpf";

/// One selection of packages for all that is built here: another one turns other features on, and would compile half of
/// the dependencies again.
pub(crate) const TESTED: [&str; 4] = ["--workspace", "--exclude", EBPF, "--locked"];

pub(crate) fn test(arguments: &Arguments) -> Result<()> {
    // Asked first: nobody should wait ten minutes for this line.
    privileges::require("the tests")?;
    let mut steps = Steps::default();
    let machines = arguments.kernel.unwrap_or(kernel::Choice::Native).machines();
    steps.step("set-up", || setup::everything().and_then(|()| setup::machines(&machines)))?;
    if arguments.kernel.is_none() {
        checks(&mut steps)?;
        steps.step("instructions of a connection", instructions::check)?;
    }
    let task = match arguments.kernel {
        None => kernel::Task::Differing,
        Some(kernel::Choice::Native) if arguments.filter.is_none() => kernel::Task::Differing,
        Some(_) => kernel::Task::Test(arguments.filter.as_deref()),
    };
    let names: Vec<_> = machines.iter().map(|machine| machine.name).collect();
    steps.step(&format!("tests under kernels {}", names.join(" and ")), || kernel::test(&machines, task).map(drop))?;
    steps.print();
    Ok(())
}

fn checks(steps: &mut Steps) -> Result<()> {
    steps.step("format", || run(cargo("fmt").args(["--all", "--check"])))?;
    steps.step("licences and sources of dependencies", licences::check)?;
    steps.step("lints", || run(cargo("clippy").args(TESTED).args(["--all-targets", "--", "-D", "warnings"])))?;
    steps.step("lints of the eBPF programs", lint_programs)?;
    steps.step("build of the tests", || run(cargo("test").args(TESTED).arg("--no-run")))?;
    steps.step("unit, property, golden and kernel tests", || run(cargo("test").args(TESTED).arg("--no-fail-fast")))
}

/// Clippy runs with this tool chain's own `core`, so the programs are checked as if for this machine: every lint but
/// those of the target itself. The verifier judges the rest.
fn lint_programs() -> Result<()> {
    run(cargo("clippy")
        .args(["--package", EBPF, "--locked", "--", "-D", "warnings"])
        // aya's macros hand every program its context by value.
        .args(["--allow", "clippy::needless_pass_by_value"])
        // A program has 512 bytes of stack: what is lent to a map is not copied first.
        .args(["--allow", "clippy::needless_borrows_for_generic_args"])
        // A program without `std` cannot unwind.
        .env("CARGO_PROFILE_DEV_PANIC", "abort"))
}
