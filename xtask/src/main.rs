//! `cargo xtask <verb>`: everything a developer runs from a checkout. Each verb does its own set-up; one file each.

mod apt;
mod bench;
mod build;
mod command;
mod debian;
mod demo;
mod document;
mod instructions;
mod kernel;
mod kernels;
mod licences;
mod privileges;
mod rivals;
mod setup;
mod steps;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Everything a developer runs from a checkout", disable_help_subcommand = true)]
struct Xtask {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Find or install what building and testing need; quick when nothing is missing
    Setup,
    /// Build the agent, with the eBPF programs in it
    Build(build::Arguments),
    /// Check everything: format, lints, licences, unit tests, kernel tests, and the tests in virtual machines
    Test(test::Arguments),
    /// Ask this kernel and those of the matrix what they are like, and write the tables of docs/kernels.md
    Kernels(kernels::Arguments),
    /// Count what a connection costs in instructions, beside millrace's rivals, and write the table of docs/instructions.md
    Instructions(instructions::Arguments),
    /// Two nodes on this machine, with services, traffic and failures
    Demo(demo::Arguments),
    /// Measure against the direct path and against kube-proxy's modes
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    let done = match Xtask::parse().verb {
        Verb::Setup => setup::everything(),
        Verb::Build(arguments) => build::build(&arguments),
        Verb::Test(arguments) => test::test(&arguments),
        Verb::Kernels(arguments) => kernels::record(&arguments),
        Verb::Instructions(arguments) => instructions::instructions(&arguments),
        Verb::Demo(arguments) => demo::demo(&arguments),
        Verb::Bench(arguments) => bench::bench(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
