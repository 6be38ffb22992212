//! What runs inside the pods: a server that accepts and echoes, a client that measures several targets in turn.

pub mod client;
pub mod count;
pub mod server;

use anyhow::{Context, Result, ensure};
use nix::{
    libc,
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

/// Keeps this process, and the threads that it starts from now on, on one processor.
pub fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu).with_context(|| format!("there is no processor {cpu}"))?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("run on processor {cpu}"))
}

/// Lets this process, and the threads that it starts from now on, run before all others (`SCHED_FIFO`): what else the
/// machine does costs the figures little. And of two such processes neither interrupts the other: the fair class lets
/// the server's work fall into the client's connect() in some runs and not in others.
///
/// Where the kernel refuses that (real-time groups without a budget), nice -15 has to do.
pub fn prefer() -> Result<()> {
    let first = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameter lives on the stack for the whole call; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const first) } == 0 {
        return Ok(());
    }
    // SAFETY: no pointers; 0 is the calling thread.
    let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -15) };
    ensure!(done == 0, "cannot run before others: {}", std::io::Error::last_os_error());
    Ok(())
}
