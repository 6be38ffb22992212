//! What runs inside the pods: a server that accepts and echoes, a client that measures several targets in turn.

pub mod client;
pub mod server;

use anyhow::{Context, Result};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

/// Keeps this process, and the threads that it starts from now on, on one processor.
pub fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu).with_context(|| format!("there is no processor {cpu}"))?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("run on processor {cpu}"))
}
