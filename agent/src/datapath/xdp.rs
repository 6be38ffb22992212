//! The XDP program on uplinks, where the operator wants it: a pinned link for each, replaced in place and gone with the
//! next start that is told otherwise. What it does not serve, or where it cannot be, the programs on tc do.

use std::{collections::BTreeSet, error::Error, fmt, fs, io, os::fd::AsFd};

use aya::{
    Ebpf,
    maps::HashMap,
    programs::{ProgramError, Xdp, links::FdLink, xdp},
};
use tracing::{info, warn};

use super::{
    Pins, SetupError, driver,
    left_by_devices::forget,
    netns,
    pins::{at, entries},
    syscall,
};

/// Where on a packet's way into the node the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the kernel's stack, before tc: any device.
    Generic,
    /// In the driver, before the kernel makes a packet of the bytes.
    Native,
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Generic => "generic",
            Self::Native => "native",
        })
    }
}

const PROGRAM: &str = "mr_xdp";
/// The same for a veth's driver.
const VETH_PROGRAM: &str = "mr_xdp_veth";
/// Devices that have the program: it may send packets from one to another.
const TARGETS: &str = "XDP_TARGETS";

/// Attaches to uplinks and lets go of them.
pub struct XdpAttacher {
    pins: Pins,
    /// `None`: nowhere.
    mode: Option<XdpMode>,
}

impl XdpAttacher {
    #[must_use]
    pub fn new(pins: Pins, mode: Option<XdpMode>) -> Self {
        Self { pins, mode }
    }

    /// Attaches the program to an uplink, or puts it in the place of an earlier agent's. Does nothing where it is not
    /// wanted.
    ///
    /// # Errors
    /// Names the device and the remedy. The programs on tc serve it all the same.
    pub fn attach(&self, ebpf: &mut Ebpf, index: u32, name: &str) -> Result<(), SetupError> {
        let Some(mode) = self.mode else { return Ok(()) };
        let veth = mode == XdpMode::Native && driver::is_veth(name);
        let program = program(ebpf, if veth { VETH_PROGRAM } else { PROGRAM })?;
        let pin = Pin { mode, namespace: own_namespace()?, index };
        if !self.replace(program, &pin)? {
            // A device has one mode at a time; tc serves it meanwhile.
            self.release_if(|other| other.index == index && *other != pin)?;
            self.link(program, &pin, name)?;
        }
        let targets = ebpf.map_mut(TARGETS).ok_or_else(|| SetupError::NoProgram { program: TARGETS.to_owned() })?;
        let failed = |source| SetupError::Map { map: TARGETS.to_owned(), operation: "insert", source };
        HashMap::try_from(targets).and_then(|mut targets| targets.insert(index, 1u32, 0)).map_err(failed)?;
        info!(device = name, index, %mode, "XDP attached");
        if veth {
            warn!(
                device = name,
                "a veth: what its driver's XDP sends arrives only while the other end has an XDP program of any kind, or \
                 `ethtool -K DEVICE gro on`; otherwise say --xdp generic"
            );
        }
        Ok(())
    }

    /// True if the pinned link runs the program now, on this very device.
    fn replace(&self, program: &Xdp, pin: &Pin) -> Result<bool, SetupError> {
        let path = self.pins.link(&pin.name());
        if !path.exists() {
            return Ok(false);
        }
        let link = syscall::open_pin(&path).map_err(at(&path, "open"))?;
        if syscall::link_device(link.as_fd()).map_err(at(&path, "info"))? == pin.index {
            let fd = program.fd().map_err(|source| failed("find", source))?;
            match syscall::link_update(link.as_fd(), fd.as_fd()) {
                Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
                result => return result.map(|()| true).map_err(at(&path, "update")),
            }
        }
        fs::remove_file(&path).map_err(at(&path, "unlink"))?;
        Ok(false)
    }

    fn link(&self, program: &mut Xdp, pin: &Pin, name: &str) -> Result<(), SetupError> {
        let mode = match pin.mode {
            XdpMode::Generic => xdp::XdpMode::Skb,
            XdpMode::Native => xdp::XdpMode::Driver,
        };
        let refused = |source: ProgramError| SetupError::NoXdp {
            device: name.to_owned(),
            mode: pin.mode,
            remedy: remedy(pin.mode, name, errno(&source)),
            source: Box::new(source),
        };
        let link = program.attach_to_if_index(pin.index, mode).and_then(|id| program.take_link(id)).map_err(refused)?;
        let path = self.pins.link(&pin.name());
        let link = FdLink::try_from(link).map_err(|error| at(&path, "make a link for")(io::Error::other(error)))?;
        link.pin(&path).map(drop).map_err(|error| at(&path, "pin")(io::Error::other(error)))
    }

    /// Lets go of a device, vanished or not.
    ///
    /// # Errors
    /// Names the path or the map.
    pub fn release(&self, index: u32) -> Result<(), SetupError> {
        self.release_if(|pin| pin.index == index)?;
        self.forget_targets(|target| target == index)
    }

    /// Lets go of every device that an earlier agent attached to, except these, in this mode and this network namespace.
    ///
    /// # Errors
    /// Names the path or the map.
    pub fn release_others(&self, kept: &BTreeSet<u32>) -> Result<(), SetupError> {
        let namespace = own_namespace()?;
        let stays = |pin: &Pin| Some(pin.mode) == self.mode && pin.namespace == namespace && kept.contains(&pin.index);
        self.release_if(|pin| !stays(pin))?;
        self.forget_targets(|target| self.mode.is_none() || !kept.contains(&target))
    }

    fn release_if(&self, goes: impl Fn(&Pin) -> bool) -> Result<(), SetupError> {
        for pin in attached(&self.pins)?.iter().filter(|pin| goes(pin)) {
            let path = self.pins.link(&pin.name());
            fs::remove_file(&path).map_err(at(&path, "unlink"))?;
            info!(index = pin.index, mode = %pin.mode, "XDP detached");
        }
        Ok(())
    }

    fn forget_targets(&self, goes: impl Fn(u32) -> bool) -> Result<(), SetupError> {
        forget::<u32>(&self.pins, TARGETS, goes)
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, SetupError> {
    let found = ebpf.program_mut(name).ok_or_else(|| SetupError::NoProgram { program: name.to_owned() })?;
    let program: &mut Xdp = found.try_into().map_err(|source| failed("find", source))?;
    // With the first device that wants it: who does not pays neither its memory nor its verification.
    if program.fd().is_err() {
        program.load().map_err(|source| failed("load", source))?;
    }
    Ok(program)
}

fn failed(operation: &'static str, source: ProgramError) -> SetupError {
    SetupError::Program { program: PROGRAM.to_owned(), operation, source: Box::new(source) }
}

fn own_namespace() -> Result<u64, SetupError> {
    netns::own().map_err(at("/proc/thread-self/ns/net".as_ref(), "stat"))
}

/// A link by its name: `xdp-MODE-NAMESPACE-INDEX`. An index means something in its namespace only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pin {
    pub mode: XdpMode,
    namespace: u64,
    pub index: u32,
}

pub(super) const LINK_PREFIX: &str = "xdp-";

impl Pin {
    fn name(&self) -> String {
        format!("{LINK_PREFIX}{}-{}-{}", self.mode, self.namespace, self.index)
    }

    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(LINK_PREFIX)?.split('-');
        let mode = match parts.next()? {
            "generic" => XdpMode::Generic,
            "native" => XdpMode::Native,
            _ => return None,
        };
        Some(Self { mode, namespace: parts.next()?.parse().ok()?, index: parts.next()?.parse().ok()? })
    }
}

/// All links of the program, in any mode and network namespace.
pub(super) fn attached(pins: &Pins) -> Result<Vec<Pin>, SetupError> {
    Ok(entries(&pins.links())?.iter().filter_map(|name| Pin::parse(name)).collect())
}

/// The system's error, wherever it is among the causes.
fn errno(error: &ProgramError) -> Option<i32> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(number) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(number);
        }
        cause = error.source();
    }
    None
}

/// What the operator can do about it.
fn remedy(mode: XdpMode, device: &str, errno: Option<i32>) -> String {
    match (mode, errno) {
        (_, Some(libc::EBUSY | libc::EEXIST)) => {
            format!("it has another XDP program: `ip link set dev {device} xdp off` removes one that nobody holds")
        }
        (XdpMode::Native, _) => format!(
            "its driver has no native XDP, or not with this MTU and so many queues (ENA wants `ip link set dev {device} \
             mtu 3498` and, by `ethtool -L {device} combined N`, half of its queues); or say --xdp generic"
        ),
        (XdpMode::Generic, _) => "start the agent without --xdp".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_known_by_its_name() {
        for mode in [XdpMode::Generic, XdpMode::Native] {
            let pin = Pin { mode, namespace: 4_026_531_840, index: 7 };
            assert_eq!(Pin::parse(&pin.name()), Some(pin));
        }
        assert_eq!(Pin::parse("xdp-offload-1-2"), None);
        assert_eq!(Pin::parse("device-3-ingress"), None);
    }

    /// The system's error is deep inside the library's.
    #[test]
    fn the_remedy_follows_from_the_kernels_error() {
        let error = |number| {
            ProgramError::SyscallError(aya::sys::SyscallError {
                call: "bpf_link_create",
                io_error: io::Error::from_raw_os_error(number),
            })
        };
        let said = |mode, number| remedy(mode, "eth0", errno(&error(number)));
        assert!(said(XdpMode::Native, libc::EBUSY).contains("another XDP program"));
        assert!(said(XdpMode::Native, libc::EOPNOTSUPP).contains("--xdp generic"));
    }
}
