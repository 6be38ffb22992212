//! Network namespaces of this machine: which one a thread is in, and how to work in another. An agent may have run in
//! one that is not the caller's.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    thread,
};

use nix::sched::{CloneFlags, setns};

/// Of the thread that asks: the inode of its namespace, by which the kernel tells them apart.
///
/// # Errors
/// When `/proc` is not there.
pub(super) fn own() -> io::Result<u64> {
    fs::metadata("/proc/thread-self/ns/net").map(|namespace| namespace.ino())
}

/// A handle on the namespace, where a process of it runs or a mount keeps it. `None`: it is gone.
pub(super) fn find(inode: u64) -> Option<File> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path().join("ns/net"));
    mounted(&mounts, inode)
        .into_iter()
        .chain(processes)
        .filter(|path| is(path, inode))
        .find_map(|path| File::open(path).ok())
}

/// Runs `work` on a thread of its own inside the namespace.
///
/// # Errors
/// When the namespace cannot be entered.
pub(super) fn run<T: Send>(namespace: &File, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        });
        inside.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the network namespace panicked")))
    })
}

fn is(path: &Path, inode: u64) -> bool {
    fs::metadata(path).is_ok_and(|found| found.ino() == inode)
}

/// Where mountinfo (proc_pid_mountinfo(5)) says that the namespace is kept, as `ip netns add` and CNIs do.
fn mounted(mountinfo: &str, inode: u64) -> Option<PathBuf> {
    let root = format!("net:[{inode}]");
    mountinfo.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(3);
        (fields.next() == Some(&root)).then(|| fields.next().map(PathBuf::from)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_only_a_mount_keeps_is_found_in_the_mount_table() {
        let table = "29 1 0:24 / /run rw - tmpfs tmpfs rw\n\
                     97 29 0:4 net:[4026532281] /run/netns/blue rw shared:53 - nsfs nsfs rw\n";
        assert_eq!(mounted(table, 4_026_532_281), Some("/run/netns/blue".into()));
        assert_eq!(mounted(table, 402_653), None);
    }

    #[test]
    fn the_callers_own_namespace_is_found_and_another_is_not() {
        let own = own().unwrap();
        assert!(find(own).is_some());
        assert!(find(1).is_none());
    }
}
