//! How much the verifier walks through before it accepts a program. The kernel remembers the instructions only; the states
//! stand in the verifier's log, which aya asks for when a program is refused. So each program is loaded once more here: the
//! same code over the same maps, with the log that ends with the figures.

use std::{
    collections::{BTreeSet, HashSet},
    io, mem,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use aya::{Ebpf, maps::Map};
use aya_obj::{
    Object, ProgramSection,
    generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_prog_type},
};

/// `BPF_LOG_STATS` (include/linux/bpf_verifier.h): nothing but the figures.
const LOG_STATS: u32 = 4;

/// `BPF_F_XDP_HAS_FRAGS` (linux/bpf.h).
const HAS_FRAGS: u32 = 1 << 5;

/// `BPF_JMP | BPF_CALL` (linux/bpf.h).
const CALL: u8 = 0x85;

/// What the verifier walked through for one program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Walk {
    pub(crate) instructions: u32,
    /// Registers and stack as they were somewhere on a way: it ends a way where it has been in such a state before.
    pub(crate) states: u32,
    /// Of these, as many as there were at once.
    pub(crate) most: u32,
}

/// The programs as aya hands them to the kernel.
pub(crate) struct Code(Object);

impl Code {
    /// Over the maps of `loaded`, which comes from the same object.
    pub(crate) fn over(object: &[u8], loaded: &Ebpf) -> Self {
        let mut object = Object::parse(object).expect("aya has parsed it before");
        assert!(!object.has_btf_relocations(), "the programs use types of the kernel's own: relocate them here, too");
        let maps = mem::take(&mut object.maps);
        let over = maps.iter().map(|(name, map)| {
            let created = loaded.map(name).unwrap_or_else(|| panic!("aya has made no map {name}"));
            (name.as_str(), descriptor(created), map)
        });
        let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        object.relocate_maps(over, &text).expect("every map that the code names is there");
        object.relocate_calls(&text).expect("every function that the code calls is there");
        object.sanitize_functions(aya::features());
        Self(object)
    }

    /// Numbers of the kernel's helpers (`enum bpf_func_id`) that a program calls.
    pub(crate) fn helpers(&self, program: &str) -> BTreeSet<i32> {
        // What calls a function of the program's own, or the kernel's, has another source register.
        let calls = self.instructions(program).iter().filter(|code| code.code == CALL && code.src_reg() == 0);
        calls.map(|code| code.imm).collect()
    }

    pub(crate) fn instructions(&self, program: &str) -> &[bpf_insn] {
        &self.0.functions[&self.0.programs[program].function_key()].instructions
    }

    /// Loads a program that aya has loaded already, whose BTF has this id, and lets go of it.
    pub(crate) fn walk(&self, name: &str, btf: u32) -> Walk {
        let program = &self.0.programs[name];
        let function = &self.0.functions[&program.function_key()];
        let (kind, attach, flags) = kind(&program.section);
        let btf = btf_by_id(btf).unwrap_or_else(|error| panic!("the BTF of {name}: {error}"));
        let callbacks = function.func_info.func_info_bytes();
        let mut log = vec![0; 1 << 16];
        let mut attr = zeroed();
        attr.__bindgen_anon_3.prog_type = kind as u32;
        attr.__bindgen_anon_3.expected_attach_type = attach.map_or(0, |attach| attach as u32);
        attr.__bindgen_anon_3.prog_flags = flags;
        attr.__bindgen_anon_3.insns = function.instructions.as_ptr() as u64;
        attr.__bindgen_anon_3.insn_cnt = function.instructions.len() as u32;
        attr.__bindgen_anon_3.license = program.license.as_ptr() as u64;
        // The verifier wants to know of every function that it is asked to call.
        attr.__bindgen_anon_3.prog_btf_fd = btf.as_fd().as_raw_fd().cast_unsigned();
        attr.__bindgen_anon_3.func_info = callbacks.as_ptr() as u64;
        attr.__bindgen_anon_3.func_info_cnt = function.func_info.len() as u32;
        attr.__bindgen_anon_3.func_info_rec_size = function.func_info_rec_size as u32;
        attr.__bindgen_anon_3.log_level = LOG_STATS;
        attr.__bindgen_anon_3.log_buf = log.as_mut_ptr() as u64;
        attr.__bindgen_anon_3.log_size = log.len() as u32;
        let loaded = bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr);
        let log = log.split(|byte| *byte == 0).next().map(String::from_utf8_lossy).unwrap_or_default();
        loaded.unwrap_or_else(|error| panic!("{name} is refused where aya's is not: {error}\n{log}"));
        figures(&log).unwrap_or_else(|| panic!("the verifier's log of {name} has no figures:\n{log}"))
    }
}

/// `processed N insns (limit 1000000) max_states_per_insn N total_states N peak_states N mark_read N`.
fn figures(log: &str) -> Option<Walk> {
    let line = log.lines().find(|line| line.starts_with("processed "))?;
    let words: Vec<_> = line.split_whitespace().collect();
    let after = |word| words.iter().position(|known| *known == word).and_then(|at| words.get(at + 1)?.parse().ok());
    Some(Walk { instructions: after("processed")?, states: after("total_states")?, most: after("peak_states")? })
}

fn kind(section: &ProgramSection) -> (bpf_prog_type, Option<bpf_attach_type>, u32) {
    match section {
        ProgramSection::CgroupSock { attach_type } => {
            (bpf_prog_type::BPF_PROG_TYPE_CGROUP_SOCK, Some((*attach_type).into()), 0)
        }
        ProgramSection::CgroupSockAddr { attach_type } => {
            (bpf_prog_type::BPF_PROG_TYPE_CGROUP_SOCK_ADDR, Some((*attach_type).into()), 0)
        }
        ProgramSection::SchedClassifier => (bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS, None, 0),
        ProgramSection::Xdp { frags, attach_type } => {
            (bpf_prog_type::BPF_PROG_TYPE_XDP, Some((*attach_type).into()), if *frags { HAS_FRAGS } else { 0 })
        }
        other => panic!("no test loads programs of section {other:?}"),
    }
}

fn descriptor(map: &Map) -> RawFd {
    match map {
        Map::Array(map)
        | Map::HashMap(map)
        | Map::LpmTrie(map)
        | Map::LruHashMap(map)
        | Map::PerCpuArray(map)
        | Map::SkStorage(map) => map.fd().as_fd().as_raw_fd(),
        other => panic!("a kind of map that no program had: {other:?}"),
    }
}

fn btf_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    attr.__bindgen_anon_6.__bindgen_anon_1.btf_id = id;
    bpf(bpf_cmd::BPF_BTF_GET_FD_BY_ID, &mut attr)
}

fn zeroed() -> bpf_attr {
    // SAFETY: a union of integers: all zeros is a valid value, and what the kernel wants in unused bytes.
    unsafe { mem::zeroed() }
}

/// A call that makes a descriptor.
fn bpf(cmd: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: `attr` is a live, fully initialised union of the size that is passed; the callers point its addresses at
    // buffers that outlive this call and have the lengths that they name.
    let result = unsafe { libc::syscall(libc::SYS_bpf, cmd as libc::c_int, attr, size_of::<bpf_attr>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}

#[test]
fn the_figures_of_a_verifiers_log_are_found_among_its_other_lines() {
    let log = "verification time 812 usec\nstack depth 112+0\nprocessed 1234 insns (limit 1000000) \
               max_states_per_insn 4 total_states 56 peak_states 7 mark_read 8\n";
    assert_eq!(figures(log), Some(Walk { instructions: 1234, states: 56, most: 7 }));
    assert_eq!(figures("processed some insns total_states 1 peak_states 1"), None);
    assert_eq!(figures(""), None);
}
