//! `cleanup`: removes every trace of an agent that no longer runs.

use anyhow::Result;
use clap::Args;

use super::{Place, output};
use crate::datapath::cleanup;

/// Removes every trace: programs on cgroups and devices, pinned links and maps
///
/// Connections through services end with it. The agent must not run. Nothing is an error that is already gone.
#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(options: &Options) -> Result<()> {
    for line in cleanup(&options.place.pins())? {
        output::line(&line)?;
    }
    Ok(())
}
