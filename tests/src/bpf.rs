//! bpf(2) for programs that the harness puts together itself, of a few instructions.

pub(crate) mod instruction;

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// `enum bpf_cmd` (linux/bpf.h).
const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP: libc::c_int = 1;
const MAP_UPDATE: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
pub(crate) const PROG_TEST_RUN: libc::c_int = 10;

/// `union bpf_attr`, the part that the commands here use.
pub(crate) type Attributes = [u32; 32];

/// Carries out a command; its result.
pub(crate) fn call(command: libc::c_int, attributes: &mut Attributes) -> io::Result<i32> {
    // SAFETY: the attributes are as long as is said; what they point to is borrowed by the caller for the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of::<Attributes>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// As [`call`], of a command that returns a descriptor.
pub(crate) fn open(command: libc::c_int, attributes: &mut Attributes) -> io::Result<OwnedFd> {
    let descriptor = call(command, attributes)?;
    // SAFETY: the kernel has just returned this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// A pointer as two words of attributes.
pub(crate) fn pointer<T>(to: *const T) -> [u32; 2] {
    let address = to.addr() as u64;
    let halves = [address as u32, (address >> 32) as u32];
    if cfg!(target_endian = "big") { [halves[1], halves[0]] } else { halves }
}

/// A descriptor as attributes and instructions have it.
pub(crate) fn number(descriptor: BorrowedFd<'_>) -> u32 {
    descriptor.as_raw_fd().cast_unsigned()
}

/// What a program is loaded as: `BPF_PROG_TYPE_*`, its flags, `expected_attach_type`.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub program: u32,
    pub flags: u32,
    pub attach: u32,
}

pub(crate) fn load(kind: Kind, instructions: &[u64]) -> io::Result<OwnedFd> {
    let license = c"GPL";
    let mut words = [0; 32];
    // prog_type, insn_cnt, insns, license; prog_flags; expected_attach_type
    words[..2].copy_from_slice(&[kind.program, instructions.len() as u32]);
    words[2..4].copy_from_slice(&pointer(instructions.as_ptr()));
    words[4..6].copy_from_slice(&pointer(license.as_ptr()));
    words[11] = kind.flags;
    words[17] = kind.attach;
    open(PROG_LOAD, &mut words)
}

/// `BPF_MAP_TYPE_ARRAY`.
pub(crate) const ARRAY: u32 = 2;

/// `kind`: `BPF_MAP_TYPE_*`; keys are 32 bits.
pub(crate) fn map(kind: u32, value_size: u32, entries: u32) -> io::Result<OwnedFd> {
    let mut words = [0; 32];
    words[..4].copy_from_slice(&[kind, 4, value_size, entries]);
    open(MAP_CREATE, &mut words)
}

/// `value` is as long as the map's.
pub(crate) fn update(map: BorrowedFd<'_>, key: u32, value: &[u8]) -> io::Result<()> {
    let mut words = [0; 32];
    words[0] = number(map);
    words[2..4].copy_from_slice(&pointer(&raw const key));
    words[4..6].copy_from_slice(&pointer(value.as_ptr()));
    call(MAP_UPDATE, &mut words).map(|_| ())
}

/// `value` becomes what the map has; it is as long as the map's.
pub(crate) fn lookup(map: BorrowedFd<'_>, key: u32, value: &mut [u8]) -> io::Result<()> {
    let mut words = [0; 32];
    words[0] = number(map);
    words[2..4].copy_from_slice(&pointer(&raw const key));
    words[4..6].copy_from_slice(&pointer(value.as_mut_ptr().cast_const()));
    call(MAP_LOOKUP, &mut words).map(|_| ())
}

/// BPF_PROG_TEST_RUN on `packet`: what the program returned.
pub(crate) fn run(program: BorrowedFd<'_>, packet: &[u8]) -> io::Result<u32> {
    let mut words = [0; 32];
    // prog_fd, retval, data_size_in, data_size_out, data_in
    words[0] = number(program);
    words[2] = packet.len() as u32;
    words[4..6].copy_from_slice(&pointer(packet.as_ptr()));
    call(PROG_TEST_RUN, &mut words).map(|_| words[1])
}
