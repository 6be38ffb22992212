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

/// Lets this process, and the threads and processes that it starts from now on, run before others (nice -15): what else
/// the machine does costs the figures little.
pub fn prefer() -> Result<()> {
    // SAFETY: no pointers; 0 is the calling thread.
    let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -15) };
    ensure!(done == 0, "cannot run before others: {}", std::io::Error::last_os_error());
    Ok(())
}

/// The same and more (`SCHED_FIFO`), for client and server: of two such processes neither interrupts the other. In the
/// fair class the server's work falls into the client's connect() in some runs and not in others.
pub fn insist() -> Result<()> {
    let first = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameter lives on the stack for the whole call; 0 is the calling thread.
    let done = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const first) };
    // Real-time groups without a budget refuse it.
    if done == 0 { Ok(()) } else { prefer() }
}
