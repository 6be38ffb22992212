//! Somebody else's XDP program: two instructions that let every packet pass. At the other end of a veth it also makes the
//! kernel receive what native XDP sends there.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use anyhow::{Context, Result};

/// `enum bpf_cmd` (linux/bpf.h).
const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;
/// `BPF_PROG_TYPE_XDP`, `BPF_XDP`, `BPF_F_XDP_HAS_FRAGS`.
const PROG_TYPE: u32 = 6;
const ATTACH_TYPE: u32 = 37;
const HAS_FRAGS: u32 = 1 << 5;
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
    let program = load().context("cannot load an XDP program")?;
    let program = u32::try_from(program.as_raw_fd())?;
    // prog_fd, target_ifindex, attach_type, flags
    let mut words = [0; 32];
    words[..3].copy_from_slice(&[program, index, ATTACH_TYPE]);
    bpf(LINK_CREATE, &words).with_context(|| format!("cannot attach an XDP program to {device}"))
}

fn load() -> io::Result<OwnedFd> {
    let mut words = [0; 32];
    let license = c"GPL";
    let halves = |address: usize| [address as u32, (address as u64 >> 32) as u32];
    // prog_type, insn_cnt, insns, license
    words[..2].copy_from_slice(&[PROG_TYPE, 2]);
    words[2..4].copy_from_slice(&halves(INSTRUCTIONS.as_ptr().addr()));
    words[4..6].copy_from_slice(&halves(license.as_ptr().addr()));
    // prog_flags, expected_attach_type
    words[11] = HAS_FRAGS;
    words[17] = ATTACH_TYPE;
    bpf(PROG_LOAD, &words)
}

/// A command that returns a descriptor.
fn bpf(command: libc::c_int, attributes: &[u32; 32]) -> io::Result<OwnedFd> {
    // SAFETY: the attributes are as long as is said, and what they point to are statics.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of_val(attributes)) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}
