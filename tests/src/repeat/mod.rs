//! One program on many packets, as fast as the kernel runs it. BPF_PROG_TEST_RUN with `repeat` hands a program what its
//! run before has left, which a program that rewrites packets takes for another packet. So a small program comes first:
//! it writes the next of a list of frames over the packet, then jumps to the program that is measured. What it costs
//! itself is measured with a jump to a program that does nothing.

mod code;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use anyhow::{Context, Result, bail, ensure};

use crate::bpf::{self, Kind};

/// `BPF_MAP_TYPE_PROG_ARRAY` (linux/bpf.h).
const PROG_ARRAY: u32 = 3;

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Tc,
    Xdp,
}

impl Hook {
    const fn kind(self) -> Kind {
        match self {
            // BPF_PROG_TYPE_SCHED_CLS
            Self::Tc => Kind { program: 3, flags: 0, attach: 0 },
            // BPF_PROG_TYPE_XDP, BPF_XDP
            Self::Xdp => Kind { program: 6, flags: 0, attach: 37 },
        }
    }

    /// The context for a packet that came by the device `ifindex`.
    fn context(self, ifindex: u32, length: u32) -> Vec<u32> {
        match self {
            // `struct __sk_buff`: `ifindex` is its eleventh word.
            Self::Tc => (0..48).map(|word| if word == 10 { ifindex } else { 0 }).collect(),
            // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
            Self::Xdp => vec![0, length, 0, ifindex, 0, 0],
        }
    }
}

/// A piece of a key.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// Bytes of the packet, an even number.
    Of { offset: usize, length: usize },
    /// As it lies in memory.
    Word(u32),
}

impl Part {
    fn length(&self) -> usize {
        match *self {
            Self::Of { length, .. } => length,
            Self::Word(_) => 4,
        }
    }

    /// Where the packet must not end before.
    fn end(&self) -> usize {
        match *self {
            Self::Of { offset, length } => offset + length,
            Self::Word(_) => 0,
        }
    }
}

/// Frames of one length, in the order in which they come, again and again: programs go on where the one before has ended.
pub struct Frames {
    map: OwnedFd,
    /// The number of the next one.
    state: OwnedFd,
    /// As `state`, for the program that does nothing: it would take every other frame away from those that are measured.
    idle_state: OwnedFd,
    count: u32,
    first: Vec<u8>,
}

impl Frames {
    /// # Errors
    /// Frames of different lengths or none, or what the kernel says.
    pub fn new(frames: &[Vec<u8>]) -> Result<Self> {
        let first = frames.first().context("there are no frames")?.clone();
        ensure!(frames.iter().all(|frame| frame.len() == first.len()), "the frames are of different lengths");
        ensure!((14..=code::LONGEST).contains(&first.len()), "frames of {} bytes are not for this", first.len());
        let count = u32::try_from(frames.len())?;
        let size = first.len().next_multiple_of(8);
        let map = bpf::map(bpf::ARRAY, u32::try_from(size)?, count).context("cannot create a map of frames")?;
        for (at, frame) in (0..).zip(frames) {
            let mut value = frame.clone();
            value.resize(size, 0);
            bpf::update(map.as_fd(), at, &value).context("cannot write a frame into its map")?;
        }
        let place = || bpf::map(bpf::ARRAY, 8, 1).context("cannot create a map");
        Ok(Self { map, state: place()?, idle_state: place()?, count, first })
    }

    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }
}

/// A program behind the one that restores packets.
pub struct Repeated<'a> {
    program: OwnedFd,
    frames: &'a Frames,
    hook: Hook,
    // Held by the program as well; a table of programs is emptied when nobody else holds it.
    _table: OwnedFd,
}

/// What came of a series of runs.
#[derive(Clone, Debug)]
pub struct Series {
    /// Nanoseconds of one run on average, what comes before the program included.
    pub nanoseconds: u32,
    /// What the last run returned.
    pub returned: i32,
    /// The packet as the last run left it.
    pub frame: Vec<u8>,
}

impl<'a> Repeated<'a> {
    /// `program` must be one of `hook`'s.
    ///
    /// # Errors
    /// What the kernel says, its verifier included.
    pub fn new(program: BorrowedFd<'_>, frames: &'a Frames, hook: Hook) -> Result<Self> {
        Self::behind(&frames.state, program, frames, hook)
    }

    /// The same with a program that does nothing: what is to be taken off.
    ///
    /// # Errors
    /// As above.
    pub fn idle(frames: &'a Frames, hook: Hook) -> Result<Self> {
        let idle = bpf::load(hook.kind(), &code::idle()).context("cannot load an empty program")?;
        Self::behind(&frames.idle_state, idle.as_fd(), frames, hook)
    }

    /// The same with a program that looks one key of the packet up in a map and reads its value: what nobody who keeps
    /// flows in such a map can do without. Returns 0, or another number where it finds nothing.
    ///
    /// # Errors
    /// As above.
    pub fn looking(frames: &'a Frames, hook: Hook, map: BorrowedFd<'_>, key: &[Part], value: usize) -> Result<Self> {
        let code = code::looking(hook, map, key, value);
        let looking = bpf::load(hook.kind(), &code).context("cannot load a program that looks something up")?;
        Self::behind(&frames.state, looking.as_fd(), frames, hook)
    }

    fn behind(state: &OwnedFd, program: BorrowedFd<'_>, frames: &'a Frames, hook: Hook) -> Result<Self> {
        let table = bpf::map(PROG_ARRAY, 4, 1).context("cannot create a table of programs")?;
        bpf::update(table.as_fd(), 0, &bpf::number(program).to_ne_bytes())
            .context("the program cannot be jumped to")?;
        let maps = code::Maps { frames: frames.map.as_fd(), state: state.as_fd(), table: table.as_fd() };
        let program = bpf::load(hook.kind(), &code::restoring(hook, &maps, frames.count, frames.first.len()))
            .context("cannot load the program that restores packets")?;
        Ok(Self { program, frames, hook, _table: table })
    }

    /// Runs it `times` times, each as if the packet came by the device `ifindex` of the caller's network namespace.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn run(&self, ifindex: u32, times: u32) -> Result<Series> {
        let length = u32::try_from(self.frames.first.len())?;
        let context = self.hook.context(ifindex, length);
        let mut out = vec![0u8; self.frames.first.len() + 256];
        let mut words = [0; 32];
        // prog_fd, retval, data_size_in, data_size_out, data_in, data_out, repeat, duration, ctx_size_in, _, ctx_in
        words[0] = bpf::number(self.program.as_fd());
        words[2] = length;
        words[3] = u32::try_from(out.len())?;
        words[4..6].copy_from_slice(&bpf::pointer(self.frames.first.as_ptr()));
        words[6..8].copy_from_slice(&bpf::pointer(out.as_mut_ptr().cast_const()));
        words[8] = times;
        words[10] = u32::try_from(size_of_val(&*context))?;
        words[12..14].copy_from_slice(&bpf::pointer(context.as_ptr()));
        // A signal ends a series early.
        loop {
            match bpf::call(bpf::PROG_TEST_RUN, &mut words) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => crate::interrupt::check()?,
                Err(error) => return Err(error).context("BPF_PROG_TEST_RUN"),
            }
        }
        out.truncate(words[3] as usize);
        let returned = words[1].cast_signed();
        if returned == code::NOT_JUMPED {
            bail!("the kernel did not jump to the program");
        }
        Ok(Series { nanoseconds: words[9], returned, frame: out })
    }
}
