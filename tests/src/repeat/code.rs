//! The instructions of the program that restores packets.

use std::os::fd::BorrowedFd;

use super::{Hook, Part};
use crate::bpf::instruction::{EXIT, MAP, MAP_VALUE, WIDTHS, add, call, copy, instruction, load, map, set, store};

/// Of a frame; the offsets and lengths of its bytes are immediate values.
pub(super) const LONGEST: usize = 128;
/// What is returned if the jump fails; no action has this number.
pub(super) const NOT_JUMPED: i32 = 4711;

/// Helpers (linux/bpf.h): `bpf_map_lookup_elem`, `bpf_tail_call`.
const LOOKUP: u32 = 1;
const TAIL_CALL: u32 = 12;

pub(super) struct Maps<'a> {
    pub frames: BorrowedFd<'a>,
    /// One word: the number of the next frame.
    pub state: BorrowedFd<'a>,
    pub table: BorrowedFd<'a>,
}

/// Returns 0.
pub(super) fn idle() -> Vec<u64> {
    vec![set(0, 0), EXIT]
}

/// What stands in a packet's place where a lookup finds nothing; no action has this number.
pub(super) const NOT_FOUND: i32 = 4712;

/// Looks one key up, reads both ends of its value, and returns 0.
pub(super) fn looking(hook: Hook, table: BorrowedFd<'_>, key: &[Part], value_size: usize) -> Vec<u64> {
    let (data, end) = data_and_end(hook);
    let longest = key.iter().map(Part::end).max().unwrap_or_default();
    let (mut build, mut at) = (Vec::new(), -(key.iter().map(Part::length).sum::<usize>().next_multiple_of(8) as i16));
    let begin = at;
    for part in key {
        match *part {
            Part::Of { offset, length } => {
                let (mut done, width) = (0, if length % 4 == 0 { 4 } else { 2 });
                let size = if width == 4 { 0x00 } else { 0x08 };
                while done < length {
                    build.push(load(size, 5, 2, (offset + done) as i16));
                    build.push(store(size, 10, 5, at + done as i16));
                    done += width;
                }
            }
            Part::Word(word) => build.extend([set(5, word), store(0x00, 10, 5, at)]),
        }
        at += part.length() as i16;
    }
    let mut code = vec![
        load(0, 2, 1, data),
        load(0, 3, 1, end),
        copy(4, 2),
        add(4, longest as i32),
        // The packet is shorter: nothing to look up.
        instruction(0x2d, 4, 3, (build.len() + 10) as i16, 0),
    ];
    code.extend(build);
    code.extend([copy(2, 10), add(2, begin.into())]);
    code.extend(map(1, MAP, table));
    code.extend([
        call(LOOKUP),
        instruction(0x15, 0, 0, 4, 0),
        load(0, 1, 0, 0),
        load(0, 2, 0, value_size as i16 - 4),
        set(0, 0),
        EXIT,
        set(0, NOT_FOUND.cast_unsigned()),
        EXIT,
    ]);
    code
}

const fn data_and_end(hook: Hook) -> (i16, i16) {
    match hook {
        Hook::Tc => (76, 80),
        Hook::Xdp => (0, 4),
    }
}

/// Writes the next frame of `count`, of `length` bytes, over the packet and jumps.
pub(super) fn restoring(hook: Hook, maps: &Maps<'_>, count: u32, length: usize) -> Vec<u64> {
    let (data, end) = data_and_end(hook);
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
