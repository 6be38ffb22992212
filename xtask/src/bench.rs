//! `cargo xtask bench`: builds the agent and the benchmarks, and becomes the benchmarks.

use std::ffi::OsString;

use anyhow::Result;

use crate::{demo::release_and_become, privileges, rivals, setup};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which benchmark, and its options: `services --sizes 1,1000 --out DIR`; `services --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    arguments: Vec<OsString>,
}

pub(crate) fn bench(arguments: &Arguments) -> Result<()> {
    privileges::require("the benchmarks")?;
    setup::to_measure()?;
    release_and_become("millrace-bench", &arguments.arguments, |bench| {
        if let Some(tools) = rivals::newest() {
            bench.env("MILLRACE_RIVALS", tools);
        }
    })
}
