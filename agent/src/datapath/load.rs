//! Loads the programs over the pinned maps: takes over what is there, makes what is missing.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::MapInfo,
    programs::{Program, ProgramError},
};
use millrace_common::{maps, snat};
use tracing::{debug, info};

use super::{
    Limits, Pins, SetupError,
    fate::{Fate, MapShape, decide},
    inspect::{memory, mib},
    object::object,
    pins::{create_dir, remove_dir},
    resize,
};

/// The UDP sockets' storage: sized by the kernel, pinned like the rest so that a new program finds its sockets' choices.
const STORAGES: [&str; 1] = ["DATAGRAMS"];

/// What the programs are told at load time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Constants {
    /// Sockets of this network namespace are the host's (`SO_NETNS_COOKIE`).
    pub host_netns_cookie: u64,
    /// Translate pods' TCP in the socket hooks too; else only the host's.
    pub socket_lb: bool,
    /// Translate pods' UDP in the socket hooks too.
    pub socket_lb_udp: bool,
    /// Ports of flows from outside on their way to a backend.
    pub snat_ports: SnatPorts,
}

/// First and last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnatPorts {
    pub first: u16,
    pub last: u16,
}

impl Default for SnatPorts {
    fn default() -> Self {
        Self { first: snat::FIRST_PORT, last: snat::LAST_PORT }
    }
}

/// Programs in the kernel, not attached yet.
pub struct Loaded {
    pub ebpf: Ebpf,
    resize: Option<resize::Resize>,
}

/// Loads every program of the object over the maps of `pins`. With another size than the pinned maps', the contents
/// are in the new maps when this returns, and the old programs still run on the old ones: call [`Loaded::settle`] when
/// all programs are attached.
///
/// # Errors
/// Another layout, contents that do not fit, or what the kernel (its verifier) refused.
pub fn load(pins: &Pins, limits: &Limits, constants: &Constants) -> Result<Loaded, SetupError> {
    // A start that died half way left it: `maps` is still what the attached programs use.
    remove_dir(&pins.next())?;
    let pinned = pinned_shapes(pins)?;
    let fates = decide(maps::ALL, limits, &pinned, pins)?;
    let resized = fates.values().any(|fate| matches!(fate, Fate::Resize { .. }));
    let directory = if resized { stage(pins, &fates)? } else { pins.maps() };
    let mut ebpf = read_object(&directory, limits, constants)?;
    let resize = if resized { Some(resize::copy(pins, limits, &fates)?) } else { None };
    report_sizes(&directory, limits);
    for (name, program) in ebpf.programs_mut() {
        load_program(program).map_err(|source| SetupError::Program {
            program: name.to_owned(),
            operation: "load",
            source: Box::new(source),
        })?;
        debug!(program = name, "loaded");
    }
    Ok(Loaded { ebpf, resize })
}

impl Loaded {
    /// All programs run on the new maps now: brings over what the old ones saw meanwhile, and makes the new maps the
    /// pinned ones, in one exchange.
    ///
    /// # Errors
    /// Names the map or the path.
    pub fn settle(&mut self) -> Result<(), SetupError> {
        self.resize.take().map_or(Ok(()), resize::Resize::settle)
    }
}

/// `next` holds the maps that stay; the loader adds the others to it.
fn stage(pins: &Pins, fates: &BTreeMap<&str, Fate>) -> Result<PathBuf, SetupError> {
    let next = pins.next();
    create_dir(&next)?;
    let kept = fates.iter().filter(|(_, fate)| **fate == Fate::Reuse).map(|(name, _)| *name);
    for name in kept.chain(STORAGES.into_iter().filter(|name| pins.map(name).exists())) {
        resize::pin_again(&pins.map(name), &next.join(name), name)?;
    }
    Ok(next)
}

fn read_object(directory: &Path, limits: &Limits, constants: &Constants) -> Result<Ebpf, SetupError> {
    let (socket_lb, socket_lb_udp) = (u32::from(constants.socket_lb), u32::from(constants.socket_lb_udp));
    let SnatPorts { first, last } = constants.snat_ports;
    let (snat_first, snat_ports) = (u32::from(first), u32::from(last.saturating_sub(first)) + 1);
    let mut loader = EbpfLoader::new();
    for spec in maps::ALL {
        loader.map_max_entries(spec.name, limits.entries(spec));
        loader.map_pin_path(spec.name, directory.join(spec.name));
    }
    for name in STORAGES {
        loader.map_pin_path(name, directory.join(name));
    }
    loader
        .override_global("HOST_NETNS_COOKIE", &constants.host_netns_cookie, true)
        .override_global("SOCKET_LB", &socket_lb, true)
        .override_global("SOCKET_LB_UDP", &socket_lb_udp, true)
        .override_global("SNAT_FIRST_PORT", &snat_first, true)
        .override_global("SNAT_PORTS", &snat_ports, true);
    Ok(loader.load(object())?)
}

fn load_program(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSock(program) => program.load(),
        Program::CgroupSockAddr(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        // Loaded by who attaches it.
        Program::Xdp(_) => Ok(()),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn pinned_shapes(pins: &Pins) -> Result<BTreeMap<&'static str, MapShape>, SetupError> {
    let mut shapes = BTreeMap::new();
    for spec in maps::ALL {
        let path = pins.map(spec.name);
        if !path.exists() {
            continue;
        }
        let failed = |source| SetupError::Map { map: spec.name.to_owned(), operation: "info", source };
        let info = MapInfo::from_pin(&path).map_err(failed)?;
        shapes.insert(
            spec.name,
            MapShape {
                kind: info.map_type().map_err(failed)? as u32,
                key_size: info.key_size(),
                value_size: info.value_size(),
                max_entries: info.max_entries(),
                flags: info.map_flags(),
            },
        );
    }
    Ok(shapes)
}

/// The kernel's own account of each map's memory.
fn report_sizes(directory: &Path, limits: &Limits) {
    let mut total = 0;
    for spec in maps::ALL {
        let bytes = memory(&directory.join(spec.name)).unwrap_or_default();
        total += bytes;
        info!(map = spec.name, entries = limits.entries(spec), mib = mib(bytes), "map");
    }
    info!(mib = mib(total), "kernel memory of all maps");
}
