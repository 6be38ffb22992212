//! The directory on the BPF file system that outlives the agent:
//!
//! ```text
//! layout-N/            an empty directory: the version of the maps' layout
//! maps/NAME            the maps
//! next/NAME            while maps change their size: becomes `maps` in one exchange
//! links/NAME           the socket hooks, the uplinks' XDP and, where the kernel has TCX, the devices' programs
//! clsact/NETNS/INDEX   empty directories: devices with filters of clsact, by network namespace
//! reserved/NETNS/PORTS empty directories: ports that the node's own connections are not given
//! ```

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{self, Path, PathBuf},
};

use aya::maps::MapData;
use millrace_common::maps::LAYOUT_VERSION;
use nix::{
    fcntl::{Flock, FlockArg},
    sys::statfs::{BPF_FS_MAGIC, statfs},
    unistd::geteuid,
};

use super::{SetupError, error::map_error};

const LAYOUT_PREFIX: &str = "layout-";

/// Where one agent's pins are.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

/// Held while an agent (or a clean-up) owns the directory; the kernel lets go of it when the process ends.
pub struct PinsLock {
    _directory: Flock<File>,
}

impl Pins {
    /// Names the directory, touches nothing. A relative path begins at the working directory.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        // Only an empty path has no absolute one.
        Self { root: path::absolute(&root).unwrap_or(root) }
    }

    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    #[must_use]
    pub fn next(&self) -> PathBuf {
        self.root.join("next")
    }

    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    #[must_use]
    pub fn link(&self, name: &str) -> PathBuf {
        self.links().join(name)
    }

    /// What keeps [`Self::open`] from its work, as far as can be told without a trace.
    ///
    /// # Errors
    /// As of [`Self::open`].
    pub fn check_free(&self) -> Result<(), SetupError> {
        self.check_bpffs()?;
        if exists(&self.root)? {
            drop(self.lock()?);
        }
        self.check_layout()
    }

    /// Creates what is missing and takes the lock.
    ///
    /// # Errors
    /// No BPF file system there, another agent on it, or the maps of another layout.
    pub fn open(&self) -> Result<PinsLock, SetupError> {
        self.check_bpffs()?;
        create_dir(&self.root)?;
        let lock = self.lock()?;
        self.check_layout()?;
        for directory in [self.root.join(format!("{LAYOUT_PREFIX}{LAYOUT_VERSION}")), self.maps(), self.links()] {
            create_dir(&directory)?;
        }
        Ok(lock)
    }

    /// For clean-up: is this the directory of an agent, of whatever layout? False where there is nothing at all.
    ///
    /// # Errors
    /// A directory of somebody else's, which nothing may be removed from.
    pub fn check_removable(&self) -> Result<bool, SetupError> {
        if !exists(&self.root)? {
            return Ok(false);
        }
        self.check_bpffs()?;
        let names = entries(&self.root)?;
        let ours = names.iter().any(|name| name.starts_with(LAYOUT_PREFIX)) || exists(&self.map("FRONTENDS_V4"))?;
        // Empty but for the kernel's own, in every BPF file system: what a clean-up leaves of a mount point.
        if ours || names.iter().all(|name| name.ends_with(".debug")) {
            Ok(true)
        } else {
            Err(SetupError::NotOurs { path: self.root.clone() })
        }
    }

    /// Takes the lock of a directory that exists.
    ///
    /// # Errors
    /// When another process holds it.
    pub fn lock(&self) -> Result<PinsLock, SetupError> {
        let directory = File::open(&self.root).map_err(at(&self.root, "open"))?;
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(directory) => Ok(PinsLock { _directory: directory }),
            Err((_, nix::Error::EWOULDBLOCK)) => Err(SetupError::Locked { path: self.root.clone() }),
            Err((_, errno)) => Err(at(&self.root, "flock")(errno.into())),
        }
    }

    /// For those who only read: is there anything of this layout?
    ///
    /// # Errors
    /// Nothing pinned, or another layout.
    pub fn check_readable(&self) -> Result<(), SetupError> {
        if !exists(&self.map("SERVICES"))? {
            return Err(SetupError::NothingPinned { path: self.root.clone() });
        }
        self.check_layout()
    }

    /// The nearest directory that exists tells which file system the path is on.
    fn check_bpffs(&self) -> Result<(), SetupError> {
        let mut existing = self.root.as_path();
        while let Some(parent) = existing.parent().filter(|_| !matches!(exists(existing), Ok(true))) {
            existing = parent;
        }
        let kind = statfs(existing).map_err(|errno| at(existing, "statfs")(errno.into()))?.filesystem_type();
        if kind == BPF_FS_MAGIC {
            let below = self.root.strip_prefix(existing).unwrap_or(&self.root);
            let dotted = below.as_os_str().to_string_lossy().contains('.');
            return if dotted { Err(SetupError::Dotted { path: self.root.clone() }) } else { Ok(()) };
        }
        let default = Path::new("/sys/fs/bpf");
        let mount_point = if self.root.starts_with(default) { default } else { &self.root };
        Err(SetupError::NoBpffs { path: self.root.clone(), mount_point: mount_point.to_owned() })
    }

    fn check_layout(&self) -> Result<(), SetupError> {
        let other = |found: &str| SetupError::OtherLayout {
            path: self.root.clone(),
            found: found.to_owned(),
            ours: LAYOUT_VERSION,
        };
        let mut marked = false;
        for name in entries(&self.root)? {
            if let Some(version) = name.strip_prefix(LAYOUT_PREFIX) {
                if version != LAYOUT_VERSION.to_string() {
                    return Err(other(version));
                }
                marked = true;
            }
        }
        if !marked && self.maps().is_dir() && !entries(&self.maps())?.is_empty() {
            Err(other("unknown"))
        } else {
            Ok(())
        }
    }
}

/// Names in a directory; none when there is no directory.
///
/// # Errors
/// When it cannot be read.
pub(super) fn entries(directory: &Path) -> Result<Vec<String>, SetupError> {
    let read = match fs::read_dir(directory) {
        Ok(read) => read,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at(directory, "read")(error)),
    };
    read.map(|entry| Ok(entry.map_err(at(directory, "read"))?.file_name().to_string_lossy().into_owned())).collect()
}

/// `mkdir -p` that the error speaks of. For root alone: whoever may read a directory may take its lock.
pub(super) fn create_dir(path: &Path) -> Result<(), SetupError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path, "mkdir"))
}

/// Whether there is something at `path`, for those who may know.
fn exists(path: &Path) -> Result<bool, SetupError> {
    match path.try_exists() {
        // What a BPF file system says of a name with a dot, which nothing in it has.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(false),
        result => result.map_err(at(path, "look-up")),
    }
}

/// Removes a directory of pins and the pins in it; what is not there is no error.
pub(super) fn remove_dir(path: &Path) -> Result<(), SetupError> {
    for name in entries(path)? {
        let pin = path.join(name);
        fs::remove_file(&pin).map_err(at(&pin, "unlink"))?;
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path, "rmdir")(error)),
        _ => Ok(()),
    }
}

/// Removes a directory of empty directories; what is not there is no error.
pub(super) fn remove_dirs(path: &Path) -> Result<(), SetupError> {
    for name in entries(path)? {
        let inner = path.join(name);
        fs::remove_dir(&inner).map_err(at(&inner, "rmdir"))?;
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path, "rmdir")(error)),
        _ => Ok(()),
    }
}

/// Opens the map that is pinned at `path`.
///
/// # Errors
/// A map that is gone, or that this process may not open.
pub(super) fn open_pinned(path: &Path) -> Result<MapData, SetupError> {
    MapData::from_pin(path).map_err(|error| {
        let error = map_error(error);
        match error.raw_os_error() {
            Some(libc::ENOENT) => SetupError::PinGone { path: path.to_owned() },
            Some(libc::EPERM) => SetupError::Capabilities { missing: "CAP_BPF".to_owned() },
            _ => at(path, "open")(error),
        }
    })
}

/// Gives an I/O error its path and operation.
pub(super) fn at(path: &Path, operation: &'static str) -> impl Fn(io::Error) -> SetupError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::PermissionDenied if !geteuid().is_root() => {
            SetupError::NotRoot { path: path.clone(), operation, source }
        }
        _ => SetupError::Path { path: path.clone(), operation, source },
    }
}
