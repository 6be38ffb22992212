//! Which pods have a cgroup on this node, and when that changes: the kubelet makes a pod's cgroup before anything of the
//! pod runs. The kernel tells (inotify), a look at the tree says what is there now.

mod name;

use std::{
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, RawFd},
        unix::fs::{DirEntryExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};
use tokio::io::unix::AsyncFd;

use super::{SetupError, cgroup::is_cgroup2, pins::at};
use crate::diff::{PodCgroup, PodCgroups};

/// Directories below the root that a pod's may be in: `docker/ID/kubelet/kubepods/burstable` is the deepest known.
const DEPTH: u32 = 6;
/// Inode number of the root of the whole hierarchy (`cgroup_setup_root`, kernel/cgroup/cgroup.c).
const TOP: u64 = 1;

/// The tree below `--cgroup-root`.
pub struct PodCgroupTree {
    root: PathBuf,
    /// Of `root`, as far as it can be seen.
    level: u32,
    beyond: bool,
    inotify: AsyncFd<Events>,
}

struct Events(Inotify);

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl PodCgroupTree {
    /// Looks at nothing yet.
    ///
    /// # Errors
    /// Names the directory, or inotify's limit.
    pub fn open(root: &Path) -> Result<Self, SetupError> {
        let root = root.canonicalize().map_err(at(root, "resolve"))?;
        let above: Vec<&Path> = root.ancestors().skip(1).take_while(|path| is_cgroup2(path)).collect();
        let top = above.last().copied().unwrap_or(&root);
        let beyond = fs::metadata(top).map_err(at(top, "stat"))?.ino() != TOP;
        let level = u32::try_from(above.len()).unwrap_or(u32::MAX);
        let flags = InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC;
        let inotify = Inotify::init(flags).map_err(io::Error::from).and_then(|inotify| {
            // SAFETY: `Events` has one descriptor, which is open for as long as it lives.
            Ok(unsafe { AsyncFd::register(Events(inotify)) }?)
        });
        let inotify = inotify.map_err(at(&root, "watch"))?;
        Ok(Self { root, level, beyond, inotify })
    }

    /// What is there now; from here on [`Self::changed`] tells of what comes and goes.
    ///
    /// # Errors
    /// Names the directory that cannot be read or watched; one that has vanished meanwhile is none.
    pub fn survey(&self) -> Result<PodCgroups, SetupError> {
        let mut cgroups = PodCgroups { beyond: self.beyond, ..PodCgroups::default() };
        self.visit(&self.root, 1, &mut cgroups)?;
        Ok(cgroups)
    }

    /// Waits until a cgroup that matters has come or gone.
    ///
    /// # Errors
    /// When the kernel tells nothing any more.
    pub async fn changed(&self) -> io::Result<()> {
        let mut ready = self.inotify.readable().await?;
        // What it was, the next survey finds out: a thousand changes at once are one survey.
        while match self.inotify.get_ref().0.read_events() {
            Ok(events) => !events.is_empty(),
            Err(Errno::EAGAIN) => false,
            Err(errno) => return Err(errno.into()),
        } {}
        ready.clear_ready();
        Ok(())
    }

    fn visit(&self, directory: &Path, depth: u32, cgroups: &mut PodCgroups) -> Result<(), SetupError> {
        // Before it is read, so that nothing is missed; the same directory again is the same watch.
        let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_ONLYDIR;
        match self.inotify.get_ref().0.add_watch(directory, flags) {
            Ok(_) => {}
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(at(directory, "watch")(errno.into())),
        }
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(at(directory, "read"))?,
        };
        // The directory may go while it is read.
        for entry in entries.map_while(Result::ok) {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name();
            if let Some(uid) = name::pod(&name) {
                cgroups.found.insert(PodCgroup { uid, id: entry.ino(), level: self.level + depth });
            } else if depth < DEPTH && name::may_hold_pods(&name) {
                self.visit(&entry.path(), depth + 1, cgroups)?;
            }
        }
        Ok(())
    }
}
