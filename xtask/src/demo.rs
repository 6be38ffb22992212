//! `cargo xtask demo`: builds the agent and the demo, and becomes the demo.

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
    process::Command,
};

use anyhow::Result;

use crate::{
    command::{become_program, cargo, program, run},
    privileges, setup, workspace,
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Handed to the demo; `-- --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub(crate) fn demo(arguments: &Arguments) -> Result<()> {
    privileges::require("the demo's agents")?;
    setup::to_run()?;
    release_and_become("millrace-demo", &arguments.arguments, |_| {})
}

/// Builds the agent and one more package in release mode, and becomes that package's binary of the same name, after
/// `prepare` has seen its command.
pub(crate) fn release_and_become(
    package: &str,
    arguments: &[impl AsRef<OsStr>],
    prepare: impl FnOnce(&mut Command),
) -> Result<()> {
    let mut command = program(release(package)?);
    prepare(&mut command);
    become_program(command.args(arguments))
}

/// Builds the agent and one more package in release mode. Returns that package's binary of the same name.
pub(crate) fn release(package: &str) -> Result<PathBuf> {
    run(cargo("build").args(["--release", "--package", "millrace-agent", "--package", package]))?;
    Ok(workspace::target().join("release").join(package))
}
