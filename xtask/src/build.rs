//! `cargo xtask build`: the agent, with the eBPF programs inside.

use anyhow::Result;

use crate::{
    command::{cargo, run},
    setup, workspace,
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Without optimisation: builds faster
    #[arg(long)]
    debug: bool,
}

pub(crate) fn build(arguments: &Arguments) -> Result<()> {
    setup::to_build()?;
    let mut command = cargo("build");
    command.args(["--package", "millrace-agent"]);
    let profile = if arguments.debug { "debug" } else { "release" };
    if !arguments.debug {
        command.arg("--release");
    }
    run(&mut command)?;
    println!("{}", workspace::target().join(profile).join("millrace-agent").display());
    Ok(())
}
