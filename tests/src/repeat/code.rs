//! The instructions of the program that restores packets.

use std::os::fd::BorrowedFd;

use super::Hook;
use crate::bpf;

/// Of a frame; the offsets and lengths of its bytes are immediate values.
pub(super) const LONGEST: usize = 128;
/// What is returned if the jump fails; no action has this number.
pub(super) const NOT_JUMPED: i32 = 4711;

/// Helpers (linux/bpf.h): `bpf_map_lookup_elem`, `bpf_tail_call`.
const LOOKUP: u32 = 1;
const TAIL_CALL: u32 = 12;
/// What the immediate value of a 64-bit load is: `BPF_PSEUDO_MAP_FD`, `BPF_PSEUDO_MAP_VALUE`.
const MAP: u8 = 1;
const MAP_VALUE: u8 = 2;

pub(super) struct Maps<'a> {
    pub frames: BorrowedFd<'a>,
    /// One word: the number of the next frame.
    pub state: BorrowedFd<'a>,
    pub table: BorrowedFd<'a>,
}

/// One instruction: `struct bpf_insn`.
const fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: u32) -> u64 {
    let [low, high] = offset.to_le_bytes();
    let [a, b, c, d] = immediate.to_le_bytes();
    u64::from_le_bytes([code, destination | source << 4, low, high, a, b, c, d])
}

/// `destination = immediate`
const fn set(destination: u8, immediate: u32) -> u64 {
    instruction(0xb7, destination, 0, 0, immediate)
}

/// `destination = source`
const fn copy(destination: u8, source: u8) -> u64 {
    instruction(0xbf, destination, source, 0, 0)
}

/// `destination += immediate`
const fn add(destination: u8, immediate: i32) -> u64 {
    instruction(0x07, destination, 0, 0, immediate.cast_unsigned())
}

const EXIT: u64 = instruction(0x95, 0, 0, 0, 0);

const fn call(helper: u32) -> u64 {
    instruction(0x85, 0, 0, 0, helper)
}

/// Of the widths in bytes, the largest first: the size that a load and a store name.
const WIDTHS: [(usize, u8); 4] = [(8, 0x18), (4, 0x00), (2, 0x08), (1, 0x10)];

/// `destination = *(source + offset)`, of the width that `size` names.
const fn load(size: u8, destination: u8, source: u8, offset: i16) -> u64 {
    instruction(0x61 | size, destination, source, offset, 0)
}

/// `*(destination + offset) = source`
const fn store(size: u8, destination: u8, source: u8, offset: i16) -> u64 {
    instruction(0x63 | size, destination, source, offset, 0)
}

/// `destination` = a map, or the address of its only value.
fn map(destination: u8, kind: u8, map: BorrowedFd<'_>) -> [u64; 2] {
    [instruction(0x18, destination, kind, 0, bpf::number(map)), 0]
}

/// Returns 0.
pub(super) fn idle() -> Vec<u64> {
    vec![set(0, 0), EXIT]
}

/// Writes the next frame of `count`, of `length` bytes, over the packet and jumps.
pub(super) fn restoring(hook: Hook, maps: &Maps<'_>, count: u32, length: usize) -> Vec<u64> {
    let (data, end) = match hook {
        Hook::Tc => (76, 80),
        Hook::Xdp => (0, 4),
    };
    let mut write = Vec::new();
    let mut at = 0;
    while let Some(&(width, size)) = WIDTHS.iter().find(|(width, _)| at + width <= length) {
        write.extend([load(size, 5, 0, at as i16), store(size, 2, 5, at as i16)]);
        at += width;
    }
    let mut jump = vec![copy(1, 6)];
    jump.extend(map(2, MAP, maps.table));
    jump.extend([set(3, 0), call(TAIL_CALL)]);

    // r6: the context; r7: where the number of the next frame is; -4(fp): the number of this one.
    let mut code = vec![copy(6, 1)];
    code.extend(map(7, MAP_VALUE, maps.state));
    code.extend([
        load(0, 1, 7, 0),
        store(0, 10, 1, -4),
        add(1, 1),
        // Unless r1 < count: from the beginning.
        instruction(0xa5, 1, 0, 1, count),
        set(1, 0),
        store(0, 7, 1, 0),
        copy(2, 10),
        add(2, -4),
    ]);
    code.extend(map(1, MAP, maps.frames));
    code.push(call(LOOKUP));
    let rest = (5 + write.len() + jump.len()) as i16;
    code.extend([
        // No such frame, or the packet is shorter: to the end.
        instruction(0x15, 0, 0, rest, 0),
        load(0, 2, 6, data),
        load(0, 3, 6, end),
        copy(4, 2),
        add(4, length as i32),
        instruction(0x2d, 4, 3, rest - 5, 0),
    ]);
    code.extend(write);
    code.extend(jump);
    code.extend([set(0, NOT_JUMPED.cast_unsigned()), EXIT]);
    code
}
