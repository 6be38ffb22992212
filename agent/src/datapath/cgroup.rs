//! The socket hooks on the node's cgroup: pinned links, so that they outlive the agent, and one program replaced by
//! the next in one step.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    maps::MapInfo,
    programs::{CgroupAttachMode, Program, ProgramError, ProgramFd, links::FdLink},
};
use aya_obj::generated::bpf_attach_type;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use tracing::{debug, info};

use super::{
    Pins, SetupError, mounts,
    pins::{at, entries},
    syscall,
};

/// Hooks in the order of attaching: what gives replies their frontend back comes first, so that no call is translated
/// whose answer is not.
const HOOKS: [&str; 9] = [
    "sock_release",
    "recvmsg4",
    "recvmsg6",
    "getpeername4",
    "getpeername6",
    "sendmsg4",
    "sendmsg6",
    "connect4",
    "connect6",
];

/// The directory to attach to: `wanted`, or the root of the hierarchy in the mount table.
///
/// # Errors
/// No cgroup v2, or a directory that is in none.
pub fn root(wanted: Option<&Path>) -> Result<PathBuf, SetupError> {
    let path = match wanted {
        Some(path) => path.to_owned(),
        None => {
            let table = Path::new("/proc/self/mountinfo");
            let table = fs::read_to_string(table).map_err(at(table, "read"))?;
            mounts::cgroup2(&table).ok_or(SetupError::NoCgroup2)?
        }
    };
    if is_cgroup2(&path) { Ok(path) } else { Err(SetupError::NotCgroup2 { path }) }
}

/// Refuses a cgroup above or below which another millrace translates: both would run for the same call.
///
/// # Errors
/// Names the cgroup that carries the other one.
pub fn check_alone(cgroup: &Path, pins: &Pins) -> Result<(), SetupError> {
    let ours = MapInfo::from_pin(pins.map(MARK)).ok().map(|map| map.id());
    let cgroup = cgroup.canonicalize().map_err(at(cgroup, "resolve"))?;
    let above = cgroup.ancestors().skip(1).filter(|path| is_cgroup2(path));
    for path in above {
        check_one(path, &cgroup, ours)?;
    }
    let mut below = vec![cgroup.clone()];
    while let Some(path) = below.pop() {
        check_one(&path, &cgroup, ours)?;
        // A cgroup may vanish while it is visited.
        let names = entries(&path).unwrap_or_default();
        below.extend(names.into_iter().map(|name| path.join(name)).filter(|path| path.is_dir()));
    }
    Ok(())
}

/// A map that every socket hook uses: its id tells one millrace from another.
const MARK: &str = "FRONTENDS_V4";

pub(super) fn is_cgroup2(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

fn check_one(path: &Path, wanted: &Path, ours: Option<u32>) -> Result<(), SetupError> {
    let Ok(directory) = File::open(path) else { return Ok(()) };
    for kind in [bpf_attach_type::BPF_CGROUP_INET4_CONNECT, bpf_attach_type::BPF_CGROUP_INET6_CONNECT] {
        for program in syscall::cgroup_programs(directory.as_fd(), kind).unwrap_or_default() {
            if is_other_millrace(program, ours) {
                let (cgroup, wanted) = (path.to_owned(), wanted.to_owned());
                return Err(SetupError::OtherMillrace { cgroup, wanted, program });
            }
        }
    }
    Ok(())
}

/// A program that ended meanwhile, or that the kernel does not describe, is none of ours.
fn is_other_millrace(program: u32, ours: Option<u32>) -> bool {
    syscall::program_maps(program)
        .unwrap_or_default()
        .into_iter()
        .any(|id| Some(id) != ours && MapInfo::from_id(id).is_ok_and(|map| map.name_as_str() == Some(MARK)))
}

/// Attaches every hook, or puts the new program in the place of the pinned link's.
///
/// # Errors
/// Names the program or the link. What is attached by then stays: the next start goes on from there.
pub fn attach(ebpf: &mut Ebpf, cgroup: &Path, pins: &Pins) -> Result<(), SetupError> {
    let directory = File::open(cgroup).map_err(at(cgroup, "open"))?;
    let id = directory.metadata().map_err(at(cgroup, "stat"))?.ino();
    for hook in HOOKS {
        let name = format!("mr_{hook}");
        let failed = |operation| {
            let program = name.clone();
            move |source| SetupError::Program { program, operation, source: Box::new(source) }
        };
        let program = ebpf.program_mut(&name).ok_or_else(|| SetupError::NoProgram { program: name.clone() })?;
        let fd = program.fd().and_then(|fd| Ok(fd.try_clone()?)).map_err(failed("clone"))?;
        if take_over(&fd, id, pins, hook)? {
            debug!(hook, "program replaced");
            continue;
        }
        let path = pins.link(hook);
        let link = link(program, &directory).map_err(failed("attach"))?;
        link.pin(&path).map_err(|error| at(&path, "pin")(io::Error::other(error)))?;
        debug!(hook, "attached");
    }
    info!(cgroup = %cgroup.display(), "socket hooks attached");
    Ok(())
}

fn link(program: &mut Program, cgroup: &File) -> Result<FdLink, ProgramError> {
    // A link is always one of many; the kernel refuses the flag that would say so.
    let mode = CgroupAttachMode::Single;
    let link = match program {
        Program::CgroupSock(program) => {
            let id = program.attach(cgroup, mode)?;
            program.take_link(id)?.try_into()
        }
        Program::CgroupSockAddr(program) => {
            let id = program.attach(cgroup, mode)?;
            program.take_link(id)?.try_into()
        }
        _ => return Err(ProgramError::UnexpectedProgramType),
    };
    link.map_err(|error| ProgramError::IOError(io::Error::other(error)))
}

/// True when the pinned link now runs the program. A link to another cgroup, or to one that is gone, is let go.
fn take_over(program: &ProgramFd, cgroup: u64, pins: &Pins, hook: &str) -> Result<bool, SetupError> {
    let path = pins.link(hook);
    if !path.exists() {
        return Ok(false);
    }
    let failed = |operation| move |source| SetupError::Link { link: hook.to_owned(), operation, source };
    let link = syscall::open_pin(&path).map_err(failed("open"))?;
    if syscall::link_cgroup(link.as_fd()).map_err(failed("info"))? == cgroup {
        syscall::link_update(link.as_fd(), program.as_fd()).map_err(failed("update"))?;
        return Ok(true);
    }
    fs::remove_file(&path).map_err(at(&path, "unlink"))?;
    Ok(false)
}
