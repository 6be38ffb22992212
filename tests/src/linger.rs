//! A program that stays in the kernel, in the read section that all programs run in, until it is told to leave.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};

use crate::bpf::{
    self, Kind,
    instruction::{EXIT, MAP_VALUE, add, call, copy, instruction, jump, jump_unless_zero, load, map, set, store},
};

/// `BPF_PROG_TYPE_SCHED_CLS`.
const KIND: Kind = Kind { program: 3, flags: 0, attach: 0 };
/// `bpf_probe_read_kernel`.
const READ: u32 = 113;
/// What it does while it stays: copies so many bytes, again and again.
const BYTES: u32 = 1 << 20;
/// The size of a word of 64 bits.
const WORD: u8 = 0x18;

/// The program; one run at a time.
pub struct Lingering {
    program: OwnedFd,
    /// Two words: how many runs have begun, and how many have ended.
    runs: OwnedFd,
    /// A word: not 0, the program leaves.
    leave: OwnedFd,
}

impl Lingering {
    /// It leaves by itself after `turns`, each a tenth of a millisecond or more: a few thousand at most, for the verifier
    /// walks them all.
    ///
    /// # Errors
    /// What the kernel says, its verifier included.
    pub fn load(turns: u32) -> Result<Self> {
        let place = |bytes| bpf::map(bpf::ARRAY, bytes, 1).context("cannot create a map");
        let (runs, leave, bytes) = (place(16)?, place(8)?, place(BYTES)?);
        let program =
            bpf::load(KIND, &instructions(turns, &runs, &leave, &bytes)).context("cannot load a slow program")?;
        Ok(Self { program, runs, leave })
    }

    /// Runs it once.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn run(&self) -> Result<()> {
        bpf::run(self.program.as_fd(), &[0; 64]).map(drop).context("BPF_PROG_TEST_RUN")
    }

    /// How many runs have begun, and how many of them have ended.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn runs(&self) -> Result<(u64, u64)> {
        let mut bytes = [0; 16];
        bpf::lookup(self.runs.as_fd(), 0, &mut bytes)?;
        let [begun, ended] = [0, 8].map(|at| std::array::from_fn(|i| bytes[at + i])).map(u64::from_ne_bytes);
        Ok((begun, ended))
    }

    /// Tells it to leave.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn leave(&self) -> Result<()> {
        Ok(bpf::update(self.leave.as_fd(), 0, &1u64.to_ne_bytes())?)
    }
}

fn instructions(turns: u32, runs: &OwnedFd, leave: &OwnedFd, bytes: &OwnedFd) -> Vec<u64> {
    // r6: runs; r8: whether to leave; r9: what is copied; r7: turns that are left.
    let mut code = Vec::new();
    for (register, place) in [(6, runs), (8, leave), (9, bytes)] {
        code.extend(map(register, MAP_VALUE, place.as_fd()));
    }
    code.extend([load(WORD, 1, 6, 0), add(1, 1), store(WORD, 6, 1, 0), set(7, turns)]);
    code.extend([
        load(WORD, 1, 8, 0),
        // The way out comes first, as in `stall`. Over it, if r1 is 0.
        instruction(0x15, 1, 0, 5, 0),
        load(WORD, 1, 6, 8),
        add(1, 1),
        store(WORD, 6, 1, 8),
        set(0, 0),
        EXIT,
        copy(1, 9),
        set(2, BYTES),
        copy(3, 9),
        call(READ),
        add(7, -1),
        jump_unless_zero(7, -13),
        jump(-12),
    ]);
    code
}
