//! Why a node cannot run the data path: each names the object and the remedy.

use std::{io, path::PathBuf};

use aya::{EbpfError, maps::MapError, programs::ProgramError};

use super::XdpMode;

/// Loading, pinning, attaching and their undoing.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(
        "{path} is not on a BPF file system, which keeps the data path while the agent restarts: run `mkdir -p \
         {mount_point} && mount -t bpf bpf {mount_point}`, or name another path with --bpffs",
        path = path.display(), mount_point = mount_point.display()
    )]
    NoBpffs { path: PathBuf, mount_point: PathBuf },
    #[error(
        "{path}: a BPF file system takes no name with a dot in it: name another path with --bpffs", path = path.display()
    )]
    Dotted { path: PathBuf },
    #[error("{path}: {operation} failed: {source}: run this as root", path = path.display())]
    NotRoot {
        path: PathBuf,
        operation: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{path}: {operation} failed: {source}", path = path.display())]
    Path {
        path: PathBuf,
        operation: &'static str,
        #[source]
        source: io::Error,
    },
    #[error(
        "another agent runs on {path}: stop it first, or give this one a path of its own with --bpffs",
        path = path.display()
    )]
    Locked { path: PathBuf },
    #[error(
        "{path} holds the maps of layout {found}, this agent speaks layout {ours}: run `millrace-agent cleanup --bpffs \
         {path}` (connections through services break once), or go back to the agent that wrote them",
        path = path.display()
    )]
    OtherLayout { path: PathBuf, found: String, ours: u32 },
    #[error(
        "pinned map {path} is {found}, this agent wants {wanted}: run `millrace-agent cleanup` for its bpffs path \
         (connections through services break once), or go back to the agent that wrote it",
        path = path.display()
    )]
    OtherMap { path: PathBuf, found: String, wanted: String },
    #[error("map {map} cannot shrink to {wanted} entries, {used} are in use: raise {flag}")]
    DoesNotFit { map: &'static str, used: u64, wanted: u32, flag: &'static str },
    #[error(
        "{path} holds nothing of an agent's (no layout-N), so nothing is removed from it: name the agent's path with \
         --bpffs", path = path.display()
    )]
    NotOurs { path: PathBuf },
    #[error(
        "{path} is missing, which an agent pinned: start the agent anew (`millrace-agent run`), which makes it again",
        path = path.display()
    )]
    PinGone { path: PathBuf },
    #[error("nothing is pinned at {path}: no agent has run there; start one, or name its path with --bpffs", path = path.display())]
    NothingPinned { path: PathBuf },
    #[error(
        "no cgroup v2 hierarchy is mounted: run `mount -t cgroup2 none /sys/fs/cgroup`, or name one with --cgroup-root"
    )]
    NoCgroup2,
    #[error("{path} is no directory of a cgroup v2 hierarchy: name a directory of one with --cgroup-root", path = path.display())]
    NotCgroup2 { path: PathBuf },
    #[error(
        "cgroup {cgroup} already carries a millrace of another bpffs path (program id {program}), which would translate \
         the same calls as the one for {wanted}: run `millrace-agent cleanup --bpffs` for that path, or choose a \
         --cgroup-root beside it", cgroup = cgroup.display(), wanted = wanted.display()
    )]
    OtherMillrace { cgroup: PathBuf, wanted: PathBuf, program: u32 },
    #[error("missing capabilities {missing}: run the agent as root, or add them to its securityContext")]
    Capabilities { missing: String },
    #[error(
        "no BTF at /sys/kernel/btf/vmlinux: in a container, mount the host's /sys; else the kernel was built without \
         CONFIG_DEBUG_INFO_BTF: use one that has it (every distribution's since 2021)"
    )]
    NoBtf,
    #[error("the eBPF object could not be loaded: {source}")]
    Load {
        #[from]
        source: EbpfError,
    },
    #[error("program {program}: {operation} failed: {source}")]
    Program {
        program: String,
        operation: &'static str,
        #[source]
        source: Box<ProgramError>,
    },
    #[error("{device}: no XDP in {mode} mode, tc serves all of its traffic: {source}: {remedy}")]
    NoXdp {
        device: String,
        mode: XdpMode,
        remedy: String,
        #[source]
        source: Box<ProgramError>,
    },
    #[error("the eBPF object has no program {program}: the agent and its object do not match, build both anew")]
    NoProgram { program: String },
    #[error(
        "program {program} returned {returned} and no report: the agent and its object do not match, build both anew"
    )]
    NoReport { program: String, returned: u32 },
    #[error("map {map}: {operation} failed: {source}")]
    Map {
        map: String,
        operation: &'static str,
        #[source]
        source: MapError,
    },
    #[error("link {link}: {operation} failed: {source}")]
    Link {
        link: String,
        operation: &'static str,
        #[source]
        source: io::Error,
    },
}

/// The system error inside aya's, so that callers may compare its number.
pub(super) fn map_error(error: MapError) -> io::Error {
    match error {
        MapError::SyscallError(error) => error.io_error,
        MapError::IoError(error) => error,
        MapError::CreateError { io_error, .. } => io_error,
        MapError::KeyNotFound => io::Error::from_raw_os_error(libc::ENOENT),
        other => io::Error::other(other),
    }
}
