//! Threads that stop for a moment, anywhere: also between two instructions of a BPF program, where what it reads may change
//! behind it. A timer of the thread's own interrupts it, and the interrupt's program takes its time.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

use anyhow::{Context, Result};

use crate::bpf::{
    self, Kind,
    instruction::{EXIT, add, call, copy, instruction, jump, jump_unless_zero, set},
};

/// `BPF_PROG_TYPE_PERF_EVENT`.
const KIND: Kind = Kind { program: 7, flags: 0, attach: 0 };
/// `_IOW('$', 8, __u32)` (linux/perf_event.h).
const SET_PROGRAM: libc::c_ulong = 0x4004_2408;
/// `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: libc::c_ulong = 8;
/// `bpf_ktime_get_ns`.
const CLOCK: u32 = 5;
/// Looks at the clock, at most.
const LOOKS: u32 = 100_000;

/// From now on the calling thread stops for `moment` whenever it has run for `every`, until this is dropped.
///
/// # Errors
/// Not root, or a kernel without perf events.
#[must_use = "dropping it ends the stalls"]
pub fn often(every: Duration, moment: Duration) -> Result<OwnedFd> {
    let program = bpf::load(KIND, &instructions(moment)).context("cannot load a program that takes its time")?;
    let event = clock(every).context("perf_event_open: are you root?")?;
    // SAFETY: both descriptors are open; the kernel takes a reference to the program.
    if unsafe { libc::ioctl(event.as_raw_fd(), SET_PROGRAM, program.as_fd().as_raw_fd()) } < 0 {
        return Err(io::Error::last_os_error()).context("PERF_EVENT_IOC_SET_BPF");
    }
    Ok(event)
}

/// Looks at the clock until `moment` is over, then returns 0.
fn instructions(moment: Duration) -> [u64; 11] {
    // r7: when it began; r6: looks that are left.
    [
        call(CLOCK),
        copy(7, 0),
        set(6, LOOKS),
        call(CLOCK),
        // r0 -= r7
        instruction(0x1f, 0, 7, 0, 0),
        // The way out comes first: the verifier follows it while it remembers one other, not thousands. Over it, if
        // r0 < moment.
        instruction(0xa5, 0, 0, 2, moment.as_nanos() as u32),
        set(0, 0),
        EXIT,
        add(6, -1),
        jump_unless_zero(6, -7),
        jump(-5),
    ]
}

/// A clock that counts while the thread runs: `PERF_TYPE_SOFTWARE`, `PERF_COUNT_SW_CPU_CLOCK`.
fn clock(every: Duration) -> io::Result<OwnedFd> {
    let mut attributes = [0u64; 16];
    // type and size; config; sample_period in ns
    let halves = [1u32, size_of_val(&attributes) as u32];
    attributes[0] = if cfg!(target_endian = "big") {
        u64::from(halves[0]) << 32 | u64::from(halves[1])
    } else {
        u64::from(halves[1]) << 32 | u64::from(halves[0])
    };
    attributes[2] = every.as_nanos() as u64;
    // SAFETY: the attributes are as long as they say, and live during the call; this thread, on any CPU, in no group.
    let event = unsafe { libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), 0, -1, -1, CLOSE_ON_EXEC) };
    if event < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(event as i32) })
}
