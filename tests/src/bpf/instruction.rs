//! Single instructions (`struct bpf_insn`), for programs that the harness writes by hand.

use std::os::fd::BorrowedFd;

use super::number;

/// What the immediate value of a 64-bit load is: `BPF_PSEUDO_MAP_FD`, `BPF_PSEUDO_MAP_VALUE`.
pub(crate) const MAP: u8 = 1;
pub(crate) const MAP_VALUE: u8 = 2;

/// Any instruction; `offset` of a jump counts from the next one.
pub(crate) const fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: u32) -> u64 {
    let [low, high] = offset.to_le_bytes();
    let [a, b, c, d] = immediate.to_le_bytes();
    u64::from_le_bytes([code, destination | source << 4, low, high, a, b, c, d])
}

/// `destination = immediate`
pub(crate) const fn set(destination: u8, immediate: u32) -> u64 {
    instruction(0xb7, destination, 0, 0, immediate)
}

/// `destination = source`
pub(crate) const fn copy(destination: u8, source: u8) -> u64 {
    instruction(0xbf, destination, source, 0, 0)
}

/// `destination += immediate`
pub(crate) const fn add(destination: u8, immediate: i32) -> u64 {
    instruction(0x07, destination, 0, 0, immediate.cast_unsigned())
}

pub(crate) const EXIT: u64 = instruction(0x95, 0, 0, 0, 0);

pub(crate) const fn call(helper: u32) -> u64 {
    instruction(0x85, 0, 0, 0, helper)
}

/// Of the widths in bytes, the largest first: the size that a load and a store name.
pub(crate) const WIDTHS: [(usize, u8); 4] = [(8, 0x18), (4, 0x00), (2, 0x08), (1, 0x10)];

/// `destination = *(source + offset)`, of the width that `size` names.
pub(crate) const fn load(size: u8, destination: u8, source: u8, offset: i16) -> u64 {
    instruction(0x61 | size, destination, source, offset, 0)
}

/// `*(destination + offset) = source`
pub(crate) const fn store(size: u8, destination: u8, source: u8, offset: i16) -> u64 {
    instruction(0x63 | size, destination, source, offset, 0)
}

/// `destination` = a map, or the address of its only value.
pub(crate) fn map(destination: u8, kind: u8, map: BorrowedFd<'_>) -> [u64; 2] {
    [instruction(0x18, destination, kind, 0, number(map)), 0]
}

/// Goes on `offset` instructions further.
pub(crate) const fn jump(offset: i16) -> u64 {
    instruction(0x05, 0, 0, offset, 0)
}

/// The same unless `register` is zero.
pub(crate) const fn jump_unless_zero(register: u8, offset: i16) -> u64 {
    instruction(0x55, register, 0, offset, 0)
}
