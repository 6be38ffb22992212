//! The programs on the host side of pods' veths and on uplinks: TCX links, pinned, where the kernel has them (6.6); before, filters of
//! the clsact qdisc with a fixed priority and handle, replaced in place and left attached when the agent ends.

use std::{collections::BTreeSet, fs, io, mem, os::fd::AsFd, path::PathBuf};

use aya::{
    Ebpf,
    programs::{
        ProgramError, SchedClassifier, TcAttachType,
        links::{FdLink, LinkOrder},
        tc::{
            NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact, qdisc_detach_program,
        },
    },
};
use millrace_common::router::Router;
use tracing::{debug, info, warn};

use super::{
    Pins, SetupError,
    devices::Role,
    left_by_devices::forget,
    netns,
    pins::{at, create_dir, entries, remove_dirs},
    qdisc, syscall,
};

/// What the operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcMode {
    /// TCX where the kernel has it.
    Auto,
    Tcx,
    Clsact,
}

/// What has to do with answers comes first: no packet is sent whose answer would not be understood.
const fn programs(role: Role) -> [(&'static str, TcAttachType); 2] {
    match role {
        Role::Pod => [("mr_to_pod", TcAttachType::Egress), ("mr_from_pod", TcAttachType::Ingress)],
        Role::Uplink => [("mr_to_uplink", TcAttachType::Egress), ("mr_from_uplink", TcAttachType::Ingress)],
    }
}

/// By which routers clients came, by device.
const ROUTERS: &str = "ROUTERS";

/// Where our filters stand among others': early, but not first. The handle tells ours from others' of that priority.
const PRIORITY: u16 = 7;
const HANDLE: TcHandle = TcHandle::new(0, HANDLE_MINOR);

const HANDLE_MINOR: u16 = 0x6d72;

/// True for a filter of ours, or what the kernel lists before it. `info` and `handle` as `struct tcmsg` has them.
pub(super) const fn is_ours(info: u32, handle: u32) -> bool {
    info >> 16 == PRIORITY as u32 && (handle == 0 || handle == HANDLE_MINOR as u32)
}

/// Attaches to devices and lets go of them.
pub struct Attacher {
    pins: Pins,
    tcx: bool,
}

/// True when the kernel attaches programs to devices by links.
#[must_use]
pub fn has_tcx() -> bool {
    // A query of the loopback changes nothing; a kernel without TCX does not know its attach type.
    SchedClassifier::query_tcx("lo", TcAttachType::Ingress).is_ok()
}

impl Attacher {
    /// `tcx` as probed, or as the operator wants it.
    #[must_use]
    pub fn new(pins: Pins, mode: TcMode) -> Self {
        let tcx = match mode {
            TcMode::Auto => has_tcx(),
            TcMode::Tcx => true,
            TcMode::Clsact => false,
        };
        Self { pins, tcx }
    }

    /// Attaches both programs of its role to a device, or puts them in the place of an earlier agent's.
    ///
    /// # Errors
    /// Names the program; a device that vanished meanwhile among them.
    pub fn attach(&self, ebpf: &mut Ebpf, index: u32, name: &str, role: Role) -> Result<(), SetupError> {
        for (program, direction) in programs(role) {
            let failed = |source| SetupError::Program {
                program: format!("{program} on {name}"),
                operation: "attach",
                source: Box::new(source),
            };
            let found =
                ebpf.program_mut(program).ok_or_else(|| SetupError::NoProgram { program: program.to_owned() })?;
            let found: &mut SchedClassifier = found.try_into().map_err(failed)?;
            if self.tcx {
                self.attach_link(found, index, name, direction)?;
            } else {
                self.attach_filter(found, index, name, direction).map_err(failed)?;
            }
        }
        // Only now the other kind, left by an agent that was told otherwise: at no moment is the device without.
        if self.tcx {
            self.remove_filters(index, name)?;
        } else {
            self.unpin(index)?;
        }
        info!(device = name, index, ?role, by = if self.tcx { "tcx" } else { "clsact" }, "device attached");
        Ok(())
    }

    /// Lets go of a device; of one that vanished only the pins are left.
    ///
    /// # Errors
    /// Names the path or the device.
    pub fn release(&self, index: u32, vanished: bool) -> Result<(), SetupError> {
        self.unpin(index)?;
        match device_name(index).filter(|_| !vanished) {
            Some(name) => drop(self.remove_filters(index, &name)?),
            None => drop(self.forget_filters(index)?),
        }
        info!(index, "device let go");
        forget::<Router>(&self.pins, ROUTERS, |of| of == index)
    }

    /// Lets go of every device that an earlier agent attached to, except these; of those too that vanished meanwhile,
    /// or that are in the network namespace where it ran.
    ///
    /// # Errors
    /// Names the path or the device.
    pub fn release_others(&self, kept: &BTreeSet<u32>) -> Result<(), SetupError> {
        for namespace in self.namespaces()?.into_iter().filter(|namespace| netns::own().ok() != Some(*namespace)) {
            self.remove_filters_in(namespace)?;
        }
        let links = entries(&self.pins.links())?;
        let linked = links.iter().filter_map(|pin| pin.strip_prefix(LINK_PREFIX)?.split('-').next()?.parse().ok());
        let others: BTreeSet<u32> = linked.chain(self.filtered()?).filter(|index| !kept.contains(index)).collect();
        others.into_iter().try_for_each(|index| self.release(index, false))?;
        forget::<Router>(&self.pins, ROUTERS, |of| !kept.contains(&of))
    }

    /// Indices of devices with filters of ours, in this network namespace.
    fn filtered(&self) -> Result<BTreeSet<u32>, SetupError> {
        let markers = entries(&self.filters()?)?;
        Ok(markers.iter().filter_map(|marker| device_of(marker)).collect())
    }

    /// How many devices have filters of ours, in any network namespace.
    pub(super) fn count_filtered(&self) -> Result<usize, SetupError> {
        let mut devices = BTreeSet::new();
        for namespace in self.namespaces()? {
            let markers = entries(&self.all_filters().join(namespace.to_string()))?;
            devices.extend(markers.iter().filter_map(|marker| Some((namespace, device_of(marker)?))));
        }
        Ok(devices.len())
    }

    fn attach_link(
        &self,
        program: &mut SchedClassifier,
        index: u32,
        name: &str,
        direction: TcAttachType,
    ) -> Result<(), SetupError> {
        let path = self.pins.link(&link_name(index, direction));
        if path.exists() {
            if replace(program, &path, index, name, direction)? {
                return Ok(());
            }
            fs::remove_file(&path).map_err(at(&path, "unlink"))?;
        }
        let link = program
            .attach_with_options(name, direction, TcAttachOptions::TcxOrder(LinkOrder::default()))
            .and_then(|id| program.take_link(id))
            .map_err(|source| at(&path, "attach")(io::Error::other(source)))?;
        let link = FdLink::try_from(link).map_err(|error| at(&path, "make a link for")(io::Error::other(error)))?;
        link.pin(&path).map(drop).map_err(|error| at(&path, "pin")(io::Error::other(error)))
    }

    fn attach_filter(
        &self,
        program: &mut SchedClassifier,
        index: u32,
        name: &str,
        direction: TcAttachType,
    ) -> Result<(), ProgramError> {
        let added = match qdisc_add_clsact(name) {
            Ok(()) => true,
            Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => false,
            Err(TcError::AlreadyAttached) => false,
            Err(error) => return Err(error.into()),
        };
        let marker = if added { format!("{index}{ADDED}") } else { index.to_string() };
        // Only tells `cleanup` where to look: a failure here keeps no pod without its services.
        if let Err(error) = self.filters().and_then(|filters| create_dir(&filters.join(marker))) {
            warn!(%error, device = name, "cleanup will not find this device's filters");
        }
        let options = || NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
        let there = SchedClassifierLink::attached(name, direction, PRIORITY, HANDLE, None)?;
        let id = program
            .attach_to_link(there)
            .or_else(|_| program.attach_with_options(name, direction, TcAttachOptions::Netlink(options())))?;
        // Dropped, it would be detached: it must outlive the agent.
        mem::forget(program.take_link(id)?);
        Ok(())
    }

    fn unpin(&self, index: u32) -> Result<(), SetupError> {
        for direction in [TcAttachType::Egress, TcAttachType::Ingress] {
            let path = self.pins.link(&link_name(index, direction));
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&path, "unlink")(error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// A directory for each network namespace with filters of ours, named by its inode.
    fn all_filters(&self) -> PathBuf {
        self.pins.root().join("clsact")
    }

    /// Directories named by device index: where filters are, and whether the qdisc is ours.
    fn filters(&self) -> Result<PathBuf, SetupError> {
        let namespace = netns::own().map_err(at("/proc/thread-self/ns/net".as_ref(), "stat"))?;
        Ok(self.all_filters().join(namespace.to_string()))
    }

    fn namespaces(&self) -> Result<Vec<u64>, SetupError> {
        Ok(entries(&self.all_filters())?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    fn forget_filters(&self, index: u32) -> Result<bool, SetupError> {
        let (mut added, filters) = (false, self.filters()?);
        for marker in [index.to_string(), format!("{index}{ADDED}")] {
            let path = filters.join(&marker);
            match fs::remove_dir(&path) {
                Ok(()) => added |= marker.ends_with(ADDED),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(at(&path, "rmdir")(error)),
            }
        }
        Ok(added)
    }

    /// True when the qdisc was ours, too.
    fn remove_filters(&self, index: u32, name: &str) -> Result<bool, SetupError> {
        let filters = self.filters()?;
        if !filters.join(index.to_string()).exists() && !filters.join(format!("{index}{ADDED}")).exists() {
            return Ok(false);
        }
        for (program, direction) in [Role::Pod, Role::Uplink].into_iter().flat_map(programs) {
            match qdisc_detach_program(name, direction, program) {
                Err(TcError::IoError(error)) if error.kind() == io::ErrorKind::NotFound => {}
                result => result.map_err(|source| SetupError::Program {
                    program: format!("{program} on {name}"),
                    operation: "detach",
                    source: Box::new(source.into()),
                })?,
            }
        }
        let added = self.forget_filters(index)?;
        debug!(device = name, added, "filters removed");
        Ok(added)
    }

    /// Removes every filter of ours, in every network namespace that still exists, and the qdiscs that they needed.
    ///
    /// # Errors
    /// The first of them; what follows it is removed all the same.
    pub(super) fn remove_all_filters(&self) -> Result<(), SetupError> {
        let results: Vec<_> =
            self.namespaces()?.into_iter().map(|namespace| self.remove_filters_in(namespace)).collect();
        results.into_iter().collect::<Result<(), _>>()?;
        remove_dirs(&self.all_filters())
    }

    fn remove_filters_in(&self, namespace: u64) -> Result<(), SetupError> {
        let path = self.all_filters().join(namespace.to_string());
        match netns::find(namespace) {
            Some(found) => {
                netns::run(&found, || self.remove_filters_here()).map_err(at(&path, "enter the namespace of"))??;
            }
            // Devices and filters went with it.
            None => info!(namespace, "no process is in this network namespace any more: its devices are gone"),
        }
        remove_dirs(&path)
    }

    fn remove_filters_here(&self) -> Result<(), SetupError> {
        let mut added = Vec::new();
        for index in self.filtered()? {
            match device_name(index) {
                Some(name) => {
                    if self.remove_filters(index, &name)? {
                        added.push(index);
                    }
                }
                None => drop(self.forget_filters(index)?),
            }
        }
        qdisc::remove_unused(&added).map_err(at("clsact".as_ref(), "remove"))
    }
}

const LINK_PREFIX: &str = "device-";
const ADDED: &str = "-added";

fn device_of(marker: &str) -> Option<u32> {
    marker.trim_end_matches(ADDED).parse().ok()
}

fn link_name(index: u32, direction: TcAttachType) -> String {
    let direction = if direction == TcAttachType::Ingress { "ingress" } else { "egress" };
    format!("{LINK_PREFIX}{index}-{direction}")
}

/// True when the pinned link runs the program on this very device: its index may have been given to another since, or
/// belong to another namespace.
fn replace(
    program: &SchedClassifier,
    pin: &std::path::Path,
    index: u32,
    name: &str,
    direction: TcAttachType,
) -> Result<bool, SetupError> {
    let link = syscall::open_pin(pin).map_err(at(pin, "open"))?;
    if syscall::link_device(link.as_fd()).map_err(at(pin, "info"))? != index {
        return Ok(false);
    }
    let fd = program.fd().map_err(|error| at(pin, "find the program of")(io::Error::other(error)))?;
    match syscall::link_update(link.as_fd(), fd.as_fd()) {
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => return Ok(false),
        result => result.map_err(at(pin, "update"))?,
    }
    let id = program.info().map_err(|error| at(pin, "identify the program of")(io::Error::other(error)))?.id();
    let there = SchedClassifier::query_tcx(name, direction)
        .map_err(|error| at(pin, "query the device of")(io::Error::other(error)))?;
    Ok(there.1.iter().any(|program| program.id() == id))
}

fn device_name(index: u32) -> Option<String> {
    nix::net::if_::if_indextoname(index).ok().and_then(|name| name.into_string().ok())
}
