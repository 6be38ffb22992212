//! Somebody else's XDP program: two instructions that let every packet pass. At the other end of a veth it also makes the
//! kernel receive what native XDP sends there.

use std::{
    ffi::CString,
    os::fd::{AsFd, OwnedFd},
};

use anyhow::{Context, Result};

use crate::bpf::{self, Kind};

/// `enum bpf_cmd` (linux/bpf.h).
const LINK_CREATE: libc::c_int = 28;
/// `BPF_XDP`.
const ATTACH_TYPE: u32 = 37;
/// `BPF_PROG_TYPE_XDP`, `BPF_F_XDP_HAS_FRAGS`.
const KIND: Kind = Kind { program: 6, flags: 1 << 5, attach: ATTACH_TYPE };
/// `r0 = XDP_PASS; exit`.
static INSTRUCTIONS: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];

/// The program on a device of the caller's network namespace, in the mode that the driver prefers; dropping it takes it
/// off.
///
/// # Errors
/// No such device, or it has a program already.
pub fn attach(device: &str) -> Result<OwnedFd> {
    let name = CString::new(device)?;
    // SAFETY: a C string that lives during the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    let program = bpf::load(KIND, &INSTRUCTIONS).context("cannot load an XDP program")?;
    // prog_fd, target_ifindex, attach_type, flags
    let mut words = [0; 32];
    words[..3].copy_from_slice(&[bpf::number(program.as_fd()), index, ATTACH_TYPE]);
    bpf::open(LINK_CREATE, &mut words).with_context(|| format!("cannot attach an XDP program to {device}"))
}
