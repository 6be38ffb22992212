//! How much stack nested calls need, on the kernel that counts the most: each frame in steps of 32 bytes, callbacks as if
//! they were called (`check_max_stack_depth` in kernel/bpf/verifier.c of 6.1; from 6.9 on it counts in steps of 16). Read from
//! the instructions, so that no old kernel has to be booted to learn that a program has grown too deep for it.

use std::collections::BTreeMap;

use aya_obj::generated::bpf_insn;

/// `MAX_BPF_STACK` (linux/filter.h), in bytes.
pub(crate) const MOST: u32 = 512;
const STEP: u32 = 32;

/// `MAX_CALL_FRAMES` (linux/bpf_verifier.h): the program's own and those of what it calls.
pub(crate) const MOST_FRAMES: usize = 8;

/// r10, the frame's end.
const FRAME: u8 = 10;

/// Opcodes (linux/bpf.h, linux/bpf_common.h): the lower three bits are the class.
const CLASS: u8 = 0x07;
const LDX: u8 = 0x01;
const ST: u8 = 0x02;
const STX: u8 = 0x03;
const MOVE: u8 = 0xbf;
const ADD: u8 = 0x07;
const CALL: u8 = 0x85;
const LOAD_64: u8 = 0x18;
/// Source registers: a call of one's own function, and its address.
const OWN_CALL: u8 = 1;
const OWN_FUNCTION: u8 = 4;

/// Of all chains of calls: the most bytes, with the first instruction of each function on that chain, and the most frames.
pub(crate) fn deepest(code: &[bpf_insn]) -> (u32, Vec<usize>, usize) {
    let mut functions: BTreeMap<usize, Vec<usize>> = BTreeMap::from([(0, Vec::new())]);
    functions.extend(code.iter().enumerate().filter_map(|(at, insn)| Some((called(at, insn)?, Vec::new()))));
    let starts: Vec<usize> = functions.keys().copied().collect();
    let ends = starts.iter().skip(1).copied().chain([code.len()]);
    let mut frames = BTreeMap::new();
    for (start, end) in starts.iter().copied().zip(ends) {
        frames.insert(start, frame(&code[start..end]));
        let calls = (start..end).filter_map(|at| called(at, &code[at])).collect();
        functions.insert(start, calls);
    }
    let (bytes, chain) = chain(0, &functions, &frames);
    (bytes, chain, nested(0, &functions))
}

fn nested(at: usize, calls: &BTreeMap<usize, Vec<usize>>) -> usize {
    1 + calls[&at].iter().map(|called| nested(*called, calls)).max().unwrap_or_default()
}

/// The verifier has refused recursion: this ends.
fn chain(at: usize, calls: &BTreeMap<usize, Vec<usize>>, frames: &BTreeMap<usize, u32>) -> (u32, Vec<usize>) {
    let below = calls[&at].iter().map(|called| chain(*called, calls, frames)).max().unwrap_or_default();
    let mine = frames[&at].max(1).next_multiple_of(STEP);
    (mine + below.0, [at].into_iter().chain(below.1).collect())
}

fn called(at: usize, insn: &bpf_insn) -> Option<usize> {
    let own =
        (insn.code == CALL && insn.src_reg() == OWN_CALL) || (insn.code == LOAD_64 && insn.src_reg() == OWN_FUNCTION);
    own.then(|| at.checked_add_signed(insn.imm as isize + 1).expect("relocated"))
}

/// How far below its end a function reaches: in a load or a store, or by an address that it takes.
fn frame(code: &[bpf_insn]) -> u32 {
    let mut copies = 0u16;
    let mut lowest = 0;
    for insn in code {
        let (to, from) = (insn.dst_reg(), insn.src_reg());
        let reached = match insn.code & CLASS {
            LDX if from == FRAME => i32::from(insn.off),
            ST | STX if to == FRAME => i32::from(insn.off),
            _ if insn.code == ADD && copies & (1 << to) != 0 => insn.imm,
            _ => 0,
        };
        lowest = lowest.min(reached);
        copies = if insn.code == MOVE && from == FRAME { copies | 1 << to } else { copies & !(1 << to) };
    }
    lowest.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insn(code: u8, to: u8, from: u8, off: i16, imm: i32) -> bpf_insn {
        bpf_insn { code, _bitfield_align_1: [], _bitfield_1: bpf_insn::new_bitfield_1(to, from), off, imm }
    }

    #[test]
    fn frames_are_added_up_along_the_deepest_chain_in_steps() {
        let code = [
            insn(STX | 0x78, FRAME, 1, -40, 0),   // 64 bytes
            insn(CALL, 0, OWN_CALL, 0, 2),        // calls 4
            insn(LOAD_64, 2, OWN_FUNCTION, 0, 4), // names 7
            insn(0x95, 0, 0, 0, 0),
            insn(MOVE, 2, FRAME, 0, 0),
            insn(ADD, 2, 0, 0, -33), // 64 bytes
            insn(0x95, 0, 0, 0, 0),
            insn(0x95, 0, 0, 0, 0), // touches nothing, and counts
        ];
        assert_eq!(deepest(&code), (128, vec![0, 4], 2));
    }

    #[test]
    fn an_address_that_is_not_of_the_frame_is_not_counted() {
        let code = [insn(MOVE, 2, FRAME, 0, 0), insn(MOVE, 2, 1, 0, 0), insn(ADD, 2, 0, 0, -100)];
        assert_eq!(deepest(&code), (STEP, vec![0], 1));
    }
}
